use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

const START: u64 = 1_764_000_000;

static UPSTREAM: LazyLock<Arc<str>> = LazyLock::new(|| "cisco".into());
static LISTENER: LazyLock<Arc<str>> = LazyLock::new(|| "127.0.0.1:8080".into());
static CALLER: LazyLock<Arc<str>> = LazyLock::new(|| "erp".into());

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START + seconds)
}

fn request(seconds: u64) -> FinishedRequest<'static> {
    FinishedRequest {
        at: at(seconds),
        upstream: &UPSTREAM,
        listener: &LISTENER,
        caller: Some(&CALLER),
        address: None,
        method: "GET",
        path: "/pull/call",
        rule: None,
        status: 200,
        origin: "upstream",
        is_sent: true,
        is_complete: true,
        request_bytes: 0,
        response_bytes: 4,
        duration: Duration::from_millis(50),
        own_time: Duration::from_millis(1),
        upstream_time: Duration::from_millis(40),
        problem: None,
        correlation_id: None,
    }
}

#[test]
fn the_last_hundred_requests_are_kept_the_newest_first() {
    let activity = Activity::new();
    for number in 0..250 {
        let path = format!("/{number}");
        activity.record(&FinishedRequest {
            path: &path,
            ..request(number)
        });
        let recent = activity.recent();
        assert_eq!(recent.len(), 100.min(usize::try_from(number).unwrap() + 1));
        assert_eq!(recent[0].path, path);
        for pair in recent.windows(2) {
            assert!(pair[0].at > pair[1].at);
        }
    }
}

#[test]
fn texts_of_an_older_request_do_not_show_in_a_newer_one_and_long_ones_are_cut() {
    let activity = Activity::new();
    let long = "\u{e9}".repeat(1000);
    for number in 0..100 {
        activity.record(&FinishedRequest {
            path: &long,
            correlation_id: Some(&long),
            ..request(number)
        });
    }
    activity.record(&FinishedRequest {
        caller: None,
        path: "/a",
        ..request(100)
    });
    let recent = activity.recent();
    assert_eq!((&*recent[0].path, recent[0].caller.as_deref()), ("/a", None));
    assert_eq!(recent[1].caller.as_deref(), Some("erp"));
    assert!(recent[0].correlation_id.is_empty());
    assert_eq!(recent[1].path, "\u{e9}".repeat(128));
}

#[test]
fn each_minute_of_the_last_hour_is_counted_and_older_ones_end_by_themselves() {
    let activity = Activity::new();
    for seconds in [0, 30, 60, 3540] {
        activity.record(&request(seconds));
    }
    let counts = |seconds| -> Vec<u32> {
        let hour = activity.last_hour("cisco", at(seconds));
        hour.iter().map(|minute| minute.requests).collect()
    };
    let hour = counts(3599);
    assert_eq!((hour[0], hour[1], hour[59]), (2, 1, 1));
    assert_eq!(hour.iter().sum::<u32>(), 4);
    let later = counts(3660);
    assert_eq!((later[0], later[57], later[59]), (0, 1, 0));
    assert_eq!(counts(3600 * 24), [0; 60]);

    activity.record(&request(3600 * 24));
    assert_eq!(counts(3600 * 24)[59], 1);
    assert_eq!(counts(3599)[0], 0, "its slot counts another minute");
}

#[test]
fn a_clock_that_is_set_back_starts_another_hour() {
    let activity = Activity::new();
    activity.record(&request(7200));
    activity.record(&request(0));
    let hour = activity.last_hour("cisco", at(0));
    assert_eq!(hour.iter().map(|minute| minute.requests).sum::<u32>(), 1);
    assert_eq!(hour[59].requests, 1);
}

#[test]
fn errors_are_requests_without_a_response_failures_and_refusals_of_bondgate() {
    let activity = Activity::new();
    for (status, origin, is_error) in [
        (0, "bondgate", true),
        (200, "upstream", false),
        (404, "upstream", false),
        (403, "bondgate", true),
        (500, "upstream", true),
        (503, "bondgate", true),
        (200, "spool", false),
    ] {
        let request = FinishedRequest {
            status,
            origin,
            ..request(0)
        };
        assert_eq!(request.is_error(), is_error, "{status} {origin}");
        activity.record(&request);
        assert_eq!(activity.recent()[0].is_error(), is_error);
    }
    let minute = activity.last_hour("cisco", at(0))[59];
    assert_eq!((minute.requests, minute.errors, minute.answered), (7, 4, 6));
}

#[test]
fn the_upstreams_time_is_that_of_the_requests_that_were_sent() {
    let activity = Activity::new();
    let ms = Duration::from_millis;
    for (is_sent, own, upstream) in [(true, 1, 40), (true, 3, 80), (false, 8, 0)] {
        activity.record(&FinishedRequest {
            is_sent,
            own_time: ms(own),
            upstream_time: ms(upstream),
            ..request(0)
        });
    }
    let minute = activity.last_hour("cisco", at(0))[59];
    assert_eq!((minute.own_mean(), minute.own_max), (ms(4), ms(8)));
    assert_eq!((minute.upstream_mean(), minute.upstream_max), (ms(60), ms(80)));
    assert_eq!(Minute::default().own_mean(), Duration::ZERO);
}

#[test]
fn each_upstream_is_counted_apart_and_a_removed_one_is_forgotten_after_an_hour() {
    let activity = Activity::new();
    let record = |upstream: &str, seconds| {
        activity.record(&FinishedRequest {
            upstream: &upstream.into(),
            ..request(seconds)
        });
    };
    record("old", 0);
    record("cisco", 10);
    assert_eq!(activity.last_hour("old", at(10))[59].requests, 1);
    assert_eq!(activity.last_hour("cisco", at(10))[59].requests, 1);
    assert_eq!(activity.last_hour("none", at(10))[59].requests, 0);
    record("new", 7200);
    let requests = activity.requests.lock();
    let names: Vec<_> = requests.upstreams.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["new"]);
}

#[test]
fn a_record_allocates_nothing_once_the_ring_is_full() {
    let activity = Activity::new();
    let addresses = || -> Vec<_> {
        let requests = activity.requests.lock();
        let ring = requests.recent.newest_first();
        let mut addresses: Vec<_> = ring.map(|request| request.path.as_ptr() as usize).collect();
        addresses.sort_unstable();
        addresses
    };
    for number in 0..100 {
        activity.record(&request(number));
    }
    let before = addresses();
    for number in 100..350 {
        activity.record(&request(number));
    }
    assert_eq!(addresses(), before);
}
