//! Removing what is not needed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ociforge_manifests::Digest;

use super::Collected;
use crate::store::Layout;

/// The directory of a layout that has the uploads that have not ended, each a file that is locked while a request has it.
pub const UPLOADS: &str = ".uploads";

/// Blobs on their way out of the layout.
const ASIDE: &str = ".gc-";

/// Removes unfinished uploads of the layout in `root` that nobody has touched for so long.
///
/// # Errors
/// When they can't be read or removed.
pub fn sweep_uploads(root: &Path, age: Duration) -> io::Result<()> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    Sweep::new(before, false).uploads(root)
}

/// A collection under way.
pub(super) struct Sweep {
    /// What was touched after this stays.
    before: SystemTime,
    dry_run: bool,
    pub(super) collected: Collected,
}

impl Sweep {
    pub(super) fn new(before: SystemTime, dry_run: bool) -> Self {
        Self { before, dry_run, collected: Collected::default() }
    }

    /// Removes all of the layout's blobs but those in `reached`, and what was never finished.
    pub(super) fn layout(&mut self, layout: &Layout, reached: &HashSet<Digest>) -> io::Result<()> {
        for (digest, path) in blobs(layout)? {
            let Some(size) = size(&path)? else { continue };
            let needed = reached.contains(&digest);
            if !needed && is_older(&path, self.before)? && (self.dry_run || remove(&path, self.before)?) {
                self.collected.blobs += 1;
                self.collected.bytes += size;
            } else {
                self.collected.kept_blobs += 1;
                self.collected.kept_bytes += size;
                self.collected.young_blobs += u64::from(!needed);
            }
        }
        let root = layout.root();
        for directory in algorithms(layout)?.into_iter().chain([root.to_owned()]) {
            for path in entries(&directory)? {
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                if name.starts_with(b".tmp-") || name.starts_with(ASIDE.as_bytes()) {
                    self.unfinished(&path)?;
                }
            }
        }
        entries(&layout.partials())?.iter().try_for_each(|path| self.unfinished(path))?;
        if !self.dry_run {
            // As long as there is nothing in it.
            let _ = fs::remove_dir(layout.partials());
        }
        self.uploads(root)
    }

    fn uploads(&mut self, root: &Path) -> io::Result<()> {
        entries(&root.join(UPLOADS))?.iter().try_for_each(|path| self.unfinished(path))
    }

    /// Removes a file that somebody began to write, unless somebody has it now.
    fn unfinished(&mut self, path: &Path) -> io::Result<()> {
        let Some(size) = size(path)? else { return Ok(()) };
        let Some(file) = there(File::open(path))? else { return Ok(()) };
        // Again once nobody else has it: who had it may have gone on.
        if !is_older(path, self.before)? || file.try_lock().is_err() || !is_older(path, self.before)? {
            return Ok(());
        }
        if !self.dry_run {
            there(fs::remove_file(path))?;
        }
        self.collected.unfinished += 1;
        self.collected.bytes += size;
        Ok(())
    }
}

/// Removes a blob. `false` when somebody has claimed it after its age was looked at: then it stays. It goes out of sight
/// first, so that everybody who comes later knows that it is gone, and then the age tells of everybody who came before.
fn remove(path: &Path, before: SystemTime) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{ASIDE}{name}"));
    fs::rename(path, &aside)?;
    if is_older(&aside, before)? {
        fs::remove_file(&aside)?;
        Ok(true)
    } else {
        fs::rename(&aside, path)?;
        Ok(false)
    }
}

/// Gives blobs their names back that a collection put aside and was killed then: somebody may have claimed them. Where
/// the blob has been brought anew that one stays. Nobody else may collect meanwhile.
pub(super) fn restore(layout: &Layout) -> io::Result<()> {
    for directory in algorithms(layout)? {
        let algorithm = directory.file_name().unwrap_or_default().to_string_lossy();
        for aside in entries(&directory)? {
            let name = aside.file_name().and_then(|name| name.to_str()?.strip_prefix(ASIDE));
            let Some(hex) = name.filter(|hex| format!("{algorithm}:{hex}").parse::<Digest>().is_ok()) else { continue };
            // Renaming would replace what is there, and its age with it.
            match fs::hard_link(&aside, directory.join(hex)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => fs::remove_file(&aside)?,
            }
        }
    }
    Ok(())
}

/// The layout's blobs, and where they are.
pub(super) fn blobs(layout: &Layout) -> io::Result<Vec<(Digest, PathBuf)>> {
    let mut blobs = Vec::new();
    for directory in algorithms(layout)? {
        let algorithm = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = entries(&directory)?.into_iter().filter_map(|path| {
            let hex = path.file_name()?.to_str()?;
            Some((format!("{algorithm}:{hex}").parse().ok()?, path))
        });
        blobs.extend(found);
    }
    Ok(blobs)
}

/// The directories of blobs. Those behind a link may be another layout's, too, whose index nobody has asked.
fn algorithms(layout: &Layout) -> io::Result<Vec<PathBuf>> {
    let blobs = layout.root().join("blobs");
    let all = entries(&blobs)?;
    if let Some(link) = all.iter().chain([&blobs]).find(|path| path.is_symlink()) {
        return Err(io::Error::other(format!("{} is a symbolic link", link.display())));
    }
    Ok(all.into_iter().filter(|path| path.is_dir()).collect())
}

/// What is in `directory`, sorted by name; nothing where it is not there.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(entries) = there(fs::read_dir(directory))? else { return Ok(Vec::new()) };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Whether nobody has touched `path` since `before`.
pub(super) fn is_older(path: &Path, before: SystemTime) -> io::Result<bool> {
    Ok(there(fs::metadata(path))?.map(|metadata| metadata.modified()).transpose()?.is_some_and(|time| time <= before))
}

/// The length of a file; nothing when it is none, or gone.
fn size(path: &Path) -> io::Result<Option<u64>> {
    Ok(there(fs::symlink_metadata(path))?.filter(fs::Metadata::is_file).map(|metadata| metadata.len()))
}

fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
