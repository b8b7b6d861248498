//! Where large buffers come from. On Linux a fresh buffer costs a page fault each 4 KiB, which is most of the cost of
//! writing it once; both functions here exist to pay that less often.

/// Tells glibc to keep freed memory instead of returning it to the kernel. Call once at start-up; elsewhere a no-op.
///
/// By default glibc maps every buffer over 128 KiB (adaptively up to 32 MiB) afresh and unmaps it when freed, so each
/// intermediate result of a forward pass is faulted in page by page: 5 GB/s instead of 29. With high thresholds such
/// buffers are recycled on the heap. The price is that the process keeps its peak size.
pub fn fast_alloc() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const ONE_GIB: libc::c_int = 1 << 30;
        // SAFETY: mallopt only sets allocator parameters; a refused value leaves the old one.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, ONE_GIB);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}

/// Buffers on huge pages, for weights that live as long as the process.
pub mod huge {
    /// An empty vector with room for `len` numbers, which the kernel is asked to back with 2 MiB pages (Linux; only
    /// when it is large enough to hold some). Fewer page faults on loading, fewer TLB misses on reading.
    pub fn vec_f32(len: usize) -> Vec<f32> {
        let values = Vec::with_capacity(len);
        #[cfg(target_os = "linux")]
        advise(&values);
        values
    }

    /// Asks for huge pages on the part of the buffer that consists of whole ones. A refusal is harmless: the buffer
    /// then has ordinary pages.
    #[cfg(target_os = "linux")]
    fn advise(values: &Vec<f32>) {
        const HUGE_PAGE: usize = 2 << 20;
        let start = values.as_ptr() as usize;
        let end = start + values.capacity() * size_of::<f32>();
        let first = start.next_multiple_of(HUGE_PAGE);
        let last = end / HUGE_PAGE * HUGE_PAGE;
        if first < last {
            // SAFETY: the range lies inside our own allocation, and the advice changes no contents.
            unsafe {
                libc::madvise(
                    first as *mut libc::c_void,
                    last - first,
                    libc::MADV_HUGEPAGE,
                );
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn large_and_small_buffers_hold_what_is_put_in() {
            for len in [0, 1, 1000, (5 << 20) / 4, (9 << 20) / 4 + 3] {
                let mut values = vec_f32(len);
                assert!(values.capacity() >= len && values.is_empty());
                let pointer = values.as_ptr();
                values.extend((0..len).map(|i| i as f32));
                assert_eq!(values.as_ptr(), pointer, "no reallocation");
                assert!(values.iter().enumerate().all(|(i, &v)| v == i as f32));
            }
        }
    }
}
