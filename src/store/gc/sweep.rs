//! The sweep phase: removes unneeded content.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use ociforge_manifests::Digest;

use super::Collected;
use crate::store::Layout;
use crate::store::dir::{Dir, digests, there};
use crate::store::layout::UPLOADS;
use crate::store::temporary::TEMPORARY;

/// The directory of blobs that are being removed.
const ASIDE: &str = ".gc-";

/// Removes unfinished uploads of the layout above this age.
///
/// # Errors
/// When they cannot be read or removed.
pub fn sweep_uploads(layout: &Layout, age: Duration) -> io::Result<()> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    Sweep::new(before, false).uploads(layout)
}

/// A running collection.
pub(super) struct Sweep {
    /// Content that was touched after this time stays.
    before: SystemTime,
    dry_run: bool,
    pub(super) collected: Collected,
}

impl Sweep {
    pub(super) fn new(before: SystemTime, dry_run: bool) -> Self {
        Self { before, dry_run, collected: Collected::default() }
    }

    /// Removes all of the layout's blobs except `reached`, and unfinished files.
    pub(super) fn layout(&mut self, layout: &Layout, reached: &HashSet<Digest>) -> io::Result<()> {
        for (algorithm, directory) in layout.algorithms()? {
            for (digest, name) in digests(&algorithm, &directory)? {
                self.blob(&directory, &name, reached.contains(&digest))?;
            }
            self.temporary(&directory)?;
        }
        self.temporary(layout.dir())?;
        if let Some(partials) = layout.partials()? {
            self.all(&partials)?;
            if !self.dry_run {
                layout.remove_empty_partials();
            }
        }
        self.uploads(layout)
    }

    fn blob(&mut self, directory: &Dir, name: &str, needed: bool) -> io::Result<()> {
        let Some(facts) = directory.facts(name)? else { return Ok(()) };
        let garbage = !needed && facts.is_older(self.before);
        if garbage && (self.dry_run || remove(directory, name, self.before)?) {
            self.collected.blobs += 1;
            self.collected.bytes += facts.size;
        } else {
            self.collected.kept_blobs += 1;
            self.collected.kept_bytes += facts.size;
            self.collected.young_blobs += u64::from(!needed);
        }
        Ok(())
    }

    /// Removes temporary files of killed processes beside the blobs or the index.
    fn temporary(&mut self, directory: &Dir) -> io::Result<()> {
        for name in directory.names()? {
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(TEMPORARY.as_bytes()) || bytes.starts_with(ASIDE.as_bytes()) {
                self.unfinished(directory, &name)?;
            }
        }
        Ok(())
    }

    fn uploads(&mut self, layout: &Layout) -> io::Result<()> {
        there(layout.dir().directory(UPLOADS))?.map_or(Ok(()), |uploads| self.all(&uploads))
    }

    /// Removes all files of a directory of unfinished files.
    fn all(&mut self, directory: &Dir) -> io::Result<()> {
        directory.names()?.iter().try_for_each(|name| self.unfinished(directory, name))
    }

    /// Removes an unfinished file, unless it is locked.
    fn unfinished(&mut self, directory: &Dir, name: &OsStr) -> io::Result<()> {
        let Some(facts) = directory.facts(name)? else { return Ok(()) };
        let Some(file) = there(directory.open_file(name))? else { return Ok(()) };
        let is_older = || Ok::<_, io::Error>(directory.facts(name)?.is_some_and(|facts| facts.is_older(self.before)));
        // The check is repeated under the lock: the previous holder may have continued.
        if !is_older()? || file.try_lock().is_err() || !is_older()? {
            return Ok(());
        }
        if !self.dry_run {
            there(directory.remove(name))?;
        }
        self.collected.unfinished += 1;
        self.collected.bytes += facts.size;
        Ok(())
    }
}

/// Removes a blob. `false` if it was claimed after the check of its age: then it stays. It is moved away first, so that
/// later users find it missing; its age then shows earlier claims.
fn remove(directory: &Dir, name: &str, before: SystemTime) -> io::Result<bool> {
    let aside = format!("{ASIDE}{name}");
    directory.rename(name, directory, &aside)?;
    if directory.facts(&aside)?.is_some_and(|facts| facts.is_older(before)) {
        directory.remove(&aside)?;
        Ok(true)
    } else {
        directory.rename(&aside, directory, name)?;
        Ok(false)
    }
}

/// Restores blobs that a killed collection moved away: they may have been claimed. A blob that was written again stays.
/// The caller holds the lock of collections.
pub(super) fn restore(layout: &Layout) -> io::Result<()> {
    for (algorithm, directory) in layout.algorithms()? {
        for aside in directory.names()? {
            let name = aside.to_str().and_then(|name| name.strip_prefix(ASIDE));
            let Some(hex) = name.filter(|hex| format!("{algorithm}:{hex}").parse::<Digest>().is_ok()) else { continue };
            // A rename would replace the new file and its age.
            match directory.link(&aside, hex) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => directory.remove(&aside)?,
            }
        }
    }
    Ok(())
}

/// Whether a blob of the layout is above the age, needed or not.
pub(super) fn has_older_blob(layout: &Layout, before: SystemTime) -> io::Result<bool> {
    for (algorithm, directory) in layout.algorithms()? {
        for (_, name) in digests(&algorithm, &directory)? {
            if directory.facts(name)?.is_some_and(|facts| facts.is_older(before)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
