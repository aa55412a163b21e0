//! An HTTP intermediary in a process of its own between callers and a daemon: HAProxy, nginx, Apache or Squid.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

/// A program and the settings that decide how it treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HAProxy, with these lines in its `listen` section.
    Haproxy(&'static str),
    /// nginx with its defaults: HTTP/1.0 and one upstream connection for each request.
    Nginx,
    /// nginx with HTTP/1.1 and upstream connections that it keeps.
    NginxKeepAlive,
    /// Apache with `mod_proxy_http`.
    Apache,
    /// Squid as an accelerator (a reverse proxy).
    Squid,
}

/// Every kind that the tests run.
pub(super) const KINDS: [Kind; 9] = [
    Kind::Haproxy(""),
    Kind::Haproxy("option httpclose"),
    Kind::Haproxy("option http-server-close"),
    Kind::Haproxy("http-reuse never"),
    Kind::Haproxy("http-reuse always"),
    Kind::Nginx,
    Kind::NginxKeepAlive,
    Kind::Apache,
    Kind::Squid,
];

/// A running intermediary; it and its own processes are killed when it is dropped.
pub(super) struct Intermediary {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Kind {
    /// What the table calls it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Haproxy("") => "HAProxy, defaults".to_owned(),
            Self::Haproxy(option) => format!("HAProxy, {option}"),
            Self::Nginx => "nginx, defaults".to_owned(),
            Self::NginxKeepAlive => "nginx, upstream keep-alive".to_owned(),
            Self::Apache => "Apache".to_owned(),
            Self::Squid => "Squid".to_owned(),
        }
    }

    /// Starts it in front of a daemon and waits until it listens.
    ///
    /// `names_caller` is for HAProxy, which does not send X-Forwarded-For by itself; the others do, as is usual.
    pub(super) async fn start(self, daemon: SocketAddr, names_caller: bool) -> Intermediary {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let file = directory.path().join("intermediary.conf");
        fs::write(
            &file,
            self.configuration(address, daemon, names_caller, &directory),
        )
        .unwrap();
        let mut command = self.command(&file);
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        let mut intermediary = Intermediary {
            child,
            address,
            directory,
        };
        intermediary.listening().await;
        intermediary
    }

    fn command(self, file: &std::path::Path) -> Command {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Haproxy(_) => ("haproxy", &["-db", "-f"]),
            Self::Nginx | Self::NginxKeepAlive => ("nginx", &["-e", "stderr", "-c"]),
            Self::Apache => ("apache2", &["-D", "FOREGROUND", "-f"]),
            Self::Squid => ("squid", &["-N", "-f"]),
        };
        let mut command = Command::new(installed(program));
        command.args(arguments).arg(file);
        command
    }

    fn configuration(
        self,
        address: SocketAddr,
        daemon: SocketAddr,
        names_caller: bool,
        directory: &TempDir,
    ) -> String {
        let directory = directory.path().display();
        match self {
            Self::Haproxy(option) => {
                let forward = if names_caller { "option forwardfor" } else { "" };
                format!(
                    "global\n    maxconn 200\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 1m\n    \
                     timeout server 1m\nlisten bondgate\n    bind {address}\n    {option}\n    {forward}\n    \
                     server bondgate {daemon}\n"
                )
            }
            Self::Nginx | Self::NginxKeepAlive => {
                let keep_alive = if self == Self::Nginx {
                    ""
                } else {
                    "proxy_http_version 1.1; proxy_set_header Connection \"\";"
                };
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
                    .concat();
                format!(
                    "user root;\ndaemon off;\npid {directory}/pid;\nerror_log stderr;\nevents {{ }}\nhttp {{\n\
                     access_log off;\n{temporary}upstream bondgate {{ server {daemon}; keepalive 8; }}\n\
                     server {{ listen {address}; location / {{ proxy_pass http://bondgate; {keep_alive}\n\
                     proxy_set_header Host $http_host;\n\
                     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}\n}}\n"
                )
            }
            Self::Apache => {
                let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_http"]
                    .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                    .concat();
                format!(
                    "{modules}ServerName localhost\nDefaultRuntimeDir {directory}\nPidFile {directory}/pid\n\
                     ErrorLog {directory}/log\nUser www-data\nGroup www-data\nStartServers 1\nListen {address}\n\
                     ProxyPass / http://{daemon}/\n"
                )
            }
            Self::Squid => format!(
                "http_port {address} accel defaultsite=localhost no-vhost\n\
                 cache_peer {} parent {} 0 no-query no-digest originserver name=bondgate\nhttp_access allow all\n\
                 never_direct allow all\ncache deny all\ncache_mem 8 MB\naccess_log none\ncache_log /dev/null\n\
                 pid_filename none\nnetdb_filename none\npinger_enable off\ncoredump_dir none\n\
                 visible_hostname localhost\n",
                daemon.ip(),
                daemon.port()
            ),
        }
    }
}

impl Intermediary {
    /// Where callers connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn listening(&mut self) {
        let listens = async {
            while TcpStream::connect(self.address).await.is_err() {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("it ended with {status}:\n{}", self.log());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let listens = tokio::time::timeout(PATIENCE, listens).await.is_ok();
        assert!(listens, "it does not listen:\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Intermediary {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Daemons are in `sbin`, which the PATH of an ordinary user leaves out.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders
        .find_map(|folder| Some(folder.join(program)).filter(|program| program.is_file()))
        .unwrap_or_else(|| panic!("{program} is not installed"))
}

/// None of these programs can say which port it was given, so each gets one that was free just now.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
