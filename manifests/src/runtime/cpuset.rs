//! `--cpuset-cpus`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::flag_error::FlagError;
use super::values::as_text;

/// Maximum number of a CPU; docker's limit.
const MAX_CPU: u32 = 8191;

/// A set of CPUs, as ranges that neither touch nor overlap, in ascending order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(Vec<(u32, u32)>);

impl CpuSet {
    /// Whether every CPU of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().all(|(first, last)| other.0.iter().any(|(from, to)| from <= first && last <= to))
    }

    /// The CPUs in both sets; `None` if there are none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let pairs = self.0.iter().flat_map(|own| other.0.iter().map(move |theirs| (own, theirs)));
        let common = pairs.map(|(own, theirs)| (own.0.max(theirs.0), own.1.min(theirs.1)));
        let ranges: Vec<_> = common.filter(|(first, last)| first <= last).collect();
        (!ranges.is_empty()).then_some(Self(ranges))
    }
}

impl FromStr for CpuSet {
    type Err = FlagError;

    /// Parses the kernel's list format (cpuset(7)): numbers and ranges separated by commas.
    fn from_str(text: &str) -> Result<Self, FlagError> {
        let error = || FlagError::Cpus(text.to_owned());
        let number = |digits: &str| match digits.parse::<u32>() {
            Ok(cpu) if cpu <= MAX_CPU && !digits.starts_with('+') => Ok(cpu),
            _ => Err(error()),
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(error());
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            write!(f, "{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

as_text!(CpuSet);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_a_list_of_ranges() {
        for (text, written) in
            [("0-31", "0-31"), ("0", "0"), ("3,1,2", "1-3"), ("0-3,2-5,8", "0-5,8"), ("5-5", "5"), ("8191", "8191")]
        {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), written, "{text}");
        }
        for bad in
            ["", ",", "0,", "a", "3-1", "0-", "-1", "1--2", "0-31:2", " 0", "+1", "8192", "0-4294967296", "1-2-3"]
        {
            assert_eq!(bad.parse::<CpuSet>(), Err(FlagError::Cpus(bad.into())));
        }
        let set = |text: &str| text.parse::<CpuSet>().unwrap();
        assert!(set("0-1,3").is_subset(&set("0-3")));
        assert!(!set("0-31").is_subset(&set("0-1")));
        assert!(!set("1-3").is_subset(&set("1,3")));
        for (one, other, both) in
            [("0-31", "0-1", Some("0-1")), ("0-3,6-9", "2-7,9", Some("2-3,6-7,9")), ("4", "0-3", None)]
        {
            assert_eq!(set(one).intersection(&set(other)), both.map(set), "{one} {other}");
            assert_eq!(set(other).intersection(&set(one)), both.map(set), "{other} {one}");
        }
    }
}
