//! The system: kernel, namespaces, ids, overlays and control groups.

use super::*;

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
