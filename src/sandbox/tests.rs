//! The sandbox binds the thread that enters it: each test here enters one on a thread of its own and
//! tries from inside.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use super::*;

/// A directory of its own with a secret in it.
fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "first").unwrap();
    (directory, secret)
}

fn config(secret: &Path, more: &str) -> Config {
    let text = format!(
        "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n\
         client_secret = {{ file = \"{}\" }}\n{more}\n",
        secret.display()
    );
    Config::parse(&text, "bondgate.toml", []).unwrap()
}

/// What happens on a thread that entered the sandbox of a configuration.
fn inside<T: Send + 'static>(config: Config, action: impl FnOnce(&Sandbox) -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let sandbox = Sandbox::enter(&config, None);
        assert!(
            sandbox.grants.is_some(),
            "this kernel has no Landlock: nothing can be shown on it"
        );
        action(&sandbox)
    });
    thread.join().unwrap()
}

/// The same with something that happens outside once the thread is shut in.
fn inside_after<T: Send + 'static>(
    config: Config,
    meanwhile: impl FnOnce(),
    action: impl FnOnce(&Sandbox) -> T + Send + 'static,
) -> T {
    let (entered, has_entered) = mpsc::channel();
    let (go, going) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        inside(config, move |sandbox| {
            entered.send(()).unwrap();
            going.recv().unwrap();
            action(sandbox)
        })
    });
    has_entered.recv().unwrap();
    meanwhile();
    go.send(()).unwrap();
    thread.join().unwrap()
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn only_files_beside_those_that_the_configuration_names_are_read() {
    let ((own, secret), (_other, outside)) = (directory(), directory());
    let renamed = own.path().join("new");
    let (written, denied) = (own.path().join("w"), outside.clone());
    inside(config(&secret, ""), move |sandbox| {
        assert_eq!(fs::read_to_string(&secret).unwrap(), "first");
        assert_eq!(kind(fs::read(&denied)), ErrorKind::PermissionDenied);
        assert_eq!(
            kind(fs::read_dir(denied.parent().unwrap())),
            ErrorKind::PermissionDenied
        );
        assert_eq!(kind(fs::read("/proc/1/status")), ErrorKind::PermissionDenied);
        assert_eq!(kind(fs::write(written, "")), ErrorKind::PermissionDenied);
        assert_eq!(kind(fs::remove_file(&secret)), ErrorKind::PermissionDenied);
        assert_eq!(kind(fs::rename(&secret, renamed)), ErrorKind::PermissionDenied);
        assert!(sandbox.withholds(&config(&secret, "")).is_empty());
        let withheld = sandbox.withholds(&config(&denied, ""));
        assert!(
            withheld[0].starts_with("upstream.cisco.client_secret: "),
            "{withheld:?}"
        );
        assert!(withheld[0].ends_with("needs a restart"), "{withheld:?}");
    });
    assert_eq!(
        fs::read_to_string(outside).unwrap(),
        "first",
        "and that is not for lack of rights"
    );
}

#[test]
fn a_secret_that_is_replaced_by_rename_is_read() {
    let (own, secret) = directory();
    let (config, path) = (config(&secret, ""), secret.clone());
    let replace = || {
        fs::write(own.path().join("new"), "second").unwrap();
        fs::rename(own.path().join("new"), &secret).unwrap();
    };
    let read = inside_after(config, replace, move |_| fs::read_to_string(path).unwrap());
    assert_eq!(read, "second");
}

