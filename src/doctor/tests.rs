//! Machines that are made up, and what is said of them.

use std::path::PathBuf;

use ociforge_manifests::runtime::cdi::{CdiFile, CdiRegistry};
use ociforge_manifests::{Document, Image};
use serde_json::json;

use super::facts::*;
use super::*;
use crate::run::runtime::{CgroupFeatures, Description, Features, LinuxFeatures, Runtime, RuntimeKind, Switch};
use ociforge_sandbox::probe::{NamespaceProbe, ProbeResult};
use ociforge_sandbox::step_probe::{ProbedIsolation, StepProbe};
use ociforge_sandbox::{Confinement, IdMapping, Limits};

mod gpus;

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

#[test]
fn where_all_is_well_nothing_is_to_be_done() {
    for facts in [user(), root(), gpu()] {
        let checks = judge(&facts);
        sound(&checks);
        let bad: Vec<_> = checks.iter().filter(|check| check.status != CheckStatus::Ok).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
    let shown = lines(&judge(&gpu()));
    for line in [
        "ok kernel: 6.1.0-18-amd64 on x86_64",
        "ok runc: 1.1.5, /usr/bin/runc",
        "ok NVIDIA driver: 545.23.08, 1 GPU",
        "ok device nodes: 1 GPU, /dev/nvidiactl, /dev/nvidia-uvm",
        "ok CDI spec: nvidia.com/gpu, 1 device, /etc/cdi/nvidia.json",
        "ok store: /home/al/.local/share/ociforge: 500.0 GB free on ext4",
        "ok credentials: none; public images need none",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:#?}");
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

#[test]
fn the_kernel() {
    let cases: [(Change, &str); 4] = [
        (
            |f| f.machine.kernel = Kernel::of("5.10.0"),
            "warn kernel: 5.10.0 has no overlays in user namespaces: 5.11 or newer has | sudo apt-get dist-upgrade",
        ),
        (
            |f| f.machine.kernel = Kernel::of("4.9"),
            "warn kernel: 4.9 has no fuse-overlayfs in user namespaces, the freezer of cgroup v2 and overlays in",
        ),
        (|f| f.machine.kernel = Kernel::of("weird"), "warn kernel: weird has no"),
        (
            |f| {
                f.machine.kernel = Kernel::of("5.10.0");
                f.machine.distribution = LinuxDistribution::Fedora;
            },
            "warn kernel: 5.10.0 has no overlays in user namespaces: 5.11 or newer has | sudo dnf upgrade kernel",
        ),
    ];
    for (change, expected) in cases {
        changed(user, change, expected);
    }
}

#[test]
fn user_namespaces() {
    let cases: [(Change, &str); 9] = [
        (
            |f| f.limits.max_user_namespaces = Some(0),
            "missing user namespaces: user.max_user_namespaces is 0; without them only root can run containers | sudo \
             sysctl -w user.max_user_namespaces=15000",
        ),
        (
            |f| f.limits.unprivileged_userns_clone = Some(0),
            "missing user namespaces: kernel.unprivileged_userns_clone is 0: only root may make user namespaces; \
                without \
             them only root can run containers | sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            |f| f.limits.apparmor_restrict_unprivileged_userns = Some(1),
            "missing user namespaces: kernel.apparmor_restrict_unprivileged_userns is set: AppArmor takes away all \
                rights in \
             them; without them only root can run containers | sudo sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            |f| f.limits.seccomp = true,
            "missing user namespaces: a seccomp filter is in force, as in a container: start the container around \
                this with \
             `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`",
        ),
        (
            |f| f.user_namespace = refused_at(0, 28),
            "missing user namespaces: the limit user.max_user_namespaces is reached",
        ),
        (
            |f| f.user_namespace = refused_at(0, 1),
            "missing user namespaces: the kernel forbids them here, as in a \
            chroot",
        ),
        (
            |f| f.user_namespace = refused_at(0, 22),
            "missing user namespaces: the kernel refuses them: Invalid argument;",
        ),
        (
            |f| f.user_namespace = refused_at(2, 13),
            "missing user namespaces: the kernel refuses them: Permission denied;",
        ),
        (|f| f.user_namespace = NamespaceProbe::default(), "missing user namespaces: they could not be tried;"),
    ];
    for (place, (change, expected)) in cases.into_iter().enumerate() {
        let mut facts = user();
        facts.user_namespace = if place == 2 { refused_at(2, 13) } else { refused_at(0, 1) };
        change(&mut facts);
        let checks = judge(&facts);
        sound(&checks);
        let shown = lines(&checks);
        assert!(shown[1].starts_with(expected), "{expected:?} is not {:?}", shown[1]);
        assert!(shown.contains(&"warn overlay: there is no user namespace to mount it in".to_owned()), "{shown:?}");
    }
    // Settings that forbid nothing are not blamed.
    for change in [
        |f: &mut MachineFacts| f.limits.apparmor_restrict_unprivileged_userns = Some(1),
        |f: &mut MachineFacts| f.limits.seccomp = true,
    ] {
        let mut facts = user();
        change(&mut facts);
        assert_eq!(lines(&judge(&facts)), lines(&judge(&user())));
    }
    let mut facts = root();
    facts.user_namespace = refused_at(0, 28);
    facts.limits.max_user_namespaces = Some(0);
    let shown = &lines(&judge(&facts))[1];
    assert!(
        shown.starts_with("warn user namespaces: user.max_user_namespaces is 0; containers work for root"),
        "{shown}"
    );
    assert!(shown.ends_with(" | sysctl -w user.max_user_namespaces=15000"), "{shown}");
}

#[test]
fn subordinate_ids() {
    let cases: [(Change, &str); 10] = [
        (
            |f| (f.ids.users, f.ids.groups) = Default::default(),
            "warn subordinate ids: /etc/subuid and /etc/subgid have none for al: containers have one user, and all \
                files belong to it | sudo usermod --add-subuids 165536-231071 \\\n  --add-subgids 165536-231071 al",
        ),
        (|f| f.ids.users = Allotment::default(), "warn subordinate ids: /etc/subuid has none for al"),
        (|f| f.ids.groups = Allotment::default(), "warn subordinate ids: /etc/subgid has none for al"),
        (
            |f| f.ids.users = Allotment { given: 1000, here: 1000 },
            "warn subordinate ids: 1000 users and 65536 groups for al, of which images need 65536",
        ),
        (
            |f| f.ids.groups.here = 50,
            "warn subordinate ids: of the ids of al, this user namespace has 65536 users and 50 groups, and images \
                need 65536",
        ),
        (
            |f| f.ids.newuidmap = Mapper::Absent,
            "warn newuidmap: newuidmap is not installed: subordinate ids can't be mapped | sudo apt-get install uidmap",
        ),
        (
            |f| {
                (f.ids.newuidmap, f.ids.newgidmap) = (Mapper::Absent, Mapper::Absent);
                f.machine.distribution = LinuxDistribution::Fedora;
            },
            "warn newuidmap: newuidmap and newgidmap are not installed: subordinate ids can't be mapped | sudo dnf \
                install \
             shadow-utils",
        ),
        (
            |f| f.ids.newgidmap = Mapper::Powerless,
            "warn newuidmap: newgidmap is neither setuid root nor given capabilities: no ids can be mapped | sudo \
                chmod \
             u+s /usr/bin/newgidmap",
        ),
        (|f| f.limits.no_new_privileges = true, "warn newuidmap: no_new_privs is in force"),
        (
            |f| {
                (f.ids.users, f.ids.groups, f.machine.user) = Default::default();
            },
            "warn subordinate ids: /etc/subuid and /etc/subgid have none for 1000: containers have one user, and all \
                files belong to it | echo 1000:165536:65536 |",
        ),
    ];
    for (change, expected) in cases {
        changed(user, change, expected);
        // Root needs none of it.
        let mut facts = root();
        change(&mut facts);
        assert!(judge(&facts).iter().all(|check| check.status == CheckStatus::Ok));
    }
}

#[test]
fn overlays() {
    let refused = "refused in a user namespace, on ext4: Invalid argument";
    let copied = "`run` copies the whole image for each container, which takes time and space";
    let cases: [(Change, String); 4] = [
        (|_| {}, format!("warn overlay: {refused}; fuse-overlayfs takes its place, and is slower")),
        (
            |f| f.programs.fuse_overlayfs = None,
            format!(
                "warn overlay: {refused}, and fuse-overlayfs, which could take its place, is not installed: {copied} \
                    | sudo \
                 apt-get install fuse-overlayfs"
            ),
        ),
        (
            |f| f.overlay.fuse = false,
            format!(
                "warn overlay: {refused}, and fuse-overlayfs can't open /dev/fuse: {copied} | sudo modprobe fuse && \
                    sudo \
                 chmod 0666 /dev/fuse"
            ),
        ),
        (|f| f.store.filesystem = None, "warn overlay: refused in a user namespace, on the store's filesystem".into()),
    ];
    for (change, expected) in cases {
        let mut facts = user();
        facts.user_namespace = refused_at(3, 22);
        change(&mut facts);
        let shown = lines(&judge(&facts));
        assert!(shown.iter().any(|line| line.starts_with(&expected)), "{expected} in {shown:#?}");
    }
    let cases: [(Change, &str); 6] = [
        (
            |f| f.as_root = refused_at(3, 22),
            "warn overlay: refused by root, on ext4: Invalid argument (a store on ext4 or xfs, --store DIR, may do); \
             fuse-overlayfs takes its place",
        ),
        (
            |f| {
                f.as_root = refused_at(3, 19);
                f.overlay = OverlaySupport::default();
            },
            "warn overlay: refused by root, on ext4: No such device (a store on ext4 or xfs, --store DIR, may do), and \
             fuse-overlayfs can't open /dev/fuse: `run` copies the whole image for each container, which takes time and \
             space | modprobe fuse && chmod 0666 /dev/fuse | modprobe overlay",
        ),
        (
            |f| f.as_root = refused_at(0, 1),
            "warn overlay: root may not mount anything here, as in a container, but in a",
        ),
        (
            |f| {
                f.as_root = refused_at(0, 1);
                f.user_namespace.overlay = ProbeResult::Refused(1);
            },
            "warn overlay: root may not mount anything here, as in a container, and no overlay in a user namespace; \
             fuse-overlayfs takes its place",
        ),
        (
            |f| {
                f.as_root = refused_at(0, 1);
                f.user_namespace.overlay = ProbeResult::Refused(1);
                f.programs.fuse_overlayfs = None;
            },
            "warn overlay: root may not mount anything here, as in a container, and no overlay in a user namespace, \
                and \
             fuse-overlayfs, which could take its place, is not installed",
        ),
        (|f| f.as_root = refused_at(3, 1), "warn overlay: refused by root, on ext4: Operation not permitted (a store"),
    ];
    for (change, expected) in cases {
        changed(root, change, expected);
    }
    let mut facts = root();
    (facts.as_root, facts.user_namespace) = (refused_at(0, 1), refused_at(0, 1));
    let shown = lines(&judge(&facts));
    let expected = "missing overlay: root may not mount anything here, as in a container: start that with";
    assert!(shown.iter().any(|line| line.starts_with(expected)), "{shown:#?}");
}

#[test]
fn steps_of_builds() {
    fn one_id(facts: &mut MachineFacts) {
        let had = facts.steps.entered.as_mut().unwrap();
        (had.ids, had.text) = (IdMapping::OneId, "a user namespace with one id; owners are recorded".into());
    }
    let cases: [(Change, &str); 8] = [
        (one_id, "ok build steps: a user namespace with one id; owners are recorded"),
        (
            |f| {
                one_id(f);
                f.steps.listener = ProbeResult::Refused(16);
            },
            "warn build steps: a user namespace with one id; owners are recorded; but system calls cannot be \
                supervised: chown and similar calls fail (Device or resource busy)",
        ),
        (
            |f| f.steps.proc = ProbeResult::Refused(1),
            "warn build steps: a user namespace with 65537 ids; /proc can't be mounted, as in a container that hides \
                parts \
             of it (Operation not permitted)",
        ),
        (
            |f| (f.steps.network, f.steps.processes) = (ProbeResult::Refused(28), ProbeResult::Refused(28)),
            "warn build steps: a user namespace with 65537 ids; network = \"none\" is not possible (No space left on \
             device); they see all processes (No space left on device)",
        ),
        (
            |f| {
                let had = f.steps.entered.as_mut().unwrap();
                (had.confinement, had.text) = (Confinement::Chroot, "chroot: nothing else is allowed here".into());
                had.warning = Some("no namespaces: a seccomp filter is in force, as in a container".into());
                (f.steps.listener, f.steps.proc) = (ProbeResult::Not, ProbeResult::Not);
            },
            "warn build steps: chroot: nothing else is allowed here: no namespaces: a seccomp filter is in force, as \
                in a \
             container; they see all processes and the network that are here",
        ),
        (
            |f| (f.steps.entered, f.steps.refusal) = (None, Some("cannot enter a user namespace: x; do y".into())),
            "missing build steps: no step can run: cannot enter a user namespace: x; do y",
        ),
        (|f| f.steps = StepProbe::default(), "warn build steps: the isolation of steps was not tested"),
        // Owners of many ids need nobody who remembers them.
        (
            |f| {
                f.steps.listener = ProbeResult::Refused(16);
                f.steps.entered.as_mut().unwrap().text = "root in a mount namespace".into();
            },
            "ok build steps: root in a mount namespace",
        ),
    ];
    for (change, expected) in cases {
        changed(user, change, expected);
    }
}

#[test]
fn control_groups() {
    for (hierarchy, controllers, of_root, of_user) in [
        (
            Hierarchy::None,
            "",
            "missing cgroups: not mounted, and runtimes put each container into one | mount -t cgroup2",
            "warn cgroups: not mounted: containers run without limits",
        ),
        (
            Hierarchy::V1,
            "cpu memory",
            "ok cgroups: v1: cpu, memory",
            "warn cgroups: v1, which only root can use: limits such as --cpuset-cpus have no effect; cgroup v2 needs \
                an option on the kernel's command line | echo 'GRUB_CMDLINE_LINUX=",
        ),
        (Hierarchy::Hybrid, "cpu", "ok cgroups: v1, with v2 beside it: cpu", "warn cgroups: v1, which only root"),
        (
            Hierarchy::V2,
            "memory pids",
            "warn cgroups: v2, without cpu and cpuset for this user: limits on these have no effect",
            "warn cgroups: v2, without cpu and cpuset for this user: limits on these have no effect | sudo mkdir -p",
        ),
        (
            Hierarchy::V2,
            "",
            "warn cgroups: v2, without cpu, cpuset, memory and pids for this user",
            "warn cgroups: v2, without cpu, cpuset, memory and pids for this user",
        ),
    ] {
        for (mut facts, expected) in [(root(), of_root), (user(), of_user)] {
            let controllers = controllers.split_ascii_whitespace().map(str::to_owned).collect();
            facts.cgroups = Cgroups { hierarchy, controllers, split: false };
            let checks = judge(&facts);
            sound(&checks);
            let shown = lines(&checks);
            assert!(shown.iter().any(|line| line.starts_with(expected)), "{expected} in {shown:#?}");
        }
    }
}

#[test]
fn programs() {
    let cases: [(Change, &str); 11] = [
        (
            |f| f.programs.runtimes.clear(),
            "missing OCI runtime: no working runtime: `run` needs runc, crun or youki | sudo apt-get install runc",
        ),
        (
            |f| {
                f.programs.runtimes.clear();
                f.machine.distribution = LinuxDistribution::Fedora;
            },
            "missing OCI runtime: no working runtime: `run` needs runc, crun or youki | sudo dnf install crun",
        ),
        (
            |f| f.programs.runtimes.push(runtime("crun", RuntimeKind::Crun, Err("cannot run /usr/bin/crun: bad ELF"))),
            "warn crun: cannot run /usr/bin/crun: bad ELF",
        ),
        (
            |f| f.programs.runtimes.push(runtime("youki", RuntimeKind::Youki, Ok("0.5.0"))),
            "ok youki: 0.5.0, /usr/bin/youki",
        ),
        (
            |f| f.programs.runtimes.push(able("crun", RuntimeKind::Crun, |_| {})),
            "ok crun: 1.2, /usr/bin/crun; has cgroup v2, seccomp and prestart hooks such as NVIDIA's",
        ),
        (
            |f| {
                let without = |f: &mut Features| f.linux.cgroup.v2 = false;
                f.programs.runtimes.push(able("crun", RuntimeKind::Crun, without));
            },
            "warn crun: 1.2, /usr/bin/crun; has seccomp and prestart hooks such as NVIDIA's; lacks cgroup v2",
        ),
        (
            |f| f.programs.runtimes.push(able("youki", RuntimeKind::Youki, |f| *f = Features::default())),
            "warn youki: 1.2, /usr/bin/youki; lacks cgroup v2, seccomp and prestart hooks such as NVIDIA's",
        ),
        (
            |f| f.programs.uv = None,
            "warn uv: not installed: packages are locked by it; building from a lock needs none | sudo apt-get install \
             pipx | pipx install uv",
        ),
        (
            |f| f.programs.uv = Some(Program { version: Err("it has no output".into()), ..program("uv", "") }),
            "warn uv: /usr/bin/uv does not work: it has no output",
        ),
        (|f| f.programs.seccomp = false, "warn seccomp: the kernel has none"),
        (|f| f.programs.seccomp_profile = None, "ok seccomp: the host has no profile; ociforge's own is used"),
    ];
    for (change, expected) in cases {
        changed(user, change, expected);
    }
    let mut facts = user();
    facts.programs.runtimes = vec![runtime("runc", RuntimeKind::Runc, Err("bad ELF"))];
    let shown = lines(&judge(&facts));
    assert!(shown.iter().any(|line| line.starts_with("missing OCI runtime")), "{shown:#?}");
    // Cgroups of both versions, which crun works with only by what `run` does.
    let mut facts = root();
    facts.cgroups = Cgroups { hierarchy: Hierarchy::Hybrid, controllers: Vec::new(), split: true };
    facts.programs.runtimes =
        vec![runtime("crun", RuntimeKind::Crun, Ok("1.8.1")), able("runc", RuntimeKind::Runc, |_| {})];
    let shown = lines(&judge(&facts));
    for line in [
        "ok crun: 1.8.1, /usr/bin/crun; works with one version of cgroups only: it gets to see v1",
        "ok runc: 1.2, /usr/bin/runc; has cgroup v1, seccomp and prestart hooks such as NVIDIA's",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:#?}");
    }
}

#[test]
fn files() {
    let auth = |state: AuthState| AuthFileStatus { path: "/home/al/.docker/config.json".into(), state };
    let cases: [(Change, &str); 4] = [
        (
            |f| f.store.writable = false,
            "missing store: /home/al/.local/share/ociforge cannot be written; choose another directory with --store \
                or $OCIFORGE_STORE | sudo install -d -o 1000 /home/al/.local/share/ociforge",
        ),
        (
            |f| f.store.free = 5_000_000_000,
            "warn store: /home/al/.local/share/ociforge: 5.0 GB free on ext4; an image for GPUs takes 10 to 30 GB | \
             ociforge cache prune",
        ),
        (
            |f| f.store.filesystem = Some("tmpfs".into()),
            "warn store: /home/al/.local/share/ociforge: 500.0 GB free on tmpfs, which is memory",
        ),
        (
            |f| f.store.existing = Some("/home/al".into()),
            "ok store: /home/al/.local/share/ociforge (does not exist yet): 500.0 GB free on ext4",
        ),
    ];
    for (change, expected) in cases {
        changed(user, change, expected);
    }
    for (state, expected) in [
        (AuthState::Absent, "ok credentials: none; public images need none"),
        (
            AuthState::Unreadable("denied".into()),
            "warn credentials: /home/al/.docker/config.json can't be read: denied",
        ),
        (AuthState::Invalid(7), "warn credentials: /home/al/.docker/config.json is not JSON: see its line 7"),
        (
            AuthState::Good { registries: 1, exposed: false },
            "ok credentials: /home/al/.docker/config.json, for 1 registry",
        ),
        (
            AuthState::Good { registries: 3, exposed: false },
            "ok credentials: /home/al/.docker/config.json, for 3 registries",
        ),
        (
            AuthState::Good { registries: 3, exposed: true },
            "warn credentials: /home/al/.docker/config.json can be read by others | chmod 600 \
                /home/al/.docker/config.json",
        ),
    ] {
        let mut facts = user();
        facts.credentials = vec![auth(state)];
        assert_eq!(lines(&judge(&facts)).last().unwrap(), expected);
    }
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

#[test]
fn images_and_the_machine() {
    for ((os, architecture), machine, emulated, expected) in [
        (
            ("linux", "arm64"),
            "x86_64",
            &[][..],
            "missing architecture: linux/arm64, which x86_64 can't run | sudo apt-get install qemu-user-static",
        ),
        (("linux", "arm64"), "x86_64", &["aarch64"], "warn architecture: linux/arm64, which x86_64 runs by emulation"),
        (("linux", "arm64"), "aarch64", &[], "ok architecture: linux/arm64"),
        (("linux", "386"), "x86_64", &[], "ok architecture: linux/386"),
        (("linux", "riscv64"), "riscv64", &[], "ok architecture: linux/riscv64"),
        (("linux", "amd64"), "aarch64", &["arm"], "missing architecture: linux/amd64"),
        (("windows", "amd64"), "x86_64", &[], "missing architecture: windows/amd64: containers here run Linux"),
    ] {
        let mut facts = user();
        facts.machine.architecture = machine.into();
        facts.machine.emulated = emulated.iter().map(|name| (*name).to_owned()).collect();
        let shown = lines(&judge_image(&image((os, architecture), &[], 1), &facts, None));
        assert!(shown[0].starts_with(expected), "{expected} in {shown:?}");
    }
    for (free, status) in [(9, "missing"), (10, "warn"), (34, "warn"), (35, "ok")] {
        let mut facts = user();
        facts.store.free = free * 1_000_000_000;
        let shown = lines(&judge_image(&image(("linux", "amd64"), &[], 10_000_000_000), &facts, None));
        assert!(shown[1].starts_with(&format!("{status} space: 10.0 GB packed, about 25.0 GB unpacked;")), "{shown:?}");
    }
}
