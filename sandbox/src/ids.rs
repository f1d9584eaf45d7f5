//! The ids of user namespaces (user_namespaces(7), subuid(5)): those of a new namespace, and those of the current one.

use std::env;
use std::fs;
use std::path::PathBuf;

use ociforge_manifests::runtime::{IdMap, IdMappings};
use rustix::process::{getegid, geteuid};
use rustix::thread::CapabilitySet;

use super::diagnosis::lacking;
use super::program;

/// A range of ids that a user may map into user namespaces: a line of `/etc/subuid` or `/etc/subgid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubordinateRange {
    /// The first id.
    pub start: u32,
    /// The number of ids; never 0.
    pub count: u32,
}

/// All possible ids of a new user namespace of this user, and the way to map them.
#[derive(Debug)]
pub(super) struct Ranges {
    pub(super) mappings: IdMappings,
    pub(super) giver: IdMapper,
}

/// The way to map ids into a user namespace of this process.
#[derive(Debug)]
pub(super) enum IdMapper {
    /// This user itself, which is root.
    Root,
    /// The setuid programs.
    Programs { newuidmap: PathBuf, newgidmap: PathBuf },
}

/// The possible ids of a new user namespace of this user: 0 is the user, and the ids from 1 are those of `/etc/subuid`
/// and `/etc/subgid`, if the programs that map them are installed.
#[must_use]
pub fn available() -> IdMappings {
    if let Ok(Some(ranges)) = ranges() {
        return ranges.mappings;
    }
    let own = |id: u32| new_namespace(id, &[], &[]);
    IdMappings { uids: own(geteuid().as_raw()), gids: own(getegid().as_raw()) }
}

/// The ids of the current user namespace; `None` in the initial one.
#[must_use]
pub fn current() -> Option<IdMappings> {
    let maps = IdMappings { uids: of_this_process("uid_map"), gids: of_this_process("gid_map") };
    let all = |maps: &[IdMap]| matches!(maps, [IdMap { container: 0, host: 0, size: u32::MAX }]);
    // Without /proc, the initial namespace is assumed.
    let usual = maps.uids.is_empty() || (all(&maps.uids) && all(&maps.gids));
    (!usual).then_some(maps)
}

/// The possible ids of a new user namespace of this user; `None` if the system gives the user no subordinate ids. The
/// error is the reason why configured ids are not usable.
pub(super) fn ranges() -> Result<Option<Ranges>, String> {
    let uid = geteuid().as_raw();
    let name = account_name(uid);
    let given = |file: &str| subordinate_ranges(&read(file), name.as_deref(), uid);
    let (users, groups) = (given("/etc/subuid"), given("/etc/subgid"));
    match (users.is_empty(), groups.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => return Err("/etc/subgid has a line for this user, but /etc/subuid has none".into()),
        (false, true) => return Err("/etc/subuid has a line for this user, but /etc/subgid has none".into()),
        (false, false) => {}
    }
    let tool = |name: &str| {
        let missing = || format!("/etc/subuid has ids for this user, but {name} is not installed (package uidmap)");
        program(name).ok_or_else(missing)
    };
    let (newuidmap, newgidmap) = (tool("newuidmap")?, tool("newgidmap")?);
    let mappings = IdMappings {
        uids: new_namespace(uid, &users, &of_this_process("uid_map")),
        gids: new_namespace(getegid().as_raw(), &groups, &of_this_process("gid_map")),
    };
    if mappings.uids.len() == 1 || mappings.gids.len() == 1 {
        return Err("the ids that /etc/subuid and /etc/subgid give to this user are not in this user namespace".into());
    }
    Ok(Some(Ranges { mappings, giver: IdMapper::Programs { newuidmap, newgidmap } }))
}

/// The ids of this user namespace, each mapped to itself, if this process is a root that can delegate them.
pub(super) fn of_root() -> Option<Ranges> {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP;
    if !geteuid().is_root() || !lacking(needed).is_empty() {
        return None;
    }
    let mappings = IdMappings {
        uids: each_as_itself(&of_this_process("uid_map")),
        gids: each_as_itself(&of_this_process("gid_map")),
    };
    let many = count(&mappings.uids) > 1 && count(&mappings.gids) > 1;
    many.then_some(Ranges { mappings, giver: IdMapper::Root })
}

