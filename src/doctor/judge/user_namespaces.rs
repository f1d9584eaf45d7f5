//! User namespaces, and their subordinate ids.

use rustix::io::Errno;

use crate::doctor::check::{CheckResult, Section::System};
use crate::doctor::facts::{Machine, MachineFacts, Mapper};
use ociforge_sandbox::Diagnosis;
use ociforge_sandbox::probe::ProbeResult;

const NAME: &str = "user namespaces";

/// The number of ids that images expect: 0 to 65535.
const ENOUGH: u64 = 65_536;

pub(super) fn namespaces(facts: &MachineFacts) -> CheckResult {
    let probe = &facts.user_namespace;
    if probe.is_usable() {
        return CheckResult::ok(System, NAME, "created, with a mount");
    }
    let (why, mend) = diagnosis(facts);
    let check = match facts.machine.is_root() {
        true => CheckResult::warn(System, NAME, format!("{why}; containers work for root, not with --rootless")),
        false => CheckResult::missing(System, NAME, format!("{why}; without them only root can run containers")),
    };
    mend.into_iter().fold(check, CheckResult::mend)
}

/// Why there are no user namespaces, and the command that fixes it.
fn diagnosis(facts: &MachineFacts) -> (String, Option<String>) {
    let (probe, machine) = (&facts.user_namespace, &facts.machine);
    let refusal = probe.refusal().map(Errno::from_raw_os_error);
    let diagnosis = match probe.mapping {
        ProbeResult::Refused(_) => facts.limits.diagnose_mapping(refusal, machine.is_root()),
        _ => facts.limits.diagnosis(refusal, machine.is_root()),
    };
    if let Some(diagnosis) = diagnosis {
        return match diagnosis.setting() {
            Some(setting) => (diagnosis.to_string(), Some(machine.as_root(&format!("sysctl -w {setting}")))),
            None => (format!("{diagnosis}: {}", diagnosis.hint()), None),
        };
    }
    let why = match refusal {
        Some(Errno::PERM) if matches!(probe.namespace, ProbeResult::Refused(_)) => {
            "the kernel forbids them here, as in a chroot".into()
        }
        Some(number) => format!("the kernel refuses them: {}", super::said(number.raw_os_error())),
        None => "they could not be tried".into(),
    };
    (why, None)
}

pub(super) fn ids(facts: &MachineFacts) -> Vec<CheckResult> {
    if facts.machine.is_root() {
        return vec![CheckResult::ok(System, "subordinate ids", "root needs none")];
    }
    vec![ranges(facts), mappers(facts)]
}

fn ranges(facts: &MachineFacts) -> CheckResult {
    const NAME: &str = "subordinate ids";
    const MEANS: &str = "containers have one user, and all files belong to it";
    let (users, groups) = (facts.ids.users, facts.ids.groups);
    if users.here.min(groups.here) >= ENOUGH {
        return CheckResult::ok(System, NAME, format!("{} users, {} groups", users.here, groups.here));
    }
    let owner = facts.machine.owner();
    if users.given.min(groups.given) >= ENOUGH {
        let found = format!(
            "of the ids of {owner}, this user namespace has {} users and {} groups, and images need {ENOUGH}: {MEANS}",
            users.here, groups.here
        );
        return CheckResult::warn(System, NAME, found);
    }
    let which = match (users.given, groups.given) {
        (0, 0) => format!("/etc/subuid and /etc/subgid have none for {owner}"),
        (0, _) => format!("/etc/subuid has none for {owner}"),
        (_, 0) => format!("/etc/subgid has none for {owner}"),
        (users, groups) => format!("{users} users and {groups} groups for {owner}, of which images need {ENOUGH}"),
    };
    CheckResult::warn(System, NAME, format!("{which}: {MEANS}")).mend(give(&facts.machine, facts.ids.free))
}

/// The command that allocates ids from `first` to the user.
fn give(machine: &Machine, first: u64) -> String {
    match &machine.user {
        Some(user) => {
            let range = format!("{first}-{}", first + ENOUGH - 1);
            format!("sudo usermod --add-subuids {range} \\\n  --add-subgids {range} {user}")
        }
        // usermod requires a user that has a name.
        None => format!("echo {}:{first}:{ENOUGH} |\\\n  sudo tee -a /etc/subuid /etc/subgid", machine.uid),
    }
}

fn mappers(facts: &MachineFacts) -> CheckResult {
    const NAME: &str = "newuidmap";
    let (ids, machine) = (&facts.ids, &facts.machine);
    let programs = [("newuidmap", ids.newuidmap), ("newgidmap", ids.newgidmap)];
    let with = |state: Mapper| -> Vec<&str> {
        programs.iter().filter(|(_, mapper)| *mapper == state).map(|(name, _)| *name).collect()
    };
    let (absent, powerless) = (with(Mapper::Absent), with(Mapper::Powerless));
    if !absent.is_empty() {
        let found = format!("{} not installed: subordinate ids can't be mapped", are(&absent));
        return CheckResult::warn(System, NAME, found).mend(machine.install("uidmap", "shadow-utils"));
    }
    if !powerless.is_empty() {
        let found = format!("{} neither setuid root nor given capabilities: no ids can be mapped", are(&powerless));
        let paths: Vec<_> = powerless.iter().map(|name| format!("/usr/bin/{name}")).collect();
        return CheckResult::warn(System, NAME, found).mend(machine.as_root(&format!("chmod u+s {}", paths.join(" "))));
    }
    if facts.limits.no_new_privileges {
        let diagnosis = Diagnosis::NoNewPrivileges;
        return CheckResult::warn(System, NAME, format!("{diagnosis}; {}", diagnosis.hint()));
    }
    CheckResult::ok(System, NAME, "newuidmap and newgidmap can map ids")
}

/// `a is`, `a and b are`.
fn are(names: &[&str]) -> String {
    format!("{} {}", super::listed(names), if names.len() == 1 { "is" } else { "are" })
}
