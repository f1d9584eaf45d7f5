//! Rebasing: fits a layer's directory onto the layers below it, for overlayfs.
//!
//! A layer may lack entries for the parents of its entries. Such an implied directory has the owner, mode and times of
//! the directory in the layers below; if they have a link in its place, the entries belong at the target of the link.
//! Overlayfs does neither: it would show the layer's own directory with its own attributes.
//!
//! Also creates whiteouts in overlayfs's form, if the layers below have the hidden entries.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, RenameFlags, Timestamps};
use rustix::io::Errno;

use super::below::{self, LayerStack, StackEntry};
use super::root::{self, RootDirectory};
use super::{Unpacked, XattrSpace, metadata};
use crate::entries::Time;
use crate::path::LayerPath;

/// An error of rebasing a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebaseError {
    /// The links of the layers below form a loop.
    #[error("{0} leads through a loop of links in the layers below")]
    Loop(LayerPath),
    /// The layer already has an entry at the destination of others.
    #[error("{0} leads to {1}, where the layer has another entry")]
    Blocked(LayerPath, LayerPath),
    /// The layer has entries inside a path that is not a directory below.
    #[error("{0} is not a directory in the layers below")]
    NotDirectory(LayerPath),
    /// The filesystem returns an error.
    #[error("{0}")]
    Io(LayerPath, #[source] io::Error),
}

/// Fits the layer unpacked into the directory `layer` onto `below`, the topmost first. Opaque directories are marked
/// with attributes of `space`.
///
/// # Errors
/// When the links below form a loop, entries collide, or the filesystem returns an error.
pub fn rebase(layer: &Path, unpacked: &Unpacked, below: &[PathBuf], space: XattrSpace) -> Result<(), RebaseError> {
    let top = |error: Errno| RebaseError::Io(LayerPath::root(), error.into());
    let (layer, below) = (RootDirectory::open(layer).map_err(top)?, LayerStack::open(below, space).map_err(top)?);
    let mut rebase = Rebase { layer, below, space, implied: BTreeSet::new(), touched: BTreeMap::new() };
    rebase.hide(unpacked)?;
    let mut left: BTreeSet<LayerPath> = unpacked.implied.iter().cloned().collect();
    // Parents first: when a directory moves, its content moves with it.
    while let Some(path) = left.pop_first() {
        if let Some(target) = rebase.place(&path).map_err(|fault| fault.at(&path))? {
            let moved = |other: &LayerPath| match other.as_bytes().strip_prefix(path.as_bytes()) {
                Some(rest) if other.starts_with(&path) => target.join(rest).unwrap_or_else(|_| other.clone()),
                _ => other.clone(),
            };
            left = left.iter().map(moved).collect();
        }
    }
    rebase.mark()?;
    rebase.finish()
}

/// The visible directories of a stack, the topmost first: a layer with an opaque root hides those below it, which
/// overlayfs does not detect by itself.
///
/// # Errors
/// When a directory cannot be opened.
pub fn visible(mut stack: Vec<PathBuf>, space: XattrSpace) -> io::Result<Vec<PathBuf>> {
    for n in 0..stack.len() {
        if below::hides_all_below(&stack[n], space)? {
            stack.truncate(n + 1);
            break;
        }
    }
    Ok(stack)
}

/// The cause why a directory cannot be rebased.
enum RebaseFault {
    Errno(Errno),
    Loop,
    Blocked(LayerPath),
    NotDirectory(LayerPath),
}

impl From<Errno> for RebaseFault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl RebaseFault {
    fn at(self, path: &LayerPath) -> RebaseError {
        match self {
            Self::Errno(errno) => RebaseError::Io(path.clone(), errno.into()),
            Self::Loop => RebaseError::Loop(path.clone()),
            Self::Blocked(target) => RebaseError::Blocked(path.clone(), target),
            Self::NotDirectory(path) => RebaseError::NotDirectory(path),
        }
    }
}

struct Rebase {
    layer: RootDirectory,
    below: LayerStack,
    space: XattrSpace,
    /// Directories that get their attributes from below.
    implied: BTreeSet<LayerPath>,
    /// Directories with added content, and their previous times.
    touched: BTreeMap<LayerPath, Timestamps>,
}