/// The identity map of this namespace's ids. If the namespace has all ids, the map lacks the last one: a namespace with
/// all ids looks like the initial one.
fn each_as_itself(here: &[IdMap]) -> Vec<IdMap> {
    let same = |map: &IdMap| IdMap { container: map.container, host: map.container, size: map.size.min(u32::MAX - 1) };
    here.iter().map(same).collect()
}

/// The number of ids in a map.
pub(super) fn count(maps: &[IdMap]) -> u64 {
    maps.iter().map(|map| u64::from(map.size)).sum()
}

/// The ids of the current user namespace: `uid_map` or `gid_map`.
pub fn of_this_process(file: &str) -> Vec<IdMap> {
    parse_id_map(&read(&format!("/proc/self/{file}")))
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Parses `/proc/PID/uid_map` or `gid_map`. Skips invalid lines.
fn parse_id_map(text: &str) -> Vec<IdMap> {
    let map = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
        let map = IdMap { container: numbers.next()??, host: numbers.next()??, size: numbers.next()?? };
        numbers.next().is_none().then_some(map)
    };
    text.lines().filter_map(map).collect()
}

/// The lines of `/etc/subuid` or `/etc/subgid`, in order: the owner by name or number (both files name users, not
/// groups), and its range. Skips malformed lines, as newuidmap does.
pub fn subordinate_lines(text: &str) -> impl Iterator<Item = (&str, SubordinateRange)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let [owner, start, count] = [fields.next()?, fields.next()?, fields.next()?];
        let range = SubordinateRange { start: start.parse().ok()?, count: count.parse().ok()? };
        let sound = fields.next().is_none() && range.count > 0 && range.start.checked_add(range.count).is_some();
        sound.then_some((owner, range))
    })
}

/// The ranges of a user.
#[must_use]
pub fn subordinate_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<SubordinateRange> {
    let number = uid.to_string();
    let own = subordinate_lines(text).filter(|(owner, _)| Some(*owner) == name || *owner == number);
    own.map(|(_, range)| range).collect()
}

/// The map of a new namespace: `own` is 0, and the ids of the ranges follow from 1 without gaps, restricted to the ids
/// of the creating namespace (`here`; all if empty).
#[must_use]
pub fn new_namespace(own: u32, ranges: &[SubordinateRange], here: &[IdMap]) -> Vec<IdMap> {
    let all = [IdMap { container: 0, host: 0, size: u32::MAX }];
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    let mut maps = vec![IdMap { container: 0, host: own, size: 1 }];
    let mut next = 1_u32;
    for range in ranges {
        for map in if here.is_empty() { &all } else { here } {
            let from = range.start.max(map.container);
            let to = end(range.start, range.count).min(end(map.container, map.size));
            let size = u32::try_from(to.saturating_sub(u64::from(from))).unwrap_or(u32::MAX).min(u32::MAX - next);
            // The kernel refuses to map an id twice, including the user's own.
            let is_mapped = |map: &IdMap| u64::from(from) < end(map.host, map.size) && u64::from(map.host) < to;
            if size > 0 && !maps.iter().any(is_mapped) {
                maps.push(IdMap { container: next, host: from, size });
                next += size;
            }
        }
    }
    maps
}

/// The name of the account with this uid.
#[must_use]
pub fn account_name(uid: u32) -> Option<String> {
    name_of(&read("/etc/passwd"), uid, env::var("USER").ok())
}

