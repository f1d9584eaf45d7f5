//! Recorded owners and devices, for a user with only one id.
//!
//! Regular files and directories have them in the extended attribute [`ATTRIBUTE`], which overlayfs copies up with the
//! file. Files that cannot have such an attribute (symbolic links, fifos, sockets) are in an [`OwnershipTable`]. A file
//! without either belongs to the root of the namespace, which is the user.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The extended attribute. It is never part of a layer.
pub const ATTRIBUTE: &str = "user.ociforge.owner";

/// The number as an id of a user or a group; `None` above the limit of the system. The largest number means "unchanged"
/// in chown(2).
pub(crate) fn id(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX)
}

/// The recorded ownership of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnershipRecord {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The device that the empty regular file represents.
    pub device: Option<RecordedDevice>,
}

/// A device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedDevice {
    /// Whether it is a block device rather than a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Text that is not an [`OwnershipRecord`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an owner")]
pub struct NoOwner(String);

impl fmt::Display for OwnershipRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)?;
        let Some(RecordedDevice { block, major, minor }) = self.device else { return Ok(()) };
        write!(f, ":{}:{major}:{minor}", if block { 'b' } else { 'c' })
    }
}

impl FromStr for OwnershipRecord {
    type Err = NoOwner;

    /// `UID:GID`, or `UID:GID:c:MAJOR:MINOR` with `b` for a block device.
    fn from_str(text: &str) -> Result<Self, NoOwner> {
        let refused = || NoOwner(text.to_owned());
        let number = |word: &str| word.parse::<u32>().map_err(|_| refused());
        let (owner, device) = match *text.split(':').collect::<Vec<_>>() {
            [uid, gid] => ((uid, gid), None),
            [uid, gid, kind @ ("b" | "c"), major, minor] => {
                ((uid, gid), Some(RecordedDevice { block: kind == "b", major: number(major)?, minor: number(minor)? }))
            }
            _ => return Err(refused()),
        };
        Ok(Self { uid: number(owner.0)?, gid: number(owner.1)?, device })
    }
}

/// The identity of a file: inode numbers are reused, creation times are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileIdentity {
    /// The inode's number.
    pub inode: u64,
    /// The time of its creation: seconds and nanoseconds since 1970; 0 if the filesystem does not record it.
    pub born: (i64, u32),
}

/// The owners of files without extended attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnershipTable(pub BTreeMap<FileIdentity, OwnershipRecord>);

impl fmt::Display for OwnershipTable {
    /// One line per file: inode, seconds, nanoseconds, owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(FileIdentity { inode, born: (seconds, nanoseconds) }, owner)| {
            writeln!(f, "{inode} {seconds} {nanoseconds} {owner}")
        })
    }
}

impl FromStr for OwnershipTable {
    type Err = NoOwner;

    fn from_str(text: &str) -> Result<Self, NoOwner> {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let inode = words.next()?.parse().ok()?;
            let born = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let owner = words.next()?.parse().ok()?;
            words.next().is_none().then_some((FileIdentity { inode, born }, owner))
        };
        let entries = text.lines().map(|text| line(text).ok_or_else(|| NoOwner(text.to_owned())));
        entries.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for text in ["0:0", "33:4294967294", "0:6:b:8:1", "0:0:c:1:3"] {
            assert_eq!(text.parse::<OwnershipRecord>().unwrap().to_string(), text);
        }
        for bad in ["", "0", "0:x", "0:0:d:1:1", "0:0:c:1", "-1:0", "0:0:c:1:3:", "0:4294967296"] {
            assert!(bad.parse::<OwnershipRecord>().is_err(), "{bad}");
        }
        let text = "7 1700000000 5 33:33\n8 -1 0 0:0:c:1:3\n";
        assert_eq!(text.parse::<OwnershipTable>().unwrap().to_string(), text);
        assert!("7 1 2 3\n".parse::<OwnershipTable>().is_err() && "7 1 2 3:3 4\n".parse::<OwnershipTable>().is_err());
    }
}
