//! The zip archive: its members, headers and directory.

use super::*;

#[test]
fn members_that_no_program_can_unpack_are_refused() {
    let nested = |directories: usize, length: usize| vec!["d".repeat(length); directories].join("/");
    for (name, said) in [(nested(300, 1), "more than 256 directories"), (nested(20, 250), "longer than 4096 bytes")] {
        let error = install(&with(entry(&format!("{name}/f"), b"x")).unwrap()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let mut directory = entry("foo/", b"x");
    directory.mode = 0o040_755;
    let fault = with(directory).unwrap_err().to_string();
    assert_eq!(fault, "the member `foo/` is damaged: it is a directory with data");
}

#[test]
fn directories_may_have_rows() {
    let mut entries = sound();
    entries[2].row = Some((hash(b""), "0".into()));
    let tree = install(&open(entries).unwrap()).unwrap();
    assert!(text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD")).contains("\r\nfoo/,sha256="));
    let other = format!("1\nother/,{},0", hash(b""));
    let wheel = with(entry("a", b"x").row(&hash(b"x"), &other)).unwrap();
    assert_eq!(discrepancies(&wheel), [Discrepancy::Absent("other/".into())]);
}

#[test]
fn signatures_need_no_row_and_get_a_bare_one() {
    let tree = install(&with(entry(&format!("{INFO}/RECORD.jws"), b"{}").unrecorded()).unwrap()).unwrap();
    let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
    assert!(record.contains(&format!("\r\n{INFO}/RECORD.jws,,\r\n")));
}

#[test]
fn names_and_kinds_are_refused() {
    for name in ["../x", "/etc/passwd", "a/../../x", "a\0b", "./../a", ".wh.foo"] {
        refused!(with(entry(name, b"x")), WheelFault::Name { .. });
    }
    refused!(with(Entry { name: vec![b'a', 0xff], ..entry("ab", b"") }), WheelFault::Name { .. });
    refused!(with(entry("a\nb", b"x")), WheelFault::Name { reason: "has a line break", .. });
    refused!(with(entry("link", b"/etc/passwd").mode(0o120_777)), WheelFault::Special(_));
    refused!(with(entry("fifo", b"").mode(0o010_644)), WheelFault::Special(_));
    refused!(with(entry("directory", b"").mode(0o040_755)), WheelFault::Special(_));
    refused!(with(entry("d/", b"data").mode(0o040_755).unrecorded()), WheelFault::Damaged { .. });
    refused!(with(Entry { flags: 1, ..entry("secret", b"x") }), WheelFault::Encrypted(_));
    refused!(with(Entry { method: 12, ..entry("bzip2", b"x") }), WheelFault::Method { .. });
    refused!(with(Entry { method: 93, ..entry("zstd", b"x") }), WheelFault::Method { .. });
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    refused!(with(entry("foo/__init__.py", b"again")), WheelFault::Twice(_));
    refused!(with(Entry { local: Some((b"y".to_vec(), 1)), ..entry("x", b"x") }), WheelFault::Archive(_));
    refused!(with(Entry { local: Some((b"x".to_vec(), 2)), ..entry("x", b"x") }), WheelFault::Archive(_));
    let shared = Entry { shared: true, local: None, ..entry("b", b"same") };
    refused!(open(sound().into_iter().chain([entry("a", b"same"), shared]).collect()), WheelFault::Archive(_));
    let overlapping = Entry { packed_len: 60, ..entry("a", b"first") };
    refused!(open([overlapping].into_iter().chain(sound()).collect()), WheelFault::Archive(_));
    let beyond = Entry { packed_len: 1 << 30, len: 1 << 30, method: 0, ..entry("a", b"first") };
    refused!(with(beyond), WheelFault::Sizes { .. });
}

#[test]
fn sizes_that_lie_are_refused() {
    refused!(with(Entry { len: 5, ..entry("stored", b"four").stored() }), WheelFault::Sizes { .. });
    refused!(with(Entry { len: u32::MAX - 1, ..entry("bomb", &[0; 5000]) }), WheelFault::Sizes { .. });
    let short = with(Entry { len: 4, ..entry("a", b"longer") }.row(&hash(b"longer"), "")).unwrap();
    refused!(short.verify().map_err(|e| e.fault), WheelFault::Damaged { .. });
    let long = with(Entry { len: 9, ..entry("a", b"longer") }.row(&hash(b"longer"), "9")).unwrap();
    refused!(long.verify().map_err(|e| e.fault), WheelFault::Damaged { .. });
}

#[test]
fn members_of_one_name_that_are_the_same_are_one() {
    let again = || entry("foo/__init__.py", b"print('hello')\n").unrecorded();
    for wheel in [with(again()), with(again().stored())] {
        let wheel = wheel.unwrap();
        assert_eq!(wheel.verify().unwrap(), None);
        assert_eq!(contents(&install(&wheel).unwrap()), contents(&install(&open(sound()).unwrap()).unwrap()));
    }
    // Two entries of the directory for the same bytes; under two names that is refused.
    let mut entries = vec![entry("a", b"same"), Entry { shared: true, ..entry("a", b"same").unrecorded() }];
    entries.extend(sound());
    assert!(open(entries).is_ok());
    // The same file twice where it is installed, which RECORD lists twice as with pip.
    let data = entry("foo_bar-1.0.data/purelib/foo/__init__.py", b"print('hello')\n");
    let tree = install(&with(data).unwrap()).unwrap();
    let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
    assert_eq!(record.matches("\r\nfoo/__init__.py,sha256=").count(), 2, "{record}");
}

#[test]
fn what_is_no_archive() {
    refused!(open_bytes(b"", FILE), WheelFault::Archive(_) | WheelFault::Open(_));
    refused!(open_bytes(b"not a zip at all, though long enough for the end of one", FILE), WheelFault::Archive(_));
    let mut entries = sound();
    entries.push(entry(&format!("{INFO}/RECORD"), record(&entries).as_bytes()));
    let bytes = zip(&entries);
    for cut in [1, 10, 40, 200, bytes.len() / 2, bytes.len() - 30] {
        assert!(open_bytes(&bytes[..bytes.len() - cut], FILE).is_err(), "{cut}");
    }
    refused!(open_bytes(&[&bytes[..], b"x"].concat(), FILE), WheelFault::Trailing);
    refused!(open_bytes(&[&b"#!/bin/sh\n"[..], &bytes].concat(), FILE), WheelFault::Archive(_));
    let commented = |comment: &[u8], len: u16| {
        let end = [&bytes[..bytes.len() - 2], &len.to_le_bytes(), comment].concat();
        open_bytes(&end, FILE)
    };
    assert!(commented(b"made by hand", 12).is_ok());
    assert!(commented(&[b'x'; 65_535], 65_535).is_ok());
    refused!(commented(b"abc", 2), WheelFault::Trailing);
    refused!(commented(b"abc", 4), WheelFault::Trailing);
    // Readers differ over which of two ends is the end.
    let second = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    assert!(commented(&second, 22).is_err());
    refused!(commented(&[&second[..], b"."].concat(), 23), WheelFault::Trailing);
}

#[test]
fn members_that_the_directory_does_not_list_are_refused() {
    let hidden = zip(&[entry("hidden", b"x")]);
    let mut entries = sound();
    // What lies behind the data of a member, as if it were a part of nothing.
    entries[0].packed.extend(&hidden[..hidden.len() - 70]);
    refused!(open(entries), WheelFault::Archive(_));
}
