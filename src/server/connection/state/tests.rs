use super::super::framing::Framing;
use super::super::head::tests::limits;
use super::*;

/// The head of a request whose body has so many bytes.
fn head(body: u64) -> Head {
    Head {
        length: 1,
        encoded: None,
        framing: Framing::Length(body),
        is_http_10: false,
        is_bodiless: false,
        is_title_case: true,
    }
}

/// A connection that serves such a request.
fn serving(body: u64) -> Connection {
    let connection = Machine::shared(Arc::new(limits()));
    connection.lock().head_complete(head(body));
    connection
}

#[tokio::test]
async fn a_response_is_the_last_if_its_request_was_not_read_to_the_end_or_a_stop_has_begun() {
    for (body, is_read, phase, is_last) in [
        (0, true, Phase::Serving, false),
        (0, false, Phase::Serving, true),
        (1, true, Phase::Serving, true),
        (0, true, Phase::LameDuck, true),
    ] {
        let connection = serving(body);
        assert_eq!(connection.lock().response_ready(None, is_read, phase), is_last);
    }
}

#[tokio::test]
async fn a_connection_that_ends_waits_for_no_recorded_spelling() {
    let connection = Machine::shared(Arc::new(limits()));
    let mut machine = connection.lock();
    machine.head_complete(Head {
        is_title_case: false,
        ..head(0)
    });
    assert!(machine.needs_recorded_spelling());
    machine.abort();
    assert!(!machine.needs_recorded_spelling());
}

#[tokio::test]
async fn a_connection_idles_once_its_request_is_complete_and_its_response_is_written() {
    let connection = serving(1);
    let mut machine = connection.lock();
    machine.response_ready(None, true, Phase::Serving);
    assert!(machine.is_unanswered());
    machine.response_begun();
    assert!(machine.flushed(false).is_none() && !machine.is_unanswered());
    machine.response_taken();
    assert_eq!(machine.flushed(false), Some(Reading::Body));
    assert_eq!(machine.body_received(b"xy"), 1);
    assert_eq!(machine.flushed(false), Some(Reading::Head));
    assert_eq!(machine.next_input(), Reading::Head);
    machine.time_out();
    assert!(machine.is_parked());
}
