//! The store and the user's files.

use crate::bytes::human_bytes;
use crate::doctor::check::{CheckResult, Section::Files};
use crate::doctor::facts::{AuthFileStatus, AuthState, MachineFacts};

/// The typical size of an image for GPUs in bytes, packed and unpacked together.
const IMAGE: u64 = 30_000_000_000;

pub(super) fn store(facts: &MachineFacts) -> CheckResult {
    const NAME: &str = "store";
    let store = &facts.store;
    let path = store.path.display();
    let not_there = if store.existing.as_ref() == Some(&store.path) { "" } else { " (does not exist yet)" };
    if !store.writable {
        let found =
            format!("{path}{not_there} cannot be written; choose another directory with --store or $OCIFORGE_STORE");
        let check = CheckResult::missing(Files, NAME, found);
        // Root can write everywhere except on read-only mounts.
        let root = facts.machine.is_root();
        return if root { check } else { check.mend(format!("sudo install -d -o {} {path}", facts.machine.uid)) };
    }
    let on = store.filesystem.as_ref().map_or_else(String::new, |kind| format!(" on {kind}"));
    let found = format!("{path}{not_there}: {} free{on}", human_bytes(store.free));
    match () {
        () if store.free < IMAGE => {
            CheckResult::warn(Files, NAME, format!("{found}; an image for GPUs takes 10 to 30 GB"))
                .mend("ociforge cache prune")
        }
        () if store.filesystem.as_deref() == Some("tmpfs") => {
            CheckResult::warn(Files, NAME, format!("{found}, which is memory"))
        }
        () => CheckResult::ok(Files, NAME, found),
    }
}

pub(super) fn credentials(facts: &MachineFacts) -> Vec<CheckResult> {
    let checks: Vec<CheckResult> = facts.credentials.iter().filter_map(credential).collect();
    if checks.is_empty() {
        return vec![CheckResult::ok(Files, "credentials", "none; public images need none")];
    }
    checks
}

fn credential(file: &AuthFileStatus) -> Option<CheckResult> {
    const NAME: &str = "credentials";
    let path = file.path.display();
    Some(match &file.state {
        AuthState::Absent => return None,
        AuthState::Unreadable(why) => CheckResult::warn(Files, NAME, format!("{path} can't be read: {why}")),
        AuthState::Invalid(line) => CheckResult::warn(Files, NAME, format!("{path} is not JSON: see its line {line}")),
        AuthState::Good { exposed: true, .. } => {
            CheckResult::warn(Files, NAME, format!("{path} can be read by others")).mend(format!("chmod 600 {path}"))
        }
        AuthState::Good { registries: 1, .. } => CheckResult::ok(Files, NAME, format!("{path}, for 1 registry")),
        AuthState::Good { registries, .. } => {
            CheckResult::ok(Files, NAME, format!("{path}, for {registries} registries"))
        }
    })
}
