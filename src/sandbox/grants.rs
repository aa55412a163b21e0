//! What a running daemon still reads, writes and connects to, by its configuration.

use std::path::{Component, Path, PathBuf};

use crate::config::{Config, Endpoint, Upstream};

/// What stays open. Directories are meant with all that is beneath them.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    /// Files and directories to read, without symbolic links in their paths.
    pub(super) read: Vec<PathBuf>,
    /// Directories to write in, too.
    pub(super) write: Vec<PathBuf>,
    /// Where the log file is made again and appended to.
    pub(super) log: Option<PathBuf>,
    /// TCP ports to connect to; any where it is nothing.
    pub(super) ports: Option<Vec<u16>>,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
}

/// What the C library, name resolution and TLS read, whatever the configuration. All of `/etc`, since
/// resolv.conf and its like are replaced by rename; all of `/usr`, since the plugins of name resolution
/// are loaded when they are needed. Reading is not running: nothing here may be executed.
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

/// DNS over TCP, for answers that are too long for UDP.
const DNS: u16 = 53;

/// More links in one path than the kernel follows.
const MAX_LINKS: usize = 40;

impl Grants {
    /// What a daemon of this configuration needs; `file` is where it was read from.
    pub(super) fn of(config: &Config, file: Option<&Path>) -> Self {
        let mut grants = Self::default();
        for place in SYSTEM {
            grants.read_place(Path::new(place));
        }
        grants.read_file("the resolver's configuration", Path::new("/etc/resolv.conf"));
        if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
            grants.read_file("$SSL_CERT_FILE", Path::new(&path));
        }
        for directory in std::env::var_os("SSL_CERT_DIR")
            .iter()
            .flat_map(std::env::split_paths)
        {
            grants.read_place(&directory);
        }
        if let Some(file) = file {
            grants.read_file("the configuration", file);
        }
        for file in config.files() {
            grants.read_file(&file.key.to_string(), &file.path);
        }
        let spool = config.spool.directory.as_deref();
        grants
            .write
            .extend(spool.and_then(|path| path.canonicalize().ok()));
        if let Some(file) = &config.log.file {
            grants.write_log(file);
        }
        grants.ports = ports(config);
        grants
    }

    /// Whether a file is within reach, and each place where it may be replaced.
    pub(super) fn cover(&self, file: &Path) -> bool {
        let is_granted = |place: &Path| {
            let mut open = self.read.iter().chain(&self.write);
            open.any(|open| place.starts_with(open))
        };
        is_granted(places(file).last().expect("a file has a place")) || is_granted(&resolved(file))
    }

    pub(super) fn reach(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// The directory of a log file, since log rotation moves the file away; a pipe or a device stays where it is.
    fn write_log(&mut self, file: &Path) {
        let file = resolved(file);
        if !file.is_file() {
            return;
        }
        let holder = file.parent().filter(|holder| holder.parent().is_some());
        if holder.is_none() {
            self.notes.push(format!(
                "log.file is at {}, in the root directory: where it is moved, a restart is needed; put it into a \
                 directory of its own",
                file.display()
            ));
        }
        self.log = holder.unwrap_or(&file).canonicalize().ok();
    }

    fn read_place(&mut self, place: &Path) {
        if let Ok(place) = place.canonicalize()
            && !self.read.contains(&place)
        {
            self.read.push(place);
        }
    }

    fn read_file(&mut self, what: &str, file: &Path) {
        let places = places(file);
        let (holder, links) = places.split_last().expect("a file has a place");
        // The root holds no link that anybody swaps: /lib, /bin and their like.
        for place in links.iter().filter(|place| **place != Path::new("/")) {
            self.read_place(place);
        }
        if holder.is_dir() {
            if holder.parent().is_some() {
                return self.read_place(holder);
            }
            // A file in the root itself is granted as it is.
            let path = resolved(file);
            if path.exists() {
                self.notes.push(format!(
                    "{what} is at {}, in the root directory: what replaces that file needs a restart to be seen; \
                     put it into a directory of its own",
                    path.display()
                ));
                return self.read_place(&path);
            }
        }
        let ancestor = holder.ancestors().find(|place| place.is_dir());
        let ancestor = ancestor.unwrap_or(Path::new("/"));
        self.notes.push(format!(
            "{what} is to be at {}, which is not there yet: until the next start everything in {} may be read; \
             make the directory before bondgate starts",
            file.display(),
            ancestor.display()
        ));
        self.read_place(ancestor);
    }
}

/// The directory of each symbolic link on the way to a file, and last the directory of what they lead
/// to: in each of them something may be put in place of what is there now.
fn places(file: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let path = follow(file, &mut places);
    places.push(path.parent().unwrap_or(Path::new("/")).to_owned());
    places
}

/// Where a path leads to, links followed, whether or not there is something.
fn resolved(file: &Path) -> PathBuf {
    follow(file, &mut Vec::new())
}

fn follow(file: &Path, places: &mut Vec<PathBuf>) -> PathBuf {
    let mut path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    for _ in 0..MAX_LINKS {
        match first_link(&path) {
            Ok((directory, target)) => {
                places.push(directory);
                path = target;
            }
            Err(plain) => return plain,
        }
    }
    path
}

/// The directory of the first link in a path, and the path with that link followed; or the path as it
/// is, without `..`, where there is none.
fn first_link(path: &Path) -> Result<(PathBuf, PathBuf), PathBuf> {
    let mut plain = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        if part == Component::ParentDir {
            plain.pop();
            continue;
        }
        let directory = plain.clone();
        plain.push(part);
        if let Ok(target) = plain.read_link() {
            let target = directory.join(target).join(parts.as_path());
            return Ok((directory, target));
        }
    }
    Err(plain)
}

/// Every port that calls go out to; nothing where one is not known.
fn ports(config: &Config) -> Option<Vec<u16>> {
    let mut ports = vec![DNS];
    for upstream in &config.upstreams {
        ports.extend(ports_of(upstream)?);
    }
    Some(ports)
}

/// The ports that calls for one upstream go out to; nothing where one is not known.
pub(super) fn ports_of(upstream: &Upstream) -> Option<[u16; 2]> {
    let port = |endpoint: &Endpoint| {
        let route = upstream.proxy.route(endpoint).ok()?;
        Some(route.map_or(endpoint.port(), |route| route.uri.port_u16().unwrap_or(80)))
    };
    Some([port(&upstream.url)?, port(&upstream.token_url)?])
}
