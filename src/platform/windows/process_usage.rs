//! What this process uses: processor time and handles. Windows has no limit of handles that a process reaches.

use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount, GetProcessTimes};

/// The processor time of all threads.
#[must_use]
#[allow(unsafe_code)] // No crate has a safe function for it.
pub fn cpu_time() -> Option<Duration> {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle of this process is always valid, and each pointer is to a variable.
    let is_told = unsafe {
        GetProcessTimes(
            GetCurrentProcess(),
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        )
    };
    (is_told != 0).then(|| duration(kernel) + duration(user))
}

/// Not known.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    None
}

/// Not known.
#[must_use]
pub fn virtual_bytes() -> Option<u64> {
    None
}

/// Not known.
#[must_use]
pub fn threads() -> Option<u64> {
    None
}

/// The number of open handles.
#[must_use]
#[allow(unsafe_code)] // As above.
pub fn open_descriptors() -> Option<u64> {
    let mut count = 0;
    // SAFETY: the handle of this process is always valid, and the pointer is to a variable.
    let is_told = unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) };
    (is_told != 0).then_some(count.into())
}

/// Not known.
#[must_use]
pub fn descriptor_limit() -> Option<u64> {
    None
}

/// A time span, which is in units of 100 ns.
fn duration(time: FILETIME) -> Duration {
    let units = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_micros(units / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_and_handles_are_told() {
        let start = cpu_time().unwrap();
        while cpu_time().unwrap() == start {}
        // Wine always tells 0.
        assert!(open_descriptors().is_some());
    }
}
