//! GPUs: machines that are made up, and what is said of them.

use std::collections::BTreeMap;

use ociforge_manifests::runtime::DriverVersion;
use ociforge_manifests::runtime::Toolkit;
use ociforge_manifests::runtime::cdi::{CdiFile, CdiRegistry, DeviceFacts, DeviceNodeKind};
use serde_json::json;

use super::{Change, cdi, changed, file, gpu, image, lines, made_by, program, root, sound, user};
use crate::doctor::facts::*;
use crate::doctor::{judge, judge_image};

#[test]
fn gpus_and_what_gets_them_into_containers() {
    let cases: [(Change, &str); 20] = [
        (
            |f| f.gpus.driver = None,
            "warn NVIDIA driver: not loaded, and there is an NVIDIA device on the bus (1 GPU) | sudo apt-get install \
             nvidia-driver",
        ),
        (
            |f| (f.gpus.driver, f.machine.distribution) = (None, LinuxDistribution::Ubuntu),
            "warn NVIDIA driver: not loaded, and there is an NVIDIA device on the bus (1 GPU) | sudo ubuntu-drivers \
                install",
        ),
        (
            |f| (f.gpus.driver, f.machine.distribution) = (None, LinuxDistribution::Fedora),
            "warn NVIDIA driver: not loaded, and there is an NVIDIA device on the bus (1 GPU) | sudo dnf install \
                akmod-nvidia",
        ),
        (|f| f.gpus.count = 0, "ok NVIDIA driver: 545.23.08"),
        (
            |f| f.gpus.nodes.retain(|node| node == "nvidiactl"),
            "warn device nodes: /dev/nvidia0 and /dev/nvidia-uvm missing: CUDA will find no GPU | sudo apt-get install \
             nvidia-modprobe | sudo nvidia-modprobe -u -c 0",
        ),
        (|f| f.gpus.nodes.push("nvidia1".into()), "ok device nodes: 2 GPUs, /dev/nvidiactl"),
        (
            |f| f.gpus.cdi = CdiRegistry::default(),
            "warn for containers: NVIDIA's hook fails for an unprivileged user because \
                /etc/nvidia-container-runtime/config.toml does not have no-cgroups = true, and there is no CDI \
                specification: no container gets a GPU; CDI needs no hook of NVIDIA's | sudo nvidia-ctk cdi generate \
                --output=/etc/cdi/nvidia.yaml",
        ),
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                f.gpus.toolkit.no_cgroups = true;
            },
            "ok for containers: NVIDIA's hook; there is no CDI specification",
        ),
        // reasons of the hook's, which do not matter where a CDI file is
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                f.gpus.toolkit.mode = "jit-cdi".into();
            },
            "warn for containers: NVIDIA's hook does not work because /etc/nvidia-container-runtime/config.toml has \
                mode = \"jit-cdi\", and there is no CDI specification: no container gets a GPU",
        ),
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                f.gpus.toolkit.heeds_environment = false;
            },
            "warn for containers: NVIDIA's hook ignores the request because /etc/nvidia-container-runtime/config.toml \
                has accept-nvidia-visible-devices-envvar-when-unprivileged = false, and there is no CDI specification",
        ),
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                f.gpus.toolkit = Toolkit { has_cli: false, no_cgroups: true, ..Toolkit::default() };
            },
            "warn for containers: NVIDIA's hook finds no nvidia-container-cli, and there is no CDI specification: no \
             container gets a GPU; CDI needs no hook of NVIDIA's | sudo nvidia-ctk cdi generate",
        ),
        (
            |f| f.gpus.toolkit.mode = "cdi".into(),
            "ok NVIDIA hook: 1.17.0, /usr/bin/nvidia-container-runtime-hook; CDI is used: NVIDIA's hook does not work \
                because",
        ),
        (
            |f| f.gpus.toolkit.disables_require = true,
            "warn toolkit config: disable-require = true: containers start even if their image needs a newer driver, \
                and CUDA fails in them | sudo nvidia-ctk config --in-place --set disable-require=false",
        ),
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                f.gpus.hook = None;
            },
            "warn for containers: no CDI specification was made yet: no container gets a GPU | sudo nvidia-ctk cdi \
                generate \
             --output=/etc/cdi/nvidia.yaml",
        ),
        // the toolkit's newer versions keep the file up to date
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                (f.gpus.hook, f.gpus.ctk, f.gpus.systemd) = (None, Some(program("nvidia-ctk", "1.18.0")), true);
            },
            "warn for containers: no CDI specification was made yet: no container gets a GPU | sudo systemctl restart \
             nvidia-cdi-refresh.service",
        ),
        (
            |f| {
                f.gpus.cdi = CdiRegistry::default();
                (f.gpus.hook, f.gpus.ctk) = (None, Some(program("nvidia-ctk", "1.20.0")));
            },
            "warn for containers: no CDI specification was made yet: no container gets a GPU | sudo nvidia-ctk cdi \
                generate \
             --output=/var/run/cdi/nvidia.yaml",
        ),
        (
            |f| {
                f.gpus.cdi = cdi(&[("other.json", &file("vendor.com/net", &["a"]))]);
                (f.gpus.ctk, f.gpus.hook) = (None, None);
            },
            "warn for containers: neither a CDI specification nor NVIDIA's hook: no container gets a GPU; the package \
             comes from NVIDIA's repository for container tools | sudo apt-get install nvidia-container-toolkit-base | sudo \
             nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml",
        ),
        (
            |f| f.gpus.cdi = cdi(&[("n.json", &file("nvidia.com/gpu", &["0"])), ("x.yml", "")]),
            "warn CDI spec: the CDI file /etc/cdi/x.yml is skipped: only .json and .yaml are read; rename it | mv \
                /etc/cdi/x.yml /etc/cdi/x.yaml",
        ),
        (
            |f| f.gpus.cdi = cdi(&[("n.json", &file("nvidia.com/gpu", &["0"])), ("x.json", "{\n\n?")]),
            "warn CDI spec: the CDI file /etc/cdi/x.json is skipped: ",
        ),
        (
            |f| {
                let [a, b] = [&["0", "1", "2"][..], &["2"]].map(|devices| file("nvidia.com/gpu", devices));
                f.gpus.cdi = cdi(&[("a.json", &a), ("b.json", &b)]);
            },
            "warn CDI spec: the CDI device nvidia.com/gpu=2 is skipped: /etc/cdi/a.json and /etc/cdi/b.json describe \
                it",
        ),
    ];
    for (change, expected) in cases {
        changed(gpu, change, expected);
    }
    let mut facts = gpu();
    let (a, b) = (file("nvidia.com/gpu", &["0", "1", "2"]), file("nvidia.com/gpu", &["2"]));
    facts.gpus.cdi = cdi(&[("a.json", &a), ("b.json", &b), ("c.json", &file("v.com/net", &["x"]))]);
    let shown = lines(&judge(&facts));
    for line in [
        "ok CDI spec: nvidia.com/gpu, 2 devices, /etc/cdi/a.json",
        "ok CDI spec: nvidia.com/gpu, no usable device, /etc/cdi/b.json",
        "ok CDI spec: v.com/net, 1 device, /etc/cdi/c.json",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:#?}");
    }
}

