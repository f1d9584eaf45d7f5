//! Passing signals on.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::process::{Signal, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::{Cause, Origin};

/// The signals that are for the container.
const PASSED: [i32; 7] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals that are caught, from now on until this is dropped. Then they are lost: their default action does not come
/// back.
pub(super) struct Caught {
    signals: SignalsInfo<WithOrigin>,
}

/// Signals that are passed on to a process.
pub(super) struct Passing {
    handle: Handle,
    thread: JoinHandle<Vec<i32>>,
}

impl Caught {
    /// Catches signals. Those that come before [`Caught::pass_to`] wait.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { signals: SignalsInfo::with_exfiltrator(PASSED, WithOrigin::default())? })
    }

    /// Passes them on to `process`.
    ///
    /// It must be in the process group of this one: what the kernel sends (^C and ^\ on the terminal, its end, its new
    /// size) goes to the whole group, so that `process` has it already.
    pub(super) fn pass_to(mut self, process: OwnedFd) -> Passing {
        let handle = self.signals.handle();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for origin in self.signals.forever() {
                seen.push(origin.signal);
                if let Some(signal) = Signal::from_named_raw(origin.signal)
                    && is_sent(&origin)
                {
                    // It fails only when the process has ended.
                    let _ = pidfd_send_signal(&process, signal);
                }
            }
            seen
        });
        Passing { handle, thread }
    }
}

/// Whether a process sent it, rather than the kernel.
fn is_sent(origin: &Origin) -> bool {
    !matches!(origin.cause, Cause::Kernel)
}

impl Passing {
    /// Ends it, and returns the signals that came, passed on or not.
    pub(super) fn end(self) -> Vec<i32> {
        self.handle.close();
        self.thread.join().unwrap_or_default()
    }
}
