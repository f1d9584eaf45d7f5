//! OCI runtimes: discovery and features.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Explain;
use ociforge_sandbox::{Entered, find_program};

/// The known runtimes, in the order of preference.
const KNOWN: [&str; 3] = ["runc", "crun", "youki"];

/// The name of NVIDIA's runtime, and the prefix of its variants (`nvidia-container-runtime.cdi`).
const NVIDIA: &str = "nvidia-container-runtime";

/// Its name in docker.
const NVIDIA_IN_DOCKER: &str = "nvidia";

/// The files in a bundle for the output of hooks, and the annotations that configure them in crun. Other runtimes have
/// this output in their errors.
const HOOK_OUTPUTS: [(&str, &str); 2] =
    [("hook-stderr", "run.oci.hooks.stderr"), ("hook-stdout", "run.oci.hooks.stdout")];

/// The kinds of runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// runc, and runtimes with the same arguments.
    Runc,
    /// crun.
    Crun,
    /// youki.
    Youki,
}

impl RuntimeKind {
    fn of(program: &Path) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("crun") {
            Self::Crun
        } else if name.contains("youki") {
            Self::Youki
        } else {
            Self::Runc
        }
    }

    /// Global arguments for containers in a user namespace that was entered before.
    fn rootless(self) -> &'static [&'static str] {
        match self {
            // It detects this itself, and skips cgroups that it cannot write.
            Self::Runc | Self::Youki => &[],
            Self::Crun => &["--cgroup-manager=disabled"],
        }
    }

    /// Whether it refuses to work where cgroups of both versions are mounted and the second has controllers.
    #[must_use]
    pub fn refuses_hybrid_cgroups(self) -> bool {
        self == Self::Crun
    }

    /// The prefix of the log if the command cannot be executed in an existing container. runc's child writes to the
    /// container's stderr instead.
    pub(super) fn late_failure(self) -> Option<&'static str> {
        (self == Self::Crun).then_some("exec container process")
    }
}

/// A runtime on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its program.
    pub program: PathBuf,
    /// Its kind, by its name.
    pub kind: RuntimeKind,
}

/// The identity of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its version, such as `1.1.5`.
    pub version: String,
    /// The version of the runtime spec that it implements.
    pub spec: Option<String>,
    /// Its features, if it has the command `features`.
    pub features: Option<Features>,
}

/// A part of the document that `RUNTIME features` prints (runtime-spec, features.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// The newest supported version of the runtime spec.
    pub oci_version_max: String,
    /// The hooks that it runs.
    pub hooks: Vec<String>,
    /// Its features for Linux containers.
    pub linux: LinuxFeatures,
}

/// The features of a runtime for Linux containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinuxFeatures {
    /// Cgroups.
    pub cgroup: CgroupFeatures,
    /// Filters of system calls.
    pub seccomp: Switch,
    /// AppArmor profiles.
    pub apparmor: Switch,
}

/// Which cgroups a runtime can work with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CgroupFeatures {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// Cgroups of systemd.
    pub systemd: bool,
    /// Cgroups of the user's systemd.
    #[serde(rename = "systemdUser")]
    pub systemd_user: bool,
}

/// Something that a runtime was built with or without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// With.
    pub enabled: bool,
}

/// An error of a runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The requested runtime is not installed.
    #[error("cannot find the runtime {0}")]
    NoSuch(String),
    /// NVIDIA's runtime, which only starts another runtime unless it is called in two steps.
    #[error("--runtime {0} would give the container no GPUs: it injects them on `create`, and ociforge calls `run`")]
    Nvidia(String),
    /// No runtime is installed.
    #[error("cannot find an OCI runtime: none of {} is installed", KNOWN.join(", "))]
    None,
    /// It cannot be started.
    #[error("cannot run {}", .program.display())]
    Start {
        /// Its program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not report its version.
    #[error("{} does not report its version", .program.display())]
    Mute {
        /// Its program.
        program: PathBuf,
        /// Its output.
        source: RuntimeMessage,
    },
    /// `-i` and `-t` without a terminal to read from.
    #[error("the input device is not a terminal")]
    InputNoTerminal,
    /// `-t` without any terminal.
    #[error("there is no terminal")]
    NoTerminal,
    /// A resource of the container cannot be created.
    #[error("cannot {step}")]
    Prepare {
        /// The operation.
        step: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It could not start the container.
    #[error("{runtime} cannot start the container")]
    NotStarted {
        /// Its name.
        runtime: String,
        /// Its message.
        source: RuntimeMessage,
    },
    /// It was killed.
    #[error("{runtime} was ended by signal {signal}")]
    Killed {
        /// Its name.
        runtime: String,
        /// The signal's number.
        signal: i32,
    },
}

/// The message of a failed runtime.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeMessage(pub String);

impl RuntimeError {
    /// The exit code as in docker: 127 if the image does not have the command, 126 if it cannot be executed, 125
    /// otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotStarted { source, .. } if source.is_missing_command() => 127,
            Self::NotStarted { source, .. } if source.is_no_program() => 126,
            _ => 125,
        }
    }
}

