//! The one system call without a safe binding.

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this process into a mount namespace of its own, and with `user` into a user namespace of its own first.
///
/// # Errors
/// What the kernel says.
pub(super) fn unshare(user: bool) -> io::Result<()> {
    let flags = if user { UnshareFlags::NEWUSER | UnshareFlags::NEWNS } else { UnshareFlags::NEWNS };
    // SAFETY: what is unsafe about it is `FILES`, which takes descriptors away from other threads; it is not among the
    // flags.
    #[expect(unsafe_code, reason = "there is no safe binding for unshare(2)")]
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}
