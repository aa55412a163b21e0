//! The syntax of the host that a request names.

use std::net::Ipv6Addr;

/// Whether a value of `Host` is `uri-host [":" port]` (RFC 9110 §7.2) with the characters of host names only; it is empty
/// if the target has no authority.
pub(super) fn is_host(value: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(value) else {
        return false;
    };
    let (name, port) = split_port(host);
    let is_port = port.is_empty() || port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit());
    let is_name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    };
    is_port && is_name && (!name.is_empty() || port.is_empty())
}

/// The name in a host, and what follows it: the port with its colon.
pub(crate) fn split_port(host: &str) -> (&str, &str) {
    let find = |end| host.bytes().position(|byte| byte == end);
    let name_end = if host.starts_with('[') {
        find(b']').map(|at| at + 1)
    } else {
        find(b':')
    };
    host.split_at(name_end.unwrap_or(host.len()))
}
