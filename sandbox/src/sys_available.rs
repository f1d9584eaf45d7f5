//! System calls without a safe binding, for probes of step features.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::thread::{UnshareFlags, set_no_new_privs, unshare_unsafe};

/// Moves later children of this process into their own pid namespace.
///
/// # Errors
/// The error of the kernel.
pub(super) fn unshare_processes() -> io::Result<()> {
    unshare(UnshareFlags::NEWPID)
}

/// Moves this process into its own network namespace.
///
/// # Errors
/// The error of the kernel.
pub(super) fn unshare_network() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the call is unsafe only with `FILES`, which closes descriptors of other threads.
    #[allow(unsafe_code, reason = "rustix has no safe binding for unshare(2)")]
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// Installs a seccomp filter that allows everything, and whose calls another process could handle (seccomp_unotify(2)).
/// From then on this process gains no privileges.
///
/// # Errors
/// The kernel's: `EBUSY` if this process already has a listener, `EINVAL` before Linux 5.0.
pub(super) fn install_listener() -> io::Result<()> {
    let known: u32 = libc::SECCOMP_RET_USER_NOTIF;
    seccomp(libc::SECCOMP_GET_ACTION_AVAIL, 0, (&raw const known).cast())?;
    set_no_new_privs(true)?;
    let mut allow = libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, (&raw const program).cast())?;
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    #[allow(unsafe_code, reason = "libc has numbers for descriptors")]
    let listener = unsafe { OwnedFd::from_raw_fd(listener) };
    rustix::io::fcntl_getfd(listener.as_fd())?;
    Ok(())
}

/// `BPF_RET | BPF_K`: the filter ends with a constant.
const RETURN: u16 = 0x06;

/// seccomp(2). `arguments` is the pointer for `operation`.
fn seccomp(operation: libc::c_uint, flags: libc::c_ulong, arguments: *const libc::c_void) -> io::Result<RawFd> {
    // SAFETY: the two callers pass a number and a program, which the kernel reads before it returns.
    #[allow(unsafe_code, reason = "rustix has no binding for seccomp(2)")]
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, arguments) };
    if result < 0 { Err(io::Error::last_os_error()) } else { RawFd::try_from(result).map_err(io::Error::other) }
}
