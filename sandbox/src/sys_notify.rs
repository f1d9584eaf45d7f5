//! seccomp's user notifications (seccomp_unotify(2)), and a supervisor's access to another process.
//!
//! Values are passed as bytes or structures of integers, for which all bit patterns are valid.
#![allow(unsafe_code, reason = "neither rustix nor std has these system calls")]

use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_ulong, c_void};

/// The size of `struct stat`, which is the kernel's on 64-bit machines.
pub(super) const STAT: usize = size_of::<libc::stat>();

/// The size of `struct statx`.
pub(super) const STATX: usize = size_of::<libc::statx>();

/// A system call that waits for its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeccompNotification {
    /// The id for the reply.
    pub(super) id: u64,
    /// The thread id in this process's pid namespace.
    pub(super) thread: i32,
    /// The call's number.
    pub(super) number: i64,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

fn checked(returned: c_int) -> io::Result<c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

fn counted(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// Installs a filter in this thread and returns the listener, which an execve(2) closes.
///
/// # Errors
/// The kernel's: `EBUSY` if a listener exists, `EACCES` without permission.
pub(super) fn listen(program: &[libc::sock_filter], flags: c_ulong) -> io::Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let flags = flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the kernel copies the program; a descriptor that it returns is new.
    unsafe {
        let listener = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        let listener = checked(c_int::try_from(listener).map_err(|_| io::ErrorKind::InvalidData)?)?;
        Ok(OwnedFd::from_raw_fd(listener))
    }
}

/// Makes the kernel run this process on the waiting thread's processor: only one of them runs at a time. Linux 6.6.
pub(super) fn wake_in_place(listener: BorrowedFd<'_>) {
    let flag: u64 = 1;
    // SAFETY: the argument is a value. Older kernels refuse the request, which affects only performance.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, flag) };
}

/// The next call.
///
/// # Errors
/// `ENOENT` when its thread has been killed, `EINTR` after a signal.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<SeccompNotification> {
    // SAFETY: the structure has integers, and must be zero. Newer kernels have no larger one.
    let call = unsafe {
        let mut call: libc::seccomp_notif = zeroed();
        checked(libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call))?;
        call
    };
    let thread = i32::try_from(call.pid).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(SeccompNotification { id: call.id, thread, number: call.data.nr.into(), arguments: call.data.args })
}

/// Whether the call still waits, so that its thread id is not reused.
pub(super) fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads the number.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Replies: the call returns `value`, or fails with `error` (errno(3), positive) if that is not 0.
///
/// # Errors
/// `ENOENT` when the caller no longer waits.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, value: i64, error: i32) -> io::Result<()> {
    respond(listener, libc::seccomp_notif_resp { id, val: value, error: -error, flags: 0 })
}

/// Lets the kernel execute the call as without a filter.
///
/// # Errors
/// `ENOENT` when the caller no longer waits.
pub(super) fn let_pass(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).map_err(|_| io::ErrorKind::InvalidData)?;
    respond(listener, libc::seccomp_notif_resp { id, val: 0, error: 0, flags })
}

fn respond(listener: BorrowedFd<'_>, mut response: libc::seccomp_notif_resp) -> io::Result<()> {
    // SAFETY: the kernel reads the structure.
    unsafe { checked(libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response)) }?;
    Ok(())
}

/// Adds a copy of a descriptor to the process; with `send` the call returns its number (Linux 5.14).
///
/// # Errors
/// `ENOENT` when the caller no longer waits, `EINVAL` for `send` on an older kernel, `EMFILE` when it has too many
/// descriptors.
pub(super) fn hand_over(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    cloexec: bool,
    send: bool,
) -> io::Result<RawFd> {
    let flags = if send { u32::try_from(libc::SECCOMP_ADDFD_FLAG_SEND).unwrap_or_default() } else { 0 };
    let srcfd = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let newfd_flags = if cloexec { u32::try_from(libc::O_CLOEXEC).unwrap_or_default() } else { 0 };
    let request = libc::seccomp_notif_addfd { id, flags, srcfd, newfd: 0, newfd_flags };
    // SAFETY: the kernel reads the structure.
    unsafe { checked(libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request)) }
}

/// Reads a process's memory, as many bytes as are readable. Returns their number.
///
/// # Errors
/// `EFAULT` when no byte is readable, `EPERM`, `ESRCH`.
pub(super) fn read_memory(thread: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: into.len() };
    // SAFETY: the kernel writes only into the slice, and checks the other process's address.
    counted(unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) })
}

/// Writes to a process's writable memory.
///
/// # Errors
/// `EFAULT` when not all bytes are written, `EPERM`, `ESRCH`.
pub(super) fn write_memory(thread: i32, address: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: bytes.len() };
    // SAFETY: the kernel reads only from the slice, and checks the other process's address.
    let written = counted(unsafe { libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) })?;
    if written == bytes.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EFAULT)) }
}

/// A process's limit of file locks, soft and hard, which has no effect since Linux 2.4.25.
///
/// # Errors
/// `ESRCH` when it has ended.
pub(super) fn locks_limit(thread: i32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the structure.
    checked(unsafe { libc::prlimit64(thread, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the limit.
///
/// # Errors
/// `ESRCH` when it has ended, `EINVAL` when soft is above hard.
pub(super) fn set_locks_limit(thread: i32, (soft, hard): (u64, u64)) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads the structure.
    checked(unsafe { libc::prlimit64(thread, libc::RLIMIT_LOCKS, &raw const limit, std::ptr::null_mut()) })?;
    Ok(())
}

/// fstatat(2), as the bytes of `struct stat`. Relative paths start at the working directory.
///
/// # Errors
/// The error of the kernel.
pub(super) fn stat(path: &CStr, flags: c_int) -> io::Result<[u8; STAT]> {
    let mut stat = [0; STAT];
    let into = stat.as_mut_ptr();
    // SAFETY: the kernel writes `struct stat`, which has the array's size.
    let done = unsafe { libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), into, flags) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(stat) }
}

/// statx(2), as the bytes of `struct statx`. Relative paths start at the working directory.
///
/// # Errors
/// The error of the kernel.
pub(super) fn statx(path: &CStr, flags: c_int, mask: u32) -> io::Result<[u8; STATX]> {
    let mut statx = [0; STATX];
    let into = statx.as_mut_ptr();
    // SAFETY: the kernel writes `struct statx`, which has the array's size.
    let done = unsafe { libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), flags, mask, into) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(statx) }
}

/// Gives this thread its own root directory, working directory and umask.
///
/// # Errors
/// The error of the kernel.
pub(super) fn own_directories() -> io::Result<()> {
    // SAFETY: only unshares this thread's filesystem attributes; other threads keep theirs.
    checked(unsafe { libc::unshare(libc::CLONE_FS) })?;
    Ok(())
}
