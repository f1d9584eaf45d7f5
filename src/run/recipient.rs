//! The recipient of forwarded signals.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::SIGWINCH;

use super::screen::Screen;

/// The interval of polls for a starting container.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// A running container, and its runtime.
pub(super) struct Recipient {
    /// The runtime, which is in the process group of this process unless there is a screen.
    pub(super) runtime: OwnedFd,
    /// The pid file of the container, once it exists.
    pub(super) pid: PathBuf,
    /// Whether the container has a terminal. SIGINT then ends runc, which passes others on.
    pub(super) tty: bool,
    /// The terminal between the runtime and this process's, if there is one.
    pub(super) screen: Option<Screen>,
}

impl Recipient {
    /// Forwards a signal. Signals of the kernel (^C and ^\ on the terminal, its hangup, its new size) go to a process
    /// group, so the runtime may already have them. Fails only if the recipient has ended.
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

    /// Whether the container's first process neither handles nor ignores `signal` (proc(5), `SigCgt` and `SigIgn`).
    /// False if the process does not exist.
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

    /// Sends it to the container's first process, if the pid file exists: the process may already run.
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
