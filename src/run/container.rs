//! Running one container in the foreground.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::Value;

use super::host;
use super::orphans::Orphans;
use super::recipient::Recipient;
use super::runtime::{Runtime, RuntimeError, RuntimeMessage};
use super::screen::{Copying, Screen};
use super::signals::Caught;
use ociforge_sandbox::{Cleanup, Entered, start_clean};

/// The input and output of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Io {
    /// It has a terminal (`-t`); the spec's `process.terminal` must be equal.
    pub tty: bool,
    /// It reads the stdin of this process (`-i`).
    pub interactive: bool,
}

/// A container to run.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// The directory with `config.json`.
    pub bundle: &'a Path,
    /// Its name, unique under `state_root`.
    pub id: &'a str,
    /// The directory of runtime state.
    pub state_root: &'a Path,
    /// Its input and output.
    pub io: Io,
}

impl Io {
    /// Checks early whether a required terminal exists.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn check(self) -> Result<(), RuntimeError> {
        let some = || io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
        match self {
            Self { tty: true, interactive: true } if !io::stdin().is_terminal() => Err(RuntimeError::InputNoTerminal),
            Self { tty: true, interactive: false } if !some() && File::open("/dev/tty").is_err() => {
                Err(RuntimeError::NoTerminal)
            }
            Self { .. } => Ok(()),
        }
    }

    /// Passes stdin, stdout and stderr of this process to the runtime, as far as the container gets them.
    fn connect(self, command: &mut Command) -> io::Result<Option<(Screen, Copying)>> {
        match self {
            Self { tty: true, interactive: false } => return Screen::attach(command).map(Some),
            Self { interactive: true, .. } => command.stdin(Stdio::inherit()),
            Self { .. } => command.stdin(Stdio::null()),
        };
        Ok(None)
    }
}

impl Container<'_> {
    /// Runs it by `runtime` to its end, and returns its exit code: 128 and the signal's number when a signal ended it.
    ///
    /// Signals are passed on to it. It does not outlive this process, even if that is killed.
    ///
    /// # Errors
    /// When the runtime could not start it, or was killed itself.
    pub fn run(&self, runtime: &Runtime, entered: &Entered) -> Result<u8, RuntimeError> {
        self.io.check()?;
        if runtime.kind.refuses_hybrid_cgroups() {
            hide_second_cgroups(entered).map_err(preparing("hide the cgroups of version 2"))?;
        }
        // crun changes to the bundle's directory, which would break relative paths.
        let absolute = |path| std::path::absolute(path).map_err(preparing("find the working directory"));
        let (bundle, state_root) = (absolute(self.bundle)?, absolute(self.state_root)?);
        fs::create_dir_all(&state_root).map_err(preparing("make the directory for the container's state"))?;
        let notes = Notes::new(&bundle).map_err(preparing("write into the bundle"))?;
        let global = runtime.command(entered, &state_root);
        let delete = global.iter().cloned().chain(["delete", "--force", self.id].map(OsString::from));
        let caught = Caught::new().map_err(preparing("catch signals"))?;
        let cleanup = Cleanup::new(delete).map_err(preparing("start the helper"))?;
        let mut command = Command::new(&runtime.program);
        command.args(&global[1..]).arg("--log").arg(notes.log()).args(["--log-format", "json"]);
        command.args(["run", "--bundle"]).arg(&bundle).arg("--pid-file").arg(notes.pid()).arg(self.id);
        start_clean(&mut command);
        let (terminal, orphans) = (TerminalSettings::remember(), Orphans::adopt());
        let screen = self.io.connect(&mut command).map_err(preparing("make a terminal"))?;
        let (screen, copying) = screen.unzip();
        let recipient = |runtime| Recipient { runtime, pid: notes.pid(), tty: self.io.tty, screen };
        let supervised = supervise(&mut command, caught, recipient);
        // The command holds one end of the terminal.
        drop(command);
        copying.into_iter().for_each(Copying::finish);
        let (status, signals) =
            supervised.map_err(|source| RuntimeError::Start { program: runtime.program.clone(), source })?;
        if status.signal().is_some() {
            orphans.kill();
            terminal.restore();
        }
        if state_root.join(self.id).exists() {
            // The helper does this and waits.
            drop(cleanup);
        } else {
            cleanup.dismiss();
        }
        let of_hooks = runtime.take_hook_output(&bundle);
        judge(runtime, status, &signals, &notes, of_hooks)
    }
}

