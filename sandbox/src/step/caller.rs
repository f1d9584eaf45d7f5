//! The caller's side: starts the supervisor, forwards the output of the step, and waits.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{getpid, set_child_subreaper};

use super::job::{StepJob, SupervisorReport};
use super::{SandboxStepError, StepOutcome, descendants, supervisor};
use crate::reexec_command;

/// The interval of polls for cancellation.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The time for the supervisor to end all processes before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a job.
pub(super) fn run(
    job: &StepJob,
    output: &mut dyn FnMut(&[u8]),
    cancelled: &AtomicBool,
) -> Result<StepOutcome, SandboxStepError> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(SandboxStepError::Cancelled);
    }
    // If the supervisor is killed, this process adopts its children.
    set_child_subreaper(Some(getpid())).map_err(|error| SandboxStepError::Start(error.into()))?;
    let others = descendants::descendants();
    let mut running = SupervisorProcess::start(job).map_err(SandboxStepError::Start)?;
    let reports = running.pump(output, cancelled).map_err(SandboxStepError::Start)?;
    let stopped = running.input.is_none();
    running.child.wait().map_err(SandboxStepError::Start)?;
    let outcome = if stopped { Err(SandboxStepError::Cancelled) } else { outcome(&reports) };
    if matches!(outcome, Err(SandboxStepError::Cancelled | SandboxStepError::Lost(_))) {
        descendants::kill_all(&others);
    }
    outcome
}

/// The supervisor, and the pipes to it.
struct SupervisorProcess {
    child: Child,
    /// The supervisor runs while this is open.
    input: Option<ChildStdin>,
    output: Option<File>,
    reports: Option<File>,
}

impl SupervisorProcess {
    fn start(job: &StepJob) -> io::Result<Self> {
        let mut command = reexec_command(supervisor::SUPERVISOR);
        // In its own process group, it gets no signals from the terminal.
        command.env_clear().process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let reports = child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let mut running = Self { input: child.stdin.take(), child, output, reports };
        if let Some(input) = &mut running.input {
            job.write(input)?;
        }
        Ok(running)
    }

    /// Forwards the output until the supervisor has ended, which ends after all other writers. Returns the reports.
    fn pump(&mut self, output: &mut dyn FnMut(&[u8]), cancelled: &AtomicBool) -> io::Result<Vec<u8>> {
        let mut reports = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let mut stopped = None;
        loop {
            let is_over = self.reports.is_none();
            let (has_output, has_reports) = self.wait(if is_over { Timespec::default() } else { LOOK })?;
            // If the supervisor was killed, other processes may keep the output open.
            if is_over && !has_output {
                break;
            }
            if has_output && let Some(length) = read(&mut self.output, &mut buffer)? {
                output(&buffer[..length]);
            }
            if has_reports && let Some(length) = read(&mut self.reports, &mut buffer)? {
                reports.extend_from_slice(&buffer[..length]);
            }
            if cancelled.load(Ordering::Relaxed) {
                self.input = None;
                let since = stopped.get_or_insert_with(Instant::now).elapsed();
                if since > PATIENCE {
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        Ok(reports)
    }

    /// Waits until the output or the reports are readable, or the timeout.
    fn wait(&self, timeout: Timespec) -> io::Result<(bool, bool)> {
        let open: Vec<&File> = self.output.iter().chain(&self.reports).collect();
        let mut fds: Vec<PollFd<'_>> =
            open.iter().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let output = self.output.is_some() && ready.next().unwrap_or_default();
        Ok((output, self.reports.is_some() && ready.next().unwrap_or_default()))
    }
}

/// Reads from a readable pipe, and closes it at its end.
fn read(pipe: &mut Option<File>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(file) = pipe else { return Ok(None) };
    match file.read(buffer) {
        Ok(0) => *pipe = None,
        Ok(length) => return Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(None)
}

/// The result in the reports.
fn outcome(reports: &[u8]) -> Result<StepOutcome, SandboxStepError> {
    let (mut made, mut notes, mut ended, mut other) = (Vec::new(), Vec::new(), None, Vec::new());
    for line in reports.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(SupervisorReport::Made(path)) => made.push(path.path()),
            Ok(SupervisorReport::Note(note)) => notes.push(note),
            Ok(SupervisorReport::Failed(failed)) => return Err(failed.into()),
            Ok(SupervisorReport::Ended(how)) => ended = Some(how),
            Err(_) => other.push(String::from_utf8_lossy(line)),
        }
    }
    let lost = || SandboxStepError::Lost(other.join("; "));
    ended.map(|ended| StepOutcome { ended, made, notes }).ok_or_else(lost)
}

#[cfg(test)]
mod tests {
    use super::super::Ended;
    use super::*;

    #[test]
    fn reports_are_read_in_order() {
        let text = b"{\"Made\":[47,97]}\n{\"Note\":\"n\"}\n{\"Made\":[47,255]}\n{\"Ended\":{\"Exited\":3}}\n";
        let outcome = outcome(text).unwrap();
        assert_eq!((outcome.ended, outcome.notes.as_slice()), (Ended::Exited(3), &["n".to_owned()][..]));
        assert_eq!(outcome.made.len(), 2);
        let failed = b"{\"Failed\":{\"kind\":\"NotFound\",\"what\":\"x\",\"number\":2,\"reason\":\"\"}}\n{\"Ended\":{\"Exited\":1}}";
        assert_eq!(super::outcome(failed).unwrap_err().exit_code(), 127);
        assert_eq!(super::outcome(b"oops\n").unwrap_err().to_string(), "the supervisor of the step died: oops");
    }
}