/// A CDI file as NVIDIA's toolkit writes it for one GPU and that driver.
fn of_driver(version: &str) -> String {
    let node = json!({"deviceNodes": [{"path": "/dev/nvidia0"}]});
    let gpus = ["0", "GPU-5a4b", "all"].map(|name| json!({"name": name, "containerEdits": node}));
    json!({
        "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": gpus,
        "containerEdits": {
            "mounts": [
                {"hostPath": format!("/usr/lib/libcuda.so.{version}"), "containerPath": "/usr/lib/libcuda.so"},
                {"hostPath": format!("/usr/lib/libnvidia-ml.so.{version}"), "containerPath": "/usr/lib/libnvidia-ml.so"},
            ],
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}],
        },
    })
    .to_string()
}

/// The machine of [`gpu`] with such a file, all of which is there, and without the hook.
fn specified(version: &str) -> MachineFacts {
    let mut facts = gpu();
    facts.gpus.hook = None;
    facts.gpus.cdi = cdi(&[("nvidia.yaml", &of_driver(version))]);
    let node = DeviceFacts { kind: DeviceNodeKind::Char, major: 195, minor: 0, mode: 0o666 };
    facts.gpus.devices = BTreeMap::from([("/dev/nvidia0".to_owned(), node)]);
    facts
}

fn absent(facts: &mut MachineFacts, paths: &[&str]) {
    facts.gpus.absent = paths.iter().map(|path| ((*path).to_owned(), "is not there".to_owned())).collect();
}

