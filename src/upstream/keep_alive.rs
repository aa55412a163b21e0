//! The idle timeout that an upstream announces (`Keep-Alive: timeout=N`, RFC 2068 §19.7.1.1, which servers still send).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A request that is in flight when the upstream closes the connection is lost, so we close it this much earlier.
const MARGIN: Duration = Duration::from_secs(1);

/// How long the connection may idle according to the upstream's response, if it announces a timeout.
pub(super) fn idle_limit(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(KEEP_ALIVE).iter();
    let parameters = fields.flat_map(|field| field.as_bytes().split(|byte| matches!(byte, b',' | b';')));
    let timeouts = parameters.filter_map(|parameter| {
        let parameter = std::str::from_utf8(parameter).ok()?;
        let (name, value) = parameter.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("timeout") {
            return None;
        }
        value.trim().trim_matches('"').parse().ok()
    });
    Some(Duration::from_secs(timeouts.min()?).saturating_sub(MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(fields: &[&'static str]) -> Option<u64> {
        let values = fields.iter().map(|field| (KEEP_ALIVE, field.parse().unwrap()));
        idle_limit(&values.collect()).map(|limit| limit.as_secs())
    }

    #[test]
    fn the_announced_timeout_is_shortened_by_a_second() {
        for (fields, expected) in [
            (&["timeout=5"][..], 4),
            (&["timeout=5, max=100"], 4),
            (&["max=100,Timeout = 15"], 14),
            (&["timeout=\"30\";max=3"], 29),
            (&["max=1", "timeout=60"], 59),
            (&["timeout=60", "timeout=5"], 4),
            (&["timeout=1"], 0),
            (&["timeout=0"], 0),
        ] {
            assert_eq!(limit(fields), Some(expected), "{fields:?}");
        }
    }

    #[test]
    fn a_field_without_a_valid_timeout_is_ignored() {
        for fields in [
            &[][..],
            &[""],
            &["timeout"],
            &["timeout="],
            &["timeout=soon"],
            &["timeout=-1"],
            &["timeout=1.5"],
            &["timeout=99999999999999999999"],
            &["max=5"],
            &["xtimeout=5"],
        ] {
            assert_eq!(limit(fields), None, "{fields:?}");
        }
    }
}