#[test]
fn a_secret_behind_a_swapped_link_is_read() {
    // As Kubernetes lays a secret out: secret -> ..data/secret, ..data -> ..1.
    let own = tempfile::tempdir().unwrap();
    let at = |name: &str| own.path().join(name);
    fs::create_dir(at("..1")).unwrap();
    fs::write(at("..1/secret"), "first").unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    // And somebody links to it from elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    symlink(at("secret"), &link).unwrap();

    let replace = || {
        fs::create_dir(at("..2")).unwrap();
        fs::write(at("..2/secret"), "second").unwrap();
        symlink("..2", at("new")).unwrap();
        fs::rename(at("new"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
    };
    let path = link.clone();
    let read = inside_after(config(&link, ""), replace, move |sandbox| {
        assert!(sandbox.withholds(&config(&path, "")).is_empty());
        fs::read_to_string(path).unwrap()
    });
    assert_eq!(read, "second");
}

#[test]
fn the_spool_alone_is_written_in() {
    let (_own, secret) = directory();
    let spool = tempfile::tempdir().unwrap();
    let more = format!("[spool]\ndirectory = \"{}\"", spool.path().display());
    let path = spool.path().to_owned();
    inside(config(&secret, &more), move |_| {
        fs::create_dir(path.join("queue")).unwrap();
        fs::write(path.join("a"), "text").unwrap();
        fs::rename(path.join("a"), path.join("queue/a")).unwrap();
        fs::write(path.join("queue/a"), "").unwrap();
        assert_eq!(fs::read_dir(path.join("queue")).unwrap().count(), 1);
        fs::remove_dir_all(path.join("queue")).unwrap();
    });
}

#[test]
fn a_log_file_that_was_moved_is_made_again_in_its_directory_and_nothing_is_removed_there() {
    let (_own, secret) = directory();
    let log = tempfile::tempdir().unwrap();
    let file = log.path().join("bondgate.log");
    fs::write(&file, "").unwrap();
    let config = config(&secret, &format!("[log]\nfile = \"{}\"", file.display()));
    let moved = log.path().join("bondgate.log.1");
    let rotate = || fs::rename(&file, &moved).unwrap();
    let path = file.clone();
    inside_after(config, rotate, move |_| {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        assert_eq!(kind(fs::remove_file(&path)), ErrorKind::PermissionDenied);
        assert_eq!(kind(fs::read(&path)), ErrorKind::PermissionDenied);
    });
    assert!(file.exists());
}

#[test]
fn no_program_is_run_and_threads_start_all_the_same() {
    let (_own, secret) = directory();
    assert!(
        Command::new("/bin/sh")
            .args(["-c", ":"])
            .status()
            .unwrap()
            .success()
    );
    inside(config(&secret, ""), |_| {
        let run = Command::new("/bin/sh").args(["-c", ":"]).status();
        assert_eq!(kind(run), ErrorKind::PermissionDenied);
        std::thread::spawn(|| ()).join().unwrap();
    });
}

#[test]
fn no_port_is_listened_on_and_only_the_known_ones_are_connected_to() {
    let (_own, secret) = directory();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [known, other] = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap());
    let more = format!("url = \"https://127.0.0.1:{}\"", known.port());
    let path = secret.clone();
    inside(config(&secret, &more), move |sandbox| {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        assert_eq!(kind(TcpListener::bind(any)), ErrorKind::PermissionDenied);
        TcpStream::connect(known).unwrap();
        assert_eq!(kind(TcpStream::connect(other)), ErrorKind::PermissionDenied);
        let at = |port: u16| config(&path, &format!("url = \"https://127.0.0.1:{port}\""));
        assert!(sandbox.withholds(&at(known.port())).is_empty());
        // The preset's token endpoint has it.
        assert!(sandbox.withholds(&at(443)).is_empty());
        let withheld = sandbox.withholds(&at(other.port()));
        assert!(
            withheld[0].contains(&format!("port {}", other.port())),
            "{withheld:?}"
        );
    });
}

#[test]
fn only_sockets_of_the_usual_kinds_are_made() {
    let (_own, secret) = directory();
    inside(config(&secret, ""), |_| {
        let netlink = Domain::from(libc::AF_NETLINK);
        Socket::new(netlink, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE))).unwrap();
        Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        for (domain, protocol) in [
            (netlink, libc::NETLINK_NETFILTER),
            (Domain::from(libc::AF_PACKET), 0),
            (Domain::from(libc::AF_ALG), 0),
        ] {
            let made = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)));
            assert_eq!(kind(made), ErrorKind::PermissionDenied, "{domain:?}");
        }
    });
}

#[test]
fn names_are_resolved_and_the_system_s_certificates_are_read() {
    let (_own, secret) = directory();
    let outside = rustls_native_certs::load_native_certs().certs.len();
    inside(config(&secret, ""), move |_| {
        assert!(("localhost", 1).to_socket_addrs().unwrap().next().is_some());
        assert_eq!(rustls_native_certs::load_native_certs().certs.len(), outside);
        std::thread::available_parallelism().unwrap();
    });
}

#[test]
fn a_directory_that_is_not_there_yet_opens_its_nearest_ancestor_and_the_operator_is_told() {
    let own = tempfile::tempdir().unwrap();
    let secret = own.path().join("later/secret");
    let grants = Grants::of(&config(&secret, ""), None);
    let told = grants.notes.join("\n");
    assert!(
        told.contains("client_secret is to be at") && told.contains("may be read"),
        "{told}"
    );
    inside(config(&secret, ""), move |sandbox| {
        assert!(sandbox.withholds(&config(&secret, "")).is_empty());
        assert_eq!(kind(fs::read(&secret)), ErrorKind::NotFound);
    });

    let grants = Grants::of(&config(Path::new("/nowhere-of-bondgate/secret"), ""), None);
    assert!(
        grants
            .notes
            .iter()
            .any(|note| note.contains("everything in / may be read"))
    );
    assert!(grants.cover(Path::new("/anything")));
}

#[test]
fn without_a_sandbox_everything_is_covered() {
    let (_own, secret) = directory();
    let open = Sandbox::enter(&config(&secret, "[server]\nsandbox = false"), None);
    let other = config(Path::new("/root/anything"), "url = \"https://127.0.0.1:1\"");
    assert!(open.withholds(&other).is_empty());
    assert!(fs::read("/proc/1/status").is_ok(), "and nothing is restricted");
}