#[test]
fn a_cdi_file_has_to_fit_the_machine() {
    const FILE: &str = "the CDI file /etc/cdi/nvidia.yaml does not fit this machine: ";
    const BAD: &str = "no container gets a GPU by it";
    const OLD: &str = " | sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml";
    const NEW: &str = " | sudo rm /etc/cdi/nvidia.yaml | sudo systemctl restart nvidia-cdi-refresh.service";
    let cases: [(Change, String); 8] = [
        (|_| {}, "ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.yaml".into()),
        // the commonest: the driver was updated
        (
            |f| {
                f.gpus.driver = Some("560.35.03".parse().unwrap());
                absent(f, &["/usr/lib/libcuda.so.545.23.08", "/usr/lib/libnvidia-ml.so.545.23.08"]);
            },
            format!(
                "warn CDI spec: {FILE}the file /usr/lib/libcuda.so.545.23.08 is not there, and neither is \
                    /usr/lib/libnvidia-ml.so.545.23.08; it is for driver 545.23.08, and 560.35.03 is loaded: {BAD}{OLD}"
            ),
        ),
        (
            |f| {
                (f.gpus.ctk, f.gpus.systemd) = (Some(program("nvidia-ctk", "1.18.1")), true);
                f.gpus.driver = Some("560.35.03".parse().unwrap());
            },
            format!("warn CDI spec: {FILE}it is for driver 545.23.08, and 560.35.03 is loaded: {BAD}{NEW}"),
        ),
        // updated, and the old one still runs
        (
            |f| f.gpus.driver = Some("535.54.03".parse().unwrap()),
            format!(
                "warn CDI spec: {FILE}it is for driver 545.23.08, and 535.54.03 is loaded: CUDA will fail until the \
                    installed driver is loaded | sudo reboot"
            ),
        ),
        (
            |f| f.gpus.devices.clear(),
            format!("warn CDI spec: {FILE}the device node /dev/nvidia0 is not there: {BAD}{OLD}"),
        ),
        (
            |f| absent(f, &["/usr/bin/nvidia-cdi-hook"]),
            format!("warn CDI spec: {FILE}the hook /usr/bin/nvidia-cdi-hook is not there: {BAD}{OLD}"),
        ),
        (
            |f| {
                f.gpus.ctk = None;
                absent(f, &["/usr/bin/nvidia-cdi-hook"]);
            },
            format!(
                "warn CDI spec: {FILE}the hook /usr/bin/nvidia-cdi-hook is not there: {BAD} | sudo apt-get install \
                 nvidia-container-toolkit-base | sudo rm /etc/cdi/nvidia.yaml | sudo nvidia-ctk cdi generate \
                 --output=/var/run/cdi/nvidia.yaml"
            ),
        ),
        (
            |f| f.gpus.private = vec!["/etc/cdi/nvidia.yaml".into()],
            "warn CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.yaml, which only root can read: containers of \
                others \
             get nothing by it | sudo chmod a+rX /etc/cdi/nvidia.yaml"
                .into(),
        ),
    ];
    for (change, expected) in cases {
        let mut facts = specified("545.23.08");
        change(&mut facts);
        let checks = judge(&facts);
        sound(&checks);
        let shown = lines(&checks);
        assert!(shown.contains(&expected), "{expected} in {shown:#?}");
        // Nothing else gets them in, and then that is said.
        let told = shown.iter().any(|line| line.starts_with("warn for containers: the CDI specification does not fit"));
        assert_eq!(told, expected.contains("does not fit") && facts.gpus.ctk.is_some(), "{shown:#?}");
    }
    // The hook serves in its place.
    let mut facts = specified("545.23.08");
    facts.gpus.hook = Some(program("nvidia-container-runtime-hook", "1.17.0"));
    facts.gpus.toolkit.no_cgroups = true;
    absent(&mut facts, &["/usr/bin/nvidia-cdi-hook"]);
    let shown = lines(&judge(&facts));
    let expected = "ok for containers: NVIDIA's hook; the CDI specification does not fit";
    assert!(shown.iter().any(|line| line == expected), "{shown:#?}");
}

#[test]
fn a_file_that_cannot_be_read_takes_no_other_away() {
    let mut facts = gpu();
    let unreadable = Err("Permission denied (os error 13)".to_owned());
    facts.gpus.cdi = CdiRegistry::load(vec![
        CdiFile { path: "/etc/cdi/a.yaml".into(), priority: 0, content: unreadable },
        CdiFile { path: "/etc/cdi/b.json".into(), priority: 0, content: Ok(b"{".into()) },
        CdiFile {
            path: "/etc/cdi/c.json".into(),
            priority: 0,
            content: Ok(file("nvidia.com/gpu", &["0"]).into_bytes()),
        },
    ]);
    let shown = lines(&judge(&facts));
    for line in [
        "ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/c.json",
        "warn CDI spec: the CDI file /etc/cdi/a.yaml is skipped: cannot read it: Permission denied (os error 13) | \
            sudo chmod a+rX /etc/cdi/a.yaml",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:#?}");
    }
    assert!(shown.iter().any(|line| line.starts_with("warn CDI spec: the CDI file /etc/cdi/b.json is skipped: ")));
}

