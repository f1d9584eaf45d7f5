//! NVIDIA GPUs, their driver, and the ways to get them into containers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ociforge_manifests::runtime::cdi::{CdiRegistry, DeviceFacts};
use ociforge_manifests::runtime::{DriverVersion, HOOK_NAME, Toolkit};

use super::programs::{Program, program};
use super::text;
use crate::run::{host, toolkit};

/// NVIDIA's vendor id on the PCI bus.
const NVIDIA: &str = "0x10de";

/// Kernel drivers that reserve a device for virtual machines.
const PASSED_ON: [&str; 3] = ["vfio-pci", "pci-stub", "xen-pciback"];

/// NVIDIA GPUs, their driver, and the ways to get them into containers.
#[derive(Debug, Clone, Default)]
pub struct Gpus {
    /// The number of GPUs on the PCI bus, except those reserved for virtual machines.
    pub count: usize,
    /// The loaded driver.
    pub driver: Option<DriverVersion>,
    /// The device nodes, sorted: `nvidia0`, `nvidiactl`, …
    pub nodes: Vec<String>,
    /// GPUs of Windows.
    pub wsl: Wsl,
    /// `nvidia-container-runtime-hook`.
    pub hook: Option<Program>,
    /// `nvidia-ctk`.
    pub ctk: Option<Program>,
    /// `nvidia-cdi-hook`.
    pub cdi_hook: Option<Program>,
    /// The toolkit's configuration, and the findings of its hook.
    pub toolkit: Toolkit,
    /// Whether systemd runs, which starts the toolkit's services.
    pub systemd: bool,
    /// The devices that CDI files describe.
    pub cdi: CdiRegistry,
    /// The device nodes of CDI files that exist.
    pub devices: BTreeMap<String, DeviceFacts>,
    /// The files of CDI files that are not usable, and the causes.
    pub absent: BTreeMap<String, String>,
    /// CDI files that only root can read, while the user is root.
    pub private: Vec<String>,
}

/// The GPUs of Windows in its subsystem for Linux.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wsl {
    /// Not in the subsystem.
    #[default]
    Not,
    /// Windows has a driver of NVIDIA.
    WithDriver,
    /// Windows has no driver of NVIDIA, or none for Linux.
    WithoutDriver,
}

impl Gpus {
    pub(super) fn gather() -> Self {
        let root = Path::new("/");
        let driver = host::driver();
        let cdi = host::cdi(&[], host::is_unprivileged());
        let private = cdi.files().map(|file| file.path).filter(|path| is_private(Path::new(path)));
        Self {
            toolkit: toolkit::gather(root, driver.as_ref()),
            hook: program(HOOK_NAME),
            ctk: program("nvidia-ctk"),
            cdi_hook: program("nvidia-cdi-hook"),
            private: private.map(str::to_owned).collect(),
            devices: host::cdi_devices(&cdi),
            absent: host::cdi_absent(&cdi),
            driver,
            cdi,
            ..Self::of_machine(root)
        }
    }

    /// The facts of the machine with this root directory.
    fn of_machine(root: &Path) -> Self {
        let wsl = match (root.join("dev/dxg").exists(), root.join("usr/lib/wsl/lib/libcuda.so.1").exists()) {
            (false, _) => Wsl::Not,
            (true, true) => Wsl::WithDriver,
            (true, false) => Wsl::WithoutDriver,
        };
        Self {
            count: on_the_bus(&root.join("sys/bus/pci/devices")),
            nodes: names(&root.join("dev"), |name| name.starts_with("nvidia")),
            wsl,
            systemd: root.join("run/systemd/system").is_dir(),
            ..Self::default()
        }
    }
}

/// The sorted names in a directory that `wanted` accepts.
fn names(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| wanted(name)).collect();
    names.sort();
    names
}

/// The number of NVIDIA display controllers. Their sound controllers have another class.
fn on_the_bus(devices: &Path) -> usize {
    let devices = fs::read_dir(devices).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_gpu = |device: &Path| {
        text(device.join("vendor")).is_some_and(|vendor| vendor == NVIDIA)
            && text(device.join("class")).is_some_and(|class| class.starts_with("0x03"))
    };
    let is_passed_on = |device: &Path| {
        let driver = fs::read_link(device.join("driver")).ok();
        driver.is_some_and(|driver| PASSED_ON.iter().any(|name| driver.ends_with(name)))
    };
    devices.filter(|device| is_gpu(device) && !is_passed_on(device)).count()
}

/// Whether users other than the owner cannot read a file or enter its directory.
fn is_private(file: &Path) -> bool {
    let lacks = |path: &Path, bit| fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & bit == 0);
    lacks(file, 0o004) || file.ancestors().skip(1).any(|directory| lacks(directory, 0o001))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with a sound card and two GPUs, one of which is reserved for a virtual machine.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (device, class, driver) in [
            ("0000:01:00.0", "0x030000", "nvidia"),
            ("0000:01:00.1", "0x040300", "snd_hda_intel"),
            ("0000:02:00.0", "0x030200", "vfio-pci"),
            ("0000:03:00.0", "0x030200", "nvidia"),
        ] {
            let directory = root.path().join("sys/bus/pci/devices").join(device);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("vendor"), "0x10de\n").unwrap();
            fs::write(directory.join("class"), format!("{class}\n")).unwrap();
            std::os::unix::fs::symlink(format!("../../../bus/pci/drivers/{driver}"), directory.join("driver")).unwrap();
        }
        fs::create_dir(root.path().join("dev")).unwrap();
        for name in ["nvidia1", "nvidia0", "nvidiactl", "null"] {
            fs::write(root.path().join("dev").join(name), "").unwrap();
        }
        root
    }

    #[test]
    fn a_machine_is_looked_at() {
        let root = machine();
        let gpus = Gpus::of_machine(root.path());
        assert_eq!((gpus.count, gpus.wsl, gpus.systemd), (2, Wsl::Not, false));
        assert_eq!(gpus.nodes, ["nvidia0", "nvidia1", "nvidiactl"]);
        fs::write(root.path().join("dev/dxg"), "").unwrap();
        assert_eq!(Gpus::of_machine(root.path()).wsl, Wsl::WithoutDriver);
        fs::create_dir_all(root.path().join("usr/lib/wsl/lib")).unwrap();
        fs::write(root.path().join("usr/lib/wsl/lib/libcuda.so.1"), "").unwrap();
        assert_eq!(Gpus::of_machine(root.path()).wsl, Wsl::WithDriver);
        assert_eq!(Gpus::of_machine(Path::new("/nowhere")).count, 0);
    }

    #[test]
    fn what_others_can_read() {
        let root = tempfile::tempdir().unwrap();
        let (directory, file) = (root.path().join("cdi"), root.path().join("cdi/nvidia.yaml"));
        fs::create_dir(&directory).unwrap();
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(root.path(), 0o755);
        for (of_directory, of_file, private) in [(0o755, 0o644, false), (0o755, 0o600, true), (0o700, 0o644, true)] {
            set(&directory, of_directory);
            set(&file, of_file);
            assert_eq!(is_private(&file), private, "{of_directory:o} {of_file:o}");
        }
    }
}
