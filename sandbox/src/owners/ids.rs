//! getuid(2), setuid(2) and related system calls, and the limit that stores identities.

use rustix::io::Errno;

use super::caller::Caller;
use super::credentials::{MOST_GROUPS, ProcessCredentials, ProcessIds};
use super::filter::{GETRLIMIT, SETRLIMIT};
use super::identities::State;
use super::{DONE, PASS, Supervisor, SyscallReply, SyscallRequest, SyscallResult, errno};

impl Supervisor {
    /// Calls about the process's own ids.
    pub(super) fn identify(&mut self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let ProcessCredentials { user, group, groups, .. } = &request.state.credentials;
        let value = |id: u32| Ok(SyscallReply::Value(id.into()));
        match caller.call.number {
            libc::SYS_getuid => value(user.real),
            libc::SYS_geteuid => value(user.effective),
            libc::SYS_getgid => value(group.real),
            libc::SYS_getegid => value(group.effective),
            libc::SYS_getresuid => write_three(caller, user),
            libc::SYS_getresgid => write_three(caller, group),
            libc::SYS_getgroups => write_groups(caller, groups),
            libc::SYS_prlimit64 => limit(caller, caller.argument(3)),
            SETRLIMIT => DONE,
            GETRLIMIT => limit(caller, caller.argument(1)),
            libc::SYS_capset | libc::SYS_prctl => self.change_capabilities(request),
            _ => self.become_somebody(request),
        }
    }

    fn become_somebody(&mut self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let mut new = request.state.credentials.clone();
        let id = |index| caller.word(index);
        let three = || [id(0), id(1), id(2)];
        let mut returned = 0;
        match caller.call.number {
            libc::SYS_setuid => new.set_user(id(0))?,
            libc::SYS_setgid => new.set_group(id(0))?,
            libc::SYS_setreuid => new.set_users(id(0), id(1))?,
            libc::SYS_setregid => new.set_two_groups(id(0), id(1))?,
            libc::SYS_setresuid => new.set_all_users(three())?,
            libc::SYS_setresgid => new.set_all_groups(three())?,
            libc::SYS_setfsuid => returned = new.set_filesystem_user(id(0)),
            libc::SYS_setfsgid => returned = new.set_filesystem_group(id(0)),
            libc::SYS_setgroups => new.set_groups(read_groups(caller)?)?,
            _ => return PASS,
        }
        self.change(request, new)?;
        Ok(SyscallReply::Value(returned.into()))
    }

    /// capset(2) and prctl(2) with `PR_SET_KEEPCAPS`, which the kernel also executes.
    fn change_capabilities(&mut self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let mut new = request.state.credentials.clone();
        if caller.call.number == libc::SYS_prctl {
            new.capabilities.keep(caller.argument(1) == 1);
        } else {
            let Ok((permitted, effective)) = read_capabilities(caller) else { return PASS };
            new.capabilities.set(permitted, effective);
        }
        self.change(request, new)?;
        PASS
    }

    fn change(&mut self, request: &SyscallRequest<'_>, credentials: ProcessCredentials) -> Result<(), Errno> {
        if credentials != request.state.credentials {
            request.caller.still_waits()?;
            let state = State { credentials, ..State::clone(&request.state) };
            self.identities.set(request.caller.call.thread, state).map_err(errno)?;
        }
        Ok(())
    }
}

fn write_three(caller: &Caller<'_>, ids: &ProcessIds) -> SyscallResult {
    for (index, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        caller.write(caller.argument(index), &id.to_ne_bytes())?;
    }
    DONE
}

/// The permitted and effective sets in the arguments of capset(2).
fn read_capabilities(caller: &Caller<'_>) -> Result<(u64, u64), Errno> {
    // The version with one word per set instead of two (linux/capability.h).
    const FIRST: u32 = 0x1998_0330;
    let words = |address, count: usize| {
        let bytes = caller.bytes(address, count * 4)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect::<Vec<_>>())
    };
    let is_first = words(caller.argument(0), 1)?.first() == Some(&FIRST);
    // Effective, permitted and inheritable; all lower halves are first.
    let sets = words(caller.argument(1), if is_first { 3 } else { 6 })?;
    let set = |index: usize| u64::from(sets[index]) | u64::from(sets.get(index + 3).copied().unwrap_or_default()) << 32;
    Ok((set(1), set(0)))
}

fn read_groups(caller: &Caller<'_>) -> Result<Vec<u32>, Errno> {
    let count = usize::try_from(caller.int(0)).ok().filter(|count| *count <= MOST_GROUPS).ok_or(Errno::INVAL)?;
    let bytes = caller.bytes(caller.argument(1), count * 4)?;
    Ok(bytes.chunks_exact(4).map(|id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]])).collect())
}

fn write_groups(caller: &Caller<'_>, groups: &[u32]) -> SyscallResult {
    let room = usize::try_from(caller.int(0)).map_err(|_| Errno::INVAL)?;
    if room > 0 {
        if room < groups.len() {
            return Err(Errno::INVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        if !bytes.is_empty() {
            caller.write(caller.argument(1), &bytes)?;
        }
    }
    Ok(SyscallReply::Value(i64::try_from(groups.len()).unwrap_or_default()))
}

/// prlimit(2) of the limit that stores identities: it appears to be infinite and cannot be changed.
fn limit(caller: &Caller<'_>, old: u64) -> SyscallResult {
    if old != 0 {
        caller.write(old, &[0xff; 16])?;
    }
    DONE
}
