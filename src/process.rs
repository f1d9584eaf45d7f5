//! The process: arguments, namespaces, signals, the exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

use crate::cancel::Cancel;
use crate::cli::{self, Cli, Command, ProgressFormat};
use crate::commands::{self, FinalProcess};
use crate::error::Failure;

/// Exit code after ^C, as in shells.
const INTERRUPTED: u8 = 130;

/// The message after an interruption.
const INTERRUPTION: &str = "interrupted: nothing incomplete is in use; run the command again to resume it";

/// The time for a command to end by itself after an interruption.
const FORCED_EXIT: Duration = Duration::from_secs(2);

/// The time for writing threads to clean up after ^C.
const CLEANUP: Duration = Duration::from_secs(5);

/// Runs the command of the process's arguments to its end.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = stop_flag();
    // Must be before threads exist.
    let entered = match commands::enter(&cli.command) {
        Ok(entered) => entered,
        Err(failure) => return fail(&failure),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::new(format!("cannot start: {error}"))),
    };
    let cancel = Cancel::default();
    let json_progress = cli.global.progress == ProgressFormat::Json;
    // A server runs until it is stopped, which is not a failure.
    let ends_by_signal = matches!(cli.command, Command::Serve(_));
    let forced_exit = runtime.spawn(force_exit(stop.clone(), ends_by_signal));
    let result = runtime.block_on(async {
        tokio::select! {
            // Polled first, so that the signals are handled before the command waits for anything.
            biased;
            () = interrupted(&stop) => None,
            result = commands::run(cli, cancel.clone(), entered) => Some(result),
        }
    });
    forced_exit.abort();
    cancel.cancel();
    runtime.shutdown_timeout(CLEANUP);
    let result = result.map(|result| result?.map_or(Ok(0), FinalProcess::run));
    match result {
        Some(Ok(code)) => ExitCode::from(code),
        Some(Err(failure)) if json_progress => {
            let Failure { message, causes, hint, code } = failure;
            let event = serde_json::json!({"event": "error", "message": message, "causes": causes, "hint": hint});
            cli::message(&event.to_string());
            ExitCode::from(code)
        }
        Some(Err(failure)) => fail(&failure),
        None if ends_by_signal => ExitCode::SUCCESS,
        None => {
            cli::message(INTERRUPTION);
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// Ends the process if it does not end after an interruption: the command may wait in a system call for ever, for
/// example for the writer of a pipe.
async fn force_exit(stop: Arc<AtomicBool>, ends_by_signal: bool) {
    interrupted(&stop).await;
    tokio::time::sleep(FORCED_EXIT).await;
    if ends_by_signal {
        std::process::exit(0);
    }
    cli::message(INTERRUPTION);
    std::process::exit(INTERRUPTED.into());
}

fn fail(failure: &Failure) -> ExitCode {
    cli::message(&format!("error: {failure}"));
    ExitCode::from(failure.code)
}

/// A flag that ^C or SIGTERM sets, even before anything waits for them.
fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // If this fails, the signal ends the process, which has not done anything yet.
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    stop
}

/// Waits for ^C or SIGTERM, unless one has already arrived.
async fn interrupted(stop: &AtomicBool) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    let earlier = async {
        // After the other futures have installed their handlers.
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
