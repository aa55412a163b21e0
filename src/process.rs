//! What this process gives up before it does anything: nobody gets its memory, which holds secrets.

use rustix::process::{Resource, Rlimit, setrlimit};

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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_hardened_process_is_not_dumpable() {
        harden();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    }
}
