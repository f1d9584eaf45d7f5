//! Machines with GPUs: drivers, device nodes, hooks and toolkits.

use ociforge_manifests::runtime::Toolkit;

use super::*;

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
