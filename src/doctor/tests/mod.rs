//! Machines that are made up, and what is said of them.

mod gpus;
mod programs;
mod system;

use std::path::PathBuf;

use ociforge_manifests::runtime::cdi::{CdiFile, CdiRegistry};
use ociforge_manifests::{Document, Image};
use ociforge_sandbox::probe::{NamespaceProbe, ProbeResult};
use ociforge_sandbox::step_probe::{ProbedIsolation, StepProbe};
use ociforge_sandbox::{Confinement, IdMapping, Limits};
use serde_json::json;

use super::facts::*;
use super::*;
use crate::run::runtime::{CgroupFeatures, Description, Features, LinuxFeatures, Runtime, RuntimeKind, Switch};

const WORKED: NamespaceProbe = NamespaceProbe {
    namespace: ProbeResult::Worked,
    mapping: ProbeResult::Worked,
    mount: ProbeResult::Worked,
    overlay: ProbeResult::Worked,
};

fn program(name: &str, version: &str) -> Program {
    Program { name: name.into(), path: format!("/usr/bin/{name}").into(), version: Ok(version.into()) }
}

const GIVEN: Allotment = Allotment { given: 65536, here: 65536 };

fn runtime(name: &str, kind: RuntimeKind, description: Result<&str, &str>) -> OciRuntime {
    let described = |version: &str| Description { version: version.into(), spec: None, features: None };
    OciRuntime {
        runtime: Runtime { program: format!("/usr/bin/{name}").into(), kind },
        description: description.map(described).map_err(str::to_owned),
    }
}

/// A runtime that says what it can do: all but what is taken away.
fn able(name: &str, kind: RuntimeKind, without: fn(&mut Features)) -> OciRuntime {
    let on = || Switch { enabled: true };
    let cgroup = CgroupFeatures { v1: true, v2: true, ..CgroupFeatures::default() };
    let linux = LinuxFeatures { cgroup, seccomp: on(), apparmor: on() };
    let mut features = Features { hooks: vec!["prestart".into()], linux, ..Features::default() };
    without(&mut features);
    let description = Description { version: "1.2".into(), spec: None, features: Some(features) };
    OciRuntime { description: Ok(description), ..runtime(name, kind, Ok("")) }
}

/// An ordinary user on a machine where all is well.
fn user() -> MachineFacts {
    let path = PathBuf::from("/home/al/.local/share/ociforge");
    MachineFacts {
        machine: Machine {
            uid: 1000,
            user: Some("al".into()),
            kernel: Kernel::of("6.1.0-18-amd64"),
            architecture: "x86_64".into(),
            ..Machine::default()
        },
        limits: Limits { max_user_namespaces: Some(15000), ..Limits::default() },
        user_namespace: WORKED,
        as_root: NamespaceProbe::default(),
        steps: StepProbe {
            entered: Some(ProbedIsolation {
                ids: IdMapping::Ranges,
                confinement: Confinement::Namespaces,
                text: "a user namespace with 65537 ids".into(),
                warning: None,
            }),
            refusal: None,
            network: ProbeResult::Worked,
            processes: ProbeResult::Worked,
            proc: ProbeResult::Worked,
            listener: ProbeResult::Worked,
        },
        ids: facts::SubordinateIds {
            users: GIVEN,
            groups: GIVEN,
            free: 165_536,
            newuidmap: Mapper::Able,
            newgidmap: Mapper::Able,
        },
        overlay: OverlaySupport { known: true, fuse: true },
        cgroups: Cgroups {
            hierarchy: Hierarchy::V2,
            controllers: ["cpu", "cpuset", "io", "memory", "pids"].map(str::to_owned).into(),
            split: false,
        },
        programs: Programs {
            runtimes: vec![runtime("runc", RuntimeKind::Runc, Ok("1.1.5"))],
            fuse_overlayfs: Some(program("fuse-overlayfs", "1.10")),
            uv: Some(program("uv", "0.8.0")),
            seccomp_profile: Some("/usr/share/containers/seccomp.json".into()),
            seccomp: true,
        },
        gpus: Gpus::default(),
        store: StoreFacts {
            existing: Some(path.clone()),
            path,
            writable: true,
            free: 500_000_000_000,
            filesystem: Some("ext4".into()),
        },
        credentials: Vec::new(),
    }
}

fn root() -> MachineFacts {
    let mut facts = user();
    facts.machine.uid = 0;
    facts.machine.user = Some("root".into());
    facts.as_root = NamespaceProbe { mapping: ProbeResult::Not, ..WORKED };
    facts
}

