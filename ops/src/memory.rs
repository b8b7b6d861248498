//! Where large buffers come from. On Linux a fresh buffer costs a page fault each 4 KiB, which is most of the cost of
//! writing it once; this exists to pay that less often.

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
