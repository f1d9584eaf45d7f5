//! User namespaces, and the ids that are mapped into them.

use crate::doctor::attempt::Tried;
use crate::doctor::check::{Check, Section::System};
use crate::doctor::facts::{Facts, Machine, Mapper};

const NAME: &str = "user namespaces";

/// As many ids as images expect: from 0 to 65535.
const ENOUGH: u64 = 65_536;

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;

pub(super) fn namespaces(facts: &Facts) -> Check {
    let attempt = &facts.user_namespace;
    if attempt.is_usable() {
        return Check::ok(System, NAME, "one was made and mounted in");
    }
    let (why, mend) = obstacle(facts);
    let check = match facts.machine.is_root() {
        true => Check::warn(System, NAME, format!("{why}; containers work for root, not with --rootless")),
        false => Check::missing(System, NAME, format!("{why}; without them only root can run containers")),
    };
    mend.into_iter().fold(check, Check::mend)
}

/// Why there are none, and the command that mends it.
fn obstacle(facts: &Facts) -> (String, Option<String>) {
    let (limits, attempt, machine) = (&facts.limits, &facts.user_namespace, &facts.machine);
    let set = |setting: &str| Some(machine.as_root(&format!("sysctl -w {setting}")));
    let refusal = attempt.refusal();
    let forbidden = matches!(refusal, Some(EPERM | EACCES));
    if limits.most == Some(0) {
        return ("user.max_user_namespaces is 0".into(), set("user.max_user_namespaces=15000"));
    }
    if limits.clone == Some(0) && !machine.is_root() {
        return ("kernel.unprivileged_userns_clone is 0".into(), set("kernel.unprivileged_userns_clone=1"));
    }
    if limits.apparmor.is_some_and(|value| value > 0) && forbidden {
        // The namespace is made, and every right in it taken away.
        let why = "AppArmor forbids what is done in them (kernel.apparmor_restrict_unprivileged_userns)";
        return (why.into(), set("kernel.apparmor_restrict_unprivileged_userns=0"));
    }
    if limits.filtered && forbidden {
        let why = "a seccomp filter forbids them: this looks like a container, which must be started with \
                   `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`";
        return (why.into(), None);
    }
    match refusal {
        Some(ENOSPC) => (
            "as many as user.max_user_namespaces allows are there already".into(),
            set("user.max_user_namespaces=15000"),
        ),
        Some(EPERM) if attempt.namespace == Tried::Refused(EPERM) => {
            ("the kernel forbids them here; in a chroot nobody can make any".into(), None)
        }
        Some(number) => (format!("the kernel refuses them: {}", super::said(number)), None),
        None => ("they could not be tried".into(), None),
    }
}

pub(super) fn ids(facts: &Facts) -> Vec<Check> {
    if facts.machine.is_root() {
        return vec![Check::ok(System, "subordinate ids", "root needs none")];
    }
    vec![ranges(facts), mappers(facts)]
}

fn ranges(facts: &Facts) -> Check {
    let ids = &facts.ids;
    let least = ids.users.min(ids.groups);
    if least >= ENOUGH {
        return Check::ok(System, "subordinate ids", format!("{} users, {} groups", ids.users, ids.groups));
    }
    let owner = facts.machine.owner();
    let which = match (ids.users, ids.groups) {
        (0, 0) => format!("/etc/subuid and /etc/subgid have none for {owner}"),
        (0, _) => format!("/etc/subuid has none for {owner}"),
        (_, 0) => format!("/etc/subgid has none for {owner}"),
        (users, groups) => format!("{users} users and {groups} groups for {owner}, of which images need {ENOUGH}"),
    };
    let found = format!("{which}: containers have one user, and files of others can't be unpacked as theirs");
    Check::warn(System, "subordinate ids", found).mend(give(&facts.machine, ids.free))
}

/// The command that gives ids from `first` on to the user.
fn give(machine: &Machine, first: u64) -> String {
    match &machine.user {
        Some(user) => {
            let range = format!("{first}-{}", first + ENOUGH - 1);
            format!("sudo usermod --add-subuids {range} \\\n  --add-subgids {range} {user}")
        }
        // usermod knows only users that have a name.
        None => format!("echo {}:{first}:{ENOUGH} |\\\n  sudo tee -a /etc/subuid /etc/subgid", machine.uid),
    }
}

fn mappers(facts: &Facts) -> Check {
    const NAME: &str = "newuidmap";
    let (ids, machine) = (&facts.ids, &facts.machine);
    let programs = [("newuidmap", ids.newuidmap), ("newgidmap", ids.newgidmap)];
    let with = |state: Mapper| -> Vec<&str> {
        programs.iter().filter(|(_, mapper)| *mapper == state).map(|(name, _)| *name).collect()
    };
    let (absent, powerless) = (with(Mapper::Absent), with(Mapper::Powerless));
    if !absent.is_empty() {
        let found = format!("{} not installed: subordinate ids can't be mapped", are(&absent));
        return Check::warn(System, NAME, found).mend(machine.install("uidmap", "shadow-utils"));
    }
    if !powerless.is_empty() {
        let found = format!("{} neither setuid root nor given capabilities: no ids can be mapped", are(&powerless));
        let paths: Vec<_> = powerless.iter().map(|name| format!("/usr/bin/{name}")).collect();
        return Check::warn(System, NAME, found).mend(machine.as_root(&format!("chmod u+s {}", paths.join(" "))));
    }
    if facts.limits.no_new_privileges {
        let found = "no_new_privs is in force, as in a container: newuidmap gets no rights and can't map ids; start the \
                     container without `no-new-privileges`";
        return Check::warn(System, NAME, found);
    }
    Check::ok(System, NAME, "newuidmap and newgidmap can map ids")
}

/// `a is`, `a and b are`.
fn are(names: &[&str]) -> String {
    format!("{} {}", super::listed(names), if names.len() == 1 { "is" } else { "are" })
}
