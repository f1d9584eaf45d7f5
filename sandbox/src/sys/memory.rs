//! How the allocator treats large pieces of memory.

/// Pieces of at least this many bytes are given back to the system as soon as they are freed.
const LARGE: i32 = 1 << 20;

/// Has large pieces of memory given back at once, for the rest of this process. glibc would keep some of them for the
/// next time, each thread its own.
pub fn give_large_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it changes a number under a lock of the allocator's.
        #[allow(unsafe_code, reason = "no binding is safe")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE)
        };
    }
}
