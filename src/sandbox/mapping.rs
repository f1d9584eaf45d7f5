//! Ids inside and outside of a user namespace, as text files have them.

/// A run of ids: `inside` in the user namespace is `outside` in the one around it, and so on for `count` ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// A run of ids that a user may map into user namespaces: a line of `/etc/subuid` or `/etc/subgid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubordinateRange {
    /// The first id.
    pub start: u32,
    /// How many ids; never 0.
    pub count: u32,
}

/// Reads `/proc/PID/uid_map` or `gid_map`. Lines that are none are left out.
#[must_use]
pub fn parse_id_map(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(mapping).collect()
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
    let [inside, outside, count] = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(Mapping { inside, outside, count })
}

/// Whether the mappings are those of the initial user namespace.
#[must_use]
pub fn maps_everything(mappings: &[Mapping]) -> bool {
    mappings == [Mapping { inside: 0, outside: 0, count: u32::MAX }]
}

/// The ranges that `/etc/subuid` or `/etc/subgid` gives to a user, by name or by number (both files name users, not
/// groups), in the order of the lines. Malformed lines are left out, as newuidmap does.
#[must_use]
pub fn subordinate_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<SubordinateRange> {
    let number = uid.to_string();
    let mut ranges: Vec<SubordinateRange> = Vec::new();
    for line in text.lines() {
        let Some((owner, range)) = subordinate(line) else { continue };
        // A line that is there twice would map its ids twice, which the kernel refuses.
        if (Some(owner) == name || owner == number) && !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    ranges
}

fn subordinate(line: &str) -> Option<(&str, SubordinateRange)> {
    let mut fields = line.trim().split(':');
    let [owner, start, count] = [fields.next()?, fields.next()?, fields.next()?];
    let range = SubordinateRange { start: start.parse().ok()?, count: count.parse().ok()? };
    let sound = fields.next().is_none() && range.count > 0 && range.start.checked_add(range.count).is_some();
    sound.then_some((owner, range))
}

/// The mappings of a namespace whose root is the id `own`, and whose other ids are those of the ranges, without gaps.
#[must_use]
pub fn own_and_ranges(own: u32, ranges: &[SubordinateRange]) -> Vec<Mapping> {
    let mut mappings = vec![Mapping { inside: 0, outside: own, count: 1 }];
    let mut next: u32 = 1;
    for range in ranges {
        let count = range.count.min(u32::MAX - next);
        if count > 0 {
            mappings.push(Mapping { inside: next, outside: range.start, count });
            next += count;
        }
    }
    mappings
}

/// The name of the user with that number in `/etc/passwd`.
pub(super) fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, count: u32) -> SubordinateRange {
        SubordinateRange { start, count }
    }

    #[test]
    fn maps_of_the_kernel_are_read() {
        let initial = parse_id_map("         0          0 4294967295\n");
        assert!(maps_everything(&initial));
        let rootless = parse_id_map("         0       1000          1\n         1     100000      65536\n");
        let expected = [(0, 1000, 1), (1, 100_000, 65536)];
        assert_eq!(rootless, expected.map(|(inside, outside, count)| Mapping { inside, outside, count }));
        assert!(!maps_everything(&rootless));
        assert_eq!(parse_id_map("0 0\n0 0 1 1\nx 0 1\n"), []);
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:1:2\n1000:300000:10\nalice:100000:65536\n alice:500000:5 \n";
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
    fn the_own_id_is_root_and_the_ranges_follow_without_gaps() {
        let mappings = own_and_ranges(1000, &[range(100_000, 10), range(7, 5), range(1, u32::MAX)]);
        let expected = [(0, 1000, 1), (1, 100_000, 10), (11, 7, 5), (16, 1, u32::MAX - 16)];
        assert_eq!(mappings, expected.map(|(inside, outside, count)| Mapping { inside, outside, count }));
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nal:x:1000:5::/:/bin/sh\nal2:x:1000:5::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("al"));
        assert_eq!(user_name(passwd, 5), None);
    }
}
