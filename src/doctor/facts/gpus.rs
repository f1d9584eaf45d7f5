//! NVIDIA's GPUs, their driver, and what gets them into containers.

use std::fs;
use std::path::{Path, PathBuf};

use ociforge_manifests::runtime::cdi::Registry;
use ociforge_manifests::runtime::{DriverVersion, HOOK_NAME};

use super::programs::{Program, program};
use super::text;
use crate::run::host;

/// NVIDIA's vendor id on the PCI bus.
const NVIDIA: &str = "0x10de";

/// NVIDIA's GPUs, their driver, and what gets them into containers.
#[derive(Debug, Clone, Default)]
pub struct Gpus {
    /// How many there are on the PCI bus.
    pub count: usize,
    /// The driver that is loaded.
    pub driver: Option<DriverVersion>,
    /// The device nodes, sorted: `nvidia0`, `nvidiactl`, …
    pub nodes: Vec<String>,
    /// `nvidia-container-runtime-hook`.
    pub hook: Option<Program>,
    /// `nvidia-ctk`.
    pub ctk: Option<Program>,
    /// `nvidia-cdi-hook`.
    pub cdi_hook: Option<Program>,
    /// Whether the toolkit's config tells the hook to leave cgroups alone (`no-cgroups`).
    pub no_cgroups: bool,
    /// The devices that CDI files describe.
    pub cdi: Registry,
}

impl Gpus {
    pub(super) fn gather() -> Self {
        let config = fs::read_to_string("/etc/nvidia-container-runtime/config.toml").unwrap_or_default();
        Self {
            count: on_the_bus(),
            driver: host::driver(),
            nodes: names("/dev", |name| name.starts_with("nvidia")),
            hook: program(HOOK_NAME),
            ctk: program("nvidia-ctk"),
            cdi_hook: program("nvidia-cdi-hook"),
            no_cgroups: leaves_cgroups_alone(&config),
            cdi: host::cdi(&[], host::is_unprivileged()),
        }
    }
}

/// The sorted names in a directory that `wanted` wants.
fn names(directory: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| wanted(name)).collect();
    names.sort();
    names
}

/// How many display controllers of NVIDIA's there are. Their sound controllers are of another class.
fn on_the_bus() -> usize {
    let devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_gpu = |device: &PathBuf| {
        text(device.join("vendor")).is_some_and(|vendor| vendor == NVIDIA)
            && text(device.join("class")).is_some_and(|class| class.starts_with("0x03"))
    };
    devices.filter(is_gpu).count()
}

fn leaves_cgroups_alone(config: &str) -> bool {
    let table: Option<toml::Table> = config.parse().ok();
    let value = table.as_ref().and_then(|table| table.get("nvidia-container-cli")?.get("no-cgroups")?.as_bool());
    value == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_toolkits_config() {
        assert!(leaves_cgroups_alone("[nvidia-container-cli]\nno-cgroups = true\n"));
        assert!(!leaves_cgroups_alone("[nvidia-container-cli]\n#no-cgroups = true\n"));
        assert!(!leaves_cgroups_alone("not toml ["));
    }
}
