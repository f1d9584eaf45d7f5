//! Containers whose runtime was killed.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

/// Makes this process the subreaper of its descendants while it exists.
///
/// crun starts a container before it records its process: after a kill in between, `delete --force` cannot find the
/// container.
pub(super) struct Orphans {
    mine: BTreeSet<i32>,
}

impl Orphans {
    /// Becomes a subreaper. Existing children are not counted.
    pub(super) fn adopt() -> Self {
        let _ = set_child_subreaper(Some(getpid()));
        Self { mine: children() }
    }

    /// Kills adopted processes and other new children until none remain.
    pub(super) fn kill(&self) {
        // Its death may orphan further processes.
        loop {
            let orphans: Vec<Pid> = children().difference(&self.mine).copied().filter_map(Pid::from_raw).collect();
            if orphans.is_empty() {
                return;
            }
            for orphan in orphans {
                let _ = kill_process(orphan, Signal::KILL);
                let _ = waitpid(Some(orphan), WaitOptions::empty());
            }
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        let _ = set_child_subreaper(None);
    }
}

/// The children of all threads. Empty on kernels without the list.
fn children() -> BTreeSet<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
