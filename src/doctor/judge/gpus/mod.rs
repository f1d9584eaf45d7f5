//! NVIDIA GPUs, and the ways to get them into containers.

mod cdi;
mod way;

use super::programs::shown;
use crate::doctor::check::{CheckResult, Section};
use crate::doctor::facts::{Gpus, LinuxDistribution, MachineFacts, Wsl};

const GPUS: Section = Section::Gpus;

pub(super) fn gpus(facts: &MachineFacts) -> Vec<CheckResult> {
    let gpus = &facts.gpus;
    let mut checks = vec![driver(facts)];
    if gpus.driver.is_some() && !gpus.toolkit.jetson {
        checks.push(nodes(facts));
    }
    checks.extend(cdi::specifications(facts));
    if has_driver(gpus) {
        checks.extend(way::injection(facts));
    }
    checks.extend(way::disabled_requirements(facts));
    checks.extend(way::hook(facts));
    let programs = [("nvidia-ctk", &gpus.ctk), ("nvidia-cdi-hook", &gpus.cdi_hook)];
    let programs = programs.into_iter().filter_map(|(name, program)| Some((name, program.as_ref()?)));
    checks.extend(programs.map(|(name, program)| {
        // The oldest ones do not report their version.
        CheckResult::ok(GPUS, name, shown(program, program.version.as_deref().unwrap_or("of unknown version")))
    }));
    checks
}

/// Whether an NVIDIA driver of any kind is loaded.
fn has_driver(gpus: &Gpus) -> bool {
    gpus.driver.is_some() || gpus.wsl != Wsl::Not || gpus.toolkit.jetson
}

fn counted(gpus: usize) -> String {
    if gpus == 1 { "1 GPU".to_owned() } else { format!("{gpus} GPUs") }
}

fn driver(facts: &MachineFacts) -> CheckResult {
    const NAME: &str = "NVIDIA driver";
    let Gpus { count, driver, wsl, toolkit, .. } = &facts.gpus;
    match (driver, count) {
        (Some(driver), _) if toolkit.jetson => CheckResult::ok(GPUS, NAME, format!("{driver}, of a Jetson")),
        (None, _) if toolkit.jetson => CheckResult::ok(GPUS, NAME, "that of a Jetson"),
        (Some(driver), 0) => CheckResult::ok(GPUS, NAME, driver.to_string()),
        (Some(driver), count) => CheckResult::ok(GPUS, NAME, format!("{driver}, {}", counted(*count))),
        (None, _) if *wsl == Wsl::WithDriver => CheckResult::ok(GPUS, NAME, "that of Windows, by WSL2 (/dev/dxg)"),
        (None, _) if *wsl == Wsl::WithoutDriver => CheckResult::warn(
            GPUS,
            NAME,
            "none for WSL2 (/dev/dxg): /usr/lib/wsl/lib/libcuda.so.1, which NVIDIA's driver for Windows brings, is missing",
        ),
        (None, 0) => CheckResult::ok(GPUS, NAME, "none, and no NVIDIA GPU either"),
        (None, count) => {
            let machine = &facts.machine;
            let install = match machine.distribution {
                LinuxDistribution::Debian => machine.install("nvidia-driver", ""),
                LinuxDistribution::Ubuntu => machine.as_root("ubuntu-drivers install"),
                LinuxDistribution::Fedora => machine.install("", "akmod-nvidia"),
            };
            let gpus = counted(*count);
            CheckResult::warn(GPUS, NAME, format!("not loaded, and there is an NVIDIA device on the bus ({gpus})"))
                .mend(install)
        }
    }
}

/// Compares the device nodes with the GPUs on the bus.
fn nodes(facts: &MachineFacts) -> CheckResult {
    const NAME: &str = "device nodes";
    let Gpus { nodes, count, .. } = &facts.gpus;
    let number = |name: &String| name.strip_prefix("nvidia")?.parse::<usize>().ok();
    let has = |name: &str| nodes.iter().any(|node| node == name);
    let gpus = nodes.iter().filter_map(number).count();
    let wanted = (*count).max(1);
    let absent: Vec<usize> =
        (0..).filter(|number| !has(&format!("nvidia{number}"))).take(wanted.saturating_sub(gpus)).collect();
    let of_gpus = absent.iter().map(|number| format!("/dev/nvidia{number}"));
    let control = ["nvidiactl", "nvidia-uvm"].into_iter().filter(|name| !has(name)).map(|name| format!("/dev/{name}"));
    let lacks: Vec<String> = of_gpus.chain(control.clone()).collect();
    if lacks.is_empty() {
        return CheckResult::ok(GPUS, NAME, format!("{}, /dev/nvidiactl, /dev/nvidia-uvm", counted(gpus)));
    }
    let lacks: Vec<&str> = lacks.iter().map(String::as_str).collect();
    let missing = format!("{} missing", super::listed(&lacks));
    let found = if gpus == 0 || control.count() > 0 {
        format!("{missing}: CUDA will find no GPU")
    } else {
        format!("{missing}: {} on the bus, and {} with a device node", counted(wanted), gpus)
    };
    let machine = &facts.machine;
    let mut check = CheckResult::warn(GPUS, NAME, found).mend(machine.install("nvidia-modprobe", "nvidia-modprobe"));
    for number in if absent.is_empty() { vec![0] } else { absent } {
        check = check.mend(machine.as_root(&format!("nvidia-modprobe -u -c {number}")));
    }
    check
}
