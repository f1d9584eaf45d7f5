//! GPUs on hosts that are made up of directories: what `doctor` says of them, and what `run` says in place of a runtime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Layered, OCIFORGE, Packing, Place, Ran, Tar, is_root, run, tool};

/// A host with NVIDIA's GPUs: directories that are mounted over the machine's. Only root can make one.
struct Host {
    place: Place,
}

impl Host {
    /// One whose driver, device nodes, CDI file and hook all fit, for root.
    fn new(driver: &str, gpus: usize) -> Self {
        let place = Place::new();
        tool("cp", &["-a", "/etc", &place.at("etc")]);
        for directory in ["pci", "proc/nvidia", "etc/cdi", "run-cdi", "tools", "lib"] {
            fs::create_dir_all(place.path(directory)).unwrap();
        }
        fs::create_dir(place.path("dev")).unwrap();
        let nodes = ["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("/dev/{name}"));
        let call: Vec<&str> = ["-a"].into_iter().chain(nodes.iter().map(String::as_str)).collect();
        tool("cp", &[&call[..], &[&place.at("dev")]].concat());
        let host = Self { place };
        host.place
            .write("proc/nvidia/version", format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Sat\n"));
        for gpu in 0..gpus {
            host.place.write(&format!("pci/0000:0{gpu}:00.0/vendor"), "0x10de\n");
            host.place.write(&format!("pci/0000:0{gpu}:00.0/class"), "0x030200\n");
            host.node(&format!("nvidia{gpu}"));
        }
        ["nvidiactl", "nvidia-uvm"].into_iter().for_each(|name| host.node(name));
        host
    }

    fn node(&self, name: &str) {
        tool("cp", &["-a", "/dev/null", &self.place.at(&format!("dev/{name}"))]);
    }

    /// Puts a program on the host that does this.
    fn program(&self, name: &str, script: &str) -> String {
        let file = self.place.write_program(&format!("tools/{name}"), format!("#!/bin/sh\n{script}\n"));
        file.to_str().unwrap().to_owned()
    }

    /// Writes a CDI file for that driver, as NVIDIA's toolkit does: with libraries that are in `lib/`, and a hook.
    fn specify(&self, driver: &str, gpus: usize) {
        let hook = self.program("nvidia-cdi-hook", "cat > /dev/null");
        let node = |number: usize| json!({"path": format!("/dev/nvidia{number}"), "hostPath": "/dev/null"});
        let named = |name: String, nodes: Vec<Value>| json!({"name": name, "containerEdits": {"deviceNodes": nodes}});
        let mut devices: Vec<_> = (0..gpus).map(|number| named(number.to_string(), vec![node(number)])).collect();
        devices.push(named("all".into(), (0..gpus).map(node).collect()));
        let library = |name: &str| {
            let path = self.place.write(&format!("lib/{name}.so.{driver}"), "");
            json!({"hostPath": path, "containerPath": format!("/lib/{name}.so.{driver}"), "options": ["ro", "rbind"]})
        };
        let document = json!({
            "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices,
            "containerEdits": {
                "mounts": [library("libcuda"), library("libnvidia-ml")],
                "hooks": [{"hookName": "createContainer", "path": hook, "args": ["nvidia-cdi-hook", "update-ldcache"]}],
            },
        });
        self.place.write("etc/cdi/nvidia.yaml", document.to_string());
    }

    fn config(&self, text: &str) {
        self.place.write("etc/nvidia-container-runtime/config.toml", text);
    }

    /// A command on this host.
    fn command(&self, words: &[&str]) -> Command {
        let at = |name: &str| self.place.at(name);
        let script = format!(
            "mount --bind {} /etc && mount --bind {} /sys/bus/pci/devices && mount --bind {} /proc/driver && \
             mount -t tmpfs none /run && mkdir /run/cdi && mount --bind {} /run/cdi && \
             mkdir -p {nested}/shm {nested}/pts {nested}/mqueue && mount --rbind /dev/pts {nested}/pts && \
             ln -sf pts/ptmx {nested}/ptmx && mount --rbind {nested} /dev && exec \"$@\"",
            at("etc"),
            at("pci"),
            at("proc"),
            at("run-cdi"),
            nested = at("dev"),
        );
        let mut command = self.place.wrapped("unshare", ["--mount", "sh", "-ec", &script, "sh", OCIFORGE]);
        let path = format!("{}:{}", at("tools"), std::env::var("PATH").unwrap());
        command.args(words).env("PATH", path).env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// `STATUS NAME: FOUND` and the commands, of what `doctor` says about GPUs.
    fn diagnosis(&self) -> Vec<String> {
        let ran = run(&mut self.command(&["doctor", "--format", "json"]));
        let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr));
        let checks = json["checks"].as_array().unwrap().iter().filter(|check| check["section"] == "gpus");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let line = |check: &Value| {
            let mend: String =
                check["mend"].as_array().unwrap().iter().map(|step| format!(" | {}", text(step))).collect();
            format!("{} {}: {}{mend}", text(&check["status"]), text(&check["name"]), text(&check["found"]))
        };
        checks.map(line).collect()
    }

    /// A container of an image with NVIDIA's variables, started with these flags.
    fn run(&self, flags: &[&str]) -> Ran {
        let shows = "#!/bin/sh\nls -d /dev/nvidia* /lib/* 2>/dev/null | tr '\\n' ' '; echo $NVIDIA_VISIBLE_DEVICES\n";
        let layer = Tar::new().file("bin/show", shows).mode(0o755);
        let config = json!({"Cmd": ["/bin/show"], "Env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"]});
        let image = Layered::busybox().layer(Packing::Gzip, layer).config(config).write(&self.place, "image");
        run(&mut self.command(&[&["run", "--rm", "--progress", "none"], flags, &[&image]].concat()))
    }
}