impl Rebase {
    /// Hides the entries that the layer's whiteouts hide.
    fn hide(&mut self, unpacked: &Unpacked) -> Result<(), RebaseError> {
        for path in &unpacked.whiteouts {
            let hidden = self.beside(path).and_then(|path| Ok(self.below.hide(path)?));
            hidden.map_err(|fault| fault.at(path))?;
        }
        for path in &unpacked.opaque {
            self.empty(path, unpacked).map_err(|fault| fault.at(path))?;
        }
        Ok(())
    }

    /// `path` with links in its parents followed.
    fn beside(&self, path: &LayerPath) -> Result<LayerPath, RebaseFault> {
        let parent = self.below.follow(&path.parent().unwrap_or_default())?.ok_or(RebaseFault::Loop)?;
        if path.is_root() { Ok(parent) } else { parent.join(path.file_name()).map_err(|_| Errno::NAMETOOLONG.into()) }
    }

    fn empty(&mut self, path: &LayerPath, unpacked: &Unpacked) -> Result<(), RebaseFault> {
        let named = unpacked.implied.binary_search(path).is_err() && self.layer.directory(path.as_bytes()).is_ok();
        let place = self.beside(path)?;
        // A directory with its own entry replaces a link; the target of the link stays.
        let place = if named { place } else { self.below.follow(&place)?.ok_or(RebaseFault::Loop)? };
        Ok(self.below.empty(place)?)
    }

    /// Moves the content of the implied directory `path` to the target of the links below, and returns the target if it
    /// moved.
    fn place(&mut self, path: &LayerPath) -> Result<Option<LayerPath>, RebaseFault> {
        match self.below.find(path)? {
            StackEntry::Link(_) => {}
            StackEntry::Other => return Err(RebaseFault::NotDirectory(path.clone())),
            _ => {
                self.implied.insert(path.clone());
                return Ok(None);
            }
        }
        let target = self.below.follow(path)?.filter(|target| !target.starts_with(path)).ok_or(RebaseFault::Loop)?;
        self.move_into(path, &target)?;
        Ok(Some(target))
    }

    /// Moves the content of `from` into `to`, and removes `from`.
    fn move_into(&mut self, from: &LayerPath, to: &LayerPath) -> Result<(), RebaseFault> {
        let target = self.directory(to)?;
        let source = self.layer.directory(from.as_bytes())?;
        for name in root::names(&source)? {
            match fs::renameat_with(&source, name.as_slice(), &target, name.as_slice(), RenameFlags::NOREPLACE) {
                Ok(()) => {}
                Err(Errno::EXIST) if is_directory(source.as_fd(), &name)? && is_directory(target.as_fd(), &name)? => {
                    let inside = |path: &LayerPath| path.join(&name).map_err(|_| Errno::INVAL);
                    self.move_into(&inside(from)?, &inside(to)?)?;
                }
                Err(Errno::EXIST) => return Err(RebaseFault::Blocked(to.clone())),
                Err(errno) => return Err(errno.into()),
            }
        }
        let parent = self.layer.directory(from.parent().unwrap_or_default().as_bytes())?;
        fs::unlinkat(parent, from.file_name(), AtFlags::REMOVEDIR)?;
        Ok(())
    }

