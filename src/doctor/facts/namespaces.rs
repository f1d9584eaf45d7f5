//! What the system says about user namespaces.

use super::{number, text};

/// What the system says about user namespaces. A setting that its kernel does not have is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `user.max_user_namespaces`.
    pub most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's older kernels.
    pub clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's kernels.
    pub apparmor: Option<u64>,
    /// Whether a seccomp filter watches this process, as in most containers.
    pub filtered: bool,
    /// Whether programs gain no privileges from this process, not even newuidmap.
    pub no_new_privileges: bool,
}

impl Limits {
    pub(super) fn gather() -> Self {
        let status = text("/proc/self/status").unwrap_or_default();
        Self {
            most: number("/proc/sys/user/max_user_namespaces"),
            clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            filtered: field(&status, "Seccomp") == Some("2"),
            no_new_privileges: field(&status, "NoNewPrivs") == Some("1"),
        }
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tx\nSeccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!((field(status, "Seccomp"), field(status, "NoNewPrivs")), (Some("2"), None));
    }
}