/// The name of the first account with this uid in passwd(5)'s form, or else the value of the user's variable, for users
/// of directory services, who are not in the file.
fn name_of(passwd: &str, uid: u32, word: Option<String>) -> Option<String> {
    let accounts = || passwd.lines().map(|line| line.split(':'));
    let named = accounts().find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let is_anothers = |name: &String| accounts().any(|mut fields| fields.next() == Some(name));
    named.or_else(|| word.filter(|name| !name.is_empty() && !is_anothers(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    fn range(start: u32, count: u32) -> SubordinateRange {
        SubordinateRange { start, count }
    }

    #[test]
    fn maps_of_the_kernel_are_read() {
        assert_eq!(parse_id_map("         0          0 4294967295\n"), [map(0, 0, u32::MAX)]);
        let rootless = parse_id_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(rootless, [map(0, 1000, 1), map(1, 100_000, 65536)]);
        assert_eq!(parse_id_map("0 0\n0 0 1 1\nx 0 1\n"), []);
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:1:2\n1000:300000:10\n alice:500000:5 \n";
        let cases: [(Option<&str>, u32, &[SubordinateRange]); 4] = [
            (Some("alice"), 1000, &[range(100_000, 65536), range(300_000, 10), range(500_000, 5)]),
            (Some("alice"), 7, &[range(100_000, 65536), range(500_000, 5)]),
            (None, 1000, &[range(300_000, 10)]),
            (Some("ali"), 100, &[]),
        ];
        for (name, uid, expected) in cases {
            assert_eq!(subordinate_ranges(text, name, uid), expected, "{name:?} {uid}");
        }
    }

    #[test]
    fn malformed_ranges_are_left_out() {
        let text = "a\na:1\na:x:1\na:1:0\na:-1:5\na:4294967295:2\na:1:2:3\n# a:1:1\n\na:8:9\n";
        assert_eq!(subordinate_ranges(text, Some("a"), 0), [range(8, 9)]);
    }

    #[test]
    fn a_new_namespace_has_the_user_and_the_ranges_that_are_here() {
        let first = [map(0, 0, u32::MAX)];
        for (own, ranges, here, expected) in [
            (1000, &[][..], &first[..], &[map(0, 1000, 1)][..]),
            (1000, &[(100_000, 65_536)], &first, &[map(0, 1000, 1), map(1, 100_000, 65_536)]),
            (5, &[(10, 2), (20, 3)], &[], &[map(0, 5, 1), map(1, 10, 2), map(3, 20, 3)]),
            // Without gaps in any order, up to the maximum id.
            (0, &[(100, 10), (7, 5)], &first, &[map(0, 0, 1), map(1, 100, 10), map(11, 7, 5)]),
            (0, &[(1, u32::MAX - 1)], &first, &[map(0, 0, 1), map(1, 1, u32::MAX - 1)]),
            // A namespace with a part of the range.
            (0, &[(100, 100)], &[map(0, 1000, 1), map(1, 100_000, 149)], &[map(0, 0, 1), map(1, 100, 50)]),
            (0, &[(100_000, 65_536)], &[map(0, 1000, 1)], &[map(0, 0, 1)]),
            // A range that two maps split, and one that contains the user.
            (9, &[(10, 10)], &[map(0, 500, 15), map(15, 900, 9)], &[map(0, 9, 1), map(1, 10, 5), map(6, 15, 5)]),
            (1000, &[(900, 200), (2000, 1)], &first, &[map(0, 1000, 1), map(1, 2000, 1)]),
            // Ids in two ranges.
            (0, &[(10, 5), (10, 5), (14, 2), (15, 1)], &[], &[map(0, 0, 1), map(1, 10, 5), map(6, 15, 1)]),
        ] {
            let ranges: Vec<_> = ranges.iter().map(|(start, count)| range(*start, *count)).collect();
            assert_eq!(new_namespace(own, &ranges, here), expected, "{own} {ranges:?} {here:?}");
        }
    }

    #[test]
    fn names_come_from_passwd_and_for_others_from_themselves() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nal:x:1000:5::/:/bin/sh\nal2:x:1000:5::/:/bin/sh\n";
        let name = |uid, word: &str| name_of(passwd, uid, Some(word.to_owned()));
        assert_eq!(name(1000, "eve").as_deref(), Some("al"));
        assert_eq!(name(5, "eve").as_deref(), Some("eve"));
        assert_eq!(name(5, "root"), None);
        assert_eq!((name(5, ""), name_of(passwd, 5, None)), (None, None));
    }

    #[test]
    fn this_process_may_map_itself() {
        let maps = available();
        assert_eq!(maps.uids[0], map(0, geteuid().as_raw(), 1));
        assert_eq!(maps.gids[0], map(0, getegid().as_raw(), 1));
    }
}
