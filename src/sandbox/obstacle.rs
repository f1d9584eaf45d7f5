//! What may forbid user namespaces, and how to mend it.

use std::fmt;
use std::fs;

/// What this system says about user namespaces. What is unknown to its kernel is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's older kernels.
    pub unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's kernels.
    pub apparmor_restrict_unprivileged_userns: Option<u64>,
    /// Whether this process may gain no privileges (`NoNewPrivs`), not even by newuidmap.
    pub no_new_privileges: bool,
    /// Whether a seccomp filter watches this process, as in most containers.
    pub seccomp: bool,
}

impl Limits {
    /// Reads them.
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
        }
    }
}

fn status_number(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}

/// Something that forbids a user namespace, or what has to be done in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// `user.max_user_namespaces` is 0.
    NoneAllowed,
    /// `kernel.unprivileged_userns_clone` is 0.
    RootOnly,
    /// `kernel.apparmor_restrict_unprivileged_userns` is set: the namespace can be made, but nothing done in it.
    AppArmor,
    /// A seccomp filter is there, which may forbid it; whether it does shows only by trying.
    Seccomp,
    /// Programs gain no privileges, so that newuidmap can't map ranges.
    NoNewPrivileges,
}

/// What stands in the way of an unprivileged process, the surest first.
#[must_use]
pub fn obstacles(limits: &Limits) -> Vec<Obstacle> {
    let found = [
        (limits.max_user_namespaces == Some(0), Obstacle::NoneAllowed),
        (limits.unprivileged_userns_clone == Some(0), Obstacle::RootOnly),
        (limits.apparmor_restrict_unprivileged_userns.is_some_and(|value| value > 0), Obstacle::AppArmor),
        (limits.seccomp, Obstacle::Seccomp),
        (limits.no_new_privileges, Obstacle::NoNewPrivileges),
    ];
    found.into_iter().filter_map(|(is_there, obstacle)| is_there.then_some(obstacle)).collect()
}

impl Obstacle {
    /// The command that mends it, as a sentence without a capital or a full stop.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoneAllowed => "run `sysctl -w user.max_user_namespaces=15000` as root",
            Self::RootOnly => "run `sysctl -w kernel.unprivileged_userns_clone=1` as root",
            Self::AppArmor => {
                "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root, or give ociforge an AppArmor \
                 profile that allows `userns`"
            }
            Self::Seccomp => "start the container around this with `--security-opt seccomp=unconfined`, or run as root",
            Self::NoNewPrivileges => "start the container around this without `no-new-privileges`",
        }
    }

    /// Whether it can be why a namespace was refused. The others spoil only what comes later.
    #[must_use]
    pub fn refuses_namespaces(self) -> bool {
        self != Self::NoNewPrivileges
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoneAllowed => "user.max_user_namespaces is 0",
            Self::RootOnly => "kernel.unprivileged_userns_clone is 0: only root may make user namespaces",
            Self::AppArmor => {
                "kernel.apparmor_restrict_unprivileged_userns is set: AppArmor takes away all rights in them"
            }
            Self::Seccomp => "a seccomp filter is in force, as in a container",
            Self::NoNewPrivileges => "no_new_privs is in force: newuidmap can't map ranges of ids",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named_by_itself() {
        let free = Limits { max_user_namespaces: Some(15000), unprivileged_userns_clone: Some(1), ..Limits::default() };
        let cases = [
            (Limits::default(), vec![]),
            (free, vec![]),
            (Limits { apparmor_restrict_unprivileged_userns: Some(0), ..free }, vec![]),
            (Limits { max_user_namespaces: Some(0), ..free }, vec![Obstacle::NoneAllowed]),
            (Limits { unprivileged_userns_clone: Some(0), ..free }, vec![Obstacle::RootOnly]),
            (Limits { apparmor_restrict_unprivileged_userns: Some(1), ..free }, vec![Obstacle::AppArmor]),
            (Limits { seccomp: true, ..free }, vec![Obstacle::Seccomp]),
            (Limits { no_new_privileges: true, ..free }, vec![Obstacle::NoNewPrivileges]),
            (
                Limits { seccomp: true, no_new_privileges: true, max_user_namespaces: Some(0), ..free },
                vec![Obstacle::NoneAllowed, Obstacle::Seccomp, Obstacle::NoNewPrivileges],
            ),
        ];
        for (limits, expected) in cases {
            assert_eq!(obstacles(&limits), expected, "{limits:?}");
        }
    }

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        assert_eq!(status_number(status, "NoNewPrivs"), Some(1));
        assert_eq!(status_number(status, "Seccomp"), Some(2));
        assert_eq!(status_number(status, "Missing"), None);
    }
}
