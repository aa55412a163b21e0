//! What the system knows of a TCP connection: how much of what was written has been sent and acknowledged.

use std::os::windows::io::AsRawSocket as _;
use std::ptr;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    SIO_TCP_INFO, SOCKET, TCP_INFO_v0, TCPSTATE, TCPSTATE_FIN_WAIT_2, TCPSTATE_TIME_WAIT, WSAIoctl,
};

/// The figures of a connection at one time (SIO_TCP_INFO).
///
/// Windows does not report what was written and not sent yet, as SIOCOUTQNSD does on Linux. So the two counts below
/// need the number of bytes that the program has written on this connection since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// The state of RFC 793.
    pub state: TCPSTATE,
    /// Bytes sent, those that were sent again included.
    pub sent: u64,
    /// Bytes that were sent again.
    pub resent: u64,
    /// Bytes that were sent and not acknowledged.
    pub in_flight: u64,
}

impl TcpInfo {
    /// Asks the system. `None` before Windows 10 1703 and Windows Server 2019, and for other sockets than TCP's.
    #[must_use]
    #[allow(unsafe_code)] // No crate has a safe function for this request.
    pub(super) fn of(socket: &Socket) -> Option<Self> {
        let version = 0_u32;
        let mut info = TCP_INFO_v0::default();
        let mut length = 0;
        let expected = u32::try_from(size_of::<TCP_INFO_v0>()).expect("a small structure");
        // SAFETY: the request reads a version and writes the structure of that version; both are as long as stated. It
        // is not overlapped, so that it is done when it returns.
        let code = unsafe {
            WSAIoctl(
                SOCKET::try_from(socket.as_raw_socket()).ok()?,
                SIO_TCP_INFO,
                (&raw const version).cast(),
                u32::try_from(size_of_val(&version)).expect("a small number"),
                (&raw mut info).cast(),
                expected,
                &raw mut length,
                ptr::null_mut(),
                None,
            )
        };
        (code == 0 && length >= expected).then(|| Self {
            state: info.State,
            sent: info.BytesOut,
            resent: info.BytesRetrans.into(),
            in_flight: info.BytesInFlight.into(),
        })
    }

    /// How many of so many written bytes the peer's system has not acknowledged.
    #[must_use]
    pub(super) fn unacknowledged(&self, written: u64) -> u64 {
        if self.is_end_acknowledged() {
            return 0;
        }
        // In flight are the bytes themselves and, after a shutdown, the end of the stream, which counts as one.
        self.unsent(written).saturating_add(self.in_flight).min(written)
    }

    /// How many of so many written bytes have not been sent yet. Windows does not state whether the sent bytes include
    /// those sent again; if they do not, some bytes appear as unsent that are acknowledged, never the reverse.
    #[must_use]
    pub(super) fn unsent(&self, written: u64) -> u64 {
        written.saturating_sub(self.sent.saturating_sub(self.resent))
    }

    /// Whether the peer has acknowledged our end of the stream, and so every byte before it.
    #[must_use]
    pub(super) fn is_end_acknowledged(&self) -> bool {
        matches!(self.state, TCPSTATE_FIN_WAIT_2 | TCPSTATE_TIME_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Networking::WinSock::{TCPSTATE_ESTABLISHED, TCPSTATE_FIN_WAIT_1};

    use super::*;

    fn info(state: TCPSTATE, sent: u64, resent: u64, in_flight: u64) -> TcpInfo {
        TcpInfo {
            state,
            sent,
            resent,
            in_flight,
        }
    }

    #[test]
    fn unacknowledged_bytes_are_those_in_flight_and_those_not_sent() {
        let established = info(TCPSTATE_ESTABLISHED, 700, 100, 200);
        assert_eq!(established.unsent(1000), 400);
        assert_eq!(established.unacknowledged(1000), 600);
        assert_eq!(info(TCPSTATE_ESTABLISHED, 1000, 0, 0).unacknowledged(1000), 0);
        assert_eq!(info(TCPSTATE_ESTABLISHED, 0, 0, 0).unacknowledged(1000), 1000);
    }

    #[test]
    fn an_acknowledged_end_acknowledges_every_byte() {
        assert_eq!(info(TCPSTATE_FIN_WAIT_1, 1000, 0, 1).unacknowledged(1000), 1);
        assert_eq!(info(TCPSTATE_FIN_WAIT_2, 1000, 300, 0).unacknowledged(1000), 0);
    }

    #[test]
    fn a_socket_without_a_connection_has_no_figures() {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        assert_eq!(TcpInfo::of(&socket), None);
    }
}