#[test]
fn names_of_one_device_are_counted_once() {
    let node = |name: &str, nodes: &[&str]| {
        let nodes: Vec<_> = nodes.iter().map(|path| json!({"path": path})).collect();
        json!({"name": name, "containerEdits": {"deviceNodes": nodes}})
    };
    let gpus = [
        node("0", &["/dev/nvidia0"]),
        node("GPU-a", &["/dev/nvidia0"]),
        node("1", &["/dev/nvidia1"]),
        node("GPU-b", &["/dev/nvidia1"]),
        node("1:0", &["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap3"]),
        node("all", &["/dev/nvidia0", "/dev/nvidia1"]),
    ];
    for (devices, expected) in [(&gpus[..4], "2 devices"), (&gpus[..], "3 devices"), (&gpus[5..], "1 device")] {
        let text = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}).to_string();
        let mut facts = gpu();
        facts.gpus.cdi = cdi(&[("n.json", &text)]);
        let fact = DeviceFacts { kind: DeviceNodeKind::Char, major: 195, minor: 0, mode: 0o666 };
        let paths = ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap3"];
        facts.gpus.devices = paths.into_iter().map(|path| (path.to_owned(), fact)).collect();
        let shown = lines(&judge(&facts));
        let line = format!("ok CDI spec: nvidia.com/gpu, {expected}, /etc/cdi/n.json");
        assert!(shown.contains(&line), "{line} in {shown:#?}");
    }
}

#[test]
fn gpus_without_device_nodes() {
    for (count, nodes, expected) in [
        (
            2,
            &["nvidia0", "nvidiactl", "nvidia-uvm"][..],
            "warn device nodes: /dev/nvidia1 missing: 2 GPUs on the bus, and 1 with a device node | apt-get install \
             nvidia-modprobe | nvidia-modprobe -u -c 1",
        ),
        (
            3,
            &["nvidiactl", "nvidia-uvm", "nvidia1"],
            "warn device nodes: /dev/nvidia0 and /dev/nvidia2 missing: 3 GPUs on the bus, and 1 with a device node | \
                apt-get \
             install nvidia-modprobe | nvidia-modprobe -u -c 0 | nvidia-modprobe -u -c 2",
        ),
        (
            1,
            &["nvidia0"],
            "warn device nodes: /dev/nvidiactl and /dev/nvidia-uvm missing: CUDA will find no GPU | apt-get install \
             nvidia-modprobe | nvidia-modprobe -u -c 0",
        ),
        (
            2,
            &["nvidia0", "nvidia4", "nvidiactl", "nvidia-uvm"],
            "ok device nodes: 2 GPUs, /dev/nvidiactl, /dev/nvidia-uvm",
        ),
    ] {
        let mut facts = root();
        facts.gpus = gpu().gpus;
        (facts.gpus.count, facts.gpus.nodes) = (count, nodes.iter().map(|name| (*name).to_owned()).collect());
        let shown = lines(&judge(&facts));
        assert!(shown.iter().any(|line| line == expected), "{expected} in {shown:#?}");
    }
}

