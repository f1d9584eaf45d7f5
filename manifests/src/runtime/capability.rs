//! Capabilities (capabilities(7)) by name and by number, and the values of `--cap-add` and `--cap-drop`.

use std::str::FromStr;

use super::flag_error::FlagError;

/// The names of capabilities without `CAP_`, by number.
pub(crate) const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub(super) u8);

impl Capability {
    /// Covers operations without a capability of their own. NVIDIA's hook treats a container with it as privileged.
    pub(crate) const SYS_ADMIN: Self = Self(21);

    /// Allows raising hard resource limits.
    pub(crate) const SYS_RESOURCE: Self = Self(24);

    /// All capabilities, by number.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }

    /// The name with `CAP_`, as in the runtime spec.
    #[must_use]
    pub fn name(self) -> String {
        format!("CAP_{}", NAMES[usize::from(self.0)])
    }

    /// The number of the capability with this name, with its `CAP_`.
    #[must_use]
    pub fn number_of(name: &str) -> Option<u8> {
        let name = name.strip_prefix("CAP_")?;
        Self::all().map(|capability| capability.0).find(|number| NAMES[usize::from(*number)] == name)
    }

    /// Whether it is in a mask as in `/proc/PID/status`: bit 0 is capability 0.
    pub(crate) fn is_in(self, mask: u64) -> bool {
        mask >> self.0 & 1 == 1
    }
}

/// A value of `--cap-add` or `--cap-drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityFlag {
    /// `ALL`.
    All,
    /// A single capability.
    One(Capability),
}

impl FromStr for CapabilityFlag {
    type Err = FlagError;

    /// Parses a name in either case, with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, FlagError> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::All);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match NAMES.iter().position(|known| *known == name) {
            Some(number) => Ok(Self::One(Capability(number as u8))),
            None => Err(FlagError::Capability { text: text.to_owned(), known: &NAMES }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_has_a_near_one() {
        let error = "SYS_ADMN".parse::<CapabilityFlag>().unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean SYS_ADMIN?");
        for bad in ["", "CAP_", "CAP_ALL", "SYS ADMIN", "41"] {
            assert!(bad.parse::<CapabilityFlag>().is_err(), "{bad}");
        }
    }
}
