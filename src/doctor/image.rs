//! Checks of an image's requirements against the machine.

use ociforge_manifests::config::Config;
use ociforge_manifests::lint::lint;
use ociforge_manifests::runtime::DriverVersion;
use ociforge_manifests::runtime::requirements::{DISABLE_REQUIRE, check, cuda_of, requires_nothing};
use ociforge_manifests::{Image, Platform};

use super::check::{CheckResult, Section};
use super::facts::{Machine, MachineFacts};
use crate::bytes::human_bytes;

const IMAGE: Section = Section::Image;

/// Whether the machine can run `image`. `driver`, if given, replaces the machine's driver.
#[must_use]
pub fn judge_image(image: &Image, facts: &MachineFacts, driver: Option<&DriverVersion>) -> Vec<CheckResult> {
    let process = &image.config.config;
    let driver = driver.or(facts.gpus.driver.as_ref());
    let mut checks = vec![architecture(&image.config.platform, &facts.machine), space(image, facts)];
    checks.extend(cuda(&image.config, driver, facts.gpus.toolkit.disables_require));
    checks.extend(lint(None, process, &[]).into_iter().map(|finding| {
        let found = format!("{} (hint: {})", finding.message, finding.hint);
        CheckResult::warn(IMAGE, finding.code.name(), found)
    }));
    checks
}

fn architecture(platform: &Platform, machine: &Machine) -> CheckResult {
    const NAME: &str = "architecture";
    // The names of the kernel and of qemu for Go's architectures of images, and the other kernels that run them
    // natively.
    let (native, qemu, also): (&str, &str, &[&str]) = match platform.architecture.as_str() {
        "amd64" => ("x86_64", "x86_64", &[]),
        "arm64" => ("aarch64", "aarch64", &[]),
        "386" => ("i686", "i386", &["x86_64", "i586"]),
        "arm" => ("armv7l", "arm", &["armv6l", "armv8l", "aarch64"]),
        other => (other, other, &[]),
    };
    let here = machine.architecture.as_str();
    if platform.os != "linux" {
        return CheckResult::missing(IMAGE, NAME, format!("{platform}: containers here run Linux"));
    }
    if here == native || also.contains(&here) {
        return CheckResult::ok(IMAGE, NAME, platform.to_string());
    }
    if machine.emulated.iter().any(|name| name == qemu) {
        return CheckResult::warn(
            IMAGE,
            NAME,
            format!("{platform}, which {here} runs by emulation, slowly and without GPUs"),
        );
    }
    let check = CheckResult::missing(IMAGE, NAME, format!("{platform}, which {here} can't run"));
    check.mend(machine.install("qemu-user-static binfmt-support", "qemu-user-static"))
}

/// Layers are about two and a half times as large after they are unpacked.
fn space(image: &Image, facts: &MachineFacts) -> CheckResult {
    const NAME: &str = "space";
    let packed: u64 = image.manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size));
    let unpacked = packed / 2 * 5;
    let [size, whole, free] = [packed, unpacked, facts.store.free].map(human_bytes);
    let found = format!("{size} packed, about {whole} unpacked; {free} free");
    match facts.store.free {
        free if free < packed => CheckResult::missing(IMAGE, NAME, found).mend("ociforge cache prune"),
        free if free < packed.saturating_add(unpacked) => {
            CheckResult::warn(IMAGE, NAME, found).mend("ociforge cache prune")
        }
        _ => CheckResult::ok(IMAGE, NAME, found),
    }
}

/// The image's requirements of the NVIDIA driver, as `run` checks them before a container gets GPUs. `disabled` says
/// that the toolkit's configuration turns the check off.
fn cuda(config: &Config, driver: Option<&DriverVersion>, disabled: bool) -> Option<CheckResult> {
    const NAME: &str = "CUDA";
    let image = &config.config;
    let variables = || image.env.iter().filter_map(|entry| entry.split_once('='));
    let newer = match check(variables().filter(|(key, _)| *key != DISABLE_REQUIRE), driver) {
        Ok(newer) => newer.map(|newer| if has_compat(config) { newer.with_compat() } else { newer }),
        Err(error) => {
            let started = "the check is disabled: containers start, and CUDA fails in them";
            if error.is_about_driver() && (disabled || requires_nothing(|key| image.env_value(key))) {
                return Some(CheckResult::warn(IMAGE, NAME, format!("{error}; {started}")));
            }
            let hint = error.hint().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
            // Without a driver, containers get no GPUs here, and this image runs without them.
            let check = if driver.is_some() { CheckResult::missing } else { CheckResult::warn };
            return Some(check(IMAGE, NAME, format!("{error}{hint}")));
        }
    };
    if let Some(newer) = newer {
        return Some(match newer.may_run() {
            true => CheckResult::warn(IMAGE, NAME, newer.to_string()),
            false => CheckResult::missing(
                IMAGE,
                NAME,
                format!("{newer}: install that, or choose an image with an older CUDA"),
            ),
        });
    }
    let version = image.env_value("CUDA_VERSION").filter(|version| !version.is_empty())?;
    let Some(driver) = driver else {
        let oldest = cuda_of(version).and_then(|cuda| cuda.oldest_driver());
        let needs = oldest.map_or_else(String::new, |oldest| format!(", which driver {oldest} and newer have"));
        let found = format!(
            "{version}{needs}; this machine has no loaded driver (--driver-version names that of another machine)"
        );
        return Some(CheckResult::warn(IMAGE, NAME, found));
    };
    let newest = match driver.cuda() {
        Some(cuda) if !cuda.or_newer => format!("has CUDA {}", cuda.newest),
        Some(cuda) => format!("has CUDA {} or newer", cuda.newest),
        None => "is older than all known versions".to_owned(),
    };
    Some(CheckResult::ok(IMAGE, NAME, format!("{version}; driver {driver} {newest}")))
}

/// Whether a step of the image's history installed the compat libraries, which let its CUDA run with an older driver.
fn has_compat(config: &Config) -> bool {
    let steps = config.history.iter().filter_map(|entry| entry.created_by.as_deref());
    steps.into_iter().any(|step| step.contains("cuda-compat") || step.contains("/usr/local/cuda/compat"))
}