#[test]
fn gpus_of_other_kinds_of_machines() {
    let cases: [(Change, &[&str]); 6] = [
        (
            |f| f.gpus.wsl = Wsl::WithDriver,
            &[
                "ok NVIDIA driver: that of Windows, by WSL2 (/dev/dxg)",
                "warn for containers: no CDI specification was made yet: no container gets a GPU | sudo nvidia-ctk cdi \
                 generate --output=/etc/cdi/nvidia.yaml",
            ],
        ),
        (
            |f| {
                f.gpus.wsl = Wsl::WithDriver;
                f.gpus.cdi = cdi(&[("nvidia.yaml", &file("nvidia.com/gpu", &["all"]))]);
            },
            &["ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.yaml"],
        ),
        (
            |f| f.gpus.wsl = Wsl::WithoutDriver,
            &["warn NVIDIA driver: none for WSL2 (/dev/dxg): /usr/lib/wsl/lib/libcuda.so.1"],
        ),
        (
            |f| f.gpus.toolkit.jetson = true,
            &[
                "ok NVIDIA driver: that of a Jetson",
                "warn for containers: no CDI specification was made yet: no container",
            ],
        ),
        (
            |f| {
                f.gpus.toolkit.jetson = true;
                f.gpus.driver = Some("540.4.0".parse().unwrap());
                f.gpus.hook = Some(program("nvidia-container-runtime-hook", "1.17.0"));
            },
            &[
                "ok NVIDIA driver: 540.4.0, of a Jetson",
                "warn for containers: NVIDIA's hook does not work on a Jetson, whose GPU needs CSV files of the \
                    toolkit, and there is no CDI specification: no container gets a GPU; CDI needs no hook of \
                    NVIDIA's | sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            ],
        ),
        (
            |f| {
                f.gpus.toolkit.jetson = true;
                f.gpus.ctk = Some(program("nvidia-ctk", "1.20.0"));
                f.gpus.systemd = true;
            },
            &["warn for containers: no CDI specification was made yet: no container gets a GPU | sudo nvidia-ctk \
                    cdi generate"],
        ),
    ];
    for (change, expected) in cases {
        let mut facts = user();
        facts.gpus.ctk = Some(program("nvidia-ctk", "1.17.0"));
        change(&mut facts);
        let shown = lines(&judge(&facts));
        for expected in expected {
            assert!(shown.iter().any(|line| line.starts_with(expected)), "{expected} in {shown:#?}");
        }
        assert!(!shown.iter().any(|line| line.contains("device nodes")), "{shown:#?}");
    }
}

#[test]
fn images_and_the_driver() {
    const CUDA12: &[&str] = &["CUDA_VERSION=12.3.2", "CUDA_DRIVER_VERSION=545.23.08", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"];
    const COMPAT: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "LD_LIBRARY_PATH=/usr/local/cuda/compat/lib"];
    const FIRST: &[&str] = &["CUDA_VERSION=9.0"];
    /// As NVIDIA's CUDA images are, cut short.
    const OFFICIAL: &[&str] = &[
        "CUDA_VERSION=12.4.1",
        "NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=535,driver<536",
    ];
    const PACKAGE: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "NV_CUDA_COMPAT_PACKAGE=cuda-compat-12-3"];
    const NGC: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "_CUDA_COMPAT_PATH=/usr/local/cuda-12.3/compat"];
    const BACKWARD: &[&str] =
        &["CUDA_VERSION=12.3.2", "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "X=/usr/local/cuda-x/compatible"];
    for (env, driver, expected) in [
        (CUDA12, Some("545.23.08"), "ok CUDA: 12.3.2; driver 545.23.08 has CUDA 12.3"),
        (CUDA12, Some("999.1"), "ok CUDA: 12.3.2; driver 999.1 has CUDA 13.3 or newer"),
        // By minor version compatibility.
        (
            CUDA12,
            Some("535.54.03"),
            "warn CUDA: the image's CUDA 12.3 is newer than CUDA 12.2, the newest of driver 535.54.03; driver \
                545.23.08 has it; programs that need no new feature of CUDA 12 run",
        ),
        (
            CUDA12,
            Some("470.57.02"),
            "missing CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver 470.57.02; driver \
                545.23.08 \
             has it: install that, or",
        ),
        (COMPAT, Some("470.57.02"), "warn CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver"),
        (PACKAGE, Some("470.57.02"), "warn CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver"),
        (NGC, Some("470.57.02"), "warn CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver"),
        (
            BACKWARD,
            Some("470.57.02"),
            "missing CUDA: the image's CUDA 12.3 is newer than CUDA 11.4, the newest of driver",
        ),
        // What the image's own requirement allows.
        (
            OFFICIAL,
            Some("470.57.02"),
            "warn CUDA: the image's CUDA 12.4 is newer than CUDA 11.4, the newest of driver 470.57.02; driver 550.54 \
                has it; \
             the image allows this driver on GPUs of some brands",
        ),
        (OFFICIAL, Some("535.104.05"), "warn CUDA: the image's CUDA 12.4 is newer than CUDA 12.2"),
        (OFFICIAL, Some("525.60.13"), "missing CUDA: the image needs `cuda>=12.4` or other drivers"),
        // JetPack's drivers
        (
            &["CUDA_VERSION=12.6.0", "NVIDIA_REQUIRE_CUDA=cuda>=12.6"],
            Some("540.4.0"),
            "ok CUDA: 12.6.0; driver 540.4.0 has",
        ),
        (
            &["CUDA_VERSION=12.6.0", "NVIDIA_REQUIRE_CUDA=cuda>=12.6"],
            Some("35.3.1"),
            "missing CUDA: the image needs `cuda>=12.6` (NVIDIA_REQUIRE_CUDA), and driver 35.3.1 with CUDA 11.4 does \
                not meet this requirement (hint: install a newer JetPack;",
        ),
        // Turned off, which does not make the driver any newer.
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_DISABLE_REQUIRE=1"],
            Some("545.1"),
            "warn CUDA: the image needs `cuda>=99` (NVIDIA_REQUIRE_CUDA), and driver 545.1 with CUDA 12.3 does not \
                meet this requirement; the check is disabled: containers start, and CUDA fails in them",
        ),
        (CUDA12, None, "warn CUDA: 12.3.2, which driver 545.23 and newer have; this machine has no loaded driver"),
        (FIRST, Some("390.1"), "ok CUDA: 9.0; driver 390.1 has CUDA 9.1"),
        (FIRST, Some("304.1"), "ok CUDA: 9.0; driver 304.1 is older than all known versions"),
        // What `run` would refuse.
        (
            &["CUDA_VERSION=13.0.2"],
            Some("575.1"),
            "missing CUDA: the image needs `cuda>=13.0` (CUDA_VERSION), and driver 575.1 with CUDA 12.9 does not meet \
                this requirement (hint: install driver 580.65 or newer; --env NVIDIA_DISABLE_REQUIRE=1 disables the \
                check)",
        ),
        (
            &["NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471"],
            Some("525.60.13"),
            "missing CUDA: the image needs `cuda>=12.4` or other drivers (NVIDIA_REQUIRE_CUDA), and driver 525.60.13",
        ),
        (&["NVIDIA_REQUIRE_CUDA=nonsense"], Some("545.1"), "missing CUDA: the image's NVIDIA_REQUIRE_CUDA has"),
        (&["NVIDIA_REQUIRE_CUDA=nonsense"], None, "warn CUDA: the image's NVIDIA_REQUIRE_CUDA has"),
    ] {
        let driver: Option<DriverVersion> = driver.map(|text| text.parse().unwrap());
        let shown = lines(&judge_image(&image(("linux", "amd64"), env, 1000), &user(), driver.as_ref()));
        assert_eq!(shown[0], "ok architecture: linux/amd64");
        assert_eq!(shown[1], "ok space: 1.0 kB packed, about 2.5 kB unpacked; 500.0 GB free");
        assert!(shown[2].starts_with(expected) && shown.len() == 3, "{expected} in {shown:#?}");
    }
    let without = lines(&judge_image(&image(("linux", "amd64"), &["PATH=/bin"], 1000), &user(), None));
    assert_eq!(without.len(), 2, "{without:?}");
    // The driver that is loaded counts where none is given.
    let shown = lines(&judge_image(&image(("linux", "amd64"), CUDA12, 1), &gpu(), None));
    assert!(shown[2].starts_with("ok CUDA"), "{shown:?}");
    let found = lines(&judge_image(&image(("linux", "amd64"), &["CUDA_VERSION=12.3.2.001"], 1), &gpu(), None));
    assert!(found[3].starts_with("warn cuda-version: CUDA_VERSION is 12.3.2.001, with four parts"), "{found:?}");
    // The libraries for an older driver may be known by the step that brought them alone.
    for (step, expected) in [
        ("RUN apt-get install -y cuda-compat-12-3", "warn CUDA: the image's CUDA 12.3 is newer"),
        ("ENV LD=/usr/local/cuda/compat", "warn CUDA: the image's CUDA 12.3 is newer"),
        ("RUN apt-get install -y cuda-cudart-12-3", "missing CUDA: the image's CUDA 12.3 is newer"),
    ] {
        let image = made_by(step, ("linux", "amd64"), CUDA12, 1);
        let shown = lines(&judge_image(&image, &user(), "470.57.02".parse().ok().as_ref()));
        assert!(shown[2].starts_with(expected), "{expected} in {shown:?}");
    }
    // The toolkit's config turns it off for every image.
    let mut facts = gpu();
    facts.gpus.toolkit.disables_require = true;
    let shown = lines(&judge_image(&image(("linux", "amd64"), &["NVIDIA_REQUIRE_CUDA=cuda>=99"], 1), &facts, None));
    assert!(shown[2].starts_with("warn CUDA: the image needs `cuda>=99`"), "{shown:?}");
}
