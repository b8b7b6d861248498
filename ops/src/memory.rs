//! Where large buffers come from. On Linux a fresh buffer costs a page fault each 4 KiB, which is most of the cost of
//! writing it once; this exists to pay that less often.

use std::alloc::{GlobalAlloc, Layout, System};

/// The allocator of every program that links this crate: buffers from 1 KiB on begin at a cache line, so that vectors of
/// 64 bytes never straddle two. Tensors are plain `Vec`s, which would begin 16 bytes into one; the product of matrices
/// measured 1.2 times as fast aligned.
///
/// A buffer is a plain block of the system's with a line more, and how far into it the buffer begins is written before it.
/// Asked for aligned blocks itself, glibc looks for larger ones and cuts them, so that a freed block never fits the next
/// buffer of its size: a training step of 8 M parameters measured 700 MB instead of 510.
struct Aligned;

#[global_allocator]
static ALLOCATOR: Aligned = Aligned;

/// A cache line, and the widest vector, in bytes.
const LINE: usize = 64;
/// From this many bytes on buffers are aligned.
const FROM: usize = 1 << 10;
/// What blocks are aligned to: room for the offset before any line that begins inside.
const BLOCK: usize = 16;

/// The system's block for a buffer that is to be aligned.
fn block_of(layout: Layout) -> Option<Layout> {
    if layout.size() < FROM || layout.align() > BLOCK {
        return None;
    }
    Layout::from_size_align(layout.size().checked_add(LINE)?, BLOCK).ok()
}

/// The buffer inside a new block, its offset noted.
///
/// # Safety
/// The block must be one of [`block_of`]'s, or null.
unsafe fn inside(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    let offset = LINE - block.addr() % LINE;
    // SAFETY: the offset is at least `BLOCK`, as the block begins at a multiple of it, and at most `LINE`, which the block has
    // more than the buffer. So the note, one byte, lies inside the block and before the buffer.
    unsafe {
        let buffer = block.add(offset);
        buffer.sub(1).write(offset as u8);
        buffer
    }
}

// SAFETY: every call goes to the system's allocator with a layout that is a function of the caller's alone; buffers lie
// inside their blocks, aligned to a line and so to all that the caller may ask for there.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe {
            match block_of(layout) {
                Some(block) => inside(System.alloc(block)),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract; the note lies outside the buffer.
        unsafe {
            match block_of(layout) {
                Some(block) => inside(System.alloc_zeroed(block)),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the buffer came from this allocator with this layout, so its offset stands before it if it has one.
        unsafe {
            match block_of(layout) {
                Some(block) => {
                    let offset = usize::from(at.sub(1).read());
                    System.dealloc(at.sub(offset), block);
                }
                None => System.dealloc(at, layout),
            }
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the caller vouches for the new size.
        unsafe {
            let to = Layout::from_size_align_unchecked(size, layout.align());
            if block_of(layout).is_none() && block_of(to).is_none() {
                return System.realloc(at, layout, size);
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
            // The heap grows by as much at a time, instead of by a page more than what is asked for.
            libc::mallopt(libc::M_TOP_PAD, 32 << 20);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_begin_at_a_line_and_keep_their_bytes_as_they_grow_and_shrink() {
        for size in [1, 1000, 1023, 1024, 1025, 5000, 1 << 20] {
            let mut bytes = vec![7u8; size];
            assert!(size < FROM || bytes.as_ptr().addr() % LINE == 0, "{size}");
            for to in [size / 2, size * 3, 600, 4000, 2 << 20] {
                let kept = bytes.len().min(to);
                bytes.resize(to, 9);
                bytes.shrink_to_fit();
                assert!(bytes[..kept].iter().all(|&b| b == 7 || b == 9));
                assert!(to < FROM || bytes.as_ptr().addr() % LINE == 0);
            }
            let zeros = vec![0u64; size];
            assert!(zeros.iter().all(|&x| x == 0));
        }
    }

    #[test]
    fn what_is_aligned_by_its_type_is_the_systems() {
        #[repr(align(128))]
        struct Wide(#[allow(dead_code)] [u8; 2048]);
        let many: Vec<Box<Wide>> = (0..9).map(|i| Box::new(Wide([i; 2048]))).collect();
        for (i, wide) in many.iter().enumerate() {
            assert_eq!(std::ptr::from_ref(&**wide).addr() % 128, 0);
            assert!(wide.0.iter().all(|&b| usize::from(b) == i));
        }
    }
}
