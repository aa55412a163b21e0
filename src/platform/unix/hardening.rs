//! What the process does first of all: protects its memory, and raises its limit of file descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Disables core dumps, and keeps other processes of this user from reading our memory. Called before a secret is
/// read.
///
/// Neither needs a privilege; in a sandbox that forbids the calls, the daemon runs without.
pub fn protect_memory() {
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

/// Raises the limit of file descriptors to the maximum that the system allows, and returns it.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    // No value means that there is no limit.
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The size of the largest file that the process may write; `None` for no limit.
#[must_use]
pub fn file_size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn a_process_with_protected_memory_is_not_dumpable() {
        protect_memory();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }

    #[test]
    fn descriptors_are_raised_to_the_hard_limit() {
        let raised = raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        let current = limit.current.map(|limit| usize::try_from(limit).unwrap());
        assert_eq!(raised, current.unwrap_or(usize::MAX));
    }
}
