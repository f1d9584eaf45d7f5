//! Passing signals on.

use std::io;
use std::thread::JoinHandle;

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::recipient::Recipient;

/// The signals that are for the container.
const PASSED: [i32; 7] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// The number of termination requests that kill a container, as in docker.
const ENOUGH: usize = 3;

/// Catches signals until it is dropped. Later signals are lost: their default action is not restored.
pub(super) struct Caught {
    signals: SignalsInfo<WithOrigin>,
}

/// Signals that are passed on to a process.
pub(super) struct Passing {
    handle: Handle,
    thread: JoinHandle<Vec<i32>>,
}

impl Caught {
    /// Catches signals. Signals before [`Caught::pass_to`] are queued.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { signals: SignalsInfo::with_exfiltrator(PASSED, WithOrigin::default())? })
    }

    /// Passes them on to `recipient`.
    ///
    /// The first process of a container is not ended by signals that it does not handle. If it does neither handle a
    /// signal nor ignore it on purpose, the third request to end ([`ENOUGH`]) kills the runtime, and so does the end of the
    /// terminal.
    pub(super) fn pass_to(mut self, recipient: Recipient) -> Passing {
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
                if enough && recipient.ignores(origin.signal) {
                    seen.push(SIGKILL);
                    recipient.kill();
                }
                if let Some(signal) = Signal::from_named_raw(origin.signal) {
                    recipient.deliver(signal, is_sent(&origin));
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
    /// Stops catching, and returns the received signals, forwarded or not; SIGKILL stands for a kill that was sent.
    pub(super) fn end(self) -> Vec<i32> {
        self.handle.close();
        self.thread.join().unwrap_or_default()
    }
}
