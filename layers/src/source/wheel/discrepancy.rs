//! Differences between a wheel's RECORD and its files.
//!
//! pip and uv install such wheels: some builds change METADATA or remove files after they write RECORD, and large
//! packages were published in this state. The hash of the wheel protects its content.

use std::fmt;

/// A difference between RECORD and the archive. Names are those of members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discrepancy {
    /// A member that RECORD does not list.
    Unlisted(String),
    /// A row of RECORD without a member.
    Absent(String),
    /// Different rows of RECORD for the same member.
    Twice(String),
    /// A row without a hash, or with one that is too weak (PEP 427: SHA-256 or better) or invalid.
    NoHash(String),
    /// A member whose hash differs from that in RECORD.
    OtherHash(String),
    /// A member whose length differs from that in RECORD.
    OtherSize(String),
    /// An invalid line of RECORD, counted from 1.
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

/// A replacement for a RECORD that differs from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The rows of the wheel's members, for [`Wheel::with_record`](super::Wheel::with_record).
    pub record: String,
    /// The faults of the wheel's own RECORD; never empty.
    pub discrepancies: Vec<Discrepancy>,
}
