//! State that a program must not inherit from its parent: ignored and blocked signals, and keyrings.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// The number of Linux's signals, and the size of a signal set in bytes.
const SIGNALS: libc::c_int = 64;
const SET: usize = 8;

/// Ensures that the program of `command` inherits neither signal settings nor keyrings of this process.
pub fn start_clean(command: &mut Command) {
    // SAFETY: after the fork there are only system calls, which neither allocate nor lock.
    #[expect(unsafe_code, reason = "no binding is safe")]
    unsafe {
        command.pre_exec(|| {
            default_signals();
            join_new_session_keyring();
            Ok(())
        })
    };
}

/// Sets every signal to its default action, and unblocks all: ignored and blocked signals are inherited.
pub(crate) fn default_signals() {
    // A `struct sigaction` without handler, flags and mask. The C library refuses changes of the signals that it uses
    // itself.
    let default = [0_u64; 8];
    for signal in 1..=SIGNALS {
        // SAFETY: no handler of this process runs code any more; KILL and STOP are refused.
        #[expect(unsafe_code, reason = "no binding is safe")]
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), SET)
        };
    }
    // SAFETY: the kernel reads a signal set.
    #[expect(unsafe_code, reason = "no binding is safe")]
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, default.as_ptr(), ptr::null::<u64>(), SET)
    };
}

/// Joins a new, empty session keyring (session-keyring(7)). Kernels without keyrings, and containers that may not use
/// them, refuse this, and then no keys are accessible.
pub(crate) fn join_new_session_keyring() {
    // SAFETY: without a name the kernel reads nothing.
    #[expect(unsafe_code, reason = "libc has no binding")]
    unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>())
    };
}
