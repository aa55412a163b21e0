//! Counts what worker threads allocate, for as long as it is asked to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The system's allocator, with a count of what `worker-*` threads ask it for.
pub(crate) struct Counting;

/// What was allocated: a block that grows or shrinks is counted as a new one.
#[derive(Clone, Copy)]
pub(crate) struct Allocated {
    pub(crate) times: u64,
    pub(crate) bytes: u64,
}

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static TIMES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORKER: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Begins to count; workers have their names by now.
pub(crate) fn begin() {
    TIMES.store(0, Ordering::Relaxed);
    BYTES.store(0, Ordering::Relaxed);
    IS_COUNTING.store(true, Ordering::SeqCst);
}

/// Ends the count, and says what it is.
pub(crate) fn end() -> Allocated {
    IS_COUNTING.store(false, Ordering::SeqCst);
    Allocated {
        times: TIMES.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    }
}

fn note(bytes: usize) {
    if IS_COUNTING.load(Ordering::Relaxed) && is_worker() {
        TIMES.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// By the name that the kernel has for the thread: the standard library's may be somewhere that has to be
/// allocated first.
fn is_worker() -> bool {
    let look = |known: &Cell<Option<bool>>| {
        let is_worker = known.get().unwrap_or_else(|| name().starts_with(b"worker-"));
        known.set(Some(is_worker));
        is_worker
    };
    IS_WORKER.try_with(look).unwrap_or(false)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // The C library's own way to ask for a thread's name; 16 bytes hold the longest.
fn name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes at most 16 bytes to where the pointer leads.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Elsewhere nothing is counted.
#[cfg(not(target_os = "linux"))]
fn name() -> [u8; 16] {
    [0; 16]
}

#[allow(unsafe_code)] // An allocator cannot be written without it; each call goes to the system's as it came.
// SAFETY: the system's allocator keeps the contract, and noting a call neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }
}
