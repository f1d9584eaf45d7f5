//! How layers are put upon each other.

use crate::doctor::check::{CheckResult, Section::System};
use crate::doctor::facts::MachineFacts;
use ociforge_sandbox::probe::{NamespaceProbe, ProbeResult};

const NAME: &str = "overlay";

/// What `run` does where there is none.
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
    // Without a user namespace nothing below helps either, and what mends that is said there.
    if tried == ProbeResult::Not {
        return CheckResult::warn(System, NAME, why);
    }
    if !machine.is_root() {
        return by_fuse(facts, &why);
    }
    let check = by_fuse(facts, &format!("{why} (a store on ext4 or xfs, --store DIR, may do)"));
    if facts.overlay.known { check } else { check.mend("modprobe overlay") }
}

/// What a root can do that may not mount.
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

/// What can be done without the kernel's.
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
