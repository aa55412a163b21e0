//! The memory allocator: mimalloc, which returns unused memory to the system and serves each thread without a lock. It is
//! built without transparent huge pages (`no_thp`): with them it takes twice the memory.
//!
//! Not by the crate `mimalloc`: it asks for an explicit alignment each time. mimalloc then takes a slow path for every block
//! over 1 KiB whose size is no power of two, which cost 3 % of a request's instructions.
#![allow(unsafe_code)] // An allocator is an unsafe trait.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// The program's allocator.
pub struct Allocator;

/// The alignment of every block of at least this size (`MI_MAX_ALIGN_SIZE`); smaller blocks are aligned to 8.
const GUARANTEED: usize = 16;

/// Whether a block of this size has its alignment without asking for it.
fn is_aligned(size: usize, align: usize) -> bool {
    align <= GUARANTEED && align <= size
}

// SAFETY: mimalloc returns a block of the size and alignment that it is asked for, or null, and `mi_free` and the
// `mi_realloc` functions take a block from any of its functions. A `size` or `align` that Layout allows is valid for them.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_aligned(size, align) {
            return unsafe { mi_malloc(size) }.cast();
        }
        unsafe { mi_malloc_aligned(size, align) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if is_aligned(size, align) {
            return unsafe { mi_zalloc(size) }.cast();
        }
        unsafe { mi_zalloc_aligned(size, align) }.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        unsafe { mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        if is_aligned(size, align) {
            return unsafe { mi_realloc(block.cast(), size) }.cast();
        }
        unsafe { mi_realloc_aligned(block.cast(), size, align) }.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_alignment_after_it_was_resized_too() {
        for align in [1, 8, 16, 64, 4096] {
            for size in [1, 8, 16, 24, 40, 1000, 1040, 5000, 70_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: no size is zero, and each block is resized and freed with its layout.
                unsafe {
                    let block = Allocator.alloc_zeroed(layout);
                    assert!(block.addr().is_multiple_of(align) && *block == 0);
                    let block = Allocator.realloc(block, layout, size + 24);
                    assert!(block.addr().is_multiple_of(align) && *block == 0);
                    Allocator.dealloc(block, Layout::from_size_align(size + 24, align).unwrap());
                    let block = Allocator.alloc(layout);
                    assert!(block.addr().is_multiple_of(align));
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }
}
