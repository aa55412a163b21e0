//! What this process uses. Each value is absent where the system does not tell it: outside Linux, most are.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The processor time of all threads.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}

/// The memory that is in use.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    Some(status("VmRSS")? * KIBIBYTE)
}

/// The address space that is in use.
#[must_use]
pub fn virtual_bytes() -> Option<u64> {
    Some(status("VmSize")? * KIBIBYTE)
}

/// The number of threads.
#[must_use]
pub fn threads() -> Option<u64> {
    status("Threads")
}

/// The number of open file descriptors.
#[must_use]
pub fn open_descriptors() -> Option<u64> {
    let descriptors = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them lists the others.
    u64::try_from(descriptors.saturating_sub(1)).ok()
}

/// The limit of open file descriptors; absent without one.
#[must_use]
pub fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The unit of memory in `/proc/self/status`.
const KIBIBYTE: u64 = 1024;

/// A number in `/proc/self/status`.
fn status(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| *name == field)?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn linux_tells_each_value() {
        let start = cpu_time().unwrap();
        while cpu_time().unwrap() < start + Duration::from_millis(5) {}
        let (resident, all) = (resident_bytes().unwrap(), virtual_bytes().unwrap());
        assert!(1 << 20 < resident && resident < all, "{resident} of {all}");
        assert!(threads().unwrap() >= 1);
    }

    #[test]
    fn open_descriptors_are_counted_up_to_their_limit() {
        const MANY: u64 = 200;
        let files: Vec<_> = (0..MANY).map(|_| File::open("/dev/null").unwrap()).collect();
        let open = open_descriptors().unwrap();
        assert!(open >= MANY, "{open} of {}", files.len());
        assert!(descriptor_limit().is_none_or(|limit| open <= limit));
    }
}
