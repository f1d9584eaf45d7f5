//! Cleanup that runs even if this process is killed.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The hidden argument of the process that cleans up.
pub(super) const CLEANUP: &str = "--ociforge-cleanup";

/// The message that disarms it. The end of its input without this message means that its parent died.
const DISMISSED: &[u8] = b".";

/// A command that a helper process runs when this value is dropped, and also when this process dies for any reason.
///
/// The helper has its own process group, so the terminal does not signal it.
#[derive(Debug)]
pub struct Cleanup {
    helper: Child,
}

impl Cleanup {
    /// Arms the helper with a command. Its output is discarded, and its failure is ignored.
    ///
    /// # Errors
    /// When the helper cannot be started.
    pub fn new<A: AsRef<OsStr>>(command: impl IntoIterator<Item = A>) -> io::Result<Self> {
        let mut helper = super::reexec_command(CLEANUP);
        helper.args(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { helper: helper.spawn()? })
    }

    /// Disarms the helper: the cleanup is already done.
    pub fn dismiss(mut self) {
        if let Some(mut stdin) = self.helper.stdin.take() {
            // If the helper is gone, it needs no message.
            let _ = stdin.write_all(DISMISSED);
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.helper.stdin.take());
        let _ = self.helper.wait();
    }
}

/// The helper's `main`.
pub(super) fn run(command: &[OsString]) -> ExitCode {
    // A signal to all processes is not meant for the helper, which ends soon after them.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let mut word = Vec::new();
    let heard = io::stdin().read_to_end(&mut word);
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    if heard.is_ok() && word == DISMISSED {
        return ExitCode::SUCCESS;
    }
    match Command::new(program).args(arguments).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
