//! Steps, programs, files and images.

use super::*;

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
