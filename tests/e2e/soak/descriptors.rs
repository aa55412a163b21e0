//! How many files the processes of these tests may open, and so how many callers there can be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many of the callers that a test is about there are to be. A machine that gives no more descriptors can run
/// a part of it, which has to be said: `BONDGATE_SOAK_PERCENT`, or `.ci/soak PERCENT`.
pub(super) struct Part {
    percent: usize,
}

impl Part {
    /// Takes all the descriptors that there are, for this process and those that it starts, and fails with what can
    /// be done where they are too few for a daemon with so many connections.
    pub(super) fn with_connections(connections: usize) -> Self {
        let part = Self { percent: percent() };
        let (wanted, limit) = (needed(part.of(connections)), raised());
        assert!(
            limit >= wanted,
            "{wanted} files have to be open at once, and {limit} may be (the hard limit of this process). Raise it: \
             `ulimit -Hn {wanted}` as root, LimitNOFILE={wanted} in a unit, `--ulimit nofile={wanted}` for a container. \
             Or run a part: `.ci/soak {}`",
            (1..=100)
                .rev()
                .find(|percent| needed(connections * percent / 100) <= limit)
                .unwrap_or(1)
        );
        if part.percent < 100 {
            println!("{} % of the callers, {limit} descriptors", part.percent);
        }
        part
    }

    /// This part of a count.
    pub(super) fn of(&self, count: usize) -> usize {
        count * self.percent / 100
    }
}

fn percent() -> usize {
    let percent = std::env::var("BONDGATE_SOAK_PERCENT").map_or(100, |percent| {
        percent.parse().expect("BONDGATE_SOAK_PERCENT is a number")
    });
    assert!((1..=100).contains(&percent), "BONDGATE_SOAK_PERCENT is 1 to 100");
    percent
}

/// How many descriptors let the daemon have so many connections: it leaves more than half of them for calls upstream
/// and everything else.
fn needed(connections: usize) -> usize {
    64 + connections.div_ceil(7) * 16
}

/// Raises the limit of this process as far as it goes, and says how far that is.
fn raised() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    limit
        .maximum
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap())
}
