//! The program that listens on a TCP port.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCP6ROW_OWNER_PID, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

/// The process of the kernel. It listens for all programs that use the system's HTTP server (http.sys).
const SYSTEM: u32 = 4;

/// The process of a socket that the system knows no process of.
const UNKNOWN: u32 = 0;

/// The program that listens on a TCP port: its name, if this user may know it, and process id.
#[must_use]
pub(super) fn program_of_port(port: u16) -> Option<String> {
    let id = listeners(AF_INET, &ROW_V4)
        .chain(listeners(AF_INET6, &ROW_V6))
        .find_map(|(of, id)| (of == port).then_some(id))
        .filter(|id| *id != UNKNOWN)?;
    Some(match program_name(id) {
        Some(name) => format!("{name} (pid {id})"),
        None => format!("pid {id}"),
    })
}

/// Where a row of a table has what is wanted, in numbers of 32 bits.
struct Row {
    length: usize,
    port: usize,
    process: usize,
}

const ROW_V4: Row = Row {
    length: size_of::<MIB_TCPROW_OWNER_PID>() / 4,
    port: std::mem::offset_of!(MIB_TCPROW_OWNER_PID, dwLocalPort) / 4,
    process: std::mem::offset_of!(MIB_TCPROW_OWNER_PID, dwOwningPid) / 4,
};

const ROW_V6: Row = Row {
    length: size_of::<MIB_TCP6ROW_OWNER_PID>() / 4,
    port: std::mem::offset_of!(MIB_TCP6ROW_OWNER_PID, dwLocalPort) / 4,
    process: std::mem::offset_of!(MIB_TCP6ROW_OWNER_PID, dwOwningPid) / 4,
};

/// The port and the process of every listening socket of an address family.
fn listeners(family: u16, row: &Row) -> impl Iterator<Item = (u16, u32)> {
    let table = table(family).unwrap_or_default();
    let count = table.first().map_or(0, |count| *count as usize);
    let rows: Vec<_> = table
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(row.length)
        .take(count)
        // The port is in network byte order in the lower half.
        .map(|fields| (u16::from_be(low_half(fields[row.port])), fields[row.process]))
        .collect();
    rows.into_iter()
}

fn low_half(number: u32) -> u16 {
    u16::try_from(number & 0xFFFF).expect("16 bits")
}

/// The number of rows, and the rows. Both kinds of rows consist of numbers of 32 bits.
#[allow(unsafe_code)] // The table's interface is not safe.
fn table(family: u16) -> Option<Vec<u32>> {
    let mut table = Vec::<u32>::new();
    // It grows between two calls if a program begins to listen.
    for _ in 0..5 {
        let mut length = u32::try_from(table.len() * 4).ok()?;
        // SAFETY: the buffer is as long as stated; an empty one is not written to.
        let code = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                &raw mut length,
                0,
                family.into(),
                TCP_TABLE_OWNER_PID_LISTENER,
                0,
            )
        };
        match code {
            NO_ERROR => return Some(table),
            ERROR_INSUFFICIENT_BUFFER => table.resize((length as usize).div_ceil(4) + 64, 0),
            _ => return None,
        }
    }
    None
}

#[allow(unsafe_code)] // The standard library knows only its own process.
fn program_name(id: u32) -> Option<String> {
    if id == SYSTEM {
        return Some("System".to_owned());
    }
    // SAFETY: any number may be asked for.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, id) };
    if process.is_null() {
        return None;
    }
    // SAFETY: the handle was just opened, and nothing else closes it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    let mut path = vec![0; 1024];
    let mut length = u32::try_from(path.len()).expect("a small buffer");
    // SAFETY: the handle is open, and the buffer is as long as stated.
    let is_known = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    };
    let path = OsString::from_wide(path.get(..length as usize).filter(|_| is_known != 0)?);
    Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        for (address, family, row) in [("127.0.0.1:0", AF_INET, ROW_V4), ("[::1]:0", AF_INET6, ROW_V6)] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let process = || {
                listeners(family, &row)
                    .find(|(of, _)| *of == port)
                    .map(|(_, id)| id)
            };
            // Under Wine, the socket belongs to the server of all programs.
            let found = process();
            assert!(
                [Some(std::process::id()), Some(UNKNOWN)].contains(&found),
                "{found:?}"
            );
            drop(listener);
            assert_eq!(process(), None);
            assert_eq!(program_of_port(port), None);
        }
    }

    #[test]
    fn a_process_has_the_name_of_its_program() {
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        assert_eq!(program_name(std::process::id()).as_deref(), Some(name));
        assert_eq!(program_name(SYSTEM).as_deref(), Some("System"));
    }
}
