//! A tree from a directory or a file on disk.
//!
//! The tree depends only on names, content and the execute permission of files: not on the umask of the checkout, the
//! order of the directory, times, owners or extended attributes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ignore::Patterns;
use crate::path::{LayerPath, PathError};
use crate::tree::{Content, LayerTree, Metadata, NodeKind, TreeError, TreeNode};
use crate::whiteout::{self, Meaning};

/// The destination of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyDestination {
    /// The path.
    pub path: LayerPath,
    /// Whether it ends with a slash: a single file then goes into it under its own name.
    pub into: bool,
}

impl FromStr for CopyDestination {
    type Err = PathError;

    fn from_str(name: &str) -> Result<Self, PathError> {
        Ok(Self { path: LayerPath::new(name)?, into: name.ends_with('/') })
    }
}

/// Patterns, with the path of the source relative to them.
#[derive(Debug, Clone)]
pub struct Exclusion {
    /// The patterns.
    pub patterns: Patterns,
    /// The path of the source relative to the patterns' directory; empty for that directory itself.
    pub source: LayerPath,
}

/// The options of the copy.
#[derive(Debug, Clone, Default)]
pub struct DirectoryOptions {
    /// The filters: a file is excluded if one of them excludes it.
    pub exclude: Vec<Exclusion>,
    /// Owner and group; root if `None`.
    pub owner: Option<(u64, u64)>,
    /// The mode of files; directories also get `x` wherever the mode has `r`. If `None`, files get 0755 or 0644,
    /// depending on their owner's execute permission, and directories 0755.
    pub mode: Option<u32>,
    /// Modification time of all entries, seconds since 1970.
    pub mtime: i64,
    /// Whether named pipes and devices are included, as in docker, instead of an error.
    pub special: bool,
}

/// The captured content.
#[derive(Debug)]
pub struct Taken {
    /// The tree.
    pub tree: LayerTree,
    /// Skipped sockets: layers cannot have any.
    pub sockets: Vec<PathBuf>,
}

/// Files cannot be added to a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A socket, a named pipe or a device.
    #[error("{} is {what}, which cannot be copied", path.display())]
    Special {
        /// The path.
        path: PathBuf,
        /// Its type, with an article.
        what: &'static str,
    },
    /// A name that would remove a file instead of adding it.
    #[error("{} cannot be in a layer: names that begin with `.wh.` mark deleted files", .0.display())]
    Whiteout(PathBuf),
    /// The source itself is excluded.
    #[error("{} is excluded by the patterns of .dockerignore or `exclude`", .0.display())]
    Excluded(PathBuf),
    /// A single file that would replace the root directory.
    #[error("{} is a file and cannot be the root directory", .0.display())]
    Root(PathBuf),
    /// A path that is invalid in a layer.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two entries that conflict.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Copies the content of the directory `from` to the directory `to`, or the file `from` to the file `to` (with `into`,
/// into the directory `to`). If `from` is a symbolic link, its target is copied; links below it stay links.
///
/// The tree has the directory `to`, but neither its parents nor the root directory, whose attributes
/// [`place`](crate::place::place) adds. Hard links among the copied files stay hard links.
///
/// # Errors
/// When a file cannot be read, its kind or name cannot be copied, or `from` itself is excluded.
pub fn directory(from: &Path, to: &CopyDestination, options: &DirectoryOptions) -> Result<LayerTree, DirectoryError> {
    take(from, to, options).map(|taken| taken.tree)
}

/// As before, with the skipped files.
///
/// # Errors
/// As [`directory`].
pub fn take(from: &Path, to: &CopyDestination, options: &DirectoryOptions) -> Result<Taken, DirectoryError> {
    let metadata = fs::metadata(from).map_err(|source| DirectoryError::Read { path: from.into(), source })?;
    if let Some(path) = std::iter::once(to.path.clone()).chain(to.path.ancestors()).find(is_whiteout) {
        return Err(DirectoryError::Whiteout(path.to_string().into()));
    }
    let mut walk =
        DirectoryWalk { options, tree: LayerTree::new(), linked: BTreeMap::new(), sockets: Vec::new(), found: false };
    if metadata.is_dir() {
        if !to.path.is_root() {
            walk.insert(from, to.path.clone(), &metadata, NodeKind::Directory { opaque: false })?;
        }
        walk.directory(from, &LayerPath::root(), &to.path)?;
        // As in docker: an excluded directory is missing, while a directory with only excluded files is empty.
        if !walk.found && options.exclude.iter().any(Exclusion::excludes_source) {
            return Err(DirectoryError::Excluded(from.into()));
        }
        return Ok(walk.finish()?);
    }
    // The link's own name, not that of its target.
    let name = from.file_name().unwrap_or_default().as_bytes();
    let path = if to.into { to.path.join(name)? } else { to.path.clone() };
    if options.exclude.iter().any(|exclusion| exclusion.excludes_file(name)) {
        return Err(DirectoryError::Excluded(from.into()));
    }
    if path.is_root() {
        return Err(DirectoryError::Root(from.into()));
    }
    walk.take(from, &metadata, path)?;
    Ok(walk.finish()?)
}