    /// The layer's directory at `path`, created with its parents if it is missing.
    fn directory(&mut self, path: &LayerPath) -> Result<OwnedFd, RebaseFault> {
        let mut here = self.layer.directory(&[])?;
        for step in path.steps() {
            let name = step.file_name();
            self.touch(step.parent().unwrap_or_default(), &here)?;
            match fs::mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
                Ok(()) if matches!(self.below.find(&step)?, StackEntry::Other) => {
                    return Err(RebaseFault::NotDirectory(step));
                }
                Ok(()) => drop(self.implied.insert(step.clone())),
                Err(Errno::EXIST) if !is_directory(here.as_fd(), name)? => return Err(RebaseFault::Blocked(step)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            here = root::open(here.as_fd(), name)?;
        }
        self.touch(path.clone(), &here)?;
        Ok(here)
    }

    /// Records the times of a directory before its content changes.
    fn touch(&mut self, path: LayerPath, directory: &OwnedFd) -> Result<(), Errno> {
        let stat = fs::fstat(directory)?;
        self.touched.entry(path).or_insert(metadata::timestamps(&stat));
        Ok(())
    }

    /// Writes whiteouts and opaque directories in overlayfs's form. For an entry of the layer itself there is no
    /// whiteout: a directory becomes opaque, and any other entry already hides the lower one.
    fn mark(&mut self) -> Result<(), RebaseError> {
        let (gone, emptied) = self.below.hidden();
        for path in gone {
            self.mark_gone(&path).or_else(unless_blocked).map_err(|fault| fault.at(&path))?;
        }
        for path in emptied {
            let marked = self.directory(&path).and_then(|place| Ok(metadata::make_opaque(place, self.space)?));
            marked.or_else(unless_blocked).map_err(|fault| fault.at(&path))?;
        }
        Ok(())
    }

    fn mark_gone(&mut self, path: &LayerPath) -> Result<(), RebaseFault> {
        let parent = self.directory(&path.parent().unwrap_or_default())?;
        match root::stat(parent.as_fd(), path.file_name())? {
            None => metadata::make_whiteout(&parent, path.file_name())?,
            Some(stat) if root::is_directory(&stat) => {
                metadata::make_opaque(root::open(parent.as_fd(), path.file_name())?, self.space)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Gives every implied directory its attributes from below.
    fn finish(self) -> Result<(), RebaseError> {
        for path in &self.implied {
            let done = || match self.below.find(path)? {
                StackEntry::Directory(model) => {
                    let directory = self.layer.directory(path.as_bytes())?;
                    metadata::copy(model.as_fd(), &fs::fstat(&model)?, directory.as_fd())
                }
                _ => fs::futimens(self.layer.directory(path.as_bytes())?, &metadata::at(Time::default())),
            };
            done().map_err(|errno: Errno| RebaseError::Io(path.clone(), errno.into()))?;
        }
        for (path, times) in self.touched.iter().filter(|(path, _)| !self.implied.contains(*path)) {
            let done = self.layer.directory(path.as_bytes()).and_then(|directory| fs::futimens(directory, times));
            done.map_err(|errno| RebaseError::Io(path.clone(), errno.into()))?;
        }
        Ok(())
    }
}

/// An entry that is not a directory already hides the lower one.
fn unless_blocked(fault: RebaseFault) -> Result<(), RebaseFault> {
    if matches!(fault, RebaseFault::Blocked(_)) { Ok(()) } else { Err(fault) }
}

fn is_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    Ok(root::stat(parent, name)?.is_some_and(|stat| root::is_directory(&stat)))
}

#[cfg(test)]
mod tests {
    use std::fs as files;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use rustix::fs::FileType;

    use super::*;

    fn path(name: &str) -> LayerPath {
        name.parse().unwrap()
    }

    /// A directory of a layer: `name/` is a directory, `name>target` a link, `name` a file, `.wh.name` a whiteout.
    fn layer(at: &Path, entries: &[&str]) -> PathBuf {
        for entry in entries {
            let whole = at.join(entry.split('>').next().unwrap());
            files::create_dir_all(whole.parent().unwrap()).unwrap();
            if let Some((name, target)) = entry.split_once('>') {
                symlink(target, at.join(name)).unwrap();
                continue;
            }
            let (directory, name) = (whole.parent().unwrap(), whole.file_name().unwrap().to_str().unwrap());
            if entry.ends_with('/') {
                files::create_dir_all(&whole).unwrap();
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let mode = Mode::from_raw_mode(0o600);
                fs::mknodat(fs::CWD, directory.join(hidden), FileType::CharacterDevice, mode, 0).unwrap();
            } else {
                files::write(whole, *entry).unwrap();
            }
        }
        at.to_owned()
    }

    struct Stack {
        place: tempfile::TempDir,
        below: Vec<PathBuf>,
    }

    impl Stack {
        /// Layers, topmost first.
        fn new(layers: &[&[&str]]) -> Self {
            let place = tempfile::tempdir().unwrap();
            let make = |(n, entries): (usize, &&[&str])| layer(&place.path().join(n.to_string()), entries);
            let below = layers.iter().enumerate().map(make).collect();
            Self { place, below }
        }

        /// Rebases a layer. Its whiteouts are not on disk yet.
        fn rebase(&self, entries: &[&str], implied: &[&str]) -> Result<PathBuf, RebaseError> {
            let (whiteouts, entries): (Vec<&str>, Vec<&str>) = entries.iter().partition(|name| name.contains(".wh."));
            let top = layer(&self.place.path().join("top"), &entries);
            let mut unpacked =
                Unpacked { implied: implied.iter().map(|name| path(name)).collect(), ..Unpacked::default() };
            unpacked.whiteouts = whiteouts.iter().map(|name| path(&name.replace(".wh.", ""))).collect();
            rebase(&top, &unpacked, &self.below, XattrSpace::Trusted)?;
            Ok(top)
        }
    }

    #[test]
    fn implied_directories_are_those_below() {
        let stack = Stack::new(&[&["tmp/"], &["tmp/", "opt/x/"]]);
        files::set_permissions(stack.below[0].join("tmp"), files::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::chown(stack.below[1].join("opt"), Some(7), Some(8)).unwrap();
        let top = stack.rebase(&["tmp/file", "opt/y", "new/z"], &["tmp", "opt", "new"]).unwrap();
        let facts = |name: &str| files::metadata(top.join(name)).unwrap();
        assert_eq!(facts("tmp").mode() & 0o7777, 0o1777);
        let below = files::metadata(stack.below[0].join("tmp")).unwrap();
        assert_eq!((facts("tmp").mtime(), facts("tmp").mtime_nsec()), (below.mtime(), below.mtime_nsec()));
        assert_eq!((facts("opt").uid(), facts("opt").gid()), (7, 8));
        assert!(top.join("new/z").is_file());
    }

    #[test]
    fn entries_go_where_links_below_lead() {
        let stack = Stack::new(&[&["usr/other"], &["lib>usr/lib", "usr/lib/a", "usr/lib/deep>../share/../../far"]]);
        let entries = ["lib/x/file", "lib/deep/y", "lib/.wh.a", "usr/lib/x/beside"];
        let top = stack.rebase(&entries, &["lib", "lib/x", "lib/deep", "usr", "usr/lib", "usr/lib/x"]).unwrap();
        assert!(!top.join("lib").exists());
        assert!(top.join("usr/lib/x/file").is_file() && top.join("usr/lib/x/beside").is_file());
        assert!(top.join("far/y").is_file() && !top.join("usr/lib/deep").exists());
        assert_eq!(files::symlink_metadata(top.join("usr/lib/a")).unwrap().rdev(), 0);
    }

    #[test]
    fn what_is_hidden_has_no_say() {
        let stack = Stack::new(&[&[".wh.lib", "opt/"], &["lib>usr/lib", "opt/in>elsewhere", "usr/"]]);
        metadata::make_opaque(files::File::open(stack.below[0].join("opt")).unwrap(), XattrSpace::User).unwrap();
        let top = stack.rebase(&["lib/x", "opt/in/y"], &["lib", "opt/in"]).unwrap();
        assert!(top.join("lib/x").is_file() && top.join("opt/in/y").is_file());
    }

    #[test]
    fn named_directories_keep_their_times() {
        let stack = Stack::new(&[&["lib>usr/lib"]]);
        let top = layer(&stack.place.path().join("top"), &["usr/lib/", "lib/x"]);
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
        files::File::open(top.join("usr/lib")).unwrap().set_modified(old).unwrap();
        stack.rebase(&[], &["lib"]).unwrap();
        assert!(top.join("usr/lib/x").is_file());
        assert_eq!(files::metadata(top.join("usr/lib")).unwrap().mtime(), 5);
    }

    #[test]
    fn what_can_not_be_is_an_error() {
        for (below, entries, implied, said) in [
            (&["a>b", "b>a"][..], &["a/x"][..], &["a"][..], "/a leads through a loop of links in the layers below"),
            (&["a>b"], &["a/x", "b"], &["a"], "/a leads to /b, where the layer has another entry"),
            (&["a>b"], &["a/x", "b/x"], &["a", "b"], "/a leads to /b, where the layer has another entry"),
            (&["a"], &["a/x"], &["a"], "/a is not a directory in the layers below"),
            (&["a>b", "b"], &["a/x"], &["a"], "/b is not a directory in the layers below"),
            (&["a>../../.."], &["a/x"], &["a"], "/a leads through a loop"),
        ] {
            let stack = Stack::new(&[below]);
            files::write(stack.place.path().join("canary"), "").unwrap();
            match stack.rebase(entries, implied) {
                Err(error) => assert!(error.to_string().starts_with(said), "{error}"),
                // A link to the root: its content is at the root.
                Ok(top) => assert!(top.join("x").is_file() && below == ["a>../../.."], "{below:?}"),
            }
            assert_eq!(files::read_dir(stack.place.path()).unwrap().count(), 3);
        }
    }
}
