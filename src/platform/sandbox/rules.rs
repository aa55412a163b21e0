//! The files and ports that the sandbox allows.
//!
//! Files are allowed by directory, since those that matter are replaced while the daemon runs: by rename, or by
//! Kubernetes' `..data` link.

use std::path::{Path, PathBuf};

/// The files and ports that a daemon uses, beside those that every program of the system uses.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Files to read, each with the configuration key that names it.
    pub files: Vec<(String, PathBuf)>,
    /// A directory to write in.
    pub writable: Option<PathBuf>,
    /// The log file.
    pub log: Option<PathBuf>,
    /// Whether the process itself renames the log file, and removes old ones.
    pub rotates_log: bool,
    /// TCP ports to connect to, each with the configuration key that names it. With a port that is not known, any
    /// port is allowed.
    pub ports: Vec<(String, Option<u16>)>,
}

/// What is allowed. A directory includes all beneath it; paths have no symbolic links.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Files and directories to read.
    pub(super) read: Vec<PathBuf>,
    /// A directory to read and write in.
    pub(super) write: Option<PathBuf>,
    /// Where the log file is created again and appended to.
    pub(super) log: Option<PathBuf>,
    /// Whether files are listed, renamed and removed there.
    pub(super) rotates_log: bool,
    /// TCP ports to connect to; if absent, any.
    pub(super) ports: Option<Vec<u16>>,
    /// What the operator should know.
    pub(super) warnings: Vec<String>,
}

/// Read by the C library, name resolution and TLS. All of `/etc`, since resolv.conf and its like are replaced by
/// rename; all of `/usr`, since plugins of name resolution are loaded on demand. Nothing here may be executed.
const SYSTEM: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/opt/etc/ssl",
    "/var/ssl",
    "/var/lib/ca-certificates",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/connman",
    "/run/nscd",
    "/var/run/nscd",
    "/proc/self",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
];

/// For responses that are too long for UDP.
const DNS: u16 = 53;

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

impl Rules {
    pub(super) fn new(needs: &Needs) -> Self {
        let mut rules = Self::default();
        for place in SYSTEM {
            rules.allow(Path::new(place));
        }
        rules.allow_file_to_be_replaced("the resolver's configuration", Path::new("/etc/resolv.conf"));
        if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
            rules.allow_file_to_be_replaced("$SSL_CERT_FILE", Path::new(&path));
        }
        let certificates = std::env::var_os("SSL_CERT_DIR");
        for directory in certificates.iter().flat_map(std::env::split_paths) {
            rules.allow(&directory);
        }
        for (key, file) in &needs.files {
            rules.allow_file_to_be_replaced(key, file);
        }
        let writable = needs.writable.as_ref();
        rules.write = writable.and_then(|path| path.canonicalize().ok());
        if let Some(file) = &needs.log {
            rules.allow_log(file);
        }
        rules.rotates_log = needs.rotates_log;
        let ports = needs.ports.iter().map(|(_, port)| *port);
        rules.ports = ports.chain([Some(DNS)]).collect();
        rules
    }

    /// Whether a file may be read, or the place where it may appear.
    pub(super) fn allow_file(&self, file: &Path) -> bool {
        let is_allowed = |place: &Path| {
            let mut allowed = self.read.iter().chain(&self.write);
            allowed.any(|allowed| place.starts_with(allowed))
        };
        let (_, file) = follow(file);
        is_allowed(&file) || file.parent().is_some_and(is_allowed)
    }

    pub(super) fn allow_port(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    fn allow(&mut self, place: &Path) {
        if let Ok(place) = place.canonicalize()
            && !self.read.contains(&place)
        {
            self.read.push(place);
        }
    }

    /// Allows the directory of each link on the way to a file, and of the file itself: in each of them something may
    /// be replaced. The root directory is not allowed: its links (`/lib`, `/bin`) are never swapped.
    fn allow_file_to_be_replaced(&mut self, key: &str, file: &Path) {
        let (links, file) = follow(file);
        for directory in links.iter().filter(|directory| directory.parent().is_some()) {
            self.allow(directory);
        }
        let place = self.replaceable(key, &file);
        if place.exists() {
            return self.allow(place);
        }
        let ancestor = place.ancestors().find(|place| place.is_dir());
        let ancestor = ancestor.unwrap_or(Path::new("/"));
        self.warnings.push(format!(
            "{key}: {} does not exist yet, until the next start everything in {} may be read; create its directory \
             before bondgate starts",
            file.display(),
            ancestor.display()
        ));
        self.allow(ancestor);
    }

    /// Allows the directory of a log file, since log rotation moves the file. A pipe or a device stays open.
    fn allow_log(&mut self, file: &Path) {
        let (_, file) = follow(file);
        if file.is_file() {
            self.log = self.replaceable("log.file", &file).canonicalize().ok();
        }
    }

    /// What to allow, so that a file can be replaced: its directory.
    fn replaceable<'a>(&mut self, key: &str, file: &'a Path) -> &'a Path {
        match file.parent() {
            Some(directory) if directory.parent().is_some() => directory,
            _ => {
                self.warnings.push(format!(
                    "{key}: {} is in the root directory, a file that replaces it is used after a restart only; move it to \
                     a directory of its own",
                    file.display()
                ));
                file
            }
        }
    }
}

/// Follows all links in a path, whether or not it exists: returns the directories that hold the links, and the path
/// that they lead to.
fn follow(file: &Path) -> (Vec<PathBuf>, PathBuf) {
    let mut holders = Vec::new();
    let mut path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    while holders.len() < MAX_LINKS
        && let Some((holder, target)) = follow_first_link(&path)
    {
        holders.push(holder);
        path = target;
    }
    // Without `..`, as far as the path exists.
    let holder = path.parent().and_then(|holder| holder.canonicalize().ok());
    match (holder, path.file_name()) {
        (Some(holder), Some(name)) => (holders, holder.join(name)),
        _ => (holders, path),
    }
}

fn follow_first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut beginnings: Vec<_> = path.ancestors().collect();
    beginnings.reverse();
    beginnings.into_iter().find_map(|link| {
        let target = link.read_link().ok()?;
        let holder = link.parent()?.canonicalize().ok()?;
        let rest = path.strip_prefix(link).ok()?;
        let target = holder.join(target);
        // `join` with nothing would add a slash.
        let target = if rest.as_os_str().is_empty() {
            target
        } else {
            target.join(rest)
        };
        Some((holder, target))
    })
}
