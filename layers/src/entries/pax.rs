//! PAX extended headers (POSIX.1-2017, pax, "pax Header Block").

use std::collections::BTreeMap;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// The map of a sparse file (GNU tar's manual, "PAX Format, Version 0.1"): numbers separated by commas.
pub(super) const SPARSE_MAP: &str = "GNU.sparse.map";

/// The records of version 0.0: these two for each segment of the file. Other records do not repeat.
const REPEATED: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that second, below 10⁹.
    pub nanoseconds: u32,
}

impl Time {
    /// Parses decimal seconds. Digits below nanoseconds are dropped.
    pub(super) fn parse(time: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(time).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let seconds: i64 = whole.parse().ok()?;
        let digits = fraction.bytes().map(|digit| u32::from(digit - b'0')).chain(std::iter::repeat(0));
        let nanoseconds = digits.take(9).fold(0, |value, digit| value * 10 + digit);
        if whole.starts_with('-') && nanoseconds > 0 {
            // The fraction of a negative number counts downwards.
            return Some(Self { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
        }
        Some(Self { seconds, nanoseconds })
    }
}

/// The records of an extended header. They cannot be split at line ends, because values may contain them. A sparse map
/// in several records is joined to one.
pub(super) fn records(mut block: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while !block.is_empty() {
        let space = block.iter().take(20).position(|byte| *byte == b' ')?;
        let len = usize::try_from(number(&block[..space])?).ok()?;
        let record = block.get(space + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if REPEATED.contains(&key) {
            let map = records.entry(SPARSE_MAP.into()).or_default();
            map.extend(b",".iter().take(map.len()).chain(value));
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        block = &block[len..];
    }
    Some(records)
}

/// The extended attributes among the records.
pub(super) fn xattrs(records: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    records.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value))).collect()
}

/// A decimal number.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Text up to its first NUL.
pub(super) fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, time) in [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("-3.000", Some((-3, 0))),
            ("7.1234567899", Some((7, 123_456_789))),
            ("9223372036854775807", Some((i64::MAX, 0))),
            ("9223372036854775808", None),
            ("-9223372036854775808.5", None),
            ("1.-5", None),
            ("", None),
            ("x", None),
        ] {
            let parsed = Time::parse(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
            assert_eq!(parsed, time, "{text}");
        }
    }
}
