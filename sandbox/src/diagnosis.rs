//! The diagnosis of refused user namespaces, with remedies.

use std::fmt;
use std::fs;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

/// The system's settings for user namespaces; `None` if the kernel does not have a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's older kernels.
    pub unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's kernels.
    pub apparmor_restrict_unprivileged_userns: Option<u64>,
    /// Whether this process cannot gain privileges (`NoNewPrivs`), not even through newuidmap.
    pub no_new_privileges: bool,
    /// Whether a seccomp filter applies to this process, as in most containers.
    pub seccomp: bool,
    /// Whether this process lacks `CAP_SETFCAP`, without which the id of root cannot be mapped.
    pub no_setfcap: bool,
    /// The enforced AppArmor profile of this process.
    pub apparmor_profile: Option<String>,
}

impl Limits {
    /// Reads the settings.
    #[must_use]
    pub fn read() -> Self {
        let number = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            max_user_namespaces: number("user/max_user_namespaces"),
            unprivileged_userns_clone: number("kernel/unprivileged_userns_clone"),
            apparmor_restrict_unprivileged_userns: number("kernel/apparmor_restrict_unprivileged_userns"),
            no_new_privileges: status_number(&status, "NoNewPrivs") == Some(1),
            seccomp: status_number(&status, "Seccomp").is_some_and(|mode| mode > 0),
            no_setfcap: !lacking(CapabilitySet::SETFCAP).is_empty(),
            apparmor_profile: apparmor_profile(),
        }
    }

    /// The diagnosis if the namespace was created but the mapping of ids was refused.
    #[must_use]
    pub fn diagnose_mapping(&self, refusal: Option<Errno>, is_root: bool) -> Option<Diagnosis> {
        let forbidden = refusal == Some(Errno::PERM);
        if forbidden && is_root && self.no_setfcap {
            Some(Diagnosis::NoSetfcap)
        } else {
            self.diagnosis(refusal, is_root)
        }
    }

    /// The probable cause if a user namespace, or an operation in it, was refused with this error. `None` if it is
    /// unknown.
    #[must_use]
    pub fn diagnosis(&self, refusal: Option<Errno>, is_root: bool) -> Option<Diagnosis> {
        let forbidden = matches!(refusal, Some(Errno::PERM | Errno::ACCESS));
        let is_restricted = self.apparmor_restrict_unprivileged_userns.is_some_and(|value| value > 0);
        let profile = self.apparmor_profile.clone().map(Diagnosis::Profile);
        match () {
            () if self.max_user_namespaces == Some(0) => Some(Diagnosis::NoneAllowed),
            () if self.unprivileged_userns_clone == Some(0) && !is_root => Some(Diagnosis::RootOnly),
            () if refusal == Some(Errno::NOSPC) => Some(Diagnosis::Exhausted),
            () if forbidden && is_restricted => Some(Diagnosis::AppArmor),
            () if refusal == Some(Errno::ACCESS) && profile.is_some() => profile,
            () if forbidden && self.seccomp => Some(Diagnosis::Seccomp),
            () if forbidden => profile,
            () => None,
        }
    }
}

/// The names of the needed capabilities that this process lacks.
pub(super) fn lacking(needed: CapabilitySet) -> Vec<String> {
    let have = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    (needed - have).iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

fn apparmor_profile() -> Option<String> {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/attr/{file}")).ok();
    // The second file may be of another security module.
    profile_of(&read("apparmor/current").or_else(|| read("current"))?)
}

/// The name of a profile that is enforced, as opposed to complain mode.
fn profile_of(text: &str) -> Option<String> {
    Some(text.trim_end().strip_suffix(" (enforce)")?.to_owned())
}

fn status_number(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}

/// A reason why a user namespace, or an operation in it, is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diagnosis {
    /// `user.max_user_namespaces` is 0.
    NoneAllowed,
    /// The number of user namespaces has reached `user.max_user_namespaces`.
    Exhausted,
    /// `kernel.unprivileged_userns_clone` is 0.
    RootOnly,
    /// `kernel.apparmor_restrict_unprivileged_userns` is set: the namespace can be created, but all operations in it
    /// fail.
    AppArmor,
    /// A seccomp filter forbids it.
    Seccomp,
    /// The AppArmor profile of this name forbids it.
    Profile(String),
    /// Root lacks `CAP_SETFCAP`, and therefore cannot be the root of a user namespace.
    NoSetfcap,
    /// Programs gain no privileges, so newuidmap cannot map ranges. The namespace itself is possible.
    NoNewPrivileges,
}

