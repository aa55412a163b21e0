//! The sandbox binds the thread that enters it: each test here enters one on a thread of its own.

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

fn needs(secret: &Path) -> Needs {
    Needs {
        files: vec![("client_secret".to_owned(), secret.to_owned())],
        ports: vec![("upstream".to_owned(), Some(443))],
        ..Needs::default()
    }
}

/// Runs `action` on a thread that has entered the sandbox.
fn inside<T: Send + 'static>(needs: Needs, action: impl FnOnce(&Sandbox) -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let sandbox = Sandbox::enter(&needs);
        assert!(sandbox.rules.is_some(), "this kernel has no Landlock");
        action(&sandbox)
    });
    thread.join().unwrap()
}

/// The same after something that happens outside once the thread is in its sandbox.
fn inside_after<T: Send + 'static>(
    needs: Needs,
    meanwhile: impl FnOnce(),
    action: impl FnOnce(&Sandbox) -> T + Send + 'static,
) -> T {
    let (entered, has_entered) = mpsc::channel();
    let (go, going) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        inside(needs, move |sandbox| {
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
fn only_the_directories_of_needed_files_are_readable() {
    let ((own, secret), (_other, outside)) = (directory(), directory());
    let renamed = own.path().join("new");
    let (written, denied) = (own.path().join("w"), outside.clone());
    inside(needs(&secret), move |sandbox| {
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
        assert!(sandbox.denied(&needs(&secret)).is_empty());
        let missing = sandbox.denied(&needs(&denied));
        assert!(missing[0].starts_with("client_secret: "), "{missing:?}");
        assert!(missing[0].ends_with("needs a restart"), "{missing:?}");
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
    let (needs, path) = (needs(&secret), secret.clone());
    let replace = || {
        fs::write(own.path().join("new"), "second").unwrap();
        fs::rename(own.path().join("new"), &secret).unwrap();
    };
    let read = inside_after(needs, replace, move |_| fs::read_to_string(path).unwrap());
    assert_eq!(read, "second");
}

#[test]
fn a_secret_behind_a_swapped_link_is_read() {
    // The layout of a secret in Kubernetes: secret -> ..data/secret, ..data -> ..1.
    let own = tempfile::tempdir().unwrap();
    let at = |name: &str| own.path().join(name);
    fs::create_dir(at("..1")).unwrap();
    fs::write(at("..1/secret"), "first").unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    // With a link to it from elsewhere.
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
    let read = inside_after(needs(&link), replace, move |sandbox| {
        assert!(sandbox.denied(&needs(&path)).is_empty());
        fs::read_to_string(path).unwrap()
    });
    assert_eq!(read, "second");
}

#[test]
fn only_the_writable_directory_is_writable() {
    let (_own, secret) = directory();
    let spool = tempfile::tempdir().unwrap();
    let path = spool.path().to_owned();
    let needs = Needs {
        writable: Some(path.clone()),
        ..needs(&secret)
    };
    inside(needs, move |_| {
        fs::create_dir(path.join("queue")).unwrap();
        fs::write(path.join("a"), "text").unwrap();
        fs::rename(path.join("a"), path.join("queue/a")).unwrap();
        fs::write(path.join("queue/a"), "").unwrap();
        assert_eq!(fs::read_dir(path.join("queue")).unwrap().count(), 1);
        fs::remove_dir_all(path.join("queue")).unwrap();
    });
}

#[test]
fn a_rotated_log_file_is_created_again_and_nothing_is_removed_in_its_directory() {
    let (_own, secret) = directory();
    let log = tempfile::tempdir().unwrap();
    let file = log.path().join("bondgate.log");
    fs::write(&file, "").unwrap();
    let needs = Needs {
        log: Some(file.clone()),
        ..needs(&secret)
    };
    let moved = log.path().join("bondgate.log.1");
    let rotate = || fs::rename(&file, &moved).unwrap();
    let path = file.clone();
    inside_after(needs, rotate, move |_| {
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
fn a_log_file_that_the_daemon_rotates_is_renamed_and_removed_and_not_read() {
    let (_own, secret) = directory();
    let log = tempfile::tempdir().unwrap();
    let file = log.path().join("bondgate.log");
    fs::write(&file, "a line").unwrap();
    let needs = Needs {
        log: Some(file.clone()),
        rotates_log: true,
        ..needs(&secret)
    };
    let rotated = log.path().join("bondgate.log.20261129T141500Z");
    inside(needs, move |_| {
        let mut create = fs::OpenOptions::new();
        create.write(true).create_new(true).open(&rotated).unwrap();
        fs::rename(&file, &rotated).unwrap();
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .unwrap();
        let folder = file.parent().unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
        assert_eq!(kind(fs::read(&rotated)), ErrorKind::PermissionDenied);
        assert_eq!(
            kind(fs::create_dir(folder.join("new"))),
            ErrorKind::PermissionDenied
        );
        fs::remove_file(&rotated).unwrap();
    });
}

#[test]
fn no_program_is_run_and_threads_still_start() {
    let (_own, secret) = directory();
    assert!(
        Command::new("/bin/sh")
            .args(["-c", ":"])
            .status()
            .unwrap()
            .success()
    );
    inside(needs(&secret), |_| {
        let run = Command::new("/bin/sh").args(["-c", ":"]).status();
        assert_eq!(kind(run), ErrorKind::PermissionDenied);
        std::thread::spawn(|| ()).join().unwrap();
    });
}

#[test]
fn no_port_is_listened_on_and_only_needed_ones_are_connected_to() {
    let (_own, secret) = directory();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [known, other] = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap());
    let of_port = move |port: u16| Needs {
        ports: vec![("upstream.a".to_owned(), Some(port))],
        ..needs(&secret)
    };
    inside(of_port(known.port()), move |sandbox| {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        assert_eq!(kind(TcpListener::bind(any)), ErrorKind::PermissionDenied);
        TcpStream::connect(known).unwrap();
        assert_eq!(kind(TcpStream::connect(other)), ErrorKind::PermissionDenied);
        assert!(sandbox.denied(&of_port(known.port())).is_empty());
        let denied = sandbox.denied(&of_port(other.port()));
        let port = format!("upstream.a: port {}", other.port());
        assert!(denied[0].contains(&port), "{denied:?}");
    });
}

#[test]
fn a_port_that_is_not_known_allows_any() {
    let (_own, secret) = directory();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let needs = Needs {
        ports: vec![
            ("upstream.a".to_owned(), Some(443)),
            ("upstream.b".to_owned(), None),
        ],
        ..needs(&secret)
    };
    inside(needs, move |_| drop(TcpStream::connect(address).unwrap()));
}

#[test]
fn only_sockets_of_the_usual_kinds_are_made() {
    let (_own, secret) = directory();
    inside(needs(&secret), |_| {
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
    inside(needs(&secret), move |_| {
        assert!(("localhost", 1).to_socket_addrs().unwrap().next().is_some());
        assert_eq!(rustls_native_certs::load_native_certs().certs.len(), outside);
        std::thread::available_parallelism().unwrap();
    });
}

#[test]
fn a_missing_directory_allows_its_nearest_ancestor_with_a_warning() {
    let own = tempfile::tempdir().unwrap();
    let secret = own.path().join("later/secret");
    let warnings = Rules::new(&needs(&secret)).warnings.join("\n");
    assert!(
        warnings.contains("client_secret: ") && warnings.contains("may be read"),
        "{warnings}"
    );
    inside(needs(&secret), move |sandbox| {
        assert!(sandbox.denied(&needs(&secret)).is_empty());
        assert_eq!(kind(fs::read(&secret)), ErrorKind::NotFound);
    });

    let rules = Rules::new(&needs(Path::new("/nowhere-of-bondgate/secret")));
    let warnings = rules.warnings.join("\n");
    assert!(warnings.contains("everything in / may be read"), "{warnings}");
    assert!(rules.allow_file(Path::new("/anything")));
}