impl RuntimeMessage {
    fn has(&self, any: &[&str]) -> bool {
        let text = self.0.to_lowercase();
        any.iter().any(|part| text.contains(part))
    }

    /// Whether a hook failed. Its message may be about its own programs.
    pub(super) fn is_about_hook(&self) -> bool {
        let runs = |text: &str| text.contains("error running ") && text.contains("hook #");
        let text = self.0.to_lowercase();
        runs(&text)
            || text.contains("error executing hook")
            || (text.starts_with("failed to run") && text.contains("hook"))
    }

    fn is_about_command(&self) -> bool {
        !self.is_about_hook() && self.has(&["exec: ", "executable", "exec container process"])
    }

    fn is_missing_command(&self) -> bool {
        self.is_about_command() && self.has(&["not found", "no such file"])
    }

    fn is_no_program(&self) -> bool {
        self.is_about_command() && self.has(&["permission denied", "not permitted", "is a directory", "format error"])
    }
}

impl Explain for RuntimeError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::None | Self::NoSuch(_) => "install runc or crun, or name a runtime's program with --runtime",
            Self::Nvidia(_) => {
                "omit --runtime: --gpus all uses CDI or NVIDIA's hook, and --nvidia cdi or --nvidia hook obey \
                    NVIDIA_VISIBLE_DEVICES as that runtime does"
            }
            Self::NotStarted { source, .. } if source.is_about_hook() => {
                "a hook for the container's devices failed: `ociforge doctor` shows what this machine lacks for GPUs"
            }
            Self::InputNoTerminal => "leave out -t",
            Self::NoTerminal => "leave out -t",
            Self::NotStarted { source, .. } if source.is_missing_command() => {
                "the image has no such command: give its path in the image, or another command after `--`"
            }
            Self::NotStarted { source, .. } if source.has(&["format error"]) => {
                "the program may be for another architecture, or a script without `#!`"
            }
            Self::NotStarted { source, .. } if source.has(&["/dev/null", "ptmx"]) => {
                "a mount at /dev or below hides a device that every container needs: choose another destination, or \
                    mount all devices of this machine with -v /dev:/dev; for --tmpfs /dev add the option dev"
            }
            Self::NotStarted { source, .. } if source.has(&["not of type proc", "inside /proc", " /proc/s"]) => {
                "a mount at /proc or below must have its source in /proc, as with -v /proc:/proc"
            }
            Self::NotStarted { source, .. } if source.has(&["setup user", "setresuid", "setgroups", "setresgid"]) => {
                "the container's user needs ids that this user namespace lacks: use `-u 0`, or add a range of ids as \
                    `ociforge doctor` shows"
            }
            _ => return None,
        };
        Some(hint.into())
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::NoSuch(_) | Self::Nvidia(_) | Self::InputNoTerminal | Self::NoTerminal)
    }
}

impl Runtime {
    /// The runtime `choice`, a name or a path, or else the first known one, in `path` (as in `$PATH`) or in the usual
    /// directories.
    ///
    /// # Errors
    /// When no runtime is found, or it is NVIDIA's.
    pub fn find(choice: Option<&str>, path: Option<&OsStr>) -> Result<Self, RuntimeError> {
        let name = |choice: &str| choice.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(choice) = choice
            && (name(choice) == NVIDIA_IN_DOCKER || name(choice).starts_with(NVIDIA))
        {
            return Err(RuntimeError::Nvidia(choice.to_owned()));
        }
        let program = match choice {
            // As in a shell, and made absolute, because runtimes execute themselves again.
            Some(file) if file.contains('/') => std::path::absolute(file).ok().filter(|file| file.is_file()),
            Some(name) => find_program(name, path),
            None => KNOWN.into_iter().find_map(|name| find_program(name, path)),
        };
        let missing = || choice.map_or(RuntimeError::None, |choice| RuntimeError::NoSuch(choice.to_owned()));
        let program = program.ok_or_else(missing)?;
        Ok(Self { kind: RuntimeKind::of(&program), program })
    }

