//! Flags with a fixed set of words: `--ipc`, `--network`, `--nvidia`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::flag_error::FlagError;
use super::values::as_text;

/// `--ipc`: the namespace of shared memory, semaphores and message queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ipc {
    /// A new namespace.
    #[default]
    Private,
    /// The host's namespace.
    Host,
    /// A new namespace without `/dev/shm`.
    None,
}

impl FromStr for Ipc {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        const KNOWN: &[&str] = &["private", "shareable", "host", "none"];
        let (flag, text) = ("--ipc", text.to_owned());
        match text.as_str() {
            "" | "private" | "shareable" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            other if other.starts_with("container:") => Err(FlagError::Daemon { flag, text }),
            _ => Err(FlagError::Choice { flag, text, known: KNOWN }),
        }
    }
}

impl fmt::Display for Ipc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Host => "host",
            Self::None => "none",
        })
    }
}

as_text!(Ipc);

/// `--network`: the network namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Network {
    /// A new namespace with only the loopback interface.
    #[default]
    Private,
    /// The host's namespace.
    Host,
}

impl FromStr for Network {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        const KNOWN: &[&str] = &["host", "none", "private"];
        let (flag, text) = ("--network", text.to_owned());
        match text.as_str() {
            "private" | "none" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            "bridge" | "default" => Err(FlagError::Daemon { flag, text }),
            other if other.starts_with("container:") => Err(FlagError::Daemon { flag, text }),
            _ => Err(FlagError::Choice { flag, text, known: KNOWN }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Host => "host",
        })
    }
}

as_text!(Network);

/// `--nvidia`: the way to inject GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nvidia {
    /// The way that the host supports.
    #[default]
    Auto,
    /// NVIDIA's prestart hook.
    Hook,
    /// The edits of a CDI specification.
    Cdi,
    /// No GPUs.
    None,
}

impl FromStr for Nvidia {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        const KNOWN: &[&str] = &["auto", "cdi", "hook", "none"];
        match text {
            "auto" => Ok(Self::Auto),
            "cdi" => Ok(Self::Cdi),
            "hook" => Ok(Self::Hook),
            "none" => Ok(Self::None),
            _ => Err(FlagError::Choice { flag: "--nvidia", text: text.to_owned(), known: KNOWN }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_need_a_daemon_and_words_that_nobody_knows() {
        assert_eq!("shareable".parse(), Ok(Ipc::Private));
        assert_eq!("none".parse(), Ok(Network::Private));
        assert!(matches!("container:abc".parse::<Ipc>(), Err(FlagError::Daemon { .. })));
        assert!(matches!("bridge".parse::<Network>(), Err(FlagError::Daemon { .. })));
        assert_eq!("hosts".parse::<Network>().unwrap_err().hint().unwrap(), "did you mean host?");
        assert_eq!("xyz".parse::<Ipc>().unwrap_err().hint().unwrap(), "use one of private, shareable, host, none");
        assert_eq!("hok".parse::<Nvidia>().unwrap_err().hint().unwrap(), "did you mean hook?");
        for mode in [Ipc::Private, Ipc::Host, Ipc::None] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }
}
