//! execve(2) of programs with set-id bits.

use rustix::fs::{CWD, FileType, StatxFlags, statx};

use super::identities::{Execution, State};
use super::records::ROOT;
use super::{PASS, Supervisor, SyscallRequest, SyscallResult, errno};

impl Supervisor {
    /// execveat(2). The process's next call shows whether it succeeded, by the program that the process then runs; for
    /// a script this is the interpreter, so set-id bits of scripts have no effect, as in the kernel.
    pub(super) fn execute(&mut self, request: &SyscallRequest<'_>, dirfd: i32, path: u64, flags: i32) -> SyscallResult {
        let Some(place) = request.place(dirfd, path, flags) else { return PASS };
        let Ok(found) = statx(CWD, &place.path, place.flags(), StatxFlags::BASIC_STATS) else { return PASS };
        let mode = u32::from(found.stx_mode);
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return PASS;
        }
        let owned = mode & libc::S_ISUID != 0;
        let grouped = mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
        let (user, group) = match owned || grouped {
            true => {
                let record = self.records.get(&place).unwrap_or(ROOT);
                (owned.then_some(record.uid), grouped.then_some(record.gid))
            }
            false => (None, None),
        };
        let credentials = &request.state.credentials;
        if credentials.execute(user, group) == *credentials {
            return PASS;
        }
        request.caller.still_waits()?;
        let program = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        let execution = Some(Execution { program, user, group });
        let state = State { execution, ..State::clone(&request.state) };
        self.identities.set(request.caller.call.thread, state).map_err(errno)?;
        PASS
    }
}
