//! The entries of a tree in order, as pieces of a tar.

use std::fs::File;
use std::io;

use super::compress::Stretch;
use super::header::{self, BLOCK};
use super::sink::Sink;
use super::{Compression, PackError, source};
use crate::inflate::{InflateError, Inflater};
use crate::mapped::MappedFile;
use crate::materialize::other_hash;
use crate::path::LayerPath;
use crate::sha256::{Sha256Stream, update_both};
use crate::tree::{Content, DeflatedSlice, LayerTree, NodeKind, TreeError, TreeNode};

/// The size of a segment of the tar in bytes: each becomes a gzip member or a zstd frame. Larger segments would
/// compress slightly better and need more memory.
const STRETCH: usize = 1 << 20;

/// The properties of the whole uncompressed tar.
pub(super) struct Tar {
    pub(super) sha256: [u8; 32],
    pub(super) len: u64,
}

/// Writes all of `tree` as a tar into `sink`.
pub(super) fn write_tree(tree: &LayerTree, compression: Compression, sink: &mut dyn Sink) -> Result<Tar, PackError> {
    let mut walk = PackWalk::new(compression, sink);
    // A hard link must follow its target.
    let (links, others): (Vec<_>, Vec<_>) =
        tree.iter().partition(|(_, node)| matches!(node.kind, NodeKind::Hardlink(_)));
    for (path, node) in others {
        walk.entry(path, node)?;
    }
    for (path, node) in links {
        check_link(tree, path, node)?;
        walk.entry(path, node)?;
    }
    walk.finish().map_err(PackError::Write)
}

fn check_link(tree: &LayerTree, path: &LayerPath, node: &TreeNode) -> Result<(), TreeError> {
    let NodeKind::Hardlink(target) = &node.kind else { return Ok(()) };
    match tree.get(target).map(|node| &node.kind) {
        None | Some(NodeKind::Directory { .. } | NodeKind::Hardlink(_) | NodeKind::Whiteout) => {
            Err(TreeError::Dangling { path: path.clone(), target: target.clone() })
        }
        Some(_) => Ok(()),
    }
}

struct PackWalk<'a> {
    sink: &'a mut dyn Sink,
    /// The current segment, of at most [`STRETCH`] bytes.
    plain: Stretch,
    /// The buffer for files.
    buffer: Vec<u8>,
    /// Whether deflated files are included unchanged.
    pass_through: bool,
    inflater: Inflater,
    sha256: Sha256Stream,
    /// The hash of the current file, if its content must have a certain one.
    file_hash: Option<Sha256Stream>,
    len: u64,
    /// Bytes read from maps since the last release of a map.
    mapped: usize,
}

impl<'a> PackWalk<'a> {
    fn new(compression: Compression, sink: &'a mut dyn Sink) -> Self {
        let pass_through = matches!(compression, Compression::Gzip(_));
        Self {
            sink,
            plain: Stretch::default(),
            buffer: Vec::new(),
            pass_through,
            inflater: Inflater::new(),
            sha256: Sha256Stream::default(),
            file_hash: None,
            len: 0,
            mapped: 0,
        }
    }

    fn entry(&mut self, path: &LayerPath, node: &TreeNode) -> Result<(), PackError> {
        let size = if let NodeKind::File(content) = &node.kind { content.len() } else { 0 };
        self.put(&header::entry(path, &node.metadata, &node.kind, size)).map_err(PackError::Write)?;
        match &node.kind {
            NodeKind::File(content) => {
                self.file_hash = content.sha256().map(|_| Sha256Stream::default());
                self.content(path, content)?;
                if self.file_hash.take().map(Sha256Stream::finish) != content.sha256() {
                    return Err(PackError::Content { path: path.clone(), source: other_hash() });
                }
                self.put(&[0; BLOCK][..header::padding(size)]).map_err(PackError::Write)
            }
            NodeKind::Directory { opaque: true } => {
                self.put(&header::opaque_marker(path, &node.metadata)).map_err(PackError::Write)
            }
            _ => Ok(()),
        }
    }

    fn content(&mut self, path: &LayerPath, content: &Content) -> Result<(), PackError> {
        let unreadable = |source| PackError::Content { path: path.clone(), source };
        match content {
            Content::Bytes(bytes) => self.put_content(bytes).map_err(PackError::Write),
            Content::Slice { file, range, .. } => match file.get(range.clone()) {
                Some(bytes) => self.slice(file, bytes).map_err(PackError::Write),
                None => Err(unreadable(io::Error::other("it is outside of its file"))),
            },
            Content::Deflated(slice) if self.pass_through => {
                self.flush().map_err(PackError::Write)?;
                self.hash(slice).map_err(|error| unreadable(error.into()))?;
                self.sink.deflated(slice).map_err(PackError::Write)
            }
            Content::Deflated(slice) => {
                let mut inflater = std::mem::take(&mut self.inflater);
                let inflated = inflater.inflate(slice, |piece| self.put_content(piece));
                self.inflater = inflater;
                inflated.map_err(|error| unreadable(error.into()))
            }
            Content::Path { path: file, len } => {
                let file = File::open(file).map_err(unreadable)?;
                let mut buffer = std::mem::take(&mut self.buffer);
                let put =
                    source::pieces(file, *len, &mut buffer, |piece| self.put_content(piece).map_err(PackError::Write));
                self.buffer = buffer;
                put.map_err(|error| match error {
                    source::CopyError::Read(error) => unreadable(error),
                    source::CopyError::Taken(error) => error,
                })
            }
        }
    }

    fn slice(&mut self, file: &MappedFile, bytes: &[u8]) -> io::Result<()> {
        for stretch in bytes.chunks(MappedFile::STRETCH) {
            self.put_content(stretch)?;
            self.mapped += stretch.len();
            if self.mapped >= MappedFile::STRETCH {
                file.release();
                self.mapped = 0;
            }
        }
        Ok(())
    }

    /// Adds a deflated file to the tar's hash, and checks its stream.
    fn hash(&mut self, slice: &DeflatedSlice) -> Result<(), InflateError> {
        let (tar, file) = (&mut self.sha256, &mut self.file_hash);
        self.inflater.inflate(slice, |piece| {
            update(tar, file, piece);
            Ok(())
        })?;
        self.len += slice.len;
        Ok(())
    }

    /// Adds a part of a file's content.
    fn put_content(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let start = self.plain.bytes.len() % STRETCH;
            let (now, later) = bytes.split_at(bytes.len().min(STRETCH - start));
            match self.plain.content.last_mut() {
                Some(last) if last.end == start => last.end += now.len(),
                _ => self.plain.content.push(start..start + now.len()),
            }
            self.put(now)?;
            bytes = later;
        }
        Ok(())
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        update(&mut self.sha256, &mut self.file_hash, bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(STRETCH - self.plain.bytes.len()));
            self.plain.bytes.reserve_exact(STRETCH - self.plain.bytes.len());
            self.plain.bytes.extend_from_slice(now);
            if self.plain.bytes.len() == STRETCH {
                self.flush()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.plain.bytes.is_empty() { Ok(()) } else { self.sink.plain(std::mem::take(&mut self.plain)) }
    }

    fn finish(mut self) -> io::Result<Tar> {
        self.put(&[0; 2 * BLOCK])?;
        self.flush()?;
        Ok(Tar { sha256: self.sha256.finish(), len: self.len })
    }
}

/// Adds content to the hash of the tar and to that of the file.
fn update(tar: &mut Sha256Stream, file: &mut Option<Sha256Stream>, bytes: &[u8]) {
    match file {
        Some(file) => update_both(tar, file, bytes),
        None => tar.update(bytes),
    }
}
