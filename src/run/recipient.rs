//! Whom a signal to this process is for.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::SIGWINCH;

use super::screen::Screen;

/// How often it is looked for a container that is about to start.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// A container that is run, and its runtime.
pub(super) struct Recipient {
    /// The runtime, which is in the process group of this process unless there is a screen.
    pub(super) runtime: OwnedFd,
    /// The file with the number of the container's first process, once that is there.
    pub(super) pid: PathBuf,
    /// Whether the container has a terminal. SIGINT then ends runc, which passes others on.
    pub(super) tty: bool,
    /// The terminal between the runtime and this process's, if there is one.
    pub(super) screen: Option<Screen>,
}

impl Recipient {
    /// Passes a signal on. What the kernel sends (^C and ^\ on the terminal, its end, its new size) goes to a whole
    /// process group, so that the runtime may have it already. It fails only when the recipient has ended.
    pub(super) fn deliver(&self, signal: Signal, sent: bool) {
        let is_size = signal.as_raw() == SIGWINCH;
        match &self.screen {
            Some(screen) if is_size => {
                screen.fit();
                self.to_runtime(signal);
            }
            None if !sent => {}
            _ if self.tty && !is_size => self.to_container(signal),
            _ => self.to_runtime(signal),
        }
    }

    /// Kills the runtime.
    pub(super) fn kill(&self) {
        self.to_runtime(Signal::KILL);
    }

    /// Whether the container's first process has nothing to say about `signal`: it neither handles it nor ignores it on
    /// purpose (proc(5), `SigCgt` and `SigIgn`). One that is not there yet, or not any more, is none.
    pub(super) fn ignores(&self, signal: i32) -> bool {
        let status = self.first().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let status = status.unwrap_or_default();
        let lacks = |mask: &str| {
            let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(mask)?.trim(), 16).ok());
            mask.is_some_and(|mask| mask & (1 << (signal - 1)) == 0)
        };
        lacks("SigCgt:") && lacks("SigIgn:")
    }

    fn to_runtime(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.runtime, signal);
    }

    /// Sends it to the container's first process, once the runtime has said which that is: it may run already.
    fn to_container(&self, signal: Signal) {
        loop {
            if let Some(process) = self.first().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
                let _ = pidfd_send_signal(process, signal);
                return;
            }
            let mut ended = [PollFd::new(&self.runtime, PollFlags::IN)];
            if !matches!(poll(&mut ended, Some(&LOOK_AGAIN)), Ok(0) | Err(Errno::INTR)) {
                return;
            }
        }
    }

    /// The container's first process.
    fn first(&self) -> Option<Pid> {
        Pid::from_raw(fs::read_to_string(&self.pid).ok()?.trim().parse().ok()?)
    }
}
