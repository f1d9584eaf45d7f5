//! Removing what is not needed.

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

/// Blobs on their way out of the layout.
const ASIDE: &str = ".gc-";

/// Removes unfinished uploads of the layout that nobody has touched for so long.
///
/// # Errors
/// When they can't be read or removed.
pub fn sweep_uploads(layout: &Layout, age: Duration) -> io::Result<()> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    Sweep::new(before, false).uploads(layout)
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

    /// Removes what killed processes left half-written beside the blobs or the index.
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

    /// Removes all files of a directory that holds nothing but unfinished ones.
    fn all(&mut self, directory: &Dir) -> io::Result<()> {
        directory.names()?.iter().try_for_each(|name| self.unfinished(directory, name))
    }

    /// Removes a file that somebody began to write, unless somebody has it now.
    fn unfinished(&mut self, directory: &Dir, name: &OsStr) -> io::Result<()> {
        let Some(facts) = directory.facts(name)? else { return Ok(()) };
        let Some(file) = there(directory.open_file(name))? else { return Ok(()) };
        let is_older = || Ok::<_, io::Error>(directory.facts(name)?.is_some_and(|facts| facts.is_older(self.before)));
        // Again once nobody else has it: who had it may have gone on.
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

/// Removes a blob. `false` when somebody has claimed it after its age was looked at: then it stays. It goes out of sight
/// first, so that everybody who comes later knows that it is gone, and then the age tells of everybody who came before.
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

/// Gives blobs their names back that a collection put aside and was killed then: somebody may have claimed them. Where
/// the blob has been brought anew that one stays. Nobody else may collect meanwhile.
pub(super) fn restore(layout: &Layout) -> io::Result<()> {
    for (algorithm, directory) in layout.algorithms()? {
        for aside in directory.names()? {
            let name = aside.to_str().and_then(|name| name.strip_prefix(ASIDE));
            let Some(hex) = name.filter(|hex| format!("{algorithm}:{hex}").parse::<Digest>().is_ok()) else { continue };
            // Renaming would replace what is there, and its age with it.
            match directory.link(&aside, hex) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => directory.remove(&aside)?,
            }
        }
    }
    Ok(())
}

/// Whether a blob of the layout is so old, whether or not anything needs it.
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