fn is_whiteout(path: &LayerPath) -> bool {
    !matches!(whiteout::read(path.clone()), Ok(Meaning::Entry(_)))
}

struct DirectoryWalk<'a> {
    options: &'a DirectoryOptions,
    tree: LayerTree,
    /// Files with several names, by device and inode.
    linked: BTreeMap<(u64, u64), Vec<LayerPath>>,
    sockets: Vec<PathBuf>,
    /// Whether any file was not excluded.
    found: bool,
}

impl DirectoryWalk<'_> {
    /// Adds the content of the directory `from`, which is at `below` in the source, to `to`.
    fn directory(&mut self, from: &Path, below: &LayerPath, to: &LayerPath) -> Result<(), DirectoryError> {
        let failed = |source| DirectoryError::Read { path: from.into(), source };
        let mut entries: Vec<_> = fs::read_dir(from).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let (below, to) = (below.join(name.as_bytes())?, to.join(name.as_bytes())?);
            let metadata =
                fs::symlink_metadata(&path).map_err(|source| DirectoryError::Read { path: path.clone(), source })?;
            let out = self.options.exclude.iter().any(|exclusion| exclusion.excludes(&below));
            if out && !(metadata.is_dir() && self.may_keep_below(&below)) {
                continue;
            }
            if !out {
                self.found = true;
            }
            if metadata.file_type().is_socket() {
                self.sockets.push(path);
                continue;
            }
            if out {
                // An exception may include something in it; the directory itself is then only a parent.
                let before = self.tree.len();
                self.directory(&path, &below, &to)?;
                if self.tree.len() == before {
                    continue;
                }
                self.insert(&path, to, &metadata, NodeKind::Directory { opaque: false })?;
            } else {
                self.take(&path, &metadata, to.clone())?;
                if metadata.is_dir() {
                    self.directory(&path, &below, &to)?;
                }
            }
        }
        Ok(())
    }

    fn may_keep_below(&self, below: &LayerPath) -> bool {
        self.options.exclude.iter().all(|exclusion| !exclusion.excludes(below) || exclusion.may_keep_below(below))
    }

    /// Adds one entry, without its content.
    fn take(&mut self, from: &Path, metadata: &fs::Metadata, to: LayerPath) -> Result<(), DirectoryError> {
        let kind = metadata.file_type();
        let special = |what| DirectoryError::Special { path: from.into(), what };
        let kind = match kind {
            _ if kind.is_file() => NodeKind::File(Content::Path { path: from.into(), len: metadata.len() }),
            _ if kind.is_dir() => NodeKind::Directory { opaque: false },
            _ if kind.is_symlink() => {
                let target =
                    fs::read_link(from).map_err(|source| DirectoryError::Read { path: from.into(), source })?;
                NodeKind::Symlink(target.into_os_string().as_bytes().to_owned())
            }
            _ if kind.is_socket() => return Err(special("a socket")),
            _ if kind.is_fifo() && self.options.special => NodeKind::Fifo,
            _ if kind.is_fifo() => return Err(special("a named pipe")),
            // Overlayfs would interpret it as a whiteout.
            _ if metadata.rdev() == 0 => return Err(special("a device without a number")),
            _ if self.options.special => device(&kind, metadata.rdev()),
            _ => return Err(special("a device")),
        };
        if metadata.is_file() && metadata.nlink() > 1 {
            self.linked.entry((metadata.dev(), metadata.ino())).or_default().push(to.clone());
        }
        self.insert(from, to, metadata, kind)
    }

    /// The first name of each file is the file, and its other names are links to it.
    fn finish(mut self) -> Result<Taken, TreeError> {
        for mut names in self.linked.into_values() {
            names.sort_unstable();
            let mut names = names.into_iter();
            let Some(first) = names.next() else { continue };
            for name in names {
                let Some(metadata) = self.tree.get(&name).map(|node| node.metadata.clone()) else { continue };
                self.tree.insert(name, TreeNode { metadata, kind: NodeKind::Hardlink(first.clone()) })?;
            }
        }
        Ok(Taken { tree: self.tree, sockets: self.sockets })
    }

    fn insert(
        &mut self,
        from: &Path,
        to: LayerPath,
        metadata: &fs::Metadata,
        kind: NodeKind,
    ) -> Result<(), DirectoryError> {
        if is_whiteout(&to) {
            return Err(DirectoryError::Whiteout(from.into()));
        }
        let mode = match (&kind, self.options.mode) {
            (NodeKind::Symlink(_), _) => 0o777,
            (NodeKind::Directory { .. }, Some(mode)) => mode | (mode & 0o444) >> 2,
            (_, Some(mode)) => mode,
            (NodeKind::Directory { .. }, None) => 0o755,
            (_, None) if metadata.permissions().mode() & 0o100 != 0 => 0o755,
            (_, None) => 0o644,
        };
        let (uid, gid) = self.options.owner.unwrap_or_default();
        let metadata = Metadata { uid, gid, ..Metadata::root(mode, self.options.mtime) };
        Ok(self.tree.insert(to, TreeNode { metadata, kind })?)
    }
}

