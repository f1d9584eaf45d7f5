//! `--ulimit`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::flag_error::FlagError;
use super::values::as_text;

/// Docker's names of limits; the runtime spec has them in upper case after `RLIMIT_`.
const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ulimit {
    /// One of the known names.
    name: String,
    /// In the resource's unit; `u64::MAX` is no limit.
    soft: u64,
    /// The same.
    hard: u64,
}

impl Ulimit {
    /// The resource, in docker's spelling.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same limit, at most `most`; and whether that changed it.
    pub(crate) fn at_most(&self, most: u64) -> (Self, bool) {
        let lowered = Self { name: self.name.clone(), soft: self.soft.min(most), hard: self.hard.min(most) };
        let changed = lowered != *self;
        (lowered, changed)
    }

    /// The entry of `process.rlimits`.
    pub(crate) fn rlimit(&self) -> serde_json::Value {
        let kind = format!("RLIMIT_{}", self.name.to_ascii_uppercase());
        serde_json::json!({"type": kind, "soft": self.soft, "hard": self.hard})
    }
}

impl FromStr for Ulimit {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let wrong = |why, known| FlagError::Ulimit { text: text.to_owned(), why, known };
        let error = |why| wrong(why, &[]);
        let number = |digits: &str| match digits.parse::<i64>() {
            Ok(-1) => Ok(u64::MAX),
            Ok(number) => u64::try_from(number).map_err(|_| error("a limit below -1")),
            Err(_) => Err(error("a limit is not a number")),
        };
        let (name, limits) = text.split_once('=').ok_or_else(|| error("the `=` is missing"))?;
        if !NAMES.contains(&name) {
            return Err(wrong("no limit has that name", &NAMES));
        }
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(error("the soft limit is above the hard one"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: u64| i64::try_from(limit).unwrap_or(-1);
        write!(f, "{}={}:{}", self.name, text(self.soft), text(self.hard))
    }
}

as_text!(Ulimit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_a_name_a_soft_and_a_hard_value() {
        let json = |text: &str| text.parse::<Ulimit>().unwrap().rlimit();
        assert_eq!(json("nofile=1024:2048"), serde_json::json!({"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}));
        assert_eq!(json("core=0"), serde_json::json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}));
        assert_eq!(
            json("memlock=-1:-1"),
            serde_json::json!({"type": "RLIMIT_MEMLOCK", "soft": u64::MAX, "hard": u64::MAX})
        );
        assert_eq!("stack=5:-1".parse::<Ulimit>().unwrap().to_string(), "stack=5:-1");
        for bad in ["", "nofile", "=1", "nofile=", "nofile=a", "nofile=1:2:3", "nofile=2:1", "nofile=-1:5", "nofile=-2"]
        {
            assert!(bad.parse::<Ulimit>().is_err(), "{bad}");
        }
        assert_eq!("nofiles=1".parse::<Ulimit>().unwrap_err().hint().unwrap(), "did you mean nofile?");
    }
}
