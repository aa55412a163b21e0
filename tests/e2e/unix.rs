//! Callers by unix sockets: whom the file's mode and group and the user ids let in.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use bondgate::simulator::Options;
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::harness::{relayed, simulator};
use crate::listeners::{activated, pulled, setup, start_fails};

/// A place for a socket, and its address in a configuration.
fn place() -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let address = format!("unix:{}", path.display());
    (directory, path, address)
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_one_left_by_a_crash_is_replaced() {
    let cisco = simulator(Options::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let address = format!("unix:{}", path.display());
    let start = || setup(&cisco).listener(&address, "mode = \"0600\"").start();
    let mut daemon = start().await;
    let file = std::fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let answer = pulled(UnixStream::connect(&path).await.unwrap()).await;
    assert_eq!(answer.unwrap().status(), 200);

    daemon.signal("KILL");
    daemon.ended().await;
    assert!(path.exists(), "a crash leaves it");

    let _again = start().await;
    let answer = pulled(UnixStream::connect(&path).await.unwrap()).await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn a_unix_socket_that_somebody_listens_on_is_not_taken_away() {
    let cisco = simulator(Options::default()).await;
    let setup = setup(&cisco);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let _other = UnixListener::bind(&path).unwrap();

    let ended = start_fails(setup.listener(&format!("unix:{}", path.display()), ""), &[]).await;

    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("is in use by another program"), "{ended:?}");
}

#[tokio::test]
async fn only_the_users_that_are_listed_get_in_at_a_unix_socket() {
    let cisco = simulator(Options::default()).await;
    let (directory, path, address) = place();
    let own = std::fs::metadata(directory.path()).unwrap().uid();
    for (users, status) in [
        (format!("users = [{own}]"), 200),
        (format!("users = [{}, {own}]", own + 1), 200),
        (format!("users = [{}]", own + 1), 403),
        (String::new(), 200),
    ] {
        let _daemon = setup(&cisco).listener(&address, &users).start().await;
        let answer = pulled(UnixStream::connect(&path).await.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{users}");
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(relayed(&cisco).len(), 3);
}

#[tokio::test]
async fn a_unix_socket_has_the_group_that_is_named_and_one_that_is_not_there_is_told() {
    let cisco = simulator(Options::default()).await;
    let (directory, path, address) = place();
    let own = std::fs::metadata(directory.path()).unwrap().gid();
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let name = groups.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields[2] == own.to_string()).then(|| fields[0].to_owned())
    });
    for group in [Some(own.to_string()), name].into_iter().flatten() {
        let more = format!("mode = \"0620\"\ngroup = \"{group}\"");
        let _daemon = setup(&cisco).listener(&address, &more).start().await;
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (file.permissions().mode() & 0o777, file.gid()),
            (0o620, own),
            "{group}"
        );
        std::fs::remove_file(&path).unwrap();
    }
    let ended = start_fails(setup(&cisco).listener(&address, "group = \"no-such-group\""), &[]).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.stderr.contains("listener[0].group: there is no group"),
        "{ended:?}"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn a_unix_socket_that_systemd_hands_over_is_judged_by_users_and_by_nothing_of_tcp() {
    let cisco = simulator(Options::default()).await;
    let (directory, path, _) = place();
    let own = std::fs::metadata(directory.path()).unwrap().uid();
    for (users, status) in [(own, 200), (own + 1, 403)] {
        let socket = UnixListener::bind(&path).unwrap();
        let users = format!("users = [{users}]");
        let mut daemon = activated(setup(&cisco).listener("systemd:http", &users), socket, "http");
        daemon.logged("token acquired").await;
        let answer = pulled(UnixStream::connect(&path).await.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{users}");
        std::fs::remove_file(&path).unwrap();
    }
    let socket = UnixListener::bind(&path).unwrap();
    let gate = "allow = [\"127.0.0.0/8\"]";
    let mut daemon = activated(setup(&cisco).listener("systemd:http", gate), socket, "http");
    daemon
        .logged("was handed over as a unix socket, where allow")
        .await;
    assert_eq!(daemon.ended().await.code(), Some(3));
}

#[tokio::test]
async fn what_is_no_socket_is_left_where_it_is() {
    let cisco = simulator(Options::default()).await;
    let (directory, path, address) = place();
    let precious = directory.path().join("precious");
    std::fs::write(&precious, "kept").unwrap();
    for is_link in [false, true] {
        if is_link {
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&precious, &path).unwrap();
        } else {
            std::fs::write(&path, "kept").unwrap();
        }
        let ended = start_fails(setup(&cisco).listener(&address, ""), &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("a file that is no socket"), "{ended:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }
}