/// A user of a machine with a GPU that containers get.
fn gpu() -> MachineFacts {
    let mut facts = user();
    facts.gpus = Gpus {
        count: 1,
        driver: Some("545.23.08".parse().unwrap()),
        nodes: ["nvidia-uvm", "nvidia0", "nvidiactl"].map(str::to_owned).into(),
        ctk: Some(program("nvidia-ctk", "1.17.0")),
        hook: Some(program("nvidia-container-runtime-hook", "1.17.0")),
        cdi_hook: None,
        cdi: cdi(&[("nvidia.json", &file("nvidia.com/gpu", &["0", "all"]))]),
        ..Gpus::default()
    };
    facts
}

/// The text of a CDI file.
fn file(kind: &str, devices: &[&str]) -> String {
    let device = |name: &&str| json!({"name": name, "containerEdits": {"env": ["A=b"]}});
    json!({"cdiVersion": "0.5.0", "kind": kind, "devices": devices.iter().map(device).collect::<Vec<_>>()}).to_string()
}

/// What these files of `/etc/cdi` describe.
fn cdi(files: &[(&str, &str)]) -> CdiRegistry {
    let file = |(name, text): &(&str, &str)| {
        let content = Ok(text.as_bytes().to_vec());
        CdiFile { path: format!("/etc/cdi/{name}"), priority: 0, content }
    };
    CdiRegistry::load(files.iter().map(file).collect())
}

fn refused_at(step: usize, number: i32) -> NamespaceProbe {
    let at = |place: usize| match place {
        place if place < step => ProbeResult::Worked,
        place if place == step => ProbeResult::Refused(number),
        _ => ProbeResult::Not,
    };
    NamespaceProbe { namespace: at(0), mapping: at(1), mount: at(2), overlay: at(3) }
}

/// `STATUS NAME: FOUND`, with the commands behind it.
fn lines(checks: &[CheckResult]) -> Vec<String> {
    let line = |check: &CheckResult| {
        let mend: String = check.mend.iter().map(|command| format!(" | {command}")).collect();
        format!("{} {}: {}{mend}", json!(check.status).as_str().unwrap(), check.name, check.found)
    };
    checks.iter().map(line).collect()
}

/// What holds for every check, whatever the machine is like.
fn sound(checks: &[CheckResult]) {
    for check in checks {
        assert!(!check.found.is_empty() && check.name.len() < 17 || check.name.contains('-'), "{check:?}");
        assert!(check.status != CheckStatus::Ok || check.mend.is_empty(), "{check:?}");
        for line in check.mend.iter().flat_map(|command| command.lines()) {
            assert!(line.len() <= 69, "too long for 80 columns: {line}");
        }
    }
    let mut sections: Vec<_> = checks.iter().map(|check| check.section.title()).collect();
    sections.dedup();
    let order = ["System", "Programs", "GPUs", "Files"];
    assert_eq!(sections, order);
    // Paths and the names of options are not broken.
    let whole = ["/home/", "accept-nvidia-visible-devices"];
    for line in table(checks, false).lines().filter(|line| !whole.iter().any(|word| line.contains(word))) {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line}");
    }
}

type Change = fn(&mut MachineFacts);

/// Changes something on a machine where all is well, and expects one line to become another.
fn changed(facts: fn() -> MachineFacts, change: Change, expected: &str) {
    let before = lines(&judge(&facts()));
    let mut facts = facts();
    change(&mut facts);
    let checks = judge(&facts);
    sound(&checks);
    let after: Vec<_> = lines(&checks).into_iter().filter(|line| !before.contains(line)).collect();
    let found = after.iter().any(|line| line.starts_with(expected));
    assert!(found, "no {expected:?} among\n{after:#?}");
    // Nothing else gets worse.
    let others = after.iter().filter(|line| !line.starts_with(expected) && !line.starts_with("ok "));
    assert_eq!(others.collect::<Vec<_>>(), [] as [&String; 0], "{expected}");
}

fn image(platform: (&str, &str), env: &[&str], size: u64) -> Image {
    made_by("COPY", platform, env, size)
}

/// An image whose layer that step made.
fn made_by(step: &str, platform: (&str, &str), env: &[&str], size: u64) -> Image {
    let digest = ociforge_manifests::Digest::of(b"x");
    let config = json!({
        "os": platform.0, "architecture": platform.1, "config": {"Env": env},
        "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": [{"created_by": step}],
    });
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [layer],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 1},
    });
    Image::new(Document::from_json(manifest).unwrap(), Document::from_json(config).unwrap()).unwrap()
}
