//! The notice of an empty queue, which is no message.

/// The longest response that can be the notice.
const LONGEST_NOTICE: usize = 4 << 10;

/// Whether a body says that the queue is empty, so that nothing was taken off it (Cisco's Smart Bonding API; formerly
/// 204).
pub(super) fn is_empty_queue(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Notice {
        message: String,
        #[serde(rename = "status")]
        _status: Option<serde_json::Value>,
    }
    if body.len() > LONGEST_NOTICE {
        return false;
    }
    body.trim_ascii().is_empty()
        || serde_json::from_slice::<Notice>(body).is_ok_and(|notice| {
            let message = notice.message.to_ascii_lowercase();
            message.contains("no messages available")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_notice_of_an_empty_queue_is_no_message() {
        for notice in [
            "",
            " \r\n",
            r#"{"message":"No messages available to Send","status":"200"}"#,
            r#"{"status":200,"message":"no messages available"}"#,
        ] {
            assert!(is_empty_queue(notice.as_bytes()), "{notice}");
        }
        for message in [
            r#"{"Calls":{"Remarks":"No messages available to Send"}}"#,
            r#"{"message":"No messages available to Send","Calls":{}}"#,
            r#"{"message":"Send"}"#,
            "No messages available to Send",
            "[]",
        ] {
            assert!(!is_empty_queue(message.as_bytes()), "{message}");
        }
    }
}