fn device(kind: &fs::FileType, number: u64) -> NodeKind {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    if kind.is_block_device() { NodeKind::BlockDevice { major, minor } } else { NodeKind::CharDevice { major, minor } }
}

impl Exclusion {
    /// Whether the source itself is excluded, unless the patterns start there.
    fn excludes_source(&self) -> bool {
        !self.source.is_root() && self.patterns.exclude(self.source.as_bytes())
    }

    /// Whether the path `below` in the source is excluded.
    fn excludes(&self, below: &LayerPath) -> bool {
        self.patterns.exclude(&self.seen(below.as_bytes()))
    }

    /// Whether a source that is one file of this name is excluded.
    fn excludes_file(&self, name: &[u8]) -> bool {
        self.patterns.exclude(if self.source.is_root() { name } else { self.source.as_bytes() })
    }

    fn may_keep_below(&self, below: &LayerPath) -> bool {
        self.patterns.may_keep_below(&self.seen(below.as_bytes()))
    }

    fn seen(&self, below: &[u8]) -> Vec<u8> {
        if self.source.is_root() { below.to_vec() } else { [self.source.as_bytes(), b"/", below].concat() }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn hard_links_stay_links_where_both_names_are_taken() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "b/z", "1", 0o644);
        write(root.path(), "out", "2", 0o644);
        for (file, link) in [("b/z", "b.a"), ("b/z", "c"), ("out", "one")] {
            fs::hard_link(root.path().join(file), root.path().join(link)).unwrap();
        }
        let options = DirectoryOptions { exclude: vec![patterns(&["out"], "")], ..DirectoryOptions::default() };
        let found = taken(root.path(), "/", &options).unwrap();
        assert_eq!(
            found,
            [
                "/b 755 0:0 dir",
                "/b.a 644 0:0 file 1",
                "/b/z 644 0:0 Hardlink(/b.a)",
                "/c 644 0:0 Hardlink(/b.a)",
                "/one 644 0:0 file 1"
            ]
        );
    }

    fn taken(from: &Path, to: &str, options: &DirectoryOptions) -> Result<Vec<String>, DirectoryError> {
        let tree = directory(from, &to.parse().unwrap(), options)?;
        let shown = tree.iter().map(|(path, node)| {
            let kind = match &node.kind {
                NodeKind::Directory { .. } => "dir".to_owned(),
                NodeKind::File(content) => format!("file {}", content.len()),
                NodeKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
                other => format!("{other:?}"),
            };
            let Metadata { mode, uid, gid, mtime, xattrs } = &node.metadata;
            assert!(xattrs.is_empty() && *mtime == options.mtime);
            format!("{path} {mode:o} {uid}:{gid} {kind}")
        });
        Ok(shown.collect())
    }

    fn write(root: &Path, name: &str, text: &str, mode: u32) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn patterns(patterns: &[&str], source: &str) -> Exclusion {
        Exclusion { patterns: Patterns::new(patterns).unwrap(), source: source.parse().unwrap() }
    }

    #[test]
    fn modes_follow_the_x_bit_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "run", "#!", 0o4700);
        write(root.path(), "d/text", "12345", 0o666);
        write(root.path(), "d/none", "", 0o611);
        fs::hard_link(root.path().join("run"), root.path().join("again")).unwrap();
        fs::set_permissions(root.path().join("d"), fs::Permissions::from_mode(0o2770)).unwrap();
        symlink("../out", root.path().join("d/link")).unwrap();
        let plain = [
            "/code/src 755 0:0 dir",
            "/code/src/again 755 0:0 file 2",
            "/code/src/d 755 0:0 dir",
            "/code/src/d/link 777 0:0 -> ../out",
            "/code/src/d/none 644 0:0 file 0",
            "/code/src/d/text 644 0:0 file 5",
            "/code/src/run 755 0:0 Hardlink(/code/src/again)",
        ];
        assert_eq!(taken(root.path(), "/code/src", &DirectoryOptions::default()).unwrap(), plain);
        assert_eq!(
            taken(root.path(), "/code/src/", &DirectoryOptions { mtime: 7, ..DirectoryOptions::default() }).unwrap(),
            plain
        );
        let options = DirectoryOptions { owner: Some((1000, 50)), mode: Some(0o640), ..DirectoryOptions::default() };
        let stated = taken(&root.path().join("d"), "/", &options).unwrap();
        assert_eq!(stated, ["/link 777 1000:50 -> ../out", "/none 640 1000:50 file 0", "/text 640 1000:50 file 5"]);
        assert_eq!(taken(&root.path().join("d"), "/x", &options).unwrap()[0], "/x 750 1000:50 dir");
    }

    #[test]
    fn one_file_goes_to_a_name_or_into_a_directory() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a.txt", "a", 0o600);
        symlink("a.txt", root.path().join("link")).unwrap();
        let take = |name: &str, to: &str| taken(&root.path().join(name), to, &DirectoryOptions::default());
        assert_eq!(take("a.txt", "/b").unwrap(), ["/b 644 0:0 file 1"]);
        assert_eq!(take("a.txt", "/b/").unwrap(), ["/b/a.txt 644 0:0 file 1"]);
        assert_eq!(take("a.txt", "/").unwrap(), ["/a.txt 644 0:0 file 1"]);
        assert_eq!(take("link", "/b/").unwrap(), ["/b/link 644 0:0 file 1"]);
        assert!(matches!(take("none", "/b"), Err(DirectoryError::Read { .. })));
        for to in ["/.wh.b", "/.wh.b/", "/.wh.b/c"] {
            assert!(matches!(take("a.txt", to), Err(DirectoryError::Whiteout(_))), "{to}");
        }
        let to = CopyDestination { path: LayerPath::root(), into: false };
        let outcome = directory(&root.path().join("a.txt"), &to, &DirectoryOptions::default());
        assert!(matches!(outcome, Err(DirectoryError::Root(_))));
    }

    #[test]
    fn patterns_leave_out_and_take_in() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a.py", "a.pyc", "sub/b.pyc", "sub/deep/keep.pyc", "logs/x/1", "logs/y/2", "empty/e.pyc"] {
            write(root.path(), name, "", 0o644);
        }
        let names = |exclude: Vec<Exclusion>| -> String {
            let all = taken(root.path(), "/c", &DirectoryOptions { exclude, ..DirectoryOptions::default() }).unwrap();
            all.iter().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let one = patterns(&["src/**/*.pyc", "!src/sub/deep/*", "src/logs", "!src/logs/y"], "src");
        let expected = "/c /c/a.py /c/empty /c/logs /c/logs/y /c/logs/y/2 /c/sub /c/sub/deep /c/sub/deep/keep.pyc";
        assert_eq!(names(vec![one.clone()]), expected);
        let two = names(vec![one, patterns(&["logs", "sub/deep"], "")]);
        assert_eq!(two, "/c /c/a.py /c/empty /c/sub", "what one leaves out the other can't take in");
        assert_eq!(names(vec![patterns(&["**"], "")]), "/c");
        let file = |exclusion| {
            let options = DirectoryOptions { exclude: vec![exclusion], ..DirectoryOptions::default() };
            taken(&root.path().join("a.pyc"), "/c", &options)
        };
        assert!(matches!(file(patterns(&["**/*.pyc"], "")), Err(DirectoryError::Excluded(_))));
        assert!(matches!(file(patterns(&["src"], "src/a.pyc")), Err(DirectoryError::Excluded(_))));
        assert!(file(patterns(&["a.pyc"], "src/a.pyc")).is_ok());
    }

    #[test]
    fn what_can_not_be_copied() {
        let root = tempfile::tempdir().unwrap();
        let take = || taken(root.path(), "/c", &DirectoryOptions::default());
        fs::write(root.path().join(OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
        assert_eq!(take().unwrap().len(), 2);
        let pipe = root.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = take().unwrap_err();
        assert!(matches!(&error, DirectoryError::Special { what: "a named pipe", .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("{} is a named pipe", pipe.display())));
        let left_out = DirectoryOptions { exclude: vec![patterns(&["pipe"], "")], ..DirectoryOptions::default() };
        assert!(taken(root.path(), "/c", &left_out).is_ok(), "what is skipped does not matter");
        fs::remove_file(&pipe).unwrap();
        for name in [".wh.gone", ".wh..wh..opq", ".wh."] {
            fs::create_dir(root.path().join(name)).unwrap();
            assert!(matches!(take(), Err(DirectoryError::Whiteout(_))), "{name}");
            fs::remove_dir(root.path().join(name)).unwrap();
        }
    }

    #[test]
    fn sockets_are_left_out_and_pipes_and_devices_taken() {
        let root = tempfile::tempdir().unwrap();
        let node = |name: &str, kind, mode: u32, number| {
            rustix::fs::mknodat(rustix::fs::CWD, root.path().join(name), kind, mode.into(), number).unwrap();
        };
        for name in ["socket", "sub/socket", "ignored/socket"] {
            write(root.path(), &format!("{name}-beside"), "", 0o644);
            drop(UnixListener::bind(root.path().join(name)).unwrap());
        }
        let exclude = vec![patterns(&["ignored"], "")];
        let options = DirectoryOptions { special: true, exclude, ..DirectoryOptions::default() };
        let plain = super::take(root.path(), &"/c".parse().unwrap(), &options).unwrap();
        assert_eq!(plain.sockets, ["socket", "sub/socket"].map(|name| root.path().join(name)));
        assert_eq!(plain.tree.len(), 4);
        let alone = super::take(&root.path().join("socket"), &"/c".parse().unwrap(), &options).unwrap_err();
        assert!(matches!(alone, DirectoryError::Special { what: "a socket", .. }), "{alone}");

        node("pipe", rustix::fs::FileType::Fifo, 0o640, 0);
        node("null", rustix::fs::FileType::CharacterDevice, 0o777, rustix::fs::makedev(1, 3));
        node("disk", rustix::fs::FileType::BlockDevice, 0o600, rustix::fs::makedev(8, 1));
        let tree = taken(root.path(), "/c", &options).unwrap();
        for line in [
            "/c/disk 644 0:0 BlockDevice { major: 8, minor: 1 }",
            "/c/null 755 0:0 CharDevice { major: 1, minor: 3 }",
            "/c/pipe 644 0:0 Fifo",
        ] {
            assert!(tree.iter().any(|have| have == line), "{line} in {tree:?}");
        }
        assert_eq!(taken(&root.path().join("pipe"), "/p", &options).unwrap(), ["/p 644 0:0 Fifo"]);
        node("whiteout", rustix::fs::FileType::CharacterDevice, 0, 0);
        assert!(matches!(taken(root.path(), "/c", &options), Err(DirectoryError::Special { .. })));
    }

    #[test]
    fn a_source_that_is_left_out_as_a_whole_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        for name in ["f", "sub/g"] {
            write(root.path(), name, "", 0o644);
        }
        let take = |lines: &[&str], source: &str| {
            let options = DirectoryOptions { exclude: vec![patterns(lines, source)], ..DirectoryOptions::default() };
            taken(root.path(), "/c", &options).map(|tree| tree.len())
        };
        for lines in [&["src"][..], &["src", "!src/none"], &["*"], &["**"], &["src/", "!src/sub/h"]] {
            assert!(matches!(take(lines, "src"), Err(DirectoryError::Excluded(_))), "{lines:?}");
        }
        assert!(matches!(take(&["src"], "src/in"), Err(DirectoryError::Excluded(_))));
        for (lines, source, count) in [
            (&["src", "!src/f"][..], "src", 2),
            (&["*", "!src/sub"], "src", 3),
            (&["src", "!src"], "src", 4),
            // The directory exists and is empty.
            (&["src/*"], "src", 1),
            (&["src/**"], "src", 1),
            (&["*"], "", 1),
        ] {
            assert_eq!(take(lines, source).unwrap(), count, "{lines:?}");
        }
    }
}
