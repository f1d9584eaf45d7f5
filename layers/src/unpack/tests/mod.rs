//! Layers made in code, sound and hostile, and a canary beside what they are unpacked into.

mod hostile;
mod images;
mod mutations;
mod sound;
mod stacked;
pub(crate) mod umoci;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tar::{EntryType, Header};
use ociforge_manifests::Digest;
use tempfile::TempDir;

use super::*;

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYM: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;
const CHAR: EntryType = EntryType::Char;
const FIFO: EntryType = EntryType::Fifo;

/// An entry by its kind, its name, and what it leads to or holds.
type Row<'a> = (EntryType, &'a str, &'a str);

/// A tar in the making, of names that no library would let pass.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn of(rows: &[Row<'_>]) -> Self {
        rows.iter().fold(Self::default(), |tar, row| tar.row(*row))
    }

    fn row(self, (kind, name, text): Row<'_>) -> Self {
        let (link, body) = if kind == FILE { ("", text) } else { (text, "") };
        let mut header = header(kind, body.len() as u64);
        if kind == DIR || kind == FILE {
            header.set_mode(if kind == DIR { 0o755 } else { 0o644 });
        }
        let mut records = Vec::new();
        for (key, value, limit) in [("path", name, 100), ("linkpath", link, 100)] {
            if value.len() > limit || value.contains('\0') {
                records.push((key, value.as_bytes().to_vec()));
            }
        }
        let old = header.as_old_mut();
        copy(&mut old.name, name);
        copy(&mut old.linkname, link);
        let records: Vec<_> = records.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        self.pax(&records).put(header, body.as_bytes())
    }

    /// Records for the next entry.
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        if records.is_empty() {
            return self;
        }
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (rest..).find(|len| *len == rest + len.to_string().len()).unwrap();
            body.extend(format!("{len} {key}=").bytes().chain(value.iter().copied()).chain([b'\n']));
        }
        self.put(header(EntryType::XHeader, body.len() as u64), &body)
    }

    fn put(mut self, mut header: Header, body: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn copy(field: &mut [u8], text: &str) {
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header
}

fn diff_id(tar: &[u8]) -> DiffId {
    DiffId(Digest::of(tar))
}

fn unpack(tar: &[u8], into: &Path, options: &UnpackOptions<'_>) -> Result<Unpacked, UnpackError> {
    unpack_layer(tar, &diff_id(tar), into, options)
}

/// A blob and what its content should be.
pub(crate) type Layer = (Vec<u8>, DiffId);

fn plain(tar: Tar) -> Layer {
    let tar = tar.end();
    let diff_id = diff_id(&tar);
    (tar, diff_id)
}

/// Unpacks the layers, the lowest first, into the new directory `root`. The others lie beside it until they are merged.
fn unpack_all(layers: &[Layer], root: &Path, options: &UnpackOptions<'_>) -> Result<Vec<Unpacked>, UnpackError> {
    fs::create_dir(root).unwrap();
    let mut all: Vec<Unpacked> = Vec::new();
    for (blob, diff_id) in layers {
        let staging = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
        let into = if all.is_empty() { root } else { staging.path() };
        let unpacked = unpack_layer(&blob[..], diff_id, into, options)?;
        if into != root {
            merge(into, &unpacked, root)?;
        }
        all.push(unpacked);
    }
    Ok(all)
}

/// A directory to work in, with a tree in it that must stay as it is.
struct Scene {
    directory: TempDir,
    before: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let canary = directory.path().join("canary");
        fs::create_dir_all(canary.join("sub")).unwrap();
        fs::write(canary.join("file"), "canary").unwrap();
        fs::write(canary.join("sub/file"), "canary").unwrap();
        std::os::unix::fs::symlink("file", canary.join("link")).unwrap();
        let before = listing(&canary);
        Self { directory, before }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new empty directory.
    fn empty(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn check(&self, what: &str) {
        assert_eq!(listing(&self.path("canary")), self.before, "{what} reached the canary");
        let mut beside: Vec<_> = fs::read_dir(self.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        beside.retain(|name| !["canary", "into", "root", "staging"].iter().any(|known| name == *known));
        assert!(beside.is_empty(), "{what} made {beside:?}");
    }
}

/// Every file below `root` with all that it has, and the root itself as `.`, sorted by path.
fn listing(root: &Path) -> Vec<String> {
    let mut inodes = BTreeMap::new();
    let mut lines = Vec::new();
    list(root, root, &mut inodes, &mut lines);
    lines
}

fn list(root: &Path, path: &Path, inodes: &mut BTreeMap<u64, String>, lines: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
    let name = if name.is_empty() { ".".to_owned() } else { name };
    let kind = meta.file_type();
    let what = if kind.is_file() {
        // Not the digest alone: failures are read by people.
        let bytes = fs::read(path).unwrap();
        if bytes.len() < 100 { bytes.escape_ascii().to_string() } else { Digest::of(&bytes).short().to_owned() }
    } else if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {:#x} {}", meta.rdev(), if kind.is_block_device() { "b" } else { "c" })
    } else {
        String::new()
    };
    let same = if meta.nlink() > 1 && !kind.is_dir() {
        format!(" = {}", inodes.entry(meta.ino()).or_insert_with(|| name.clone()))
    } else {
        String::new()
    };
    let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
    let xattrs = if kind.is_dir() || kind.is_file() { xattrs(path) } else { String::new() };
    let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
    lines.push(format!("{name} {mode:o} {uid}:{gid} {seconds}.{nanoseconds:09}{xattrs}{same} {what}"));
    if kind.is_dir() {
        let mut children: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        children.sort();
        children.iter().for_each(|child| list(root, child, inodes, lines));
    }
}

pub(crate) fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 1 << 16];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut all: Vec<String> = Vec::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        all.push(format!(" {}={}", name.escape_ascii(), value[..len].escape_ascii()));
    }
    all.sort();
    all.concat()
}

/// Paths and contents alone: `a/`, `a/b=text`, `c->target`.
fn shown(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            all.push(if kind.is_dir() {
                todo.push(path);
                name + "/"
            } else if kind.is_symlink() {
                format!("{name}->{}", fs::read_link(path).unwrap().display())
            } else if kind.is_file() {
                format!("{name}={}", fs::read_to_string(path).unwrap())
            } else {
                name + "?"
            });
        }
    }
    all.sort();
    all
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
