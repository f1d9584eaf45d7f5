//! chown(2) and related system calls.

use ociforge_layers::owner::OwnershipRecord;
use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::io::Errno;

use super::credentials::UNCHANGED;
use super::records::ROOT;
use super::{DONE, PASS, Supervisor, SyscallRequest, SyscallResult};

impl Supervisor {
    /// fchownat(2). The ids are the argument `first` and the next one.
    pub(super) fn chown(
        &mut self,
        request: &SyscallRequest<'_>,
        dirfd: i32,
        path: u64,
        flags: i32,
        first: usize,
    ) -> SyscallResult {
        let [user, group] =
            [first, first + 1].map(|index| Some(request.caller.word(index)).filter(|id| *id != UNCHANGED));
        if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
            return PASS;
        }
        let Some(place) = request.place(dirfd, path, flags) else { return PASS };
        let credentials = &request.state.credentials;
        let record = self.records.get(&place);
        let is_root = |id: Option<u32>| id.is_none_or(|id| id == 0);
        if record.is_none() && is_root(user) && is_root(group) && credentials.may_chown((0, 0), user, group) {
            return PASS;
        }
        let Ok(file) = place.open() else { return PASS };
        let old = record.unwrap_or(ROOT);
        if !credentials.may_chown((old.uid, old.gid), user, group) {
            return Err(Errno::PERM);
        }
        request.caller.still_waits()?;
        // For the side effects of the call: copy-up, set-id bits, capabilities, times.
        chownat(&file, "", user.map(|_| Uid::ROOT), group.map(|_| Gid::ROOT), AtFlags::EMPTY_PATH)?;
        let new = OwnershipRecord { uid: user.unwrap_or(old.uid), gid: group.unwrap_or(old.gid), ..old };
        if new != old {
            self.records.set(&file, new).map_err(super::errno)?;
        }
        DONE
    }
}
