//! A real Squid as the outbound proxy: with Basic credentials, and one that offers NTLM alone.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bondgate::simulator::Options;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::live::checked_codes;
use crate::harness::{PATIENCE, Setup, simulator};

const HELPERS: &str = "/usr/lib/squid";

/// A Squid that tunnels for whoever logs in.
struct Squid {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Squid {
    /// `login` is the configuration of its one login.
    async fn start(login: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let path = directory.path();
        // Squid gives up root.
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        let text = format!(
            "http_port {address}\n{}\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n\
             cache deny all\ncache_mem 8 MB\naccess_log stdio:{path}/access.log\ncache_log {path}/cache.log\n\
             shutdown_lifetime 0 seconds\npid_filename none\nnetdb_filename none\npinger_enable off\ncoredump_dir none\nvisible_hostname proxy\n",
            login(path),
            path = path.display()
        );
        std::fs::write(path.join("squid.conf"), text).unwrap();
        let mut command = Command::new("/usr/sbin/squid");
        // The name of its shared memory.
        let name = format!("bondgate{}", address.port());
        command
            .args(["-N", "-n", &name, "-f"])
            .arg(path.join("squid.conf"));
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let squid = Self {
            child,
            address,
            directory,
        };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let listens = tokio::time::timeout(PATIENCE, listens).await.is_ok();
        assert!(listens, "Squid does not listen: {}", squid.log("cache.log"));
        squid
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // Asked to end, it removes its shared memory.
        let _ = Command::new("sh")
            .args(["-c", &format!("kill {}", self.child.id())])
            .status();
        let _ = self.child.wait();
    }
}

/// A Squid with one user.
async fn basic() -> Squid {
    Squid::start(|directory| {
        let hash = Command::new("openssl")
            .args(["passwd", "-apr1", "right"])
            .output()
            .unwrap();
        let file = directory.join("users");
        std::fs::write(
            &file,
            format!("bondgate:{}", String::from_utf8(hash.stdout).unwrap()),
        )
        .unwrap();
        format!(
            "auth_param basic program {HELPERS}/basic_ncsa_auth {}\nauth_param basic children 1 startup=1\n\
             auth_param basic realm proxy",
            file.display()
        )
    })
    .await
}

#[tokio::test]
#[ignore = "needs squid and openssl; .ci/run installs them"]
async fn token_and_api_requests_pass_a_squid_with_basic_credentials() {
    let (cisco, squid) = (simulator(Options::default()).await, basic().await);
    let setup = Setup::open(
        &cisco,
        &format!("proxy = \"http://bondgate:right@{}\"", squid.address),
    );
    assert_eq!(checked_codes(&setup).await, [""; 0]);
    let daemon = setup.start().await;
    assert_eq!(daemon.get("/simulator/echo").await.status(), 200);
    let tunnels = squid.log("access.log").matches("CONNECT").count();
    assert!(tunnels >= 2, "{}", squid.log("access.log"));
}

#[tokio::test]
#[ignore = "needs squid and openssl; .ci/run installs them"]
async fn a_wrong_password_is_sent_to_a_squid_once_and_a_missing_one_is_named() {
    let (cisco, squid) = (simulator(Options::default()).await, basic().await);
    let with = |login: &str| Setup::open(&cisco, &format!("proxy = \"http://{login}{}\"", squid.address));
    assert_eq!(checked_codes(&with("")).await, ["proxy-auth-needed"]);

    let mut daemon = with("bondgate:wrong@").start_without_token().await;
    daemon.logged("\"problem\":\"proxy-auth-refused\"").await;
    for _ in 0..5 {
        let answer = daemon.get("/simulator/echo").await;
        assert!(
            answer.body().contains("urn:bondgate:problem:proxy-auth-refused"),
            "{answer:?}"
        );
    }
    // The name of the user is in each line of a request with a login.
    let logins = squid
        .log("access.log")
        .lines()
        .filter(|line| line.contains(" bondgate "))
        .count();
    assert_eq!(logins, 1, "{}", squid.log("access.log"));
}

#[tokio::test]
#[ignore = "needs squid; .ci/run installs it"]
async fn a_squid_that_offers_ntlm_alone_is_named_with_a_local_helper_as_the_fix() {
    let cisco = simulator(Options::default()).await;
    let squid = Squid::start(|_| {
        format!("auth_param ntlm program {HELPERS}/ntlm_fake_auth\nauth_param ntlm children 1 startup=1")
    })
    .await;
    let setup = Setup::open(&cisco, &format!("proxy = \"http://u:p@{}\"", squid.address));
    assert_eq!(checked_codes(&setup).await, ["proxy-auth-ntlm-only"]);
    let mut daemon = setup.start_without_token().await;
    daemon.logged("cntlm").await;
    daemon.logged("\"problem\":\"proxy-auth-ntlm-only\"").await;
}