impl Diagnosis {
    /// The kernel setting that fixes it, in sysctl(8)'s form.
    #[must_use]
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::NoneAllowed | Self::Exhausted => Some("user.max_user_namespaces=15000"),
            Self::RootOnly => Some("kernel.unprivileged_userns_clone=1"),
            Self::AppArmor => Some("kernel.apparmor_restrict_unprivileged_userns=0"),
            Self::Seccomp | Self::Profile(_) | Self::NoSetfcap | Self::NoNewPrivileges => None,
        }
    }

    /// The remedy, as a sentence without a capital or a full stop.
    #[must_use]
    pub fn hint(&self) -> String {
        let setting = self.setting().map(|setting| format!("run `sysctl -w {setting}` as root"));
        match self {
            Self::AppArmor => {
                format!("{}, or give ociforge an AppArmor profile that allows `userns`", setting.unwrap_or_default())
            }
            Self::Seccomp => "start the container around this with `--security-opt seccomp=unconfined \
                              --security-opt apparmor=unconfined`, or run as root"
                .into(),
            Self::Profile(_) => "start the container around this with `--security-opt apparmor=unconfined`".into(),
            Self::NoSetfcap => "start the container around this with `--cap-add SETFCAP`, or as another user".into(),
            Self::NoNewPrivileges => "start the container around this without `no-new-privileges`".into(),
            Self::NoneAllowed | Self::Exhausted | Self::RootOnly => setting.unwrap_or_default(),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Profile(name) => return write!(f, "the AppArmor profile {name} is in force, as in a container"),
            Self::NoneAllowed => "user.max_user_namespaces is 0",
            Self::Exhausted => "the limit user.max_user_namespaces is reached",
            Self::RootOnly => "kernel.unprivileged_userns_clone is 0: only root may make user namespaces",
            Self::AppArmor => {
                "kernel.apparmor_restrict_unprivileged_userns is set: AppArmor takes away all rights in them"
            }
            Self::Seccomp => "a seccomp filter is in force, as in a container",
            Self::NoSetfcap => "root has no CAP_SETFCAP here, which the mapping of its id needs",
            Self::NoNewPrivileges => "no_new_privs is in force: newuidmap cannot map ranges of ids",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_a_namespace_is_named() {
        let free = Limits { max_user_namespaces: Some(15000), unprivileged_userns_clone: Some(1), ..Limits::default() };
        let with = |change: fn(&mut Limits)| {
            let mut limits = free.clone();
            change(&mut limits);
            limits
        };
        let none = with(|limits| limits.max_user_namespaces = Some(0));
        let root_only = with(|limits| limits.unprivileged_userns_clone = Some(0));
        let apparmor = with(|limits| limits.apparmor_restrict_unprivileged_userns = Some(1));
        let filtered = with(|limits| (limits.seccomp, limits.no_new_privileges) = (true, true));
        let docker = with(|limits| (limits.seccomp, limits.apparmor_profile) = (true, Some("docker-default".into())));
        let profile = || Some(Diagnosis::Profile("docker-default".into()));
        let only_profile = Limits { seccomp: false, ..docker.clone() };
        let weak = with(|limits| limits.no_setfcap = true);
        assert_eq!(weak.diagnose_mapping(Some(Errno::PERM), true), Some(Diagnosis::NoSetfcap));
        assert_eq!(weak.diagnose_mapping(Some(Errno::PERM), false), None);
        for (limits, refusal, is_root, expected) in [
            (&Limits::default(), Errno::PERM, false, None),
            (&free, Errno::PERM, false, None),
            (&free, Errno::NOSPC, false, Some(Diagnosis::Exhausted)),
            (&none, Errno::NOSPC, true, Some(Diagnosis::NoneAllowed)),
            (&root_only, Errno::PERM, false, Some(Diagnosis::RootOnly)),
            (&root_only, Errno::PERM, true, None),
            (&apparmor, Errno::PERM, false, Some(Diagnosis::AppArmor)),
            (&apparmor, Errno::ACCESS, false, Some(Diagnosis::AppArmor)),
            (&with(|limits| limits.apparmor_restrict_unprivileged_userns = Some(0)), Errno::PERM, false, None),
            (&Limits { seccomp: true, ..apparmor.clone() }, Errno::PERM, false, Some(Diagnosis::AppArmor)),
            (&filtered, Errno::PERM, false, Some(Diagnosis::Seccomp)),
            // A filter returns EPERM, AppArmor EACCES.
            (&docker, Errno::PERM, true, Some(Diagnosis::Seccomp)),
            (&docker, Errno::ACCESS, true, profile()),
            (&only_profile, Errno::PERM, true, profile()),
            // Not forbidden but impossible: in a process with threads, or with an old kernel.
            (&apparmor, Errno::INVAL, false, None),
            (&filtered, Errno::INVAL, false, None),
            (&only_profile, Errno::INVAL, false, None),
            (&Limits { seccomp: true, ..none.clone() }, Errno::PERM, false, Some(Diagnosis::NoneAllowed)),
        ] {
            assert_eq!(limits.diagnosis(Some(refusal), is_root), expected, "{limits:?} {refusal:?}");
        }
        assert_eq!(
            (filtered.diagnosis(None, false), none.diagnosis(None, false)),
            (None, Some(Diagnosis::NoneAllowed))
        );
    }

    #[test]
    fn a_profile_that_only_complains_forbids_nothing() {
        for (text, name) in [
            ("docker-default (enforce)\n", Some("docker-default")),
            ("docker-default (complain)", None),
            ("unconfined\n", None),
            ("system_u:system_r:container_t:s0", None),
            ("", None),
        ] {
            assert_eq!(profile_of(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tx\nNoNewPrivs:\t1\nSeccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!(status_number(status, "NoNewPrivs"), Some(1));
        assert_eq!(status_number(status, "Seccomp"), Some(2));
        assert_eq!(status_number(status, "Missing"), None);
    }
}
