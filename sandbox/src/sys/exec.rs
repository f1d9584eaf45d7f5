//! execve(2), and its preparation.
//!
//! `CommandExt::exec` lets a shell run files that the kernel cannot execute, which is wrong here.

use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

/// Sets close-on-exec for all open descriptors except 0 to 2.
pub(crate) fn close_on_exec() {
    // SAFETY: with this flag no descriptor is closed now.
    #[allow(unsafe_code, reason = "rustix has no close_range(2)")]
    let refused = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if refused != 0 {
        // Before Linux 5.11.
        for descriptor in 3..1024 {
            // SAFETY: sets a flag, and fails for a closed descriptor.
            #[allow(unsafe_code, reason = "nobody owns these descriptors")]
            unsafe {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC)
            };
        }
    }
}

/// Executes another program. Returns only on failure.
pub(crate) fn exec(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: all are zero-terminated strings and null-terminated lists that outlive the call.
    #[allow(unsafe_code, reason = "no binding is safe")]
    unsafe {
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr())
    };
    io::Error::last_os_error()
}
