//! NVIDIA's GPUs, their driver, and what gets them into containers.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::programs::{Program, program};
use super::text;

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
    /// CDI specifications.
    pub cdi: Vec<CdiFile>,
}

/// A version of NVIDIA's driver, such as `545.23.08`. Versions are ordered by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion(Vec<u32>, String);

/// A file in a directory of CDI specifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdiFile {
    /// Where it is.
    pub path: PathBuf,
    /// Of what use it is.
    pub state: CdiState,
}

/// Of what use such a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CdiState {
    /// It specifies devices of this kind (`vendor/class`), and this many where they were counted.
    Good(String, Option<usize>),
    /// Its name ends in `.yml`, which the specification does not know.
    Ignored,
    /// It can't be used.
    Bad(String),
}

impl Gpus {
    pub(super) fn gather() -> Self {
        let driver = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        let config = fs::read_to_string("/etc/nvidia-container-runtime/config.toml").unwrap_or_default();
        Self {
            count: on_the_bus(),
            driver: DriverVersion::loaded(&driver),
            nodes: names("/dev", |name| name.starts_with("nvidia")),
            hook: program("nvidia-container-runtime-hook"),
            ctk: program("nvidia-ctk"),
            cdi_hook: program("nvidia-cdi-hook"),
            no_cgroups: leaves_cgroups_alone(&config),
            cdi: cdi_directories().iter().flat_map(|directory| cdi_files(directory)).collect(),
        }
    }
}

impl DriverVersion {
    /// Reads `/proc/driver/nvidia/version`, which the open kernel module words differently.
    #[must_use]
    pub fn loaded(text: &str) -> Option<Self> {
        let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
        line.split_ascii_whitespace().filter(|word| word.contains('.')).find_map(|word| word.parse().ok())
    }
}

impl FromStr for DriverVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        numbers.map(|numbers| Self(numbers, text.to_owned())).map_err(|_| "expected a version such as 545.23.08".into())
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
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

fn cdi_directories() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let rootless = [config, variable("XDG_RUNTIME_DIR")].into_iter().flatten().map(|directory| directory.join("cdi"));
    ["/etc/cdi", "/var/run/cdi"].into_iter().map(PathBuf::from).chain(rootless).collect()
}

/// The specifications in a directory. Only what they are called and what kind they name is looked at.
fn cdi_files(directory: &Path) -> Vec<CdiFile> {
    let is_spec = |name: &str| [".json", ".yaml", ".yml"].iter().any(|end| name.ends_with(end));
    let paths = names(directory, is_spec).into_iter().map(|name| directory.join(name));
    paths.map(|path| CdiFile { state: cdi_state(&path), path }).collect()
}

fn cdi_state(path: &Path) -> CdiState {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return CdiState::Bad(error.to_string()),
    };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(json) => {
                let devices = json.get("devices").and_then(|devices| devices.as_array()).map(Vec::len);
                kind(json.get("kind").and_then(|kind| kind.as_str()), devices)
            }
            Err(error) => CdiState::Bad(format!("line {} is not JSON", error.line())),
        },
        Some("yaml") => {
            let line = text.lines().find_map(|line| line.strip_prefix("kind:"));
            kind(line.map(|kind| kind.trim().trim_matches(['"', '\''])), None)
        }
        _ => CdiState::Ignored,
    }
}

fn kind(kind: Option<&str>, devices: Option<usize>) -> CdiState {
    match kind {
        Some(kind) if kind.contains('/') => CdiState::Good(kind.to_owned(), devices),
        _ => CdiState::Bad("it names no kind of devices".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modules_say_their_version() {
        for (text, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 12.2.0\n",
                Some("535.104.05"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  545.23.08  Release Build  (a@b.c)  Mon\n",
                Some("545.23.08"),
            ),
            ("GCC version: 12.2.0\n", None),
            ("", None),
        ] {
            assert_eq!(DriverVersion::loaded(text).map(|v| v.to_string()).as_deref(), version, "{text}");
        }
        let version = |text: &str| text.parse::<DriverVersion>().unwrap();
        assert!(version("545.23.08") > version("525.60.13") && version("99.1") < version("100"));
        assert!("545.x".parse::<DriverVersion>().is_err());
    }

    #[test]
    fn the_toolkits_config() {
        assert!(leaves_cgroups_alone("[nvidia-container-cli]\nno-cgroups = true\n"));
        assert!(!leaves_cgroups_alone("[nvidia-container-cli]\n#no-cgroups = true\n"));
        assert!(!leaves_cgroups_alone("not toml ["));
    }

    #[test]
    fn specifications_are_told_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.json", r#"{"kind": "nvidia.com/gpu", "devices": [{}, {}]}"#),
            ("b.json", "{"),
            ("c.yaml", "cdiVersion: 0.5.0\nkind: \"nvidia.com/gpu\"\n"),
            ("d.yaml", "devices: []\n"),
            ("e.yml", "kind: nvidia.com/gpu\n"),
            ("f.txt", ""),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let states: Vec<_> = cdi_files(directory.path()).into_iter().map(|file| file.state).collect();
        let gpu = || "nvidia.com/gpu".to_owned();
        assert_eq!(states[0], CdiState::Good(gpu(), Some(2)));
        assert!(matches!(&states[1], CdiState::Bad(why) if why.contains("line 1")));
        assert_eq!(states[2], CdiState::Good(gpu(), None));
        assert!(matches!(states[3], CdiState::Bad(_)));
        assert_eq!((&states[4], states.len()), (&CdiState::Ignored, 5));
        assert_eq!(cdi_files(Path::new("/nonexistent")), []);
    }
}