    /// All installed known runtimes, for `doctor`.
    #[must_use]
    pub fn all(path: Option<&OsStr>) -> Vec<Self> {
        KNOWN.into_iter().filter_map(|name| Self::find(Some(name), path).ok()).collect()
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// The annotations of a spec with hooks in this bundle, which redirect the output of hooks to files.
    #[must_use]
    pub fn hook_annotations(&self, bundle: &Path) -> BTreeMap<String, String> {
        let path = |name: &str| bundle.join(name).to_string_lossy().into_owned();
        let files = HOOK_OUTPUTS.into_iter().filter(|_| self.kind == RuntimeKind::Crun);
        files.map(|(name, annotation)| (annotation.to_owned(), path(name))).collect()
    }

    /// The output of hooks from the files in the bundle, which are then removed.
    pub(super) fn take_hook_output(&self, bundle: &Path) -> Option<String> {
        let files = HOOK_OUTPUTS.map(|(name, _)| bundle.join(name));
        let said = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>();
        files.iter().for_each(|file| drop(fs::remove_file(file)));
        let said = said.iter().map(|text| text.trim()).find(|text| !text.is_empty())?;
        Some(said.to_owned())
    }

    /// Queries its version and features. Runs two short processes.
    ///
    /// # Errors
    /// When it cannot be started, or does not report its version.
    pub fn describe(&self) -> Result<Description, RuntimeError> {
        let said = self.ask("--version")?;
        let (version, spec) = versions(&said).ok_or_else(|| self.mute(&said))?;
        let features = self.ask("features").ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(Description { version, spec, features })
    }

    fn ask(&self, question: &str) -> Result<String, RuntimeError> {
        let output = Command::new(&self.program).arg(question).stdin(Stdio::null()).output();
        let output = output.map_err(|source| RuntimeError::Start { program: self.program.clone(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into());
        }
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(self.mute(&String::from_utf8_lossy(said)))
    }

    fn mute(&self, said: &str) -> RuntimeError {
        let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it has no output");
        RuntimeError::Mute { program: self.program.clone(), source: RuntimeMessage(line.trim().to_owned()) }
    }

    /// The program and its global arguments, for containers whose state is under `state_root`.
    pub(super) fn command(&self, entered: &Entered, state_root: &Path) -> Vec<OsString> {
        let mut words = vec![self.program.clone().into_os_string(), "--root".into(), state_root.into()];
        if entered.rootless() {
            words.extend(self.kind.rootless().iter().map(OsString::from));
        }
        words
    }
}

/// The versions of the runtime and of the spec in the output of `--version`:
///
/// ```text
/// runc version 1.1.5+ds1
/// spec: 1.0.2-dev
/// ```
fn versions(text: &str) -> Option<(String, Option<String>)> {
    let mut lines = text.lines();
    let (_, version) = lines.next()?.split_once("version")?;
    let version = version.trim_start_matches(':').split_ascii_whitespace().next()?.to_owned();
    let spec = lines.find_map(|line| line.strip_prefix("spec:")).map(|spec| spec.trim().to_owned());
    Some((version, spec))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn versions_of_all_runtimes_are_read() {
        let cases = [
            ("runc version 1.1.5+ds1\ncommit: x\nspec: 1.0.2-dev\ngo: go1.19\n", "1.1.5+ds1", Some("1.0.2-dev")),
            ("crun version 1.8.1\ncommit: f8\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD\n", "1.8.1", Some("1.0.0")),
            ("youki version 0.5.3\ncommit: 0.5.3-0-g1\n", "0.5.3", None),
            ("youki version: 0.3.0\n", "0.3.0", None),
        ];
        for (text, version, spec) in cases {
            assert_eq!(versions(text), Some((version.into(), spec.map(Into::into))), "{text}");
        }
        assert_eq!(versions("what?\n"), None);
    }

    #[test]
    fn what_a_broken_runtime_says_is_kept() {
        let root = tempfile::tempdir().unwrap();
        for (script, said) in [
            ("echo 'lib.so: cannot open' >&2; exit 127", "lib.so: cannot open"),
            ("echo what?", "what?"),
            ("exit 1", "it has no output"),
        ] {
            let program = root.path().join("runc");
            crate::testing::write_program(&program, format!("#!/bin/sh\n{script}\n"));
            let error = Runtime { program, kind: RuntimeKind::Runc }.describe().unwrap_err();
            assert!(error.to_string().ends_with("/runc does not report its version"), "{error}");
            assert_eq!(error.source().unwrap().to_string(), said);
        }
    }

    #[test]
    fn the_first_known_runtime_is_found_unless_one_is_named() {
        let root = tempfile::tempdir().unwrap();
        for name in ["runc", "crun", "my-crun-1"] {
            let file = root.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = Some(root.path().as_os_str());
        let found = |choice| Runtime::find(choice, path).unwrap();
        let in_root = |name: &str, kind| Runtime { program: root.path().join(name), kind };
        assert_eq!(found(None), in_root("runc", RuntimeKind::Runc));
        assert_eq!(found(Some("crun")), in_root("crun", RuntimeKind::Crun));
        let file = root.path().join("my-crun-1");
        assert_eq!(found(file.to_str()), in_root("my-crun-1", RuntimeKind::Crun));
        let error = Runtime::find(Some("krun"), path).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_usage()), ("cannot find the runtime krun", true));
        let error = Runtime::find(Some("./none/runc"), path).unwrap_err();
        assert_eq!(error.to_string(), "cannot find the runtime ./none/runc");
        // NVIDIA's runtime would do nothing, installed or not.
        for name in
            ["nvidia", "nvidia-container-runtime", "nvidia-container-runtime.cdi", "/usr/bin/nvidia-container-runtime"]
        {
            let error = Runtime::find(Some(name), path).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(name), "{error}");
            assert!(error.hint().unwrap().contains("--gpus all"));
        }
    }

