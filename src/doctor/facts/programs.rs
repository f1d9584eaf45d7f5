//! The programs that ociforge calls.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::host::seccomp_profile;
use crate::run::runtime::{Description, Runtime};

/// An installed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The name.
    pub name: String,
    /// The path.
    pub path: PathBuf,
    /// The version, or why it is unknown.
    pub version: Result<String, String>,
}

/// An installed OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciRuntime {
    /// The kind of runtime.
    pub runtime: Runtime,
    /// The runtime's description of itself, or why it has none.
    pub description: Result<Description, String>,
}

/// The programs that ociforge calls, and related facts.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// Installed OCI runtimes, in the order in which `run` prefers them.
    pub runtimes: Vec<OciRuntime>,
    /// `fuse-overlayfs`.
    pub fuse_overlayfs: Option<Program>,
    /// `uv`.
    pub uv: Option<Program>,
    /// The host's seccomp profile.
    pub seccomp_profile: Option<PathBuf>,
    /// Whether the kernel supports seccomp filters.
    pub seccomp: bool,
}

impl Programs {
    pub(super) fn gather() -> Self {
        Self {
            runtimes: runtimes(),
            fuse_overlayfs: program("fuse-overlayfs"),
            uv: program("uv"),
            seccomp_profile: seccomp_profile(),
            seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        }
    }
}

/// The installed runtimes.
fn runtimes() -> Vec<OciRuntime> {
    let runtimes = Runtime::all(env::var_os("PATH").as_deref()).into_iter();
    let described = runtimes.map(|runtime| {
        let description = runtime.describe().map_err(|error| {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            format!("{error}{cause}")
        });
        OciRuntime { runtime, description }
    });
    described.collect()
}

/// The program of this name on `PATH`, or in the usual directories.
pub(super) fn program(name: &str) -> Option<Program> {
    let path = ociforge_sandbox::program(name)?;
    let version = version_of(&path);
    Some(Program { name: name.to_owned(), path, version })
}

fn version_of(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
    match version_in(&said) {
        Some(version) if output.status.success() => Ok(version),
        _ => Err(said.lines().next().filter(|line| !line.is_empty()).unwrap_or("it has no output").to_owned()),
    }
}

/// The first word that begins with a digit, on the first line that has one: the name of the program precedes it, and
/// some programs print their license on later lines.
fn version_in(said: &str) -> Option<String> {
    let starts = |word: &&str| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    let word = said.lines().find_map(|line| line.split_ascii_whitespace().find(starts))?;
    Some(word.trim_start_matches('v').trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("fuse-overlayfs: version 1.10\nFUSE library version 3.12.0\n", Some("1.10")),
            ("uv 0.8.3 (7e78f54e7 2026-07-24)\n", Some("0.8.3")),
            ("NVIDIA Container Toolkit CLI version 1.20.0\ncommit: abc\n", Some("1.20.0")),
            ("nvidia-cdi-hook version v1.17.4, x\n", Some("1.17.4")),
            ("usage: x\n", None),
            ("", None),
        ] {
            assert_eq!(version_in(said).as_deref(), version, "{said}");
        }
        assert!(version_of(Path::new("/bin/false")).is_err());
        assert!(version_of(Path::new("/nonexistent")).is_err());
    }
}
