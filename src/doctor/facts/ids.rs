//! The ids that may be mapped into a user namespace.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Machine, text};
use crate::run::host::find;

/// Where free ids are looked for at the earliest, as useradd does.
const FIRST: u64 = 100_000;

/// The ids that may be mapped into a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// How many user ids `/etc/subuid` gives to this user.
    pub users: u64,
    /// How many group ids `/etc/subgid` gives to it.
    pub groups: u64,
    /// The first id that neither file gives to anybody, nor any after it.
    pub free: u64,
    /// `newuidmap`.
    pub newuidmap: Mapper,
    /// `newgidmap`.
    pub newgidmap: Mapper,
}

/// A program that maps ids for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mapper {
    /// It is not installed.
    #[default]
    Absent,
    /// It is neither setuid root nor has it capabilities, and so can't map anything.
    Powerless,
    /// It can.
    Able,
}

impl Ids {
    pub(super) fn gather(machine: &Machine) -> Self {
        let [users, groups] = ["/etc/subuid", "/etc/subgid"].map(|file| text(file).unwrap_or_default());
        Self {
            users: count(&users, machine),
            groups: count(&groups, machine),
            free: end(&users).max(end(&groups)).max(FIRST),
            newuidmap: mapper("newuidmap"),
            newgidmap: mapper("newgidmap"),
        }
    }
}

/// The lines of `/etc/subuid` or `/etc/subgid`: owner, first id, number of ids.
fn ranges(text: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn count(text: &str, machine: &Machine) -> u64 {
    let uid = machine.uid.to_string();
    let own = |owner: &str| owner == uid || machine.user.as_deref() == Some(owner);
    ranges(text).filter(|(owner, ..)| own(owner)).map(|(.., count)| count).sum()
}

fn end(text: &str) -> u64 {
    ranges(text).map(|(_, first, count)| first.saturating_add(count)).max().unwrap_or(0)
}

fn mapper(name: &str) -> Mapper {
    let Some(path) = find(name, std::env::var_os("PATH").as_deref()) else { return Mapper::Absent };
    let setuid = path.metadata().is_ok_and(|file| file.uid() == 0 && file.permissions().mode() & 0o4000 != 0);
    if setuid || has_capabilities(&path) { Mapper::Able } else { Mapper::Powerless }
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(path, "security.capability", &mut value[..]).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "al:100000:65536\n7:200000:10\nal2:1:2\nbroken\n";
        let machine = |uid, user: Option<&str>| Machine { uid, user: user.map(Into::into), ..Machine::default() };
        assert_eq!(count(text, &machine(7, Some("al"))), 65546);
        assert_eq!(count(text, &machine(8, None)), 0);
        assert_eq!((end(text), end("")), (200_010, 0));
    }
}
