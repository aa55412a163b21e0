//! Checks that Windows does what the other modules rely on, on the machine of an operator.

use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::access_control::{create_private, create_private_directory};
use super::account::Account;
use super::event_log::{EventLog, Level};
use super::exclusive_address::use_exclusively;
use super::exposure::{exposure, is_writable_by_others};
use super::file_locks::{is_held_elsewhere, is_same_file, rename_durably, retry_sharing_violation, try_lock};
use super::listening_program::program_of_port;
use super::security_descriptor::permissions;
use super::service_control::{self, virtual_account};
use super::tcp_info::TcpInfo;

/// How long the peer's system may take to acknowledge what it has received.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(5);

/// Why a check did not pass.
#[derive(Debug)]
pub enum Shortcoming {
    /// The system does not do what is relied on.
    Failed(String),
    /// The system cannot do it, or there is nothing to check yet.
    Unavailable(String),
}

impl<E: Display> From<E> for Shortcoming {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The result of one check.
#[derive(Debug)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Why it did not pass.
    pub outcome: Result<(), Shortcoming>,
}

impl Check {
    /// Whether the system does not do what is relied on.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.outcome, Err(Shortcoming::Failed(_)))
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match &self.outcome {
            Ok(()) => f.write_str("pass"),
            Err(Shortcoming::Failed(why)) => write!(f, "fail: {why}"),
            Err(Shortcoming::Unavailable(why)) => write!(f, "unavailable: {why}"),
        }
    }
}

/// Runs every check. The name is that of the service and of the source of its events. The directory must not exist; it
/// is created for the checks and removed afterwards.
#[must_use]
pub(super) fn run(name: &str, directory: &Path) -> Vec<Check> {
    let check = |name, outcome| Check { name, outcome };
    let checks = vec![
        check("private directory", private_directory(directory)),
        check("private file", private_file(directory)),
        check("file lock", lock(directory)),
        check("sharing violation", sharing_violation(directory)),
        check("durable rename", rename(directory)),
        check("exclusive address", exclusive_address()),
        check("acknowledged bytes", acknowledged_bytes()),
        check("program of a port", listening_program()),
        check("Event Log", event_log(name)),
        check("service control manager", service_manager()),
        check("virtual account", account(name)),
    ];
    // What cannot be removed stays: the outcome is known.
    let _ = fs::remove_dir_all(directory);
    checks
}

type Outcome = Result<(), Shortcoming>;

fn ensure(is_so: bool, otherwise: &str) -> Outcome {
    if is_so { Ok(()) } else { Err(otherwise.into()) }
}

fn private_directory(directory: &Path) -> Outcome {
    create_private_directory(directory)?;
    ensure(
        !is_writable_by_others(directory),
        "other users may create files in it",
    )?;
    let path = directory.join("inherits");
    fs::write(&path, "x")?;
    check_inheritance(&path)?;
    ensure(
        exposure(&path).is_none(),
        "a new file within it is exposed to other users",
    )
}

/// A new file has the permissions of its directory.
fn check_inheritance(path: &Path) -> Outcome {
    // The flag of an entry that comes from the directory.
    if permissions(path)?.contains("ID;") {
        return Ok(());
    }
    let why = "the file system does not pass permissions on to new files (Wine does not)";
    Err(Shortcoming::Unavailable(why.to_owned()))
}

fn private_file(directory: &Path) -> Outcome {
    let path = directory.join("private");
    let mut file = create_private(&path)?;
    file.write_all(b"x")?;
    check_inheritance(&path)?;
    ensure(exposure(&path).is_none(), "it is exposed to other users")
}

