//! Differences between a wheel's RECORD and its files.
//!
//! pip and uv install such wheels: builds change METADATA after they have written RECORD, or take files away, and large
//! packages have been published so. What a wheel holds is known by the wheel's own hash.

use std::fmt;

/// A respect in which RECORD differs from the archive. Names are those of members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discrepancy {
    /// A member that RECORD does not list.
    Unlisted(String),
    /// A row of RECORD without a member.
    Absent(String),
    /// Rows of RECORD that differ and are about the same member.
    Twice(String),
    /// A row without a hash, or with one that is too weak (PEP 427: SHA-256 or better) or cannot be read.
    NoHash(String),
    /// A member whose bytes are not those of which RECORD has the hash.
    OtherHash(String),
    /// A member that has another length than RECORD says.
    OtherSize(String),
    /// A line of RECORD, counted from 1, that cannot be read.
    Unreadable(usize),
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted(name) => write!(f, "`{name}` is not in RECORD"),
            Self::Absent(name) => write!(f, "RECORD lists `{name}`, which is not in the wheel"),
            Self::Twice(name) => write!(f, "RECORD has two rows of `{name}`, which differ"),
            Self::NoHash(name) => write!(f, "RECORD has no SHA-256, SHA-384 or SHA-512 of `{name}`"),
            Self::OtherHash(name) => write!(f, "the hash of `{name}` differs from RECORD"),
            Self::OtherSize(name) => write!(f, "the size of `{name}` differs from RECORD"),
            Self::Unreadable(line) => write!(f, "line {line} of RECORD is invalid"),
        }
    }
}

/// A RECORD in the place of one that differs from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The rows of the wheel's members, for [`Wheel::with_record`](super::Wheel::with_record).
    pub record: String,
    /// What is wrong in the wheel's own; never empty.
    pub discrepancies: Vec<Discrepancy>,
}
