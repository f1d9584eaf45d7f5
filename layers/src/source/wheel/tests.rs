//! Whole wheels, sound and hostile ones, made by hand so that every header can lie.

use std::io::{Read, Write};

use flate2::write::DeflateEncoder;

use super::record::RecordRow;
use super::*;
use crate::path::LayerPath;
use crate::tree::{Content, NodeKind};

const FILE: &str = "foo_bar-1.0-py3-none-any.whl";
const INFO: &str = "foo_bar-1.0.dist-info";

/// A member and what its headers say.
struct Entry {
    name: Vec<u8>,
    data: Vec<u8>,
    packed: Vec<u8>,
    mode: u32,
    flags: u16,
    method: u16,
    crc32: u32,
    len: u32,
    packed_len: u32,
    /// What the local header says instead of name and length.
    local: Option<(Vec<u8>, u32)>,
    /// Whether the data of the entry before it is this one's too.
    shared: bool,
    /// What RECORD says of it: `None` is no row, the other two are the hash and the size.
    row: Option<(String, String)>,
}

fn entry(name: &str, data: &[u8]) -> Entry {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    let packed = encoder.finish().unwrap();
    let row = RecordRow::of(name.as_bytes().to_vec(), data);
    Entry {
        name: name.into(),
        data: data.to_vec(),
        packed_len: packed.len() as u32,
        packed,
        mode: 0o100_644,
        flags: 0,
        method: 8,
        crc32: crc32fast::hash(data),
        len: data.len() as u32,
        local: None,
        shared: false,
        row: Some((row.hash, row.size)),
    }
}

impl Entry {
    fn stored(mut self) -> Self {
        (self.method, self.packed, self.packed_len) = (0, self.data.clone(), self.len);
        self
    }

    fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    fn row(mut self, hash: &str, size: &str) -> Self {
        self.row = Some((hash.into(), size.into()));
        self
    }

    fn unrecorded(mut self) -> Self {
        self.row = None;
        self
    }

    /// The fields that both headers have, from the flags to the sizes.
    fn common(&self, len: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for short in [self.flags, self.method, 0, 0x21] {
            out.extend(short.to_le_bytes());
        }
        for long in [self.crc32, self.packed_len, len] {
            out.extend(long.to_le_bytes());
        }
        out
    }
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut out, mut central, mut start) = (Vec::new(), Vec::new(), 0u32);
    for entry in entries {
        let (name, len) = entry.local.clone().unwrap_or((entry.name.clone(), entry.len));
        if !entry.shared {
            start = out.len() as u32;
            out.extend(b"PK\x03\x04\x14\0");
            out.extend(entry.common(len));
            out.extend((name.len() as u16).to_le_bytes());
            out.extend([0; 2]);
            out.extend(&name);
            out.extend(&entry.packed);
        }
        central.extend(b"PK\x01\x02\x14\x03\x14\0");
        central.extend(entry.common(entry.len));
        central.extend((entry.name.len() as u16).to_le_bytes());
        central.extend([0; 8]);
        central.extend((entry.mode << 16).to_le_bytes());
        central.extend(start.to_le_bytes());
        central.extend(&entry.name);
    }
    let (at, count) = (out.len() as u32, entries.len() as u16);
    out.extend(&central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0; 2]);
    out
}

