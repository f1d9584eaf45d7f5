//! Whole wheels, sound and hostile ones, made by hand so that every header can lie.

mod archive;
mod install;
mod record;

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
        NodeKind::File(Content::Slice { file, range, .. }) => String::from_utf8(file[range.clone()].to_vec()).unwrap(),
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
use refused;

fn hash(data: &[u8]) -> String {
    RecordRow::of(Vec::new(), data).hash
}

fn discrepancies(wheel: &Wheel) -> Vec<Discrepancy> {
    wheel.verify().unwrap().map_or_else(Vec::new, |correction| correction.discrepancies)
}

fn contents(tree: &LayerTree) -> Vec<(String, String)> {
    let files = tree.iter().filter(|(_, node)| matches!(node.kind, NodeKind::File(_)));
    files.map(|(path, _)| (path.to_string(), text(tree, &path.to_string()))).collect()
}
