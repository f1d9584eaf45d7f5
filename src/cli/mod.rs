//! The command line: arguments, progress, and how errors look. The only printer.

mod args;
#[cfg(test)]
mod docker_lines;
mod progress;
mod prompt;
mod runtime_args;
mod transfer_args;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

pub use crate::bytes::human_bytes;
pub use args::{
    BuildArgs, BundleArgs, CacheCommand, Cli, Command, CompressionKind, DoctorArgs, Format, Global, InspectArgs,
    LockArgs, RunArgs, SpecArgs, StepArgs, UnshareArgs,
};
pub use progress::{Form, reporter};
pub use prompt::{PromptError, Terminal, first_line};
pub use runtime_args::driver_version;
pub use transfer_args::{CopyArgs, CopyFormat, GcArgs, LoginArgs, LogoutArgs, MirrorArgs, ServeArgs};

use crate::cancel::Cancel;
use crate::commands::{self, Finale};
use crate::error::Failure;

/// Exit code after ^C, as shells have it.
const INTERRUPTED: u8 = 130;

/// What is said then.
const INTERRUPTION: &str =
    "interrupted: nothing half-written is in use, and what was begun is gone on with when it is run again";

/// How long a command may take to notice that it is to end.
const STUCK: Duration = Duration::from_secs(2);

/// How long threads that write may take to clean up after ^C.
const CLEANUP: Duration = Duration::from_secs(5);

/// Runs the command that the process was called with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = stop_flag();
    // Before there are threads.
    let entered = match commands::enter(&cli.command) {
        Ok(entered) => entered,
        Err(failure) => return fail(&failure),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::new(format!("cannot start: {error}"))),
    };
    let cancel = Cancel::default();
    let json_progress = cli.global.progress == Form::Json;
    // A server runs until it is told to stop, and that is no failure.
    let ends_by_signal = matches!(cli.command, Command::Serve(_));
    let stuck = runtime.spawn(end_the_stuck(stop.clone(), ends_by_signal));
    let result = runtime.block_on(async {
        tokio::select! {
            // From the beginning, whatever the command does before it waits for something.
            biased;
            () = interrupted(&stop) => None,
            result = commands::run(cli, cancel.clone(), entered) => Some(result),
        }
    });
    stuck.abort();
    cancel.cancel();
    runtime.shutdown_timeout(CLEANUP);
    let result = result.map(|result| result?.map_or(Ok(0), Finale::play));
    match result {
        Some(Ok(code)) => ExitCode::from(code),
        Some(Err(failure)) if json_progress => {
            let Failure { message, causes, hint, code } = failure;
            let event = serde_json::json!({"event": "error", "message": message, "causes": causes, "hint": hint});
            progress::line(&event.to_string());
            ExitCode::from(code)
        }
        Some(Err(failure)) => fail(&failure),
        None if ends_by_signal => ExitCode::SUCCESS,
        None => {
            progress::line(INTERRUPTION);
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// Ends the process when it was told to end and does not: the command waits in the system for something that may never
/// come, such as somebody who writes to a pipe.
async fn end_the_stuck(stop: Arc<AtomicBool>, ends_by_signal: bool) {
    interrupted(&stop).await;
    tokio::time::sleep(STUCK).await;
    if ends_by_signal {
        std::process::exit(0);
    }
    progress::line(INTERRUPTION);
    std::process::exit(INTERRUPTED.into());
}

fn fail(failure: &Failure) -> ExitCode {
    progress::line(&format!("error: {failure}"));
    ExitCode::from(failure.code)
}

/// Becomes true by ^C or a request to terminate, also before anything waits for them.
fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without it the signal ends the process, which has done nothing yet.
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    stop
}

/// Waits for ^C or a request to terminate, unless there was one.
async fn interrupted(stop: &AtomicBool) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    let earlier = async {
        // After the others have begun to listen.
        tokio::task::yield_now().await;
        if !stop.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
        () = earlier => {}
    }
}

/// Prints a result on stdout, and a newline.
///
/// # Errors
/// When stdout is closed.
pub fn result(text: &str) -> Result<(), Failure> {
    raw_result(format!("{text}\n").as_bytes())
}

/// Prints a result on stdout as it is.
///
/// # Errors
/// When stdout is closed.
pub fn raw_result(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("cannot write to stdout: {error}")))
}