fn sound() -> Vec<Entry> {
    vec![
        entry("foo/__init__.py", b"print('hello')\n"),
        entry("foo/tool", b"\x7fELF").stored().mode(0o100_755),
        entry("foo/", b"").stored().mode(0o040_755).unrecorded(),
        entry(&format!("{INFO}/METADATA"), b"Name: Foo.Bar\nVersion: 1.0.0\nRequires-Python: >=3.8\n\nName: x\n"),
        entry(&format!("{INFO}/WHEEL"), b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"),
        entry(&format!("{INFO}/entry_points.txt"), b"[console_scripts]\nfoo = foo:main\n"),
    ]
}

/// RECORD as the rows of the entries.
fn record(entries: &[Entry]) -> String {
    let rows = entries.iter().filter_map(|entry| {
        let (hash, size) = entry.row.as_ref()?;
        Some(format!("{},{hash},{size}\n", String::from_utf8_lossy(&entry.name)))
    });
    rows.chain([format!("{INFO}/RECORD,,\n")]).collect()
}

fn open_bytes(bytes: &[u8], file_name: &str) -> Result<Wheel, WheelFault> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file_name);
    std::fs::write(&path, bytes).unwrap();
    Wheel::open(&path).map_err(|error| error.fault)
}

fn open(mut entries: Vec<Entry>) -> Result<Wheel, WheelFault> {
    let record = record(&entries);
    entries.push(entry(&format!("{INFO}/RECORD"), record.as_bytes()));
    open_bytes(&zip(&entries), FILE)
}

/// A sound wheel and one more member.
fn with(entry: Entry) -> Result<Wheel, WheelFault> {
    open(sound().into_iter().chain([entry]).collect())
}

fn scheme() -> Scheme {
    Scheme::new("opt/lib/python3.11/site-packages".parse().unwrap(), (3, 11), "/opt/bin/python3".into()).unwrap()
}

fn install(wheel: &Wheel) -> Result<LayerTree, WheelFault> {
    wheel.install(&scheme(), InstallOptions { mtime: 7, requested: true }).map_err(|error| error.fault)
}

