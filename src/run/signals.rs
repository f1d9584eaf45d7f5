//! Passing signals on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::{Cause, Origin};

/// The signals that are for the container.
const PASSED: [i32; 7] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// How many requests to end a container are enough, as in docker.
const ENOUGH: usize = 3;

/// How long a container may live on without its terminal.
const GRACE: Duration = Duration::from_secs(10);

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
    /// A container's first process may ignore signals, and does so unless it handles them. So the third request to end
    /// ([`ENOUGH`]) kills `process`, and the end of the terminal does when [`GRACE`] has passed.
    ///
    /// It must be in the process group of this one: what the kernel sends (^C and ^\ on the terminal, its end, its new
    /// size) goes to the whole group, so that `process` has it already.
    pub(super) fn pass_to(mut self, process: OwnedFd) -> Passing {
        let handle = self.signals.handle();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let process = Arc::new(process);
            for origin in self.signals.forever() {
                seen.push(origin.signal);
                if seen.iter().filter(|signal| matches!(**signal, SIGINT | SIGTERM)).count() == ENOUGH {
                    seen.push(SIGKILL);
                    let _ = pidfd_send_signal(&*process, Signal::KILL);
                }
                if origin.signal == SIGHUP && !is_sent(&origin) {
                    seen.push(SIGKILL);
                    kill_later(Arc::clone(&process));
                }
                if let Some(signal) = Signal::from_named_raw(origin.signal)
                    && is_sent(&origin)
                {
                    // It fails only when the process has ended.
                    let _ = pidfd_send_signal(&*process, signal);
                }
            }
            seen
        });
        Passing { handle, thread }
    }
}

/// Kills a process when [`GRACE`] has passed, if it is still there then.
fn kill_later(process: Arc<OwnedFd>) {
    std::thread::spawn(move || {
        std::thread::sleep(GRACE);
        let _ = pidfd_send_signal(&*process, Signal::KILL);
    });
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
