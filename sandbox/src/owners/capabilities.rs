//! The emulated capabilities of a process (capabilities(7)), as far as changes of ids affect them.
//!
//! A process loses them with its last id of root, unless it set `PR_SET_KEEPCAPS`, as setpriv(1) does to change its
//! groups after its user. File capabilities and ambient capabilities are not emulated.

use super::credentials::ProcessIds;

/// Changing owners of files.
pub(super) const CHOWN: u32 = 0;
/// Changing to any group.
pub(super) const SETGID: u32 = 6;
/// Changing to any user.
pub(super) const SETUID: u32 = 7;
/// Creating devices.
pub(super) const MKNOD: u32 = 27;

/// The capabilities that follow the filesystem id (linux/capability.h, `CAP_FS_SET`).
const OF_FILES: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32;

/// A process's capability sets, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProcessCapabilities {
    permitted: u64,
    effective: u64,
    /// Whether it keeps the permitted set with its last id of root.
    keep: bool,
}

impl Default for ProcessCapabilities {
    /// The capabilities of root.
    fn default() -> Self {
        Self { permitted: !0, effective: !0, keep: false }
    }
}

impl ProcessCapabilities {
    pub(super) fn has(self, capability: u32) -> bool {
        self.effective & (1 << capability) != 0
    }

    /// prctl(2) with `PR_SET_KEEPCAPS`.
    pub(super) fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// capset(2). The kernel has already checked that the sets do not grow.
    pub(super) fn set(&mut self, permitted: u64, effective: u64) {
        self.permitted &= permitted;
        self.effective = self.permitted & effective;
    }

    /// Updates the sets after a change of the user's ids.
    pub(super) fn follow(&mut self, old: ProcessIds, new: ProcessIds) {
        let is_root = |ids: ProcessIds| [ids.real, ids.effective, ids.saved].contains(&0);
        if is_root(old) && !is_root(new) && !self.keep {
            self.permitted = 0;
        }
        match (old.effective, new.effective) {
            (0, 0) => {}
            (0, _) => self.effective = 0,
            (_, 0) => self.effective = self.permitted,
            _ => self.effective &= self.permitted,
        }
    }

    /// Updates the sets after a change of only the user's filesystem id.
    pub(super) fn follow_filesystem(&mut self, old: u32, new: u32) {
        match (old, new) {
            (0, 1..) => self.effective &= !OF_FILES,
            (1.., 0) => self.effective |= self.permitted & OF_FILES,
            _ => {}
        }
    }

    /// The sets of a program that a user executes.
    pub(super) fn of_program(user: ProcessIds) -> Self {
        let all = |has: bool| if has { !0 } else { 0 };
        let permitted = all(user.real == 0 || user.effective == 0);
        Self { permitted, effective: all(user.effective == 0), keep: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(real: u32, effective: u32, saved: u32) -> ProcessIds {
        ProcessIds { real, effective, saved, filesystem: effective }
    }

    #[test]
    fn the_last_id_of_root_takes_them_along() {
        let mut process = ProcessCapabilities::default();
        process.follow(ids(0, 0, 0), ids(0, 7, 0));
        assert!(!process.has(SETUID));
        process.follow(ids(0, 7, 0), ids(0, 0, 0));
        assert!(process.has(SETUID) && process.has(CHOWN));
        process.follow(ids(0, 0, 0), ids(7, 7, 7));
        process.set(!0, !0);
        assert!(!process.has(SETUID));
    }

    #[test]
    fn they_can_be_kept() {
        let mut setpriv = ProcessCapabilities::default();
        setpriv.keep(true);
        setpriv.follow(ids(0, 0, 0), ids(7, 7, 7));
        assert!(!setpriv.has(SETGID), "the effective ones are not kept");
        setpriv.set(1 << SETGID, 1 << SETGID);
        assert!(setpriv.has(SETGID) && !setpriv.has(SETUID));
        assert!(!ProcessCapabilities::of_program(ids(7, 7, 7)).has(SETGID));
    }

    #[test]
    fn those_of_files_follow_the_filesystem_id() {
        let mut server = ProcessCapabilities::default();
        server.follow_filesystem(0, 5);
        assert!(!server.has(CHOWN) && !server.has(MKNOD) && server.has(SETUID));
        server.follow_filesystem(5, 0);
        assert!(server.has(CHOWN) && server.has(MKNOD));
    }
}
