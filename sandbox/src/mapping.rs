//! Mapping ids into a user namespace (user_namespaces(7)).
//!
//! More than one id can be mapped only from outside, by a setuid program or by a root that has these ids. So a helper
//! process stays outside.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use ociforge_manifests::runtime::IdMap;

use super::diagnosis::{Diagnosis, Limits};
use super::ids::{IdMapper, Ranges};

/// The hidden argument of the helper outside.
pub(super) const MAP_IDS: &str = "--ociforge-map-ids";

/// The message to the helper that the namespace exists.
const ENTERED: &[u8] = b".";

/// The helper's argument for writing a map itself, in place of a program's path.
const ITSELF: &str = "";

/// Maps root to the original ids of this process, which needs no helper. A map of newuidmap stays if newgidmap failed.
pub(super) fn map_own_ids(uid: u32, gid: u32) -> io::Result<()> {
    let is_mapped = |file: &str| fs::read_to_string(file).is_ok_and(|text| !text.is_empty());
    if !is_mapped("/proc/self/uid_map") {
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
    }
    if !is_mapped("/proc/self/gid_map") {
        // The kernel requires this first: otherwise a process could drop a group that is denied access.
        fs::write("/proc/self/setgroups", "deny\n")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    }
    Ok(())
}

/// The helper outside, waiting for the namespace.
pub(super) struct Outside(Child);

impl Outside {
    /// Starts the helper. The error is the reason of a failure.
    pub(super) fn prepare(ranges: &Ranges) -> Result<Self, String> {
        let mut helper = super::reexec_command(MAP_IDS);
        helper.arg(std::process::id().to_string());
        let [users, groups] = match &ranges.giver {
            IdMapper::Root => [OsStr::new(ITSELF); 2],
            IdMapper::Programs { newuidmap, newgidmap } => [newuidmap.as_os_str(), newgidmap.as_os_str()],
        };
        helper.arg(users).arg(words(&ranges.mappings.uids)).arg(groups).arg(words(&ranges.mappings.gids));
        let helper = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        helper.map(Self).map_err(|error| format!("cannot start the helper that maps ids: {error}"))
    }

    /// Maps the ids through the helper.
    pub(super) fn map(mut self) -> Result<(), String> {
        let silent = |error: io::Error| format!("the helper that maps ids ended: {error}");
        let (Some(mut stdin), Some(mut stdout)) = (self.0.stdin.take(), self.0.stdout.take()) else {
            return Err("the helper that maps ids does not answer".into());
        };
        let written = stdin.write_all(ENTERED);
        drop(stdin);
        let mut reason = String::new();
        let read = stdout.read_to_string(&mut reason);
        let status = self.0.wait().map_err(silent)?;
        written.and(read).map_err(silent)?;
        match status.success() {
            true => Ok(()),
            false if Limits::read().no_new_privileges => Err(format!("{reason} ({})", Diagnosis::NoNewPrivileges)),
            false => Err(reason),
        }
    }
}

fn words(maps: &[IdMap]) -> String {
    let words = maps.iter().map(|map| format!("{} {} {}", map.container, map.host, map.size));
    words.collect::<Vec<_>>().join(" ")
}

/// The helper's `main`: waits until its parent enters the namespace, then maps ids for it. On failure it prints the
/// cause.
pub(super) fn map_ids_from_outside(arguments: &[OsString]) -> ExitCode {
    let [pid, users_by, users, groups_by, groups] = arguments else { return ExitCode::FAILURE };
    let mut word = Vec::new();
    if io::stdin().read_to_end(&mut word).is_err() || word != ENTERED {
        return ExitCode::FAILURE;
    }
    let maps = [("uid_map", users_by, users), ("gid_map", groups_by, groups)];
    let mapped = maps.into_iter().try_for_each(|(file, by, mappings)| {
        let mappings = mappings.to_string_lossy();
        if by == ITSELF { write_map(pid, file, &mappings) } else { run_tool(Path::new(by), pid, &mappings) }
    });
    match mapped {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = io::stdout().write_all(reason.as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Writes the map of a process in one write, as the kernel requires: one line for each three numbers.
fn write_map(pid: &OsStr, file: &str, mappings: &str) -> Result<(), String> {
    let numbers: Vec<&str> = mappings.split(' ').collect();
    let lines: String = numbers.chunks(3).map(|line| format!("{}\n", line.join(" "))).collect();
    let written = fs::write(Path::new("/proc").join(pid).join(file), lines);
    written.map_err(|error| format!("cannot write {file}: {error}"))
}

fn run_tool(tool: &Path, pid: &OsStr, mappings: &str) -> Result<(), String> {
    let name = tool.file_name().unwrap_or_default().to_string_lossy();
    let output = Command::new(tool).arg(pid).args(mappings.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let said = said.strip_prefix(&format!("{name}: ")).unwrap_or(said);
    Err(format!("{name} failed: {}", if said.is_empty() { output.status.to_string() } else { said.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_fails_is_quoted() {
        let root = tempfile::tempdir().unwrap();
        let tool = root.path().join("newuidmap");
        fs::write(&tool, "#!/bin/sh\necho \"newuidmap: not for $2\" >&2; exit 1\n").unwrap();
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = run_tool(&tool, OsStr::new("7"), "0 1 1").unwrap_err();
        assert_eq!(error, "newuidmap failed: not for 0");
        let missing = run_tool(&root.path().join("newgidmap"), OsStr::new("7"), "0 1 1").unwrap_err();
        assert!(missing.starts_with("cannot run newgidmap: "), "{missing}");
    }

    #[test]
    fn a_map_that_can_not_be_written_is_named() {
        // A process whose map is already set.
        let pid = std::process::id().to_string();
        let error = write_map(OsStr::new(&pid), "uid_map", "0 0 1 1 1 5").unwrap_err();
        assert!(error.starts_with("cannot write uid_map: "), "{error}");
    }
}
