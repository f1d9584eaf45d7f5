//! The identities of processes.
//!
//! The identity of a process must be inherited over fork(2), vfork(2), clone(2) and execve(2), outlive its parents, and
//! not be confused with another's when a process id is reused. The kernel provides all this for resource limits, and
//! one of them, on file locks, has had no effect since Linux 2.4.25: its soft value is the number of the process's
//! [`State`]. It can be read and set from outside, and the filter prevents access by the process itself. Threads of a
//! process share it, as the C library makes them share their ids. A process with another value is root and has not
//! changed its ids.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;

use super::credentials::ProcessCredentials;
use crate::sys_notify;

/// Maximum number of states, and of groups in all of them, which bounds this process's memory.
const MOST_STATES: usize = 65_536;
const MOST_GROUPS: usize = 1 << 20;

/// The state of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Its credentials.
    pub(super) credentials: ProcessCredentials,
    /// Whether its root directory may differ from the step's.
    pub(super) own_root: bool,
    /// The pending execve(2), if it changes the credentials.
    pub(super) execution: Option<Execution>,
}

/// An execve(2) with an unknown result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Execution {
    /// The program's device, major and minor number, and inode.
    pub(super) program: (u32, u32, u64),
    /// The owner, if the set-user-ID bit applies.
    pub(super) user: Option<u32>,
    /// The group, if the set-group-ID bit applies.
    pub(super) group: Option<u32>,
}

/// All states of this run.
#[derive(Debug, Default)]
pub(super) struct Identities {
    states: Vec<Rc<State>>,
    numbers: HashMap<Rc<State>, u64>,
    groups: usize,
    root: Rc<State>,
}

impl Identities {
    /// The state of a thread's process.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub(super) fn of(&mut self, thread: i32) -> io::Result<Rc<State>> {
        let (number, _) = sys_notify::locks_limit(thread)?;
        let state = usize::try_from(number).ok().and_then(|number| self.states.get(number));
        let state = Rc::clone(state.unwrap_or(&self.root));
        let Some(execution) = state.execution else { return Ok(state) };
        let mut settled = State { execution: None, ..State::clone(&state) };
        if program_of(&format!("{thread}/exe")).is_ok_and(|program| program == execution.program) {
            settled.credentials = settled.credentials.execute(execution.user, execution.group);
        }
        self.set(thread, settled)
    }

    /// Sets its state.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many different states, `ESRCH` when it has ended.
    pub(super) fn set(&mut self, thread: i32, state: State) -> io::Result<Rc<State>> {
        let state = Rc::new(state);
        let number = match self.numbers.get(&state) {
            Some(number) => *number,
            None => self.add(&state)?,
        };
        let (_, hard) = sys_notify::locks_limit(thread)?;
        sys_notify::set_locks_limit(thread, (number, hard))?;
        Ok(state)
    }

    fn add(&mut self, state: &Rc<State>) -> io::Result<u64> {
        let groups = self.groups + state.credentials.groups.len();
        if self.states.len() >= MOST_STATES || groups > MOST_GROUPS {
            return Err(Errno::NOMEM.into());
        }
        self.groups = groups;
        let number = self.states.len() as u64;
        self.states.push(Rc::clone(state));
        self.numbers.insert(Rc::clone(state), number);
        Ok(number)
    }
}

/// The file at a path, in the form of [`Execution::program`].
pub(super) fn program_of(path: &str) -> io::Result<(u32, u32, u64)> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::INO)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_orphans_are_what_their_parents_were() {
        let mut identities = Identities::default();
        let mut child = std::process::Command::new("sh");
        // Its grandchild becomes an orphan and makes no calls.
        child.args(["-c", "read go; (sleep 99 >/dev/null & echo $!)"]);
        child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = child.spawn().unwrap();
        let thread = child.id().try_into().unwrap();
        assert_eq!(*identities.of(thread).unwrap(), State::default());
        let mut state = State::default();
        state.credentials.set_all_users([42; 3]).unwrap();
        identities.set(thread, state.clone()).unwrap();
        assert_eq!(*identities.of(thread).unwrap(), state);
        drop(child.stdin.take());
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        child.wait().unwrap();
        let orphan = line.trim().parse().unwrap();
        assert_eq!(*identities.of(orphan).unwrap(), state);
        assert_eq!(identities.states.len(), 1);
        rustix::process::kill_process(rustix::process::Pid::from_raw(orphan).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let mut identities = Identities::default();
        let many = |first| {
            let mut state = State::default();
            state.credentials.set_groups((first..first + 65_536).collect()).unwrap();
            Rc::new(state)
        };
        for first in 0..16 {
            identities.add(&many(first)).unwrap();
        }
        let full = identities.add(&many(16)).unwrap_err();
        assert_eq!(Errno::from_io_error(&full), Some(Errno::NOMEM));
    }
}
