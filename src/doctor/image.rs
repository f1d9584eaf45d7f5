//! What an image needs, against what the machine has.

use ociforge_manifests::config::Process;
use ociforge_manifests::lint::lint;
use ociforge_manifests::{Image, Platform};

use super::check::{Check, Section};
use super::facts::{DriverVersion, Facts, Machine};
use crate::bytes::human_bytes;

const IMAGE: Section = Section::Image;

/// The oldest drivers that run programs of a CUDA version by minor version compatibility: CUDA's major version, driver.
const OLDEST: [(u32, &str); 3] = [(11, "450.80.02"), (12, "525.60.13"), (13, "580.65.06")];

/// Whether `image` can run on the machine, with `driver` in the place of the machine's own where it is given.
#[must_use]
pub fn judge_image(image: &Image, facts: &Facts, driver: Option<&DriverVersion>) -> Vec<Check> {
    let process = &image.config.config;
    let driver = driver.or(facts.gpus.driver.as_ref());
    let mut checks = vec![architecture(&image.config.platform, &facts.machine), space(image, facts)];
    checks.extend(cuda(process, driver));
    checks.extend(requirements(process, driver));
    checks.extend(lint(None, process, &[]).into_iter().map(|finding| {
        let found = format!("{} (hint: {})", finding.message, finding.hint);
        Check::warn(IMAGE, finding.code.name(), found)
    }));
    checks
}

fn architecture(platform: &Platform, machine: &Machine) -> Check {
    const NAME: &str = "architecture";
    // The kernel's and qemu's names for what images call by Go's, and the kernels that run it beside their own.
    let (native, qemu, also): (&str, &str, &[&str]) = match platform.architecture.as_str() {
        "amd64" => ("x86_64", "x86_64", &[]),
        "arm64" => ("aarch64", "aarch64", &[]),
        "386" => ("i686", "i386", &["x86_64", "i586"]),
        "arm" => ("armv7l", "arm", &["armv6l", "armv8l", "aarch64"]),
        other => (other, other, &[]),
    };
    let here = machine.architecture.as_str();
    if platform.os != "linux" {
        return Check::missing(IMAGE, NAME, format!("{platform}: containers here run Linux"));
    }
    if here == native || also.contains(&here) {
        return Check::ok(IMAGE, NAME, platform.to_string());
    }
    if machine.emulated.iter().any(|name| name == qemu) {
        return Check::warn(
            IMAGE,
            NAME,
            format!("{platform}, which {here} runs by emulation, slowly and without GPUs"),
        );
    }
    let check = Check::missing(IMAGE, NAME, format!("{platform}, which {here} can't run"));
    check.mend(machine.install("qemu-user-static binfmt-support", "qemu-user-static"))
}

/// Layers are about two and a half times as large when they are unpacked.
fn space(image: &Image, facts: &Facts) -> Check {
    const NAME: &str = "space";
    let packed: u64 = image.manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size));
    let unpacked = packed / 2 * 5;
    let [size, whole, free] = [packed, unpacked, facts.store.free].map(human_bytes);
    let found = format!("{size} packed, about {whole} unpacked; {free} free");
    match facts.store.free {
        free if free < packed => Check::missing(IMAGE, NAME, found).mend("ociforge cache prune"),
        free if free < packed.saturating_add(unpacked) => Check::warn(IMAGE, NAME, found).mend("ociforge cache prune"),
        _ => Check::ok(IMAGE, NAME, found),
    }
}

/// The image's CUDA against the driver.
fn cuda(image: &Process, driver: Option<&DriverVersion>) -> Option<Check> {
    const NAME: &str = "CUDA";
    let version = image.env_value("CUDA_VERSION").filter(|version| !version.is_empty())?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    let oldest = OLDEST.iter().find(|(cuda, _)| *cuda == major).and_then(|(_, oldest)| oldest.parse().ok());
    let built_with: Option<DriverVersion> = image.env_value("CUDA_DRIVER_VERSION").and_then(|text| text.parse().ok());
    let needs =
        oldest.as_ref().map_or_else(String::new, |oldest: &DriverVersion| format!(", driver {oldest} or newer"));
    let Some(driver) = driver else {
        let found = format!("{version}{needs}; no driver is loaded here (--driver-version tells of another machine's)");
        return Some(Check::warn(IMAGE, NAME, found));
    };
    if built_with.as_ref().is_some_and(|built_with| driver >= built_with) {
        return Some(Check::ok(IMAGE, NAME, format!("{version}; driver {driver} has all that it was built with")));
    }
    let Some(oldest) = oldest else {
        return Some(Check::ok(IMAGE, NAME, format!("{version}; driver {driver}, and its needs are not known")));
    };
    if *driver >= oldest {
        return Some(Check::ok(IMAGE, NAME, format!("{version}{needs}; driver {driver}")));
    }
    let libraries = image.env_value("LD_LIBRARY_PATH").unwrap_or_default();
    let found = format!("{version}{needs}, and this is {driver}");
    if libraries.split(':').any(|entry| entry.contains("/compat")) {
        let found = format!("{found}: by the image's compatibility libraries it may run, on data centre GPUs only");
        return Some(Check::warn(IMAGE, NAME, found));
    }
    Some(Check::missing(IMAGE, NAME, format!("{found}: install a newer driver, or choose an image with an older CUDA")))
}

/// The image's `NVIDIA_REQUIRE_*` against the driver.
// The language of requirements is not read yet.
fn requirements(_image: &Process, _driver: Option<&DriverVersion>) -> Vec<Check> {
    Vec::new()
}
