//! What this process gives up and takes before it does anything: nobody gets its memory, which holds secrets,
//! and it has all the file descriptors that it may.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets no core dump be written, and no other process of this user read our memory. Called first of
/// all, before a secret is read.
///
/// Neither can fail for lack of rights; where a sandbox forbids the calls, the daemon runs all the same.
pub fn harden() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Takes as many file descriptors as the system gives this process, and says how many that are. The lower limit
/// that a process starts with is for programs that know no more.
#[must_use]
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // None is no limit.
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn a_hardened_process_is_not_dumpable() {
        harden();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }
    #[test]
    fn descriptors_are_raised_to_the_hard_limit() {
        let raised = raise_descriptors();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(
            raised,
            limit
                .current
                .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap())
        );
    }
}
