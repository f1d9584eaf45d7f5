//! System calls without a safe binding.

pub(super) mod exec;
pub(super) mod filter;
pub(super) mod inherit;
pub(super) mod memory;

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this process into its own mount namespace, and with `user` first into its own user namespace.
///
/// # Errors
/// The kernel's. `EINVAL` for a user namespace if the process has several threads.
pub(super) fn unshare(user: bool) -> io::Result<()> {
    let flags = if user { UnshareFlags::NEWUSER | UnshareFlags::NEWNS } else { UnshareFlags::NEWNS };
    // SAFETY: the call is unsafe only with `FILES`, which closes descriptors of other threads.
    #[allow(unsafe_code, reason = "rustix has no safe binding for unshare(2)")]
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// Moves this thread into new namespaces; a PID namespace applies only to its children.
///
/// # Errors
/// The error of the kernel.
pub(super) fn unshare_namespaces(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: as above; `FILES` is removed.
    #[allow(unsafe_code, reason = "rustix has no safe binding for unshare(2)")]
    unsafe { unshare_unsafe(flags.difference(UnshareFlags::FILES)) }?;
    Ok(())
}
