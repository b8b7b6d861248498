//! Where large buffers come from. On Linux a fresh buffer costs a page fault each 4 KiB, which is most of the cost of
//! writing it once; this exists to pay that less often.

use std::alloc::{GlobalAlloc, Layout, System};

/// The allocator of every program that links this crate: buffers from 1 KiB on begin at a cache line, so that vectors of
/// 64 bytes never straddle two. Tensors are plain `Vec`s, which would begin 16 bytes into one; the product of matrices
/// measured 1.2 times as fast aligned.
struct Aligned;

#[global_allocator]
static ALLOCATOR: Aligned = Aligned;

/// A cache line, and the widest vector, in bytes.
const LINE: usize = 64;
/// From this many bytes on buffers are aligned.
const FROM: usize = 1 << 10;

fn aligned(layout: Layout) -> Layout {
    if layout.size() < FROM || layout.align() >= LINE {
        return layout;
    }
    // A size that the larger alignment would push over the limit of a layout is refused by the system's allocator.
    layout.align_to(LINE).unwrap_or(layout)
}

// SAFETY: every call goes to the system's allocator, with a layout that is a function of the caller's alone, at least as
// strictly aligned.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(aligned(layout)) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the block came from this allocator, so from the system's with this layout.
        unsafe { System.dealloc(at, aligned(layout)) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the caller vouches for the new size.
        unsafe {
            let to = Layout::from_size_align_unchecked(size, layout.align());
            if aligned(to).align() == aligned(layout).align() {
                return System.realloc(at, aligned(layout), size);
            }
            let new = self.alloc(to);
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(at, new, layout.size().min(size));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

/// Tells glibc to keep freed memory instead of returning it to the kernel. Call once at start-up; elsewhere a no-op.
///
/// By default glibc maps every buffer over 128 KiB (adaptively up to 32 MiB) afresh and unmaps it when freed, so each
/// intermediate result of a forward pass is faulted in page by page: 5 GB/s instead of 29. With high thresholds such
/// buffers are recycled on the heap. The price is that the process keeps its peak size. One heap serves all threads: what
/// one thread frees another takes, where heaps of their own held up to 1.8 times the memory in training.
pub fn fast_alloc() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const ONE_GIB: libc::c_int = 1 << 30;
        // SAFETY: mallopt only sets allocator parameters; a refused value leaves the old one.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, ONE_GIB);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
