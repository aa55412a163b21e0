//! What ten thousand replicas ask of one identity service: the pure schedule, played through by events.
//! The README shows the table, and this test holds it to the schedule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::time::Duration;

use bondgate::token::schedule;

const REPLICAS: usize = 10_000;
const LIFETIME: Duration = Duration::from_secs(3600);
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// When the identity service goes out, and for how long.
const OUTAGE: u64 = 20 * HOUR;
const OUT_FOR: u64 = 20 * MINUTE;

#[derive(Clone, Copy, Default)]
struct Replica {
    expires: Duration,
    failures: u32,
}

/// A day of a fleet that starts at once: how many token requests there were in each second, and how many
/// seconds all replicas together were without a token.
struct Day {
    requests: Vec<u32>,
    without_token: Duration,
}

/// The service grants up to `capacity` tokens a second and answers 503 to the rest.
fn day(capacity: u32) -> Day {
    let mut random = fastrand::Rng::with_seed(4711);
    let mut replicas = vec![Replica::default(); REPLICAS];
    let mut requests = vec![0_u32; 24 * 3600];
    let mut granted = requests.clone();
    let mut without_token = Duration::ZERO;
    let mut due: BinaryHeap<_> = (0..REPLICAS)
        .map(|number| Reverse((Duration::ZERO, number)))
        .collect();
    while let Some(Reverse((now, number))) = due.pop() {
        let second = usize::try_from(now.as_secs()).unwrap();
        if second >= requests.len() {
            continue;
        }
        requests[second] += 1;
        let replica = &mut replicas[number];
        let is_out = (OUTAGE..OUTAGE + OUT_FOR).contains(&now.as_secs());
        let wait = if is_out || granted[second] >= capacity {
            replica.failures += 1;
            let left = replica.expires.saturating_sub(now);
            schedule::wait_after_failure(replica.failures, left, Duration::ZERO, random.f64())
        } else {
            granted[second] += 1;
            without_token += now.saturating_sub(replica.expires);
            *replica = Replica {
                expires: now + LIFETIME,
                failures: 0,
            };
            schedule::refresh_after(LIFETIME, random.f64())
        };
        due.push(Reverse((now + wait, number)));
    }
    let end = Duration::from_secs(24 * HOUR);
    for replica in replicas {
        without_token += end.saturating_sub(replica.expires);
    }
    Day {
        requests,
        without_token,
    }
}

impl Day {
    fn between(&self, from: u64, to: u64) -> &[u32] {
        &self.requests[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()]
    }

    fn peak(&self, from: u64, to: u64) -> u32 {
        self.between(from, to).iter().copied().max().unwrap()
    }

    fn mean(&self, from: u64, to: u64) -> f64 {
        f64::from(self.between(from, to).iter().sum::<u32>()) / f64::from(u32::try_from(to - from).unwrap())
    }
}

#[test]
fn ten_thousand_replicas_make_no_herd() {
    let day = day(u32::MAX);
    let back = OUTAGE + OUT_FOR;
    let mut table = String::from("| moment | token requests per second: maximum | mean |\n|---|---|---|\n");
    for (moment, from, to) in [
        ("start, all within one second", 0, 1),
        ("first refresh, 27 to 33 minutes later", 27 * MINUTE, 33 * MINUTE),
        ("steady state (hours 10 to 20)", 10 * HOUR, OUTAGE),
        ("during an outage of 20 minutes", OUTAGE, back),
        ("the minute after it", back, back + MINUTE),
        ("the hour after that", back + MINUTE, back + HOUR),
    ] {
        let (peak, mean) = (day.peak(from, to), day.mean(from, to));
        writeln!(table, "| {moment} | {peak} | {mean:.1} |").unwrap();
    }
    println!("{table}");

    assert!(
        day.without_token.is_zero(),
        "an outage of 20 minutes is unnoticed"
    );
    let steady = f64::from(u32::try_from(REPLICAS).unwrap()) / 1800.0;
    assert!((day.mean(10 * HOUR, OUTAGE) - steady).abs() < 0.1 * steady);
    assert!(f64::from(day.peak(10 * HOUR, OUTAGE)) < 5.0 * steady);
    // Two thirds of them wait for the end of the outage, each for a minute at most.
    assert!(day.peak(back, back + MINUTE) < 3 * u32::try_from(REPLICAS).unwrap() / 60);
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&table), "the README has another table");
}

#[test]
fn a_service_that_is_overrun_at_the_start_is_given_room() {
    let day = day(500);
    let seconds = day.without_token.as_secs_f64() / f64::from(u32::try_from(REPLICAS).unwrap());
    let after_ten = day.peak(10, MINUTE);
    println!(
        "500 grants a second: a replica waits {seconds:.1} s on average, {after_ten} requests a second after ten"
    );
    // With perfect order it would be ten.
    assert!(seconds < 30.0, "{seconds}");
    assert!(after_ten < 2500, "{after_ten}");
    assert!(
        day.peak(10 * HOUR, OUTAGE) < 50,
        "the waves of the start do not last"
    );
}