fn lock(directory: &Path) -> Outcome {
    let path = directory.join("lock");
    fs::write(&path, "content")?;
    let open = || OpenOptions::new().read(true).write(true).open(&path);
    let (first, second) = (open()?, open()?);
    ensure(
        try_lock(&first)?,
        "a file that nobody has locked cannot be locked",
    )?;
    ensure(!try_lock(&second)?, "a second handle got the lock, too")?;
    ensure(
        fs::read_to_string(&path)? == "content",
        "the content of a locked file changed",
    )?;
    drop(first);
    ensure(try_lock(&second)?, "the lock outlived its handle")
}

fn sharing_violation(directory: &Path) -> Outcome {
    let path = directory.join("held");
    let mut exclusive = OpenOptions::new();
    exclusive.write(true).create(true).truncate(false).share_mode(0);
    let mut held = Some(exclusive.open(&path)?);
    let mut error = None;
    retry_sharing_violation(|| {
        let opened = File::open(&path);
        if let Err(violation) = &opened {
            error = Some(is_held_elsewhere(violation));
            held = None;
        }
        opened
    })?;
    ensure(error == Some(true), "a file that is held exclusively was opened")
}

fn rename(directory: &Path) -> Outcome {
    let (from, to) = (directory.join("from"), directory.join("to"));
    fs::write(&from, "new")?;
    fs::write(&to, "old")?;
    let file = File::open(&from)?;
    rename_durably(&from, &to)?;
    ensure(
        fs::read_to_string(&to)? == "new",
        "the file of that name was not replaced",
    )?;
    ensure(
        is_same_file(&file, &to),
        "an open file is not known by its new name",
    )
}

fn exclusive_address() -> Outcome {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None);
    let first = new()?;
    use_exclusively(&first)?;
    first.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    first.listen(1)?;
    let second = new()?;
    second.set_reuse_address(true)?;
    let shared = second.bind(&first.local_addr()?).and_then(|()| second.listen(1));
    ensure(shared.is_err(), "another socket listens on the same address")
}

fn acknowledged_bytes() -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    let ours = Socket::from(listener.accept()?.0);
    if TcpInfo::of(&ours).is_none() {
        let why = "needs Windows 10 1703 or Windows Server 2019 (SIO_TCP_INFO)";
        return Err(Shortcoming::Unavailable(why.to_owned()));
    }
    let written = fill(&ours)?;
    let unacknowledged = || TcpInfo::of(&ours).map_or(u64::MAX, |info| info.unacknowledged(written));
    ensure(
        unacknowledged() > 0,
        "every byte counts as acknowledged although the peer reads none",
    )?;
    io::copy(&mut (&mut peer).take(written), &mut io::sink())?;
    let deadline = Instant::now() + ACKNOWLEDGEMENT;
    while unacknowledged() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let left = unacknowledged();
    ensure(
        left == 0,
        &format!("{left} bytes count as unacknowledged although the peer has read them"),
    )
}

/// Writes until neither end's buffer takes more.
fn fill(mut socket: &Socket) -> io::Result<u64> {
    socket.set_nonblocking(true)?;
    let piece = vec![0; 65_536];
    let mut written = 0;
    loop {
        match socket.write(&piece) {
            Ok(count) => written += u64::try_from(count).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(written),
            Err(error) => return Err(error),
        }
    }
}

fn listening_program() -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let Some(program) = program_of_port(listener.local_addr()?.port()) else {
        let why = "the system does not know the process of a listening socket";
        return Err(Shortcoming::Unavailable(why.to_owned()));
    };
    let own = format!("(pid {})", std::process::id());
    ensure(
        program.ends_with(&own),
        &format!("{program} instead of this program {own}"),
    )
}

fn event_log(source: &str) -> Outcome {
    let log = EventLog::open(source)?;
    Ok(log.report(Level::Information, "self-test: this event can be ignored")?)
}

fn service_manager() -> Outcome {
    Ok(service_control::is_reachable()?)
}

fn account(service: &str) -> Outcome {
    let account = virtual_account(service);
    match Account::named(&account) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = format!("{error}: install the service first");
            Err(Shortcoming::Unavailable(why))
        }
        Err(error) => Err(error.into()),
    }
}
