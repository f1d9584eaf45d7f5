//! `--security-opt`.

use std::str::FromStr;

use super::flag_error::FlagError;

/// The valid values of `--security-opt`.
const KNOWN: &[&str] = &[
    "seccomp=unconfined",
    "no-new-privileges",
    "no-new-privileges=true",
    "no-new-privileges=false",
    "apparmor=unconfined",
    "label=disable",
    "systempaths=unconfined",
];

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// `seccomp=unconfined`: no filter of system calls.
    Unconfined,
    /// `seccomp=FILE`: the filter in a file of docker's format, which the caller reads.
    Profile(String),
    /// `seccomp=builtin`: the default filter.
    Builtin,
    /// `no-new-privileges`: whether programs cannot gain privileges by set-user-id bits.
    NoNewPrivileges(bool),
    /// `systempaths=unconfined`: no path in `/proc` and `/sys` is masked or read-only.
    SystemPaths,
    /// An option without effect: AppArmor profiles and SELinux labels are never set.
    Nothing,
}

impl FromStr for SecurityOption {
    type Err = FlagError;

    /// Parses docker's form `KEY=VALUE`, and the older one with a colon.
    fn from_str(text: &str) -> Result<Self, FlagError> {
        let end = text.find(['=', ':']).unwrap_or(text.len());
        let (key, value) = (&text[..end], text.get(end + 1..));
        match (key, value) {
            ("seccomp", Some("unconfined")) => Ok(Self::Unconfined),
            ("seccomp", Some("builtin" | "default")) => Ok(Self::Builtin),
            ("seccomp", Some(file)) if !file.is_empty() => Ok(Self::Profile(file.to_owned())),
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("systempaths", Some("unconfined")) => Ok(Self::SystemPaths),
            ("apparmor", Some("unconfined")) | ("label", Some("disable")) => Ok(Self::Nothing),
            _ => Err(FlagError::Choice { flag: "--security-opt", text: text.to_owned(), known: KNOWN }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_docker_does() {
        for (text, option) in [
            ("seccomp=unconfined", SecurityOption::Unconfined),
            ("seccomp:unconfined", SecurityOption::Unconfined),
            ("seccomp=/etc/a=b.json", SecurityOption::Profile("/etc/a=b.json".into())),
            ("no-new-privileges", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges:true", SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges=false", SecurityOption::NoNewPrivileges(false)),
            ("apparmor=unconfined", SecurityOption::Nothing),
        ] {
            assert_eq!(text.parse(), Ok(option), "{text}");
        }
        for bad in ["", "seccomp", "seccomp=", "no-new-privileges=1", "apparmor=docker-default", "secomp=unconfined"] {
            assert!(bad.parse::<SecurityOption>().is_err(), "{bad}");
        }
        let error = "secomp=unconfined".parse::<SecurityOption>().unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean seccomp=unconfined?");
    }
}
