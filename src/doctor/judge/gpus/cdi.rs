//! CDI files.

use std::path::Path;

use ociforge_manifests::runtime::GPU_KIND;
use ociforge_manifests::runtime::cdi::{CdiFault, Described, LeftOut, Stale};

use super::{GPUS, way};
use crate::doctor::check::CheckResult;
use crate::doctor::facts::MachineFacts;

/// The name of these checks.
const NAME: &str = "CDI spec";

pub(super) fn specifications(facts: &MachineFacts) -> Vec<CheckResult> {
    let cdi = &facts.gpus.cdi;
    let files = cdi.files().map(|file| specification(&file, facts));
    files.chain(cdi.left_out().iter().map(|left_out| self::left_out(left_out, facts))).collect()
}

/// Whether a file describes NVIDIA GPUs for containers.
pub(super) fn gives_gpus(file: &Described<'_>, facts: &MachineFacts) -> bool {
    file.kind == GPU_KIND && file.devices > 0 && stale(file, facts).is_none()
}

fn stale(file: &Described<'_>, facts: &MachineFacts) -> Option<Stale> {
    let gpus = &facts.gpus;
    file.edits.stale(&gpus.devices, &gpus.absent, gpus.driver.as_ref(), !facts.machine.is_root())
}

fn specification(file: &Described<'_>, facts: &MachineFacts) -> CheckResult {
    let Described { path, kind, devices, .. } = file;
    let shown = match devices {
        0 => return CheckResult::ok(GPUS, NAME, format!("{kind}, no usable device, {path}")),
        1 => format!("{kind}, 1 device, {path}"),
        devices => format!("{kind}, {devices} devices, {path}"),
    };
    let machine = &facts.machine;
    match stale(file, facts) {
        Some(stale) if stale.wants_reboot() => {
            CheckResult::warn(GPUS, NAME, format!("{stale}: CUDA will fail until the installed driver is loaded"))
                .mend(machine.as_root("reboot"))
        }
        Some(stale) if *kind == GPU_KIND => {
            let check = CheckResult::warn(GPUS, NAME, format!("{stale}: no container gets a GPU by it"));
            way::regenerate(facts, Some(path)).into_iter().fold(check, CheckResult::mend)
        }
        Some(stale) => CheckResult::warn(GPUS, NAME, stale.to_string()),
        None if facts.gpus.private.iter().any(|private| private == path) => CheckResult::warn(
            GPUS,
            NAME,
            format!("{shown}, which only root can read: containers of others get nothing by it"),
        )
        .mend(machine.as_root(&format!("chmod a+rX {path}"))),
        None => CheckResult::ok(GPUS, NAME, shown),
    }
}

fn left_out(left_out: &LeftOut, facts: &MachineFacts) -> CheckResult {
    let check = CheckResult::warn(GPUS, NAME, left_out.to_string());
    match left_out {
        LeftOut::Ending(path) => check.mend(format!("mv {path} {}", Path::new(path).with_extension("yaml").display())),
        LeftOut::File { path, fault: CdiFault::Unreadable(why) } if why.starts_with("Permission denied") => {
            check.mend(facts.machine.as_root(&format!("chmod a+rX {path}")))
        }
        _ => check,
    }
}
