//! Memory that the Windows API allocated and the caller frees with LocalFree.

use std::ptr;

use windows_sys::Win32::Foundation::LocalFree;

/// A block that an API function returned; null if it returned none.
#[derive(Debug)]
pub(super) struct LocalMemory<T>(*mut T);

impl<T> LocalMemory<T> {
    /// A place for an API function to write the block's address to, by [`out`](Self::out).
    #[must_use]
    pub(super) fn empty() -> Self {
        Self(ptr::null_mut())
    }

    /// Where an API function writes the block's address. To be passed once, to a function whose result is freed with
    /// LocalFree.
    pub(super) fn out(&mut self) -> *mut *mut T {
        &raw mut self.0
    }

    /// The block's address.
    #[must_use]
    pub(super) fn as_ptr(&self) -> *mut T {
        self.0
    }
}

impl LocalMemory<u16> {
    /// The text that an API function wrote; empty if it wrote none.
    #[must_use]
    #[allow(unsafe_code)] // Reads through an address that the API returned.
    pub(super) fn to_text(&self) -> String {
        let mut units = Vec::new();
        let mut at = self.0.cast_const();
        // SAFETY: the address is null, or that of a text of the API, which ends with a zero.
        unsafe {
            while !at.is_null() && *at != 0 {
                units.push(*at);
                at = at.add(1);
            }
        }
        String::from_utf16_lossy(&units)
    }
}

impl<T> Drop for LocalMemory<T> {
    #[allow(unsafe_code)] // The system's allocator has no safe interface.
    fn drop(&mut self) {
        // SAFETY: the address is null, which LocalFree ignores, or that of a block that nothing else frees.
        unsafe { LocalFree(self.0.cast()) };
    }
}
