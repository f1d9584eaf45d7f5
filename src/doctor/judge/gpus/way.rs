//! The ways to get GPUs into containers: CDI, or the NVIDIA hook.

use ociforge_manifests::runtime::{GPU_KIND, HookFault};

use super::super::programs::shown;
use super::{GPUS, cdi};
use crate::doctor::check::CheckResult;
use crate::doctor::facts::{Gpus, MachineFacts};

/// The first version of the toolkit that keeps its CDI file up to date.
const REFRESHES: (u64, u64) = (1, 18);

/// The path of that file.
const REFRESHED: &str = "/var/run/cdi/nvidia.yaml";

/// The path that older versions are told to write.
const WRITTEN: &str = "/etc/cdi/nvidia.yaml";

/// Whether a CDI file describes GPUs for containers.
fn has_cdi(facts: &MachineFacts) -> bool {
    facts.gpus.cdi.files().any(|file| cdi::gives_gpus(&file, facts))
}

/// Why the hook, if it is installed, gives no GPUs to containers of this user.
fn fault(facts: &MachineFacts) -> Option<HookFault> {
    facts.gpus.hook.as_ref()?;
    facts.gpus.toolkit.fault(false, !facts.machine.is_root())
}

/// Whether there is a way to get GPUs into containers; `None` if a CDI file does it, which has a check of its own.
pub(super) fn injection(facts: &MachineFacts) -> Option<CheckResult> {
    const NAME: &str = "for containers";
    if has_cdi(facts) {
        return None;
    }
    let gpus = &facts.gpus;
    let specified = gpus.cdi.kinds().contains(GPU_KIND);
    let cdi = if specified { "the CDI specification does not fit" } else { "there is no CDI specification" };
    let found = match (&gpus.hook, fault(facts), &gpus.ctk) {
        (Some(_), None, _) => return Some(CheckResult::ok(GPUS, NAME, format!("NVIDIA's hook; {cdi}"))),
        (Some(_), Some(fault), _) => {
            format!("{fault}, and {cdi}: no container gets a GPU; CDI needs no hook of NVIDIA's")
        }
        (None, _, Some(_)) if specified => {
            format!("{cdi}, and NVIDIA's hook is not installed: no container gets a GPU")
        }
        (None, _, Some(_)) => "no CDI specification was made yet: no container gets a GPU".to_owned(),
        (None, _, None) => {
            "neither a CDI specification nor NVIDIA's hook: no container gets a GPU; the package comes from NVIDIA's \
             repository for container tools"
                .to_owned()
        }
    };
    Some(regenerate(facts, None).into_iter().fold(CheckResult::warn(GPUS, NAME, found), CheckResult::mend))
}

/// The requirements that the toolkit's configuration turns off.
pub(super) fn disabled_requirements(facts: &MachineFacts) -> Option<CheckResult> {
    let off = facts.gpus.toolkit.disables_require;
    let found =
        "disable-require = true: containers start even if their image needs a newer driver, and CUDA fails in them";
    let command = facts.machine.as_root("nvidia-ctk config --in-place --set disable-require=false");
    off.then(|| CheckResult::warn(GPUS, "toolkit config", found).mend(command))
}

/// The NVIDIA hook, and why it gives no GPUs; [`injection`] reports the consequence if there is no other way.
pub(super) fn hook(facts: &MachineFacts) -> Option<CheckResult> {
    let program = facts.gpus.hook.as_ref()?;
    // The oldest hooks do not report their version.
    let found = shown(program, program.version.as_deref().unwrap_or("of unknown version"));
    let found = match fault(facts) {
        Some(fault) if has_cdi(facts) => format!("{found}; CDI is used: {fault}"),
        _ => found,
    };
    Some(CheckResult::ok(GPUS, "NVIDIA hook", found))
}

/// The commands that create the NVIDIA CDI file, or replace the one at `stale`.
pub(super) fn regenerate(facts: &MachineFacts, stale: Option<&str>) -> Vec<String> {
    let (machine, gpus) = (&facts.machine, &facts.gpus);
    let mut commands = Vec::new();
    if gpus.ctk.is_none() {
        commands.push(machine.install("nvidia-container-toolkit-base", "nvidia-container-toolkit-base"));
    }
    let generate = |to: &str| machine.as_root(&format!("nvidia-ctk cdi generate --output={to}"));
    if !refreshes(gpus) || gpus.toolkit.jetson {
        commands.push(generate(stale.unwrap_or(WRITTEN)));
        return commands;
    }
    // Otherwise the file would be stale again after the next update of the driver.
    commands
        .extend(stale.filter(|stale| stale.starts_with("/etc/")).map(|stale| machine.as_root(&format!("rm {stale}"))));
    commands.push(match gpus.systemd {
        true => machine.as_root("systemctl restart nvidia-cdi-refresh.service"),
        false => generate(REFRESHED),
    });
    commands
}

/// Whether the installed toolkit, or the one to install, has `nvidia-cdi-refresh.service`.
fn refreshes(gpus: &Gpus) -> bool {
    let Some(ctk) = &gpus.ctk else { return true };
    let mut numbers = ctk.version.as_deref().unwrap_or_default().split('.').map(|number| number.parse::<u64>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(major)), Some(Some(minor))) if (major, minor) >= REFRESHES)
}
