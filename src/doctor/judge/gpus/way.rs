//! Whether something gets the GPUs into containers: CDI, or NVIDIA's hook.

use ociforge_manifests::runtime::{GPU_KIND, HookFault};

use super::super::programs::shown;
use super::{GPUS, cdi};
use crate::doctor::check::CheckResult;
use crate::doctor::facts::{Gpus, MachineFacts};

/// The version of the toolkit that keeps a CDI file up to date by itself.
const REFRESHES: (u64, u64) = (1, 18);

/// Where it keeps that.
const REFRESHED: &str = "/var/run/cdi/nvidia.yaml";

/// Where older ones are told to write it.
const WRITTEN: &str = "/etc/cdi/nvidia.yaml";

/// Whether a CDI file gives containers GPUs.
fn has_cdi(facts: &MachineFacts) -> bool {
    facts.gpus.cdi.files().any(|file| cdi::gives_gpus(&file, facts))
}

/// Why the hook gives none to the containers of who asks, if it is there.
fn fault(facts: &MachineFacts) -> Option<HookFault> {
    facts.gpus.hook.as_ref()?;
    facts.gpus.toolkit.fault(false, !facts.machine.is_root())
}

/// Whether something gets the GPUs into containers; nothing where a CDI file does, which has a line of its own.
pub(super) fn way_in(facts: &MachineFacts) -> Option<CheckResult> {
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

/// What the toolkit's config turns off.
pub(super) fn checks_nothing(facts: &MachineFacts) -> Option<CheckResult> {
    let off = facts.gpus.toolkit.disables_require;
    let found =
        "disable-require = true: containers start even if their image needs a newer driver, and CUDA fails in them";
    let command = facts.machine.as_root("nvidia-ctk config --in-place --set disable-require=false");
    off.then(|| CheckResult::warn(GPUS, "toolkit config", found).mend(command))
}

/// NVIDIA's hook, and why it gives no GPUs; what that means where nothing else does is said by [`way_in`].
pub(super) fn hook(facts: &MachineFacts) -> Option<CheckResult> {
    let program = facts.gpus.hook.as_ref()?;
    // The oldest hooks do not tell their version.
    let found = shown(program, program.version.as_deref().unwrap_or("of unknown version"));
    let found = match fault(facts) {
        Some(fault) if has_cdi(facts) => format!("{found}; CDI is used: {fault}"),
        _ => found,
    };
    Some(CheckResult::ok(GPUS, "NVIDIA hook", found))
}

/// The commands that make NVIDIA's CDI file, or make anew the one at `stale`.
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
    // A file that nothing keeps up to date would be out of date again with the next driver.
    commands
        .extend(stale.filter(|stale| stale.starts_with("/etc/")).map(|stale| machine.as_root(&format!("rm {stale}"))));
    commands.push(match gpus.systemd {
        true => machine.as_root("systemctl restart nvidia-cdi-refresh.service"),
        false => generate(REFRESHED),
    });
    commands
}

/// Whether the toolkit, or the one that is to be installed, has `nvidia-cdi-refresh.service`.
fn refreshes(gpus: &Gpus) -> bool {
    let Some(ctk) = &gpus.ctk else { return true };
    let mut numbers = ctk.version.as_deref().unwrap_or_default().split('.').map(|number| number.parse::<u64>().ok());
    matches!((numbers.next(), numbers.next()), (Some(Some(major)), Some(Some(minor))) if (major, minor) >= REFRESHES)
}
