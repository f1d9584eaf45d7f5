//! Processes that are caught in the middle of their work.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::{Ran, wait_until};

/// Starts a command whose output is kept.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal to a process that was not waited for.
pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end of a process with little output, and leaves its status and its CPU time to be asked for.
#[track_caller]
pub(crate) fn wait_for_end(child: &Child) {
    wait_until("the process ends", || has_ended(child));
}

/// Whether a process has ended, which leaves the same.
pub(crate) fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(child)), options).unwrap().is_some()
}

/// How a process ended that was started as `what`.
pub(crate) fn ended(what: &str, child: Child) -> Ran {
    Ran::of(what.into(), child.wait_with_output().unwrap())
}

/// Whether a process has a handler for SIGTERM by now: before that a signal just ends it.
pub(crate) fn handles_signals(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 << (15 - 1) != 0))
}

/// Waits until a process handles signals and none of its threads has anything to do, for long enough to believe it.
#[track_caller]
pub(crate) fn wait_until_idle(child: &mut Child) {
    let mut looks = 0;
    wait_until("the process has nothing to do", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        looks = if handles_signals(child.id()) && sleeps(child.id()) { looks + 1 } else { 0 };
        looks >= 40
    });
}

/// Whether all threads of a process sleep until something happens.
fn sleeps(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stat = |thread: std::io::Result<fs::DirEntry>| fs::read_to_string(thread.ok()?.path().join("stat")).ok();
    threads.map(stat).all(|stat| stat.is_some_and(|stat| stat[stat.rfind(')').unwrap() + 2..].starts_with('S')))
}

/// Waits for ever, which ends with the test.
pub(crate) fn forever() -> ! {
    loop {
        std::thread::park();
    }
}
