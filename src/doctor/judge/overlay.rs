//! Overlay filesystems.

use crate::doctor::check::{CheckResult, Section::System};
use crate::doctor::facts::MachineFacts;
use ociforge_sandbox::probe::{NamespaceProbe, ProbeResult};

const NAME: &str = "overlay";

/// The consequence for `run` if there is no overlay filesystem.
const COPIED: &str = "`run` copies the whole image for each container, which takes time and space";

pub(super) fn overlay(facts: &MachineFacts) -> CheckResult {
    let machine = &facts.machine;
    let (tried, whose) = match machine.is_root() {
        true => (facts.as_root.overlay, "by root"),
        false => (facts.user_namespace.overlay, "in a user namespace"),
    };
    let filesystem = facts.store.filesystem.as_deref().unwrap_or("the store's filesystem");
    let why = match tried {
        ProbeResult::Worked => {
            return CheckResult::ok(System, NAME, format!("mounted {whose}, on {filesystem}"));
        }
        ProbeResult::Not if machine.is_root() => return without_rights(facts),
        ProbeResult::Not => "there is no user namespace to mount it in".to_owned(),
        ProbeResult::Refused(number) => format!("refused {whose}, on {filesystem}: {}", super::said(number)),
    };
    // Without a user namespace none of the fixes below helps, and its own check has the fix.
    if tried == ProbeResult::Not {
        return CheckResult::warn(System, NAME, why);
    }
    if !machine.is_root() {
        return by_fuse(facts, &why);
    }
    let check = by_fuse(facts, &format!("{why} (a store on ext4 or xfs, --store DIR, may do)"));
    if facts.overlay.known { check } else { check.mend("modprobe overlay") }
}

/// The options of a root that is not allowed to mount.
fn without_rights(facts: &MachineFacts) -> CheckResult {
    const WHY: &str = "root may not mount anything here, as in a container";
    match facts.user_namespace {
        NamespaceProbe { overlay: ProbeResult::Worked, .. } => {
            CheckResult::warn(System, NAME, format!("{WHY}, but in a user namespace, which `run` makes"))
        }
        probe if probe.is_usable() => by_fuse(facts, &format!("{WHY}, and no overlay in a user namespace")),
        _ => CheckResult::missing(
            System,
            NAME,
            format!("{WHY}: start that with `--privileged` or `--cap-add sys_admin`"),
        ),
    }
}

/// The options without the kernel's overlayfs.
fn by_fuse(facts: &MachineFacts, why: &str) -> CheckResult {
    let machine = &facts.machine;
    match (&facts.programs.fuse_overlayfs, facts.overlay.fuse) {
        (Some(_), true) => {
            CheckResult::warn(System, NAME, format!("{why}; fuse-overlayfs takes its place, and is slower"))
        }
        (Some(_), false) => {
            let found = format!("{why}, and fuse-overlayfs can't open /dev/fuse: {COPIED}");
            let open = format!("{} && {}", machine.as_root("modprobe fuse"), machine.as_root("chmod 0666 /dev/fuse"));
            CheckResult::warn(System, NAME, found).mend(open)
        }
        (None, _) => {
            let found = format!("{why}, and fuse-overlayfs, which could take its place, is not installed: {COPIED}");
            CheckResult::warn(System, NAME, found).mend(machine.install("fuse-overlayfs", "fuse-overlayfs"))
        }
    }
}
