//! The fields of a tar header.

use ::tar::{EntryType, Header};

use super::EntryKind;

/// Whether the header's checksum is right. The checksum counts its own eight bytes as spaces.
pub(super) fn is_sound(block: &[u8; 512]) -> bool {
    let sum = block[..148].iter().chain(&block[156..]).map(|byte| i64::from(*byte)).sum::<i64>() + 8 * 32;
    number(&block[148..156]) == Some(sum)
}

/// The kind of an entry; `None` if it is not supported.
pub(super) fn kind(header: &Header) -> Option<EntryKind> {
    Some(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::Regular,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Link => EntryKind::Hardlink,
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char => EntryKind::CharDevice,
        EntryType::Block => EntryKind::BlockDevice,
        _ => return None,
    })
}

pub(super) fn mode(header: &Header) -> Option<u32> {
    number(&header.as_old().mode)?.try_into().ok()
}

pub(super) fn uid(header: &Header) -> Option<u64> {
    number(&header.as_old().uid)?.try_into().ok()
}

pub(super) fn gid(header: &Header) -> Option<u64> {
    number(&header.as_old().gid)?.try_into().ok()
}

pub(super) fn size(header: &Header) -> Option<u64> {
    number(&header.as_old().size)?.try_into().ok()
}

/// Seconds since 1970.
pub(super) fn mtime(header: &Header) -> Option<i64> {
    number(&header.as_old().mtime)
}

/// Major and minor number, if the header has these fields.
pub(super) fn device(header: &Header) -> Option<(u32, u32)> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        _ => return None,
    };
    Some((number(major)?.try_into().ok()?, number(minor)?.try_into().ok()?))
}

/// A numeric field: octal digits between spaces or NULs, empty for zero, or GNU's big-endian binary number with the
/// first bit set.
fn number(field: &[u8]) -> Option<i64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        // The second bit is the sign.
        let top = i128::from((first << 1).cast_signed() >> 1);
        let value = rest.iter().fold(top, |value, byte| (value << 8) | i128::from(*byte));
        return value.try_into().ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let mut value: i64 = 0;
    for digit in field[start..].iter().take_while(|byte| !blank(byte)) {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (b"0000644\0".as_slice(), Some(0o644)),
            (b"  644 \0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"0000648\0", None),
            (b"+000644\0", None),
            (b"\x80\0\0\0\x01\0\0\0", Some(1 << 24)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
