//! The kernel, control groups, seccomp.

use crate::doctor::check::{CheckResult, Section::System};
use crate::doctor::facts::{Hierarchy, LinuxDistribution, Machine, MachineFacts};

/// Features that need a newer kernel than the runtimes do, by the version that introduced them.
const SINCE: [((u32, u32), &str); 3] = [
    ((4, 18), "fuse-overlayfs in user namespaces"),
    ((5, 2), "the freezer of cgroup v2"),
    ((5, 11), "overlays in user namespaces"),
];

pub(super) fn kernel(machine: &Machine) -> CheckResult {
    let release = &machine.kernel.release;
    let lacks: Vec<_> = SINCE.iter().filter(|(since, _)| machine.kernel.version < *since).collect();
    let [.., ((major, minor), _)] = lacks.as_slice() else {
        return CheckResult::ok(System, "kernel", format!("{release} on {}", machine.architecture));
    };
    let lacks: Vec<_> = lacks.iter().map(|(_, what)| *what).collect();
    let found = format!("{release} has no {}: {major}.{minor} or newer has", super::listed(&lacks));
    let upgrade = match machine.distribution {
        LinuxDistribution::Fedora => "dnf upgrade kernel",
        LinuxDistribution::Debian | LinuxDistribution::Ubuntu => "apt-get dist-upgrade",
    };
    CheckResult::warn(System, "kernel", found).mend(machine.as_root(upgrade))
}

pub(super) fn cgroups(facts: &MachineFacts) -> CheckResult {
    let (machine, cgroups) = (&facts.machine, &facts.cgroups);
    let check = |found: &str| (System, "cgroups", found.to_owned());
    let (section, name, found) = match (cgroups.hierarchy, machine.is_root()) {
        (Hierarchy::None, true) => {
            let check =
                CheckResult::missing(System, "cgroups", "not mounted, and runtimes put each container into one");
            return check.mend("mount -t cgroup2 none /sys/fs/cgroup");
        }
        (Hierarchy::None, false) => check("not mounted: containers run without limits"),
        (Hierarchy::V1 | Hierarchy::Hybrid, true) => {
            let which = if cgroups.hierarchy == Hierarchy::V1 { "v1" } else { "v1, with v2 beside it" };
            return CheckResult::ok(System, "cgroups", format!("{which}: {}", cgroups.controllers.join(", ")));
        }
        (Hierarchy::V1 | Hierarchy::Hybrid, false) => {
            let found = "v1, which only root can use: limits such as --cpuset-cpus have no effect; cgroup v2 needs an \
                option on the kernel's command line";
            return CheckResult::warn(System, "cgroups", found)
                .mend(boot_option(machine, "systemd.unified_cgroup_hierarchy=1"));
        }
        (Hierarchy::V2, _) => return delegation(facts),
    };
    CheckResult::warn(section, name, found)
}

fn delegation(facts: &MachineFacts) -> CheckResult {
    let have = &facts.cgroups.controllers;
    let lacks: Vec<_> =
        ["cpu", "cpuset", "memory", "pids"].into_iter().filter(|name| !have.iter().any(|h| h == name)).collect();
    if lacks.is_empty() {
        return CheckResult::ok(System, "cgroups", format!("v2: {}", have.join(", ")));
    }
    let found = format!("v2, without {} for this user: limits on these have no effect", super::listed(&lacks));
    let check = CheckResult::warn(System, "cgroups", found);
    if facts.machine.is_root() {
        // A surrounding container prevents them.
        return check;
    }
    let file = "/etc/systemd/system/user@.service.d/delegate.conf";
    check
        .mend("sudo mkdir -p /etc/systemd/system/user@.service.d")
        .mend(format!("printf '[Service]\\nDelegate=yes\\n' |\\\n  sudo tee {file}"))
        .mend("sudo systemctl daemon-reload, and log in again")
}

/// The command that adds an option to the kernel command line.
fn boot_option(machine: &Machine, option: &str) -> String {
    match machine.distribution {
        LinuxDistribution::Fedora => machine.as_root(&format!("grubby --update-kernel=ALL --args={option}")),
        LinuxDistribution::Debian | LinuxDistribution::Ubuntu => {
            let file = "/etc/default/grub.d/cgroup.cfg";
            let line = format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX \\\n{option}\"");
            let (tee, update) = (machine.as_root(&format!("tee {file}")), machine.as_root("update-grub"));
            format!("echo '{line}' |\\\n  {tee} && {update}")
        }
    }
}

pub(super) fn seccomp(facts: &MachineFacts) -> CheckResult {
    match (facts.programs.seccomp, &facts.programs.seccomp_profile) {
        (false, _) => {
            CheckResult::warn(System, "seccomp", "the kernel has none: containers can make every system call")
        }
        (true, Some(file)) => CheckResult::ok(System, "seccomp", format!("the profile is {}", file.display())),
        (true, None) => CheckResult::ok(System, "seccomp", "the host has no profile; ociforge's own is used"),
    }
}
