//! Invalid values of docker's flags.

use crate::nearest::nearest;

/// A value that docker's flag does not accept, or that is not supported here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// Not a size in bytes.
    #[error("`{0}` is not a size")]
    Size(String),
    /// Not a list of CPUs.
    #[error("`{0}` is not a list of CPUs")]
    Cpus(String),
    /// Not a resource limit.
    #[error("`{text}` is not a resource limit: {why}")]
    Ulimit {
        /// The text.
        text: String,
        /// The fault.
        why: &'static str,
        /// The valid names, if the name is invalid.
        known: &'static [&'static str],
    },
    /// Not an environment variable. The text is omitted: it may contain a secret.
    #[error("an environment variable has no name or has a NUL")]
    Env,
    /// Not one of the valid words.
    #[error("`{text}` is not a value of {flag}")]
    Choice {
        /// The flag.
        flag: &'static str,
        /// The text.
        text: String,
        /// The valid words.
        known: &'static [&'static str],
    },
    /// A choice of docker that ociforge does not support.
    #[error("{flag} {text} needs a daemon, and ociforge has none")]
    Daemon {
        /// The flag.
        flag: &'static str,
        /// The text.
        text: String,
    },
    /// Not a capability.
    #[error("`{text}` is not a capability")]
    Capability {
        /// The text.
        text: String,
        /// The valid names, without `CAP_`.
        known: &'static [&'static str],
    },
    /// Not a value of `--tmpfs`.
    #[error("`{text}` is not a directory in memory: {why}")]
    Tmpfs {
        /// The text.
        text: String,
        /// The fault.
        why: String,
        /// The valid options.
        known: &'static [&'static str],
    },
    /// Not a limit of memory and swap.
    #[error("`{0}` is not a size of memory and swap")]
    MemorySwap(String),
    /// Not a limit of processes.
    #[error("`{0}` is not a number of processes")]
    Pids(String),
    /// Not a host name.
    #[error("`{0}` is not a host name")]
    Hostname(String),
    /// Not a driver version.
    #[error("`{0}` is not the version of a driver")]
    Driver(String),
}

impl FlagError {
    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Size(_) => "write a number of bytes, or one with a unit: 65536k, 512m, 64g".into(),
            Self::MemorySwap(_) => "write memory and swap together, such as 128g, or -1 for no limit on swap".into(),
            Self::Cpus(_) => "write numbers and ranges, lower end first: 0-31, or 0,2,8-15".into(),
            Self::Ulimit { text, known, .. } if !known.is_empty() => {
                let name = text.split('=').next().unwrap_or_default();
                match nearest(name, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the known ones are {}", known.join(", ")),
                }
            }
            Self::Ulimit { .. } => "write NAME=SOFT[:HARD] with -1 for no limit, such as nofile=1024:2048".into(),
            Self::Env => "write KEY=VALUE, or KEY alone for the value that it has here".into(),
            Self::Choice { text, known, .. } => match nearest(text, known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("use one of {}", known.join(", ")),
            },
            Self::Daemon { flag, .. } => format!("use {flag} host, or omit it for a namespace of its own"),
            Self::Capability { text, known } => {
                let name = text.to_ascii_uppercase();
                let name = name.strip_prefix("CAP_").unwrap_or(&name);
                match nearest(name, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "write its name as capabilities(7) does, such as SYS_PTRACE, or ALL".into(),
                }
            }
            Self::Tmpfs { why, known, .. } => {
                let option = why.strip_prefix('`').and_then(|why| why.split(['`', '=']).next()).unwrap_or_default();
                match nearest(option, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "write the destination and options: /run, or /scratch:size=64g,exec".into(),
                }
            }
            Self::Pids(_) => "write a number, or -1 for no limit".into(),
            Self::Hostname(_) => "use at most 64 letters, digits, dots and hyphens".into(),
            Self::Driver(_) => "write it as nvidia-smi does, such as 535.104.05".into(),
        })
    }
}
