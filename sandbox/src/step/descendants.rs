//! Killing all processes of a step without a pid namespace, which would do it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};

/// Kills the descendants of this process, which adopts orphans, except those that are `spared`.
///
/// All are stopped before any is killed: otherwise a process that forks repeatedly would have another child in between.
/// Until all are stopped, dead processes are not reaped: on a busy machine that takes longer than such a process lives.
pub(super) fn kill_all(spared: &BTreeSet<i32>) {
    loop {
        let mut stopped = BTreeSet::new();
        // The children of a process that ended are children of this process, which the kernel lists at once.
        while stop(children(), spared, &mut stopped) || stop(all_descendants(), spared, &mut stopped) {}
        signal(&stopped.iter().copied().collect::<Vec<_>>(), Signal::KILL);
        if descendants().difference(spared).next().is_none() {
            return;
        }
        std::thread::yield_now();
    }
}

/// Stops the processes that are new. Returns whether there were any.
fn stop(pids: impl IntoIterator<Item = i32>, spared: &BTreeSet<i32>, stopped: &mut BTreeSet<i32>) -> bool {
    let new = pids.into_iter().filter(|pid| !spared.contains(pid) && stopped.insert(*pid));
    let new: Vec<i32> = new.inspect(|pid| signal(&[*pid], Signal::STOP)).collect();
    !new.is_empty()
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids.iter().copied().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Reaps all dead children.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// The children of this process, if the kernel lists them (CONFIG_PROC_CHILDREN); none otherwise.
fn children() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// All living descendants of this process.
pub(super) fn descendants() -> BTreeSet<i32> {
    reap();
    all_descendants()
}

/// All descendants of this process, including dead ones that are not reaped.
fn all_descendants() -> BTreeSet<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| parent(&stat)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut parents = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        parents.extend(children.remove(&parent).into_iter().flatten().inspect(|child| _ = found.insert(*child)));
    }
    found
}

/// The parent in `/proc/PID/stat` (proc_pid_stat(5)): the second field after the name, which may contain any
/// characters.
fn parent(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_behind_the_name() {
        assert_eq!(parent(b"7 (a) S 3 (x) R 5 7 7 0"), Some(5));
        assert_eq!(parent(b"7 sh"), None);
        let own = fs::read("/proc/self/stat").unwrap();
        let expected = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(parent(&own), Some(expected));
    }
}
