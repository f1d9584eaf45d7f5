//! The allocator's treatment of large allocations.

/// Allocations of at least this size in bytes are returned to the system when they are freed.
const LARGE: i32 = 1 << 20;

/// Returns large allocations to the system immediately, for the rest of this process. Otherwise glibc keeps some of
/// them for reuse, separately for each thread.
pub fn give_large_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it changes a number under a lock of the allocator.
        #[allow(unsafe_code, reason = "no binding is safe")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE)
        };
    }
}
