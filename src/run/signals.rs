//! Passing signals on.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::process::{Signal, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::{Cause, Origin};

/// The signals that are for the container.
const PASSED: [i32; 7] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// How many requests to end a container are enough, as in docker.
const ENOUGH: usize = 3;

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
    /// The first process of a container is not ended by signals that it does not handle. `ignores` says whether this
    /// one does neither handle a signal nor ignore it on purpose: then the third request to end ([`ENOUGH`]) kills
    /// `process`, and so does the end of the terminal.
    ///
    /// It must be in the process group of this one: what the kernel sends (^C and ^\ on the terminal, its end, its new
    /// size) goes to the whole group, so that `process` has it already.
    pub(super) fn pass_to(mut self, process: OwnedFd, ignores: impl Fn(i32) -> bool + Send + 'static) -> Passing {
        let handle = self.signals.handle();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for origin in self.signals.forever() {
                seen.push(origin.signal);
                let requests = seen.iter().filter(|signal| matches!(**signal, SIGINT | SIGTERM)).count();
                let enough = match origin.signal {
                    SIGINT | SIGTERM => requests >= ENOUGH,
                    signal => signal == SIGHUP && !is_sent(&origin),
                };
                if enough && ignores(origin.signal) {
                    seen.push(SIGKILL);
                    let _ = pidfd_send_signal(&process, Signal::KILL);
                }
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
    /// Ends it, and returns the signals that came, passed on or not; SIGKILL, which can't come, if it was sent.
    pub(super) fn end(self) -> Vec<i32> {
        self.handle.close();
        self.thread.join().unwrap_or_default()
    }
}