/// The result of the runtime's exit. `of_hooks` is the output of hooks, if it is not in the runtime's error.
fn judge(
    runtime: &Runtime,
    status: ExitStatus,
    signals: &[i32],
    notes: &Notes,
    of_hooks: Option<String>,
) -> Result<u8, RuntimeError> {
    let name = runtime.name();
    if let Some(signal) = status.signal() {
        // A runtime that does not forward signals yet is killed by signals for the container.
        let killed = signal == signal_hook::consts::SIGKILL;
        let meant = signals.contains(&signal) && (killed || !notes.has_started());
        return if meant { Ok(code_of(signal)) } else { Err(RuntimeError::Killed { runtime: name, signal }) };
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
    let error = notes.last_error();
    let late = |error: &String| runtime.kind.late_failure().is_some_and(|start| error.starts_with(start));
    if code == 0 || (notes.has_started() && !error.as_ref().is_some_and(late)) {
        return Ok(code);
    }
    let said = RuntimeMessage(error.unwrap_or_else(|| format!("exit code {code}")));
    let said = match of_hooks.filter(|_| said.is_about_hook()) {
        Some(words) => format!("{said}: {words}"),
        None => said.0,
    };
    // Further lines are indented below the cause.
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(RuntimeError::NotStarted { runtime: name, source: RuntimeMessage(lines.join("\n    ")) })
}

fn preparing(step: &'static str) -> impl Fn(io::Error) -> RuntimeError {
    move |source| RuntimeError::Prepare { step, source }
}

fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Runs `command` and forwards signals. Returns the received signals.
fn supervise(
    command: &mut Command,
    caught: Caught,
    recipient: impl FnOnce(OwnedFd) -> Recipient,
) -> io::Result<(ExitStatus, Vec<i32>)> {
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let process = pid.ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let passing = match process {
        Ok(process) => caught.pass_to(recipient(process)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.into());
        }
    };
    let status = child.wait();
    let signals = passing.end();
    Ok((status?, signals))
}

/// Hides the cgroups of version 2 that are mounted beside those of version 1, for this process and its children. crun
/// supports either, but not both.
fn hide_second_cgroups(_private_mounts: &Entered) -> io::Result<()> {
    if let Some(second) = host::second_cgroups() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("none", &second, "tmpfs", flags, c"mode=755,size=4k")?;
    }
    Ok(())
}

/// The log file of the runtime.
struct Notes(tempfile::TempDir);

impl Notes {
    fn new(bundle: &Path) -> io::Result<Self> {
        tempfile::Builder::new().prefix(".run-").tempdir_in(bundle).map(Self)
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn pid(&self) -> PathBuf {
        self.0.path().join("pid")
    }

    /// Whether there was a process of the container. All runtimes write its number only after that.
    fn has_started(&self) -> bool {
        self.pid().exists()
    }

    fn last_error(&self) -> Option<String> {
        last_error(&fs::read_to_string(self.log()).ok()?)
    }
}

/// The last error in a runtime's log, without the common prefixes.
fn last_error(log: &str) -> Option<String> {
    let error = log.lines().rev().find_map(error_in)?;
    let phrases = ["runc run failed: ", "unable to start container process: ", "error during container init: "];
    let bare = phrases.iter().fold(error.as_str(), |text, phrase| text.strip_prefix(phrase).unwrap_or(text));
    Some(bare.trim().to_owned())
}

/// The error in a line of a log, a JSON object; youki nests its message one level deeper, and crun wraps the lines of
/// its child in its own.
fn error_in(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_error = line["level"].as_str().is_some_and(|level| level.eq_ignore_ascii_case("error"));
    let message = line["msg"].as_str().or_else(|| line["fields"]["message"].as_str())?;
    is_error.then(|| error_in(message).unwrap_or_else(|| message.to_owned()))
}

/// The settings of the terminal, restored after a killed runtime leaves it raw.
struct TerminalSettings(Option<Termios>);

impl TerminalSettings {
    fn remember() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }

    fn restore(&self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_found_in_the_forms_of_all_runtimes() {
        let cases = [
            (
                r#"{"level":"error","msg":"runc run failed: unable to start container process: exec: \"x\": y"}"#,
                "exec: \"x\": y",
            ),
            (
                r#"{"msg":"open executable: Operation not permitted","level":"error","time":"t"}"#,
                "open executable: Operation not permitted",
            ),
            (
                r#"{"msg":"{\"msg\":\"error executing hook `/h` (exit code: 1)\",\"level\":\"error\"}","level":"error"}"#,
                "error executing hook `/h` (exit code: 1)",
            ),
            (
                r#"{"timestamp":"t","level":"ERROR","fields":{"message":"no such container"},"target":"x"}"#,
                "no such container",
            ),
            (
                "no json\n{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n{\"level\":\"warning\",\"msg\":\"w\"}",
                "last",
            ),
        ];
        for (log, expected) in cases {
            assert_eq!(last_error(log).as_deref(), Some(expected), "{log}");
        }
        assert_eq!(last_error("{\"level\":\"warning\",\"msg\":\"w\"}\n[]\n"), None);
    }
}
