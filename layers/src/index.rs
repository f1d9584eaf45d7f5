//! The entries of a layer or a root filesystem without the content of files: a sorted text that is searched in place.
//!
//! ```text
//! /bin link usr/bin
//! /etc/passwd file
//! /root dir 0700 0:0 1697000000
//! /tmp/old whiteout
//! /var/cache opaque 0755 0:0 0 user.note=eA==
//! ```
//!
//! One line per entry, sorted by the escaped path. Spaces, backslashes and bytes that are not printable ASCII are
//! escaped as `\ooo`, as in fstab and mtree. Extended attributes follow as `name=BASE64`.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::mapped::MappedFile;
use crate::path::LayerPath;
use crate::tree::{LayerTree, Metadata, NodeKind, TreeNode};

/// The entry at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexEntry {
    /// A directory; an opaque one hides its content in lower layers.
    Directory {
        /// Its attributes.
        metadata: Metadata,
        /// Whether it is opaque.
        opaque: bool,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Any other file.
    File,
    /// The entry of lower layers is removed.
    Whiteout,
}

impl IndexEntry {
    fn of(node: &TreeNode) -> Self {
        match &node.kind {
            NodeKind::Directory { opaque } => Self::Directory { metadata: node.metadata.clone(), opaque: *opaque },
            NodeKind::Symlink(target) => Self::Symlink(target.clone()),
            NodeKind::Whiteout => Self::Whiteout,
            _ => Self::File,
        }
    }
}

/// An index. Cloning shares the text.
#[derive(Debug, Clone, Default)]
pub struct FileIndex {
    text: IndexText,
}

#[derive(Debug, Clone)]
enum IndexText {
    Memory(Arc<[u8]>),
    Mapped(MappedFile),
}

impl Default for IndexText {
    fn default() -> Self {
        Self::Memory(Arc::default())
    }
}

impl Deref for IndexText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(text) => text,
            Self::Mapped(file) => file.get(HEAD..).unwrap_or_default(),
        }
    }
}

/// An index file starts with the SHA-256 of the rest, in hex, on a line of its own.
const HEAD: usize = 65;

/// A line that is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an entry of a file index")]
pub struct NoEntry(pub String);

impl FileIndex {
    /// The index of a layer.
    #[must_use]
    pub fn of(tree: &LayerTree) -> Self {
        tree.iter().map(|(path, node)| (path.clone(), IndexEntry::of(node))).collect()
    }

    /// Parses the lines of [`FileIndex::lines`], in any order.
    ///
    /// # Errors
    /// For a line that is not an entry.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, NoEntry> {
        let read = |line: &str| {
            let token = line.split(' ').next().unwrap_or_default();
            let path = unescape(token.as_bytes()).and_then(|path| LayerPath::new(path).ok());
            let entry = line.get(token.len() + 1..).and_then(|rest| read_entry(rest.as_bytes()));
            path.zip(entry).ok_or_else(|| NoEntry(line.to_owned()))
        };
        lines.into_iter().map(read).collect()
    }

    /// All entries, a line each, sorted.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .filter_map(|line| str::from_utf8(line).ok())
    }

    /// All entries, in the order of their escaped paths.
    pub fn iter(&self) -> impl Iterator<Item = (LayerPath, IndexEntry)> {
        self.lines().filter_map(|line| {
            let (token, rest) = line.split_once(' ')?;
            Some((LayerPath::new(unescape(token.as_bytes())?).ok()?, read_entry(rest.as_bytes())?))
        })
    }

    /// The entry at `path`.
    #[must_use]
    pub fn get(&self, path: &LayerPath) -> Option<IndexEntry> {
        let wanted = escape_path(path);
        let (mut start, mut end) = (0, self.text.len());
        while start < end {
            let middle = start + (end - start) / 2;
            let line_start =
                self.text[start..middle].iter().rposition(|b| *b == b'\n').map_or(start, |at| start + at + 1);
            let line_end = self.text[middle..end].iter().position(|b| *b == b'\n').map_or(end, |at| middle + at);
            let line = &self.text[line_start..line_end];
            let token_end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
            match line[..token_end].cmp(&wanted) {
                std::cmp::Ordering::Equal => return read_entry(line.get(token_end + 1..).unwrap_or_default()),
                std::cmp::Ordering::Less => start = line_end + 1,
                std::cmp::Ordering::Greater => end = line_start,
            }
        }
        None
    }

    /// Whether the index is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The file that [`FileIndex::open`] reads.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let digest = hex::encode(Sha256::digest(&self.text[..]));
        [digest.as_bytes(), b"\n", &self.text[..]].concat()
    }

    /// Opens an index file, which is mapped.
    ///
    /// # Errors
    /// When it cannot be opened, or its content is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = MappedFile::open(path)?;
        let digest = file.get(..HEAD - 1).unwrap_or_default();
        let text = file.get(HEAD..).unwrap_or_default();
        if hex::encode(Sha256::digest(text)).as_bytes() != digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file index is damaged"));
        }
        Ok(Self { text: IndexText::Mapped(file) })
    }
}

impl PartialEq for FileIndex {
    fn eq(&self, other: &Self) -> bool {
        *self.text == *other.text
    }
}

impl Eq for FileIndex {}

