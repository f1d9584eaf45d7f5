//! The values of docker's flags: typed, with docker's syntax for reading and writing.
//!
//! Each type can parse its own output, so recipes and annotations have the same values as a command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::flag_error::FlagError;

/// Implements serde for a type as its text.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = <$type as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use as_text;

/// A size in bytes, at most `i64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const UNITS: &str = "kmgtp";

impl FromStr for Size {
    type Err = FlagError;

    /// Parses a number, with an optional fraction, and a unit of 1024 (`k`, `m`, `g`, `t`, `p`, each also with `b` or
    /// `ib`, in either case), `b` or none.
    fn from_str(text: &str) -> Result<Self, FlagError> {
        let error = || FlagError::Size(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
        let exponent = match suffix.strip_suffix("ib").or(suffix.strip_suffix('b')).unwrap_or(&suffix) {
            "" if suffix == "ib" => return Err(error()),
            "" => 0,
            unit if unit.len() == 1 => UNITS.find(unit).ok_or_else(error)? + 1,
            _ => return Err(error()),
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(error());
        }
        let scale = 1_u64 << (10 * exponent);
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(scale).ok_or_else(error)?,
            // Rust's conversion of a float saturates, so too large values stay too large.
            Err(_) => (number.parse::<f64>().map_err(|_| error())? * scale as f64) as u64,
        };
        if bytes > i64::MAX as u64 { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Size {
    /// The number with the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.0;
        let mut units = UNITS.chars();
        let mut unit = None;
        while number != 0 && number.is_multiple_of(1024) {
            let Some(next) = units.next() else { break };
            (number, unit) = (number / 1024, Some(next));
        }
        write!(f, "{number}")?;
        unit.map_or(Ok(()), |unit| write!(f, "{unit}"))
    }
}

as_text!(Size);

/// A number of processes and threads; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidsLimit(pub Option<u32>);

impl FromStr for PidsLimit {
    type Err = FlagError;

    /// Parses a number; 0 and -1 are no limit, as in docker.
    fn from_str(text: &str) -> Result<Self, FlagError> {
        match text.parse::<i32>() {
            Ok(-1 | 0) => Ok(Self(None)),
            Ok(number) if number > 0 => Ok(Self(Some(number.unsigned_abs()))),
            _ => Err(FlagError::Pids(text.to_owned())),
        }
    }
}

/// One `--env`: a variable to set or, without a value, to remove.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvEntry {
    /// The name.
    pub key: String,
    /// The value. `None` for a bare name; the caller may add the value of its own environment.
    pub value: Option<String>,
}

impl FromStr for EnvEntry {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        if key.is_empty() || text.contains('\0') {
            return Err(FlagError::Env);
        }
        Ok(Self { key: key.to_owned(), value: value.map(str::to_owned) })
    }
}

impl fmt::Debug for EnvEntry {
    /// Shows only the name: the value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvEntry({})", self.key)
    }
}

/// A host name (hostname(7)) that the kernel accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let inside = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(b));
        if bytes.len() <= 64 && inside && edge(bytes.first()) && edge(bytes.last()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FlagError::Hostname(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("64g", 64 << 30, "64g"),
            ("64G", 64 << 30, "64g"),
            ("64 GiB", 64 << 30, "64g"),
            ("65536k", 64 << 20, "64m"),
            ("1.5g", 3 << 29, "1536m"),
            ("100b", 100, "100"),
            ("1000", 1000, "1000"),
            ("1kb", 1024, "1k"),
            ("2t", 2 << 40, "2t"),
            ("1024p", 1 << 60, "1024p"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written), "{text}");
            assert_eq!(written.parse(), Ok(size));
        }
        for bad in
            ["", "g", "-1", "64x", "64gg", "64gibb", "64ib", "64  g", " 64g", "1e3", "inf", "1.2.3g", ".g", "8192p"]
        {
            assert_eq!(bad.parse::<Size>(), Err(FlagError::Size(bad.into())));
        }
        assert!("99999999999999999999".parse::<Size>().is_err());
        assert!("9223372036854775808".parse::<Size>().is_err());
    }

    #[test]
    fn variables_hide_their_values() {
        let entry: EnvEntry = "TOKEN=s3cret=x".parse().unwrap();
        assert_eq!((entry.key.as_str(), entry.value.as_deref()), ("TOKEN", Some("s3cret=x")));
        assert_eq!(format!("{entry:?}"), "EnvEntry(TOKEN)");
        assert_eq!("BARE".parse::<EnvEntry>().unwrap().value, None);
        assert_eq!("EMPTY=".parse::<EnvEntry>().unwrap().value.as_deref(), Some(""));
        for bad in ["", "=x", "A=\0"] {
            assert_eq!(bad.parse::<EnvEntry>(), Err(FlagError::Env));
        }
    }

    #[test]
    fn host_names_are_what_the_kernel_takes() {
        for good in ["a", "train-01", "gpu.example.com", &"x".repeat(64)] {
            assert_eq!(good.parse::<Hostname>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "a b", "a/b", "ü", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }
}
