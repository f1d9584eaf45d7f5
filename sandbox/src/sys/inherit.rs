//! What a program inherits from whoever starts it, and is not to have: ignored and blocked signals, and keys.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// The signals of Linux, and the bytes of a set of them.
const SIGNALS: libc::c_int = 64;
const SET: usize = 8;

/// Has the program that `command` starts inherit neither signals nor keys of this process.
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

/// Gives every signal its default action, and blocks none: what is ignored or blocked would stay so.
pub(crate) fn default_signals() {
    // A `struct sigaction` of no handler, no flags and no mask. The C library refuses the signals that it uses itself.
    let default = [0_u64; 8];
    for signal in 1..=SIGNALS {
        // SAFETY: no handler of this process runs code any more; KILL and STOP are refused.
        #[expect(unsafe_code, reason = "no binding is safe")]
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), SET)
        };
    }
    // SAFETY: the kernel reads a set of signals.
    #[expect(unsafe_code, reason = "no binding is safe")]
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, default.as_ptr(), ptr::null::<u64>(), SET)
    };
}

/// Joins a new, empty session keyring (session-keyring(7)). Kernels without keys, and containers that may not use them,
/// refuse that, and then there is nothing to be kept away from.
pub(crate) fn join_new_session_keyring() {
    // SAFETY: without a name the kernel reads nothing.
    #[expect(unsafe_code, reason = "libc has no binding")]
    unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>())
    };
}