fn text(tree: &LayerTree, path: &str) -> String {
    let node = tree.get(&path.parse::<LayerPath>().unwrap()).unwrap_or_else(|| panic!("no {path}"));
    match &node.kind {
        NodeKind::File(Content::Bytes(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
        NodeKind::File(Content::Slice { file, range }) => String::from_utf8(file[range.clone()].to_vec()).unwrap(),
        NodeKind::File(Content::Deflated(slice)) => {
            let mut text = String::new();
            let mut reader = flate2::read::DeflateDecoder::new(&slice.file[slice.range.clone()]);
            reader.read_to_string(&mut text).unwrap();
            text
        }
        other => panic!("{path} is {other:?}"),
    }
}

macro_rules! refused {
    ($wheel:expr, $fault:pat) => {
        match $wheel.map(|_| ()) {
            Err($fault) => {}
            other => panic!("{} is {other:?}", stringify!($wheel)),
        }
    };
}

#[test]
fn the_installed_form() {
    let wheel = open(sound()).unwrap();
    assert_eq!((wheel.name(), wheel.version(), wheel.requires_python()), ("foo-bar", "1.0.0", Some(">=3.8")));
    wheel.verify().unwrap();
    let tree = install(&wheel).unwrap();
    let listed: Vec<_> = tree.iter().map(|(path, node)| format!("{path} {:o}", node.metadata.mode)).collect();
    let site = "/opt/lib/python3.11/site-packages";
    let expected = [
        "/opt/bin/foo 755".to_owned(),
        format!("{site}/foo 755"),
        format!("{site}/foo/__init__.py 644"),
        format!("{site}/foo/tool 755"),
        format!("{site}/{INFO} 755"),
        format!("{site}/{INFO}/INSTALLER 644"),
        format!("{site}/{INFO}/METADATA 644"),
        format!("{site}/{INFO}/RECORD 644"),
        format!("{site}/{INFO}/REQUESTED 644"),
        format!("{site}/{INFO}/WHEEL 644"),
        format!("{site}/{INFO}/entry_points.txt 644"),
    ];
    assert_eq!(listed, expected);
    assert!(tree.iter().all(|(_, node)| node.metadata.mtime == 7 && node.metadata.uid == 0));
    assert!(text(&tree, "opt/bin/foo").starts_with("#!/opt/bin/python3\n# -*- coding"));
    assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/foo/__init__.py"), "print('hello')\n");
    let record = text(&tree, &format!("{}/{INFO}/RECORD", &site[1..]));
    assert!(record.starts_with("../../../bin/foo,sha256=") && record.contains(&format!("\r\n{INFO}/RECORD,,\r\n")));
    assert!(record.contains("REQUESTED,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\r\n"), "{record}");
}

#[test]
fn members_pass_through_as_they_are() {
    let tree = install(&open(sound()).unwrap()).unwrap();
    let deflated = tree.iter().filter(|(_, n)| matches!(&n.kind, NodeKind::File(Content::Deflated(_)))).count();
    let slices = tree.iter().filter(|(_, n)| matches!(&n.kind, NodeKind::File(Content::Slice { .. }))).count();
    assert_eq!((deflated, slices), (4, 1));
}

#[test]
fn data_is_spread() {
    let mut entries = sound();
    for (name, data) in [
        ("data/share/foo/x", &b"x"[..]),
        ("headers/foo.h", b"h"),
        ("purelib/p.py", b"p"),
        ("platlib/q.so", b"q"),
        ("scripts/run", b"#!pythonw -u\nprint()\n"),
        ("scripts/as-is", b"#!/bin/sh\n"),
        ("scripts/foo", b"#!python\nthe installer's takes its place\n"),
        ("scripts/only", b"#!python"),
    ] {
        entries.push(entry(&format!("foo_bar-1.0.data/{name}"), data));
    }
    let tree = install(&open(entries).unwrap()).unwrap();
    for (path, content) in [
        ("opt/share/foo/x", "x"),
        ("opt/include/python3.11/foo-bar/foo.h", "h"),
        ("opt/lib/python3.11/site-packages/p.py", "p"),
        ("opt/lib/python3.11/site-packages/q.so", "q"),
        ("opt/bin/run", "#!/opt/bin/python3\nprint()\n"),
        ("opt/bin/as-is", "#!/bin/sh\n"),
        ("opt/bin/only", "#!/opt/bin/python3\n"),
    ] {
        assert_eq!(text(&tree, path), content);
    }
    let directories = tree.iter().filter(|(_, node)| matches!(node.kind, NodeKind::Directory { .. }));
    let directories: Vec<_> = directories.map(|(path, _)| path.to_string()).collect();
    assert_eq!(directories[..2], ["/opt/include/python3.11/foo-bar", "/opt/lib/python3.11/site-packages/foo"]);
    assert_eq!(directories[3..], ["/opt/share/foo"]);
    let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
    let row = Record::parse(&record).rows.into_iter().find(|row| row.path == b"../../../bin/run").unwrap();
    assert_eq!(row, RecordRow::of(row.path.clone(), b"#!/opt/bin/python3\nprint()\n"));
    assert!(record.contains("\r\nfoo_bar-1.0.data/scripts/foo,sha256="));
    assert!(record.contains("\r\n../../../share/foo/x,sha256="));
}

#[test]
fn the_files_are_listed_without_installing() {
    let mut entries = sound();
    for name in ["data/share/foo/x", "headers/foo.h", "scripts/foo", "scripts/run"] {
        entries.push(entry(&format!("foo_bar-1.0.data/{name}"), b"#!python\n"));
    }
    entries.push(entry(&format!("{INFO}/RECORD"), record(&entries).as_bytes()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stored");
    std::fs::write(&path, zip(&entries)).unwrap();
    let tree = install(&Wheel::open_as(&path, FILE).unwrap()).unwrap();
    let made = |path: &LayerPath| [&b"INSTALLER"[..], b"REQUESTED"].contains(&path.file_name());
    let installed = tree.iter().filter(|(path, node)| matches!(node.kind, NodeKind::File(_)) && !made(path));
    let mut listed = installed_files(&path, FILE, &scheme()).unwrap();
    listed.sort();
    assert_eq!(listed, installed.map(|(path, _)| path.clone()).collect::<Vec<_>>());
}

#[test]
fn only_a_wheels_own_metadata_is_listed_from() {
    let mut entries = sound();
    entries.insert(0, entry("foo/_vendor/x-1.dist-info/entry_points.txt", b"[console_scripts]\nvendored = x:y"));
    let listed = |entries: &[Entry]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stored");
        std::fs::write(&path, zip(entries)).unwrap();
        installed_files(&path, FILE, &scheme()).map_err(|error| error.fault.to_string())
    };
    assert!(listed(&entries).unwrap().iter().all(|path| path.file_name() != b"vendored"));
    entries.push(entry(&format!("{INFO}/entry_points.txt"), b"\xff"));
    assert!(listed(&entries).unwrap_err().ends_with("entry_points.txt` is not UTF-8 text"));
}

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

fn hash(data: &[u8]) -> String {
    RecordRow::of(Vec::new(), data).hash
}

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

fn discrepancies(wheel: &Wheel) -> Vec<Discrepancy> {
    wheel.verify().unwrap().map_or_else(Vec::new, |correction| correction.discrepancies)
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

fn contents(tree: &LayerTree) -> Vec<(String, String)> {
    let files = tree.iter().filter(|(_, node)| matches!(node.kind, NodeKind::File(_)));
    files.map(|(path, _)| (path.to_string(), text(tree, &path.to_string()))).collect()
}

#[test]
fn names_are_read_as_pip_joins_them() {
    let tree = install(&with(entry("./c.py", b"c")).unwrap()).unwrap();
    assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/c.py"), "c");
    let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
    assert!(record.contains(&format!("\r\nc.py,{},1\r\n", hash(b"c"))), "{record}");
    let tree = install(&with(entry("d\\e.py", b"d")).unwrap()).unwrap();
    assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/d\\e.py"), "d");
    refused!(with(entry("./foo/__init__.py", b"another")), WheelFault::Twice(_));
}

#[test]
fn of_two_members_for_one_place_the_last_to_be_put_there_counts() {
    // The order in the archive does not count.
    for (data, content) in [("purelib/foo/tool", "data"), ("platlib/foo/tool", "other")] {
        let wheel = with(entry(&format!("foo_bar-1.0.data/{data}"), content.as_bytes())).unwrap();
        assert_eq!(wheel.verify().unwrap(), None);
        let tree = install(&wheel).unwrap();
        assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/foo/tool"), content);
        let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
        let rows: Vec<_> = record.lines().filter(|row| row.starts_with("foo/tool,")).collect();
        assert_eq!(rows, [format!("foo/tool,{},{}", hash(content.as_bytes()), content.len())], "{record}");
    }
    let two = [entry("foo_bar-1.0.data/scripts/x", b"script"), entry("foo_bar-1.0.data/data/bin/x", b"data")];
    let tree = install(&open(two.into_iter().chain(sound()).collect()).unwrap()).unwrap();
    assert_eq!(text(&tree, "opt/bin/x"), "script");
}

#[test]
fn what_can_not_be_installed() {
    let installed = |entry| install(&with(entry).unwrap());
    refused!(installed(entry("foo_bar-1.0.data/etc/x", b"")), WheelFault::DataDirectory(_));
    refused!(installed(entry("foo_bar-1.0.data/x", b"")), WheelFault::DataDirectory(_));
    refused!(installed(entry("foo_bar-1.0.data/platlib/foo", b"")), WheelFault::Collision(_) | WheelFault::Tree(_));
    refused!(installed(entry("foo/tool/x", b"")), WheelFault::Tree(_));
    for name in ["../../x", ".wh.bash", "a/.wh..wh..opq"] {
        let mut entries = sound();
        let text = format!("[console_scripts]\n{name} = foo:main\n");
        entries[5] = entry(&format!("{INFO}/entry_points.txt"), text.as_bytes());
        refused!(install(&open(entries).unwrap()), WheelFault::EntryPoint { .. });
    }
}
