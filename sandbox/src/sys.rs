//! System calls without a safe binding.

pub(super) mod exec;
pub(super) mod filter;
pub(super) mod inherit;
pub(super) mod memory;

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this process into a mount namespace of its own, and with `user` into a user namespace of its own first.
///
/// # Errors
/// What the kernel says. `EINVAL` for a user namespace when the process has several threads.
pub(super) fn unshare(user: bool) -> io::Result<()> {
    let flags = if user { UnshareFlags::NEWUSER | UnshareFlags::NEWNS } else { UnshareFlags::NEWNS };
    // SAFETY: the call is unsafe only with `FILES`, which takes descriptors away from other threads.
    #[allow(unsafe_code, reason = "rustix has no safe binding for unshare(2)")]
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// Moves this thread into new namespaces; for PIDs only its children.
///
/// # Errors
/// The error of the kernel.
pub(super) fn unshare_namespaces(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: as above; `FILES` is taken out.
    #[allow(unsafe_code, reason = "rustix has no safe binding for unshare(2)")]
    unsafe { unshare_unsafe(flags.difference(UnshareFlags::FILES)) }?;
    Ok(())
}
