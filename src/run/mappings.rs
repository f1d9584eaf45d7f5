//! The ids that this user may give to a user namespace (user_namespaces(7), subuid(5)).

use std::fs;
use std::path::Path;

use ociforge_manifests::runtime::{IdMap, IdMappings};
use rustix::process::{getegid, geteuid};

/// The programs with the privilege to map more than oneself.
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// What a new user namespace of this user may have: 0 is the user, and the ids from 1 on are those that
/// `/etc/subuid` and `/etc/subgid` give, where the helpers are installed that may map these.
#[must_use]
pub fn available() -> IdMappings {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let helpers = HELPERS.iter().all(|name| super::host::program(name).is_some());
    let name = name_of(&read("/etc/passwd"), uid);
    let ids = |own: u32, ranges: &str, here: &str| {
        let ranges = if helpers { subordinate(&read(ranges), name.as_deref(), uid) } else { Vec::new() };
        new_namespace(own, &ranges, &id_map(&read(here)))
    };
    let maps = IdMappings {
        uids: ids(uid, "/etc/subuid", "/proc/self/uid_map"),
        gids: ids(gid, "/etc/subgid", "/proc/self/gid_map"),
    };
    // Who has further users but no further groups, or the other way round, gets nothing of the helpers.
    if maps.uids.len() > 1 && maps.gids.len() > 1 {
        return maps;
    }
    IdMappings { uids: maps.uids.into_iter().take(1).collect(), gids: maps.gids.into_iter().take(1).collect() }
}

/// The ids of the user namespace in which this process is, unless it is the machine's first.
#[must_use]
pub fn current() -> Option<IdMappings> {
    let (uids, gids) = (id_map(&read("/proc/self/uid_map")), id_map(&read("/proc/self/gid_map")));
    let first = |maps: &[IdMap]| matches!(maps, [IdMap { container: 0, host: 0, size: u32::MAX }]);
    // Without /proc nothing is known, and the usual case is assumed.
    let usual = uids.is_empty() || (first(&uids) && first(&gids));
    (!usual).then_some(IdMappings { uids, gids })
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(file)).unwrap_or_default()
}

/// The name of the first account with this uid in passwd(5)'s form.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let mut accounts = passwd.lines().map(|line| line.split(':'));
    accounts.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The ranges of a user in subuid(5)'s form: first id and number. Lines that make no sense are skipped, as the helpers
/// do.
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, size) = (fields.next()?.parse().ok()?, fields.next()?.trim_end().parse().ok()?);
        let owns = name == Some(owner) || owner.parse() == Ok(uid);
        (owns && fields.next().is_none() && size > 0 && u32::checked_add(first, size).is_some())
            .then_some((first, size))
    };
    text.lines().filter_map(range).collect()
}

/// The lines of `/proc/PID/uid_map`: inside, outside, size.
fn id_map(text: &str) -> Vec<IdMap> {
    let map = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        Some(IdMap { container: numbers.next()??, host: numbers.next()??, size: numbers.next()?? })
    };
    text.lines().filter_map(map).collect()
}

/// The map of a new namespace: `own` is 0, and `ranges` follow from 1 on, as far as the namespace that makes it has
/// these ids (`here`; all, if it is empty).
fn new_namespace(own: u32, ranges: &[(u32, u32)], here: &[IdMap]) -> Vec<IdMap> {
    let mut maps = vec![IdMap { container: 0, host: own, size: 1 }];
    let mut next = 1_u32;
    for &(first, size) in ranges {
        let end = u64::from(first) + u64::from(size);
        let all = [IdMap { container: 0, host: 0, size: u32::MAX }];
        for map in if here.is_empty() { &all } else { here } {
            let from = first.max(map.container);
            let to = end.min(u64::from(map.container) + u64::from(map.size));
            let Ok(size) = u32::try_from(to.saturating_sub(u64::from(from))) else { continue };
            // The user's own id can't be mapped twice.
            let holds_own = (u64::from(from)..to).contains(&u64::from(own));
            let Some(after) = next.checked_add(size).filter(|_| size > 0 && !holds_own) else { continue };
            maps.push(IdMap { container: next, host: from, size });
            next = after;
        }
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "you:1:2\nme:100000:65536\n1000:200000:10\n\nme:x:5\nme:5\nme:5:0\nme:4294967295:2\nme:7:8:9\n# me:1:1\nme:300000:1 ";
        assert_eq!(subordinate(text, Some("me"), 1000), [(100_000, 65_536), (200_000, 10), (300_000, 1)]);
        assert_eq!(subordinate(text, None, 1000), [(200_000, 10)]);
        assert_eq!(subordinate(text, Some("nobody"), 5), []);
        assert_eq!(name_of("root:x:0:0::/:\nbad\nme:x:1000:5::/:\nagain:x:1000:", 1000).unwrap(), "me");
        assert_eq!(name_of("x", 0), None);
    }

    #[test]
    fn a_new_namespace_has_the_user_and_the_ranges_that_are_here() {
        let first = [map(0, 0, u32::MAX)];
        for (own, ranges, here, expected) in [
            (1000, &[][..], &first[..], &[map(0, 1000, 1)][..]),
            (1000, &[(100_000, 65_536)], &first, &[map(0, 1000, 1), map(1, 100_000, 65_536)]),
            (5, &[(10, 2), (20, 3)], &[], &[map(0, 5, 1), map(1, 10, 2), map(3, 20, 3)]),
            // A namespace in which only part of the range is there.
            (0, &[(100, 100)], &[map(0, 1000, 1), map(1, 100_000, 149)], &[map(0, 0, 1), map(1, 100, 50)]),
            (0, &[(100_000, 65_536)], &[map(0, 1000, 1)], &[map(0, 0, 1)]),
            // A range split over two maps, and one with the user himself in it.
            (9, &[(10, 10)], &[map(0, 500, 15), map(15, 900, 9)], &[map(0, 9, 1), map(1, 10, 5), map(6, 15, 5)]),
            (1000, &[(900, 200), (2000, 1)], &first, &[map(0, 1000, 1), map(1, 2000, 1)]),
        ] {
            assert_eq!(new_namespace(own, ranges, here), expected, "{own} {ranges:?} {here:?}");
        }
    }

    #[test]
    fn the_kernels_maps_are_read() {
        let text = "         0          0 4294967295\n";
        assert_eq!(id_map(text), [map(0, 0, u32::MAX)]);
        assert_eq!(id_map("0 1000 1\n1 100000 65536\nx\n1 2"), [map(0, 1000, 1), map(1, 100_000, 65_536)]);
    }

    #[test]
    fn this_process_may_map_itself() {
        let maps = available();
        assert_eq!(maps.uids[0], map(0, geteuid().as_raw(), 1));
        assert_eq!(maps.gids[0], map(0, getegid().as_raw(), 1));
    }
}