    #[test]
    fn what_runtimes_say_becomes_dockers_exit_code() {
        let cases = [
            (r#"exec: "nope": executable file not found in $PATH"#, 127),
            (r#"exec: "/nope": stat /nope: no such file or directory"#, 127),
            (r#"exec: "/etc": permission denied"#, 126),
            ("executable file `nope` not found in $PATH: No such file or directory", 127),
            ("open executable: Operation not permitted", 126),
            ("exec container process `/bin/x`: Exec format error", 126),
            ("rootfs: no such file or directory", 125),
            (r#"exec: "webhook": executable file not found in $PATH"#, 127),
            // Messages of a hook do not concern the image.
            (
                r#"error running hook #0: error running hook: exit status 1, stdout: , stderr: exec: \
                    "x": executable file not found in $PATH"#,
                125,
            ),
            (
                r#"error running prestart hook #0: exit status 1, stdout: , stderr: exec: "x": executable file not \
                    found in $PATH"#,
                125,
            ),
            ("error running hook #0: fork/exec /nope/hook: permission denied", 125),
            (r#"error executing hook `/h` (exit code: 1): exec: "x": executable file not found in $PATH"#, 125),
            ("failed to run prestart hooks: executable not found", 125),
        ];
        for (text, code) in cases {
            let error = RuntimeError::NotStarted { runtime: "runc".into(), source: RuntimeMessage(text.into()) };
            assert_eq!(error.exit_code(), code, "{text}");
        }
    }

    #[test]
    fn what_takes_the_place_of_the_kernel_s_files_is_told() {
        let hint = |text: &str| {
            RuntimeError::NotStarted { runtime: "runc".into(), source: RuntimeMessage(text.into()) }
                .hint()
                .unwrap_or_default()
        };
        for text in [
            "unable to setup user: stat /dev/null: no such file or directory",
            "error reopening /dev/null inside container: open /dev/null: permission denied",
            "failed open()ing /dev/null: Is a directory",
            "error setting up ptmx: remove /x/rootfs/dev/ptmx: device or resource busy",
        ] {
            assert!(hint(text).contains("a mount at /dev"), "{text}");
        }
        for text in [
            "error mounting \"/x\" to rootfs at \"/proc\": \"/y/proc\" cannot be mounted because it is not of type \
                proc",
            "error mounting \"/x\" to rootfs at \"/proc/sys\": \"/y\" cannot be mounted because it is inside /proc",
            "open /proc/sys/net/ipv4/ip_unprivileged_port_start: no such file or directory",
        ] {
            assert!(hint(text).contains("at /proc"), "{text}");
        }
        assert!(hint("unable to setup user: setgroups: operation not permitted").contains("user namespace"));
        assert_eq!(hint("rootfs: no such file or directory"), "");
    }

    #[test]
    fn features_may_lack_anything() {
        let features: Features =
            serde_json::from_str(r#"{"hooks":["prestart"],"linux":{"cgroup":{"v2":true}}}"#).unwrap();
        assert!(features.linux.cgroup.v2 && !features.linux.cgroup.v1 && !features.linux.seccomp.enabled);
        assert_eq!(features.hooks, ["prestart"]);
    }
}