impl FromIterator<(LayerPath, IndexEntry)> for FileIndex {
    fn from_iter<T: IntoIterator<Item = (LayerPath, IndexEntry)>>(entries: T) -> Self {
        let mut lines: Vec<Vec<u8>> = entries.into_iter().map(|(path, entry)| line(&path, &entry)).collect();
        // A space sorts before every byte of a path, so whole lines sort like their paths.
        lines.sort_unstable();
        Self { text: IndexText::Memory(lines.concat().into()) }
    }
}

fn line(path: &LayerPath, entry: &IndexEntry) -> Vec<u8> {
    let mut line = escape_path(path);
    match entry {
        IndexEntry::Directory { metadata: Metadata { mode, uid, gid, mtime, xattrs }, opaque } => {
            let kind = if *opaque { "opaque" } else { "dir" };
            line.extend_from_slice(format!(" {kind} {mode:04o} {uid}:{gid} {mtime}").as_bytes());
            for (name, value) in xattrs {
                line.push(b' ');
                line.extend_from_slice(&escape(name));
                line.push(b'=');
                line.extend_from_slice(STANDARD.encode(value).as_bytes());
            }
        }
        IndexEntry::Symlink(target) => {
            line.extend_from_slice(b" link ");
            line.extend_from_slice(&escape(target));
        }
        IndexEntry::File => line.extend_from_slice(b" file"),
        IndexEntry::Whiteout => line.extend_from_slice(b" whiteout"),
    }
    line.push(b'\n');
    line
}

/// Parses the text after the path.
fn read_entry(rest: &[u8]) -> Option<IndexEntry> {
    let mut words = rest.split(|byte| *byte == b' ');
    let entry = match words.next()? {
        b"file" => IndexEntry::File,
        b"whiteout" => IndexEntry::Whiteout,
        b"link" => IndexEntry::Symlink(unescape(words.next()?)?),
        kind @ (b"dir" | b"opaque") => {
            let mut word = || str::from_utf8(words.next()?).ok();
            let mode = u32::from_str_radix(word()?, 8).ok().filter(|mode| *mode <= 0o7777)?;
            let (uid, gid) = word()?.split_once(':')?;
            let (uid, gid, mtime) = (uid.parse().ok()?, gid.parse().ok()?, word()?.parse().ok()?);
            let mut xattrs = BTreeMap::new();
            for word in words.by_ref() {
                let at = word.iter().position(|byte| *byte == b'=')?;
                xattrs.insert(unescape(&word[..at])?, STANDARD.decode(&word[at + 1..]).ok()?);
            }
            IndexEntry::Directory { metadata: Metadata { mode, uid, gid, mtime, xattrs }, opaque: kind == b"opaque" }
        }
        _ => return None,
    };
    words.next().is_none().then_some(entry)
}

fn escape_path(path: &LayerPath) -> Vec<u8> {
    [b"/", &escape(path.as_bytes())[..]].concat()
}

fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | b'=' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            byte if byte.is_ascii_graphic() => escaped.push(*byte),
            byte => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
        }
    }
    escaped
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(3)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        name.parse().unwrap()
    }

    fn entries() -> Vec<(LayerPath, IndexEntry)> {
        let xattrs = BTreeMap::from([(b"user.a b".to_vec(), vec![0, 255])]);
        let metadata = Metadata { mode: 0o2775, uid: 0, gid: 8, mtime: -5, xattrs };
        vec![
            (path("bin"), IndexEntry::Symlink(b"usr/bin".to_vec())),
            (path("a b"), IndexEntry::File),
            (path("a"), IndexEntry::Directory { metadata: metadata.clone(), opaque: false }),
            (path("a.b"), IndexEntry::Whiteout),
            (path("a/\u{e4}\n\\x=1"), IndexEntry::Directory { metadata, opaque: true }),
            (path("z"), IndexEntry::Symlink(b" -> \n".to_vec())),
        ]
    }

    #[test]
    fn what_was_put_in_is_found() {
        let index: FileIndex = entries().into_iter().collect();
        for (path, entry) in entries() {
            assert_eq!(index.get(&path), Some(entry), "{path}");
        }
        for missing in ["", "a/b", "b", "aa", "zz", "bi", "bin/x"] {
            assert_eq!(index.get(&path(missing)), None, "{missing}");
        }
        let mut sorted = entries();
        sorted.sort_by_key(|(path, _)| escape_path(path));
        assert_eq!(index.iter().collect::<Vec<_>>(), sorted);
        assert_eq!(FileIndex::default().get(&path("a")), None);
    }

    #[test]
    fn lines_are_read_again_and_others_refused() {
        let index: FileIndex = entries().into_iter().collect();
        let again = FileIndex::parse(index.lines()).unwrap();
        assert_eq!(again.iter().collect::<Vec<_>>(), index.iter().collect::<Vec<_>>());
        for bad in
            ["", "/a", "/a dir", "/a dir 99 0:0 0", "/a dir 17777 0:0 0", "/a file x", "/\\9 file", "/a/../b file"]
        {
            assert!(FileIndex::parse([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("index");
        let index: FileIndex = entries().into_iter().collect();
        std::fs::write(&file, index.to_file()).unwrap();
        assert_eq!(FileIndex::open(&file).unwrap().get(&path("a b")), Some(IndexEntry::File));
        let mut bytes = index.to_file();
        bytes[70] ^= 1;
        for bad in [&bytes[..], &bytes[..3], b""] {
            std::fs::write(&file, bad).unwrap();
            assert!(FileIndex::open(&file).is_err());
        }
        std::fs::write(&file, FileIndex::default().to_file()).unwrap();
        assert!(FileIndex::open(&file).unwrap().is_empty());
    }
}
