//! NVIDIA's GPUs, and what gets them into containers.

use std::path::Path;

use ociforge_manifests::runtime::GPU_KIND;
use ociforge_manifests::runtime::cdi::LeftOut;

use super::programs::shown;
use crate::doctor::check::{Check, Section};
use crate::doctor::facts::{Distribution, Facts, Gpus};

const GPUS: Section = Section::Gpus;

/// The name of the lines about CDI files.
const CDI: &str = "CDI spec";

pub(super) fn gpus(facts: &Facts) -> Vec<Check> {
    let gpus = &facts.gpus;
    let mut checks = vec![driver(facts)];
    if gpus.driver.is_some() {
        checks.push(nodes(facts));
    }
    checks.extend(gpus.cdi.files().map(specification));
    checks.extend(gpus.cdi.left_out().iter().map(left_out));
    if gpus.driver.is_some() {
        checks.extend(way_in(facts));
    }
    let programs = [("NVIDIA hook", &gpus.hook), ("nvidia-ctk", &gpus.ctk), ("nvidia-cdi-hook", &gpus.cdi_hook)];
    let programs = programs.into_iter().filter_map(|(name, program)| Some((name, program.as_ref()?)));
    checks.extend(programs.map(|(name, program)| {
        // The oldest hooks do not tell their version.
        Check::ok(GPUS, name, shown(program, program.version.as_deref().unwrap_or("of unknown version")))
    }));
    checks
}

fn driver(facts: &Facts) -> Check {
    const NAME: &str = "NVIDIA driver";
    let Gpus { count, driver, .. } = &facts.gpus;
    let gpus = if *count == 1 { "1 GPU".to_owned() } else { format!("{count} GPUs") };
    match (driver, count) {
        (Some(driver), 0) => Check::ok(GPUS, NAME, driver.to_string()),
        (Some(driver), _) => Check::ok(GPUS, NAME, format!("{driver}, {gpus}")),
        (None, 0) => Check::ok(GPUS, NAME, "none, and no NVIDIA GPU either"),
        (None, _) => {
            let machine = &facts.machine;
            let install = match machine.distribution {
                Distribution::Debian => machine.install("nvidia-driver", ""),
                Distribution::Ubuntu => machine.as_root("ubuntu-drivers install"),
                Distribution::Fedora => machine.install("", "akmod-nvidia"),
            };
            Check::warn(GPUS, NAME, format!("not loaded, and there is an NVIDIA device on the bus ({gpus})"))
                .mend(install)
        }
    }
}

fn nodes(facts: &Facts) -> Check {
    const NAME: &str = "device nodes";
    let nodes = &facts.gpus.nodes;
    let is_gpu = |name: &&String| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    };
    let has = |name: &str| nodes.iter().any(|node| node == name);
    let mut lacks: Vec<&str> = ["nvidiactl", "nvidia-uvm"].into_iter().filter(|name| !has(name)).collect();
    let gpus = nodes.iter().filter(is_gpu).count();
    if gpus == 0 {
        lacks.insert(0, "nvidia0");
    }
    if lacks.is_empty() {
        let gpus = if gpus == 1 { "1 GPU".to_owned() } else { format!("{gpus} GPUs") };
        return Check::ok(GPUS, NAME, format!("{gpus}, /dev/nvidiactl, /dev/nvidia-uvm"));
    }
    let lacks: Vec<String> = lacks.iter().map(|name| format!("/dev/{name}")).collect();
    let lacks: Vec<&str> = lacks.iter().map(String::as_str).collect();
    let found = format!("{} missing: CUDA will find no GPU", super::listed(&lacks));
    let machine = &facts.machine;
    Check::warn(GPUS, NAME, found)
        .mend(machine.install("nvidia-modprobe", "nvidia-modprobe"))
        .mend(machine.as_root("nvidia-modprobe -u -c 0"))
}

/// A file, the kind of its devices, and how many of them count.
fn specification((path, kind, devices): (&str, &str, usize)) -> Check {
    let devices = match devices {
        0 => "no device that counts".to_owned(),
        1 => "1 device".to_owned(),
        devices => format!("{devices} devices"),
    };
    Check::ok(GPUS, CDI, format!("{kind}, {devices}, {path}"))
}

fn left_out(left_out: &LeftOut) -> Check {
    let check = Check::warn(GPUS, CDI, left_out.to_string());
    match left_out {
        LeftOut::Ending(path) => check.mend(format!("mv {path} {}", Path::new(path).with_extension("yaml").display())),
        _ => check,
    }
}

/// Whether something gets the GPUs into containers.
fn way_in(facts: &Facts) -> Option<Check> {
    const NAME: &str = "for containers";
    let (machine, gpus) = (&facts.machine, &facts.gpus);
    let generate = || machine.as_root("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml");
    let specified = gpus.cdi.kinds().contains(GPU_KIND);
    Some(match (specified, &gpus.hook, &gpus.ctk) {
        // Named by its own line.
        (true, ..) => return None,
        (false, Some(_), _) if machine.is_root() || gpus.no_cgroups => {
            Check::ok(GPUS, NAME, "NVIDIA's hook; there is no CDI specification")
        }
        (false, Some(_), Some(_)) => {
            let found = "NVIDIA's hook, which fails for an unprivileged user; a CDI specification works for all";
            Check::warn(GPUS, NAME, found).mend(generate())
        }
        (false, None, Some(_)) => Check::warn(GPUS, NAME, "no CDI specification was made yet").mend(generate()),
        (false, Some(_), None) => {
            let found = "NVIDIA's hook, which fails for an unprivileged user unless it leaves cgroups alone: set \
                         `no-cgroups = true` in /etc/nvidia-container-runtime/config.toml";
            Check::warn(GPUS, NAME, found)
        }
        (false, None, None) => {
            let found = "neither a CDI specification nor NVIDIA's hook: no container gets a GPU; the package comes from \
                         NVIDIA's repository for container tools";
            let check = Check::warn(GPUS, NAME, found);
            check.mend(machine.install("nvidia-container-toolkit", "nvidia-container-toolkit")).mend(generate())
        }
    })
}
