//! The exclusive use of a listening address.

use std::io;
use std::os::windows::io::AsRawSocket as _;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SOCKET, SOCKET_ERROR, SOL_SOCKET, setsockopt,
};

/// Keeps other programs from listening on the address of this socket too, with SO_REUSEADDR. To be called before `bind`,
/// and without SO_REUSEADDR on this socket: on Windows that means to share an address, not to take one over that waits
/// for old connections to end.
#[allow(unsafe_code)] // socket2 does not have this option.
pub(super) fn use_exclusively(socket: &Socket) -> io::Result<()> {
    let raw = SOCKET::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    let enabled = 1_i32;
    let length = i32::try_from(size_of_val(&enabled)).expect("a small number");
    // SAFETY: the option is a number of the stated length, which outlives the call.
    let code = unsafe {
        setsockopt(
            raw,
            SOL_SOCKET,
            SO_EXCLUSIVEADDRUSE,
            (&raw const enabled).cast(),
            length,
        )
    };
    if code == SOCKET_ERROR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Type};
    use windows_sys::Win32::Networking::WinSock::getsockopt;

    use super::*;

    #[allow(unsafe_code)] // socket2 does not have this option.
    fn is_exclusive(socket: &Socket) -> bool {
        let (mut enabled, mut length) = (0_i32, 4);
        let raw = SOCKET::try_from(socket.as_raw_socket()).unwrap();
        // SAFETY: the number is as long as stated.
        let code = unsafe {
            getsockopt(
                raw,
                SOL_SOCKET,
                SO_EXCLUSIVEADDRUSE,
                (&raw mut enabled).cast(),
                &raw mut length,
            )
        };
        assert_eq!(code, 0);
        enabled != 0
    }

    #[test]
    fn no_other_socket_shares_the_address() {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let first = new();
        assert!(!is_exclusive(&first));
        use_exclusively(&first).unwrap();
        assert!(is_exclusive(&first));
        first.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        first.listen(1).unwrap();
        let address = first.local_addr().unwrap();
        let second = new();
        second.set_reuse_address(true).unwrap();
        let taken = second.bind(&address).and_then(|()| second.listen(1));
        assert!(taken.is_err());
    }
}