#[track_caller]
fn says(lines: &[String], parts: &[&str]) {
    let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line with {parts:?} in {lines:#?}");
}

#[test]
fn where_all_fits_gpus_get_in() {
    if !is_root() {
        return;
    }
    let host = Host::new("550.54.15", 2);
    host.specify("550.54.15", 2);
    let lines = host.diagnosis();
    says(&lines, &["ok NVIDIA driver: 550.54.15, 2 GPUs"]);
    says(&lines, &["ok device nodes: 2 GPUs"]);
    says(&lines, &["ok CDI spec: nvidia.com/gpu, 2 devices, /etc/cdi/nvidia.yaml"]);
    assert!(lines.iter().all(|line| line.starts_with("ok ")), "{lines:#?}");
    let shown = host.run(&["--gpus", "all"]).ok();
    assert_eq!(shown, "/dev/nvidia0 /dev/nvidia1 /lib/libcuda.so.550.54.15 /lib/libnvidia-ml.so.550.54.15 void\n");
}

#[test]
fn a_cdi_file_of_an_older_driver_is_told() {
    if !is_root() {
        return;
    }
    let host = Host::new("560.35.03", 1);
    host.specify("550.54.15", 1);
    host.program("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.20.0'");
    fs::remove_dir_all(host.place.path("lib")).unwrap();
    let reason = "libcuda.so.550.54.15 is not there, and neither is ";
    let drivers = "it is for driver 550.54.15, and 560.35.03 is loaded";
    let lines = host.diagnosis();
    says(&lines, &["warn CDI spec: ", "/etc/cdi/nvidia.yaml does not fit", reason, drivers, "rm /etc/cdi/nvidia.yaml"]);
    says(&lines, &["warn CDI spec: ", "nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml"]);
    says(&lines, &["warn for containers: the CDI specification does not fit, and NVIDIA's hook is not installed"]);
    // In place of "no such file or directory".
    let said = host.run(&["--gpus", "all"]).fails(125, &[reason, drivers, "nvidia-cdi-refresh.service"]);
    assert!(!said.contains("runc"), "{said}");
    // The hook does it as well.
    host.program(
        "nvidia-container-runtime-hook",
        &format!("test \"$1\" != prestart || cat > {}", host.place.at("called")),
    );
    host.program("nvidia-container-cli", "");
    says(&host.diagnosis(), &["ok for containers: NVIDIA's hook; the CDI specification does not fit"]);
    let ran = host.run(&["--gpus", "all"]);
    assert!(ran.stderr.contains("NVIDIA's hook is used because CDI cannot serve the request: "), "{}", ran.stderr);
    assert_eq!(ran.ok(), "all\n");
    assert!(host.place.path("called").exists());
}

#[test]
fn what_is_missing_of_what_a_cdi_file_names_is_told() {
    if !is_root() {
        return;
    }
    let host = Host::new("550.54.15", 1);
    host.specify("550.54.15", 1);
    fs::remove_file(host.place.path("tools/nvidia-cdi-hook")).unwrap();
    let reason = "tools/nvidia-cdi-hook is not there";
    says(&host.diagnosis(), &["warn CDI spec: ", "the hook ", reason, "no container gets a GPU by it"]);
    host.run(&["--gpus", "all"]).fails(125, &[reason, "nvidia-ctk cdi generate"]);
    host.place.write("tools/nvidia-cdi-hook", "");
    says(&host.diagnosis(), &["warn CDI spec: ", "tools/nvidia-cdi-hook can't be executed"]);
    // A node that is only named, and not there.
    host.specify("550.54.15", 1);
    let text = fs::read_to_string(host.place.path("etc/cdi/nvidia.yaml")).unwrap();
    host.place
        .write("etc/cdi/nvidia.yaml", text.replace("\"hostPath\":\"/dev/null\"", "\"hostPath\":\"/dev/nvidia7\""));
    says(&host.diagnosis(), &["warn CDI spec: ", "the device node /dev/nvidia7 is not there"]);
    host.run(&["--gpus", "all"]).fails(125, &["/dev/nvidia7", "is not there", "nvidia-cdi-refresh.service"]);
}

#[test]
fn a_hook_that_gives_no_gpus_is_told() {
    if !is_root() {
        return;
    }
    let host = Host::new("550.54.15", 1);
    host.program(
        "nvidia-container-runtime-hook",
        &format!("test \"$1\" != prestart || cat > {}", host.place.at("called")),
    );
    host.program("nvidia-container-cli", "");
    says(&host.diagnosis(), &["ok for containers: NVIDIA's hook; there is no CDI specification"]);
    for (config, reason) in [
        ("[nvidia-container-runtime]\nmode = \"cdi\"\n", "mode = \"cdi\""),
        ("[nvidia-container-runtime]\nmode = \"jit-cdi\"\n", "mode = \"jit-cdi\""),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged = false\n", "envvar-when-unprivileged = false"),
        ("not toml [", "cannot read /etc/nvidia-container-runtime/config.toml"),
    ] {
        host.config(config);
        says(
            &host.diagnosis(),
            &["warn for containers: ", reason, "no container gets a GPU", "nvidia-ctk cdi generate"],
        );
        for flags in [&["--gpus", "all"][..], &["--nvidia", "hook"]] {
            host.run(flags).fails(125, &[reason, "hint: "]);
            assert!(!host.place.path("called").exists(), "{config}");
        }
    }
    host.config("disable-require = true\n");
    says(&host.diagnosis(), &["warn toolkit config: disable-require = true", "--set disable-require=false"]);
    let needs = ["--gpus", "all", "-e", "NVIDIA_REQUIRE_CUDA=cuda>=99"];
    let ran = host.run(&needs);
    assert!(ran.code == Some(0) && ran.stderr.contains("has disable-require = true"), "{}", ran.stderr);
    host.config("");
    host.run(&needs).fails(125, &["the image needs `cuda>=99`"]);
    // A Jetson, and a hook that lacks its program.
    host.place
        .write("proc/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release\n");
    host.place.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.0\n");
    says(&host.diagnosis(), &["ok NVIDIA driver: 540.4.0, of a Jetson"]);
    says(
        &host.diagnosis(),
        &["warn for containers: NVIDIA's hook does not work on a Jetson", "nvidia-ctk cdi generate"],
    );
    host.run(&["--gpus", "all"]).fails(125, &["on a Jetson", "nvidia-ctk cdi generate"]);
    fs::remove_file(host.place.path("etc/nv_tegra_release")).unwrap();
    fs::remove_file(host.place.path("tools/nvidia-container-cli")).unwrap();
    says(&host.diagnosis(), &["warn for containers: NVIDIA's hook finds no nvidia-container-cli"]);
    host.program(
        "nvidia-container-runtime-hook",
        "echo 'exec: \"nvidia-container-cli\": executable file not found in $PATH' >&2; exit 1",
    );
    let ran = host.run(&["--gpus", "all"]);
    assert!(ran.stderr.contains("NVIDIA's hook finds no nvidia-container-cli; install"), "{}", ran.stderr);
    let said =
        ran.fails(125, &["\"nvidia-container-cli\": executable file not found", "a hook for the container's devices"]);
    assert!(!said.contains("the image has no such command"), "{said}");
}

#[test]
fn gpus_on_the_bus_and_in_windows() {
    if !is_root() {
        return;
    }
    let host = Host::new("550.54.15", 3);
    fs::remove_file(host.place.path("dev/nvidia1")).unwrap();
    says(&host.diagnosis(), &["warn device nodes: /dev/nvidia1 missing: 3 GPUs on the bus, and 2 with a device node"]);
    // WSL2 has neither a bus nor nodes nor a driver of Linux's.
    for path in ["pci", "proc/nvidia"] {
        fs::remove_dir_all(host.place.path(path)).unwrap();
    }
    fs::create_dir(host.place.path("pci")).unwrap();
    for name in ["nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"] {
        fs::remove_file(host.place.path(format!("dev/{name}"))).unwrap();
    }
    says(&host.diagnosis(), &["ok NVIDIA driver: none, and no NVIDIA GPU either"]);
    host.node("dxg");
    says(&host.diagnosis(), &["warn NVIDIA driver: none for WSL2 (/dev/dxg): /usr/lib/wsl/lib/libcuda.so.1"]);
    says(&host.diagnosis(), &["warn for containers: neither a CDI specification nor NVIDIA's hook"]);
}

#[test]
fn cdi_files_that_only_root_reads_are_told() {
    if !is_root() {
        return;
    }
    let host = Host::new("550.54.15", 1);
    host.specify("550.54.15", 1);
    let file = host.place.path("etc/cdi/nvidia.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    says(&host.diagnosis(), &["warn CDI spec: ", "which only root can read", "chmod a+rX /etc/cdi/nvidia.yaml"]);
    // One that makes no sense takes no other away.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    host.place.write("etc/cdi/bad.json", "{");
    let lines = host.diagnosis();
    says(&lines, &["ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.yaml"]);
    says(&lines, &["warn CDI spec: the CDI file /etc/cdi/bad.json is skipped: "]);
    let ran = host.run(&["--gpus", "1"]);
    assert!(ran.stderr.contains("/etc/cdi/bad.json is skipped"), "{}", ran.stderr);
    assert!(ran.ok().starts_with("/dev/nvidia0 "));
}
