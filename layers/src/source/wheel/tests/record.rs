//! RECORD and metadata against the content, sound and damaged.

use super::*;

#[test]
fn damaged_content_is_found() {
    let damaged = |entry| with(entry).unwrap().verify().map_err(|error| error.fault);
    refused!(damaged(Entry { crc32: 1, ..entry("a", b"x") }), WheelFault::Damaged { .. });
    refused!(damaged(Entry { crc32: 1, ..entry("a", b"x").stored() }), WheelFault::Damaged { .. });
    let mut extra = entry("a", b"x");
    extra.packed.push(0);
    extra.packed_len += 1;
    refused!(damaged(extra), WheelFault::Damaged { reason: "there are data after its deflate stream", .. });
    let mut cut = entry("a", &(0..=255).collect::<Vec<u8>>());
    cut.packed.truncate(100);
    cut.packed_len = 100;
    refused!(damaged(cut), WheelFault::Damaged { .. });
    let mut garbage = entry("a", b"xyz");
    garbage.packed.fill(0xff);
    refused!(damaged(garbage), WheelFault::Damaged { reason: "its deflate stream is damaged", .. });
}

#[test]
fn metadata_that_is_damaged_is_not_used() {
    let mut entries = sound();
    entries[3].crc32 = 1;
    refused!(open(entries), WheelFault::Damaged { .. });
    let mut entries = sound();
    entries[3] = entry(&format!("{INFO}/METADATA"), b"\xff");
    refused!(open(entries), WheelFault::NotText(_));
}

/// What a wheel holds counts, whatever RECORD says: the RECORD that is installed is right.
#[test]
fn a_record_that_differs_is_corrected() {
    use Discrepancy::*;
    let x = || entry("a", b"x");
    let name = || "a".to_owned();
    let gone = format!("1\ngone,{},1", hash(b"x"));
    let out = format!("1\n../../../etc/passwd,{},1", hash(b"x"));
    let twice = format!("1\na,{},1", hash(b"y"));
    for (wheel, expected) in [
        (with(x().unrecorded()), vec![Unlisted(name())]),
        (with(x().row("", "")), vec![NoHash(name())]),
        (with(x().row("md5=nUV5fWQ6w4KKwEPnAZ05bA", "1")), vec![NoHash(name())]),
        (with(x().row("sha384=", "")), vec![NoHash(name())]),
        (with(x().row(&hash(b"y"), "1")), vec![OtherHash(name())]),
        (with(x().row(&hash(b"x"), "2")), vec![OtherSize(name())]),
        (with(x().row(&hash(b"x"), "18446744073709551616")), vec![OtherSize(name())]),
        (with(x().row(&hash(b"x"), "1,")), vec![Unreadable(6), Unlisted(name())]),
        (with(x().row(&hash(b"x"), &gone)), vec![Absent("gone".into())]),
        (with(x().row(&hash(b"x"), &out)), vec![Absent("../../../etc/passwd".into())]),
        (with(x().row(&hash(b"x"), &twice)), vec![Twice(name()), OtherHash(name())]),
    ] {
        let wheel = wheel.unwrap();
        let correction = wheel.verify().unwrap().unwrap();
        assert_eq!(correction.discrepancies, expected);
        let wheel = wheel.with_record(&correction.record);
        assert_eq!(wheel.verify().unwrap(), None);
        let (ours, right) = (install(&wheel).unwrap(), install(&with(x()).unwrap()).unwrap());
        assert_eq!(contents(&ours), contents(&right), "{expected:?}");
    }
}

#[test]
fn a_record_of_another_encoding_is_no_discrepancy() {
    let right = install(&open(sound()).unwrap()).unwrap();
    let encoded = |encode: fn(&[u8]) -> String| {
        let mut entries = sound();
        for entry in entries.iter_mut().filter(|entry| entry.row.is_some()) {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(&entry.data);
            entry.row = Some((format!("sha256={}", encode(&digest)), entry.data.len().to_string()));
        }
        open(entries).unwrap()
    };
    let standard = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    for wheel in [encoded(|bytes| hex::encode(bytes)), encoded(standard)] {
        assert_eq!(wheel.verify().unwrap(), None);
        assert_eq!(contents(&install(&wheel).unwrap()), contents(&right));
    }
    let other = encoded(|bytes| hex::encode(&[bytes, b"x"].concat()[1..]));
    assert!(discrepancies(&other).iter().all(|found| matches!(found, Discrepancy::OtherHash(_))));
}

#[test]
fn metadata_has_to_agree_with_the_name() {
    let replaced = |at: usize, name: &str, data: &str| {
        let mut entries = sound();
        entries[at] = entry(&format!("{INFO}/{name}"), data.as_bytes());
        open(entries)
    };
    refused!(replaced(4, "WHEEL", "Wheel-Version: 2.0"), WheelFault::WheelVersion(_));
    refused!(replaced(4, "WHEEL", ""), WheelFault::WheelVersion(_));
    refused!(replaced(4, "LEEHW", ""), WheelFault::Missing(_));
    refused!(replaced(3, "METADATA", "Name: other\nVersion: 1.0"), WheelFault::Disagreement { .. });
    refused!(replaced(3, "METADATA", "Name: foo-bar\nVersion: 1.1"), WheelFault::Disagreement { .. });
    refused!(replaced(3, "METADATA", ""), WheelFault::Disagreement { .. });
    refused!(replaced(3, "ATADATEM", ""), WheelFault::Missing(_));
    refused!(with(entry("other-1.0.dist-info/METADATA", b"")), WheelFault::DistInfo(2));
    refused!(open_bytes(&zip(&[entry("a", b"x")]), FILE), WheelFault::DistInfo(0));
    let mut entries = sound();
    entries.push(entry(&format!("{INFO}/RECORD"), record(&entries).as_bytes()));
    let bytes = zip(&entries);
    assert!(open_bytes(&bytes, FILE).is_ok());
    refused!(open_bytes(&bytes, "foo_bar-1.1-py3-none-any.whl"), WheelFault::Disagreement { .. });
    refused!(open_bytes(&bytes, "bar-1.0-py3-none-any.whl"), WheelFault::Disagreement { .. });
    refused!(open_bytes(&bytes, "foo_bar.whl"), WheelFault::FileName(_));
    refused!(open_bytes(&zip(&sound()), FILE), WheelFault::Missing(_));
}

/// No flipped bit makes a wheel that passes and is installed as something else.
#[test]
fn flipped_bits_are_found_or_harmless() {
    let mut entries = sound();
    entries.push(entry(&format!("{INFO}/RECORD"), record(&entries).as_bytes()));
    let bytes = zip(&entries);
    let wanted = format!("{:?}", contents(&install(&open_bytes(&bytes, FILE).unwrap()).unwrap()));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let Ok(wheel) = open_bytes(&flipped, FILE) else { continue };
        if wheel.verify().is_ok()
            && let Ok(tree) = install(&wheel)
        {
            assert_eq!(format!("{:?}", contents(&tree)), wanted, "byte {at}");
        }
    }
}
