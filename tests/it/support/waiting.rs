//! Waiting for something, and measuring work, on a machine that may have any amount of other work.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Whatever a test waits for never comes after this time.
const NEVER: Duration = Duration::from_secs(120);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < NEVER, "it does not happen: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// The CPU time of a process, which may have ended but was not waited for. Other work on the machine does not add to it.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // User and system time in hundredths of a second, the 14th and the 15th field of proc_pid_stat(5).
    let ticks = stat[stat.rfind(')').unwrap() + 2..].split(' ').skip(11).take(2);
    Duration::from_millis(10 * ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
}
