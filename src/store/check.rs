//! Integrity checks of the store.
//!
//! A build checks a packed layer of the store by the times of its file, and hashes the layer only if these have
//! changed. Silent disk corruption is found when the layer is copied, because a copy hashes it, and by a check of the
//! whole store.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ociforge_layers::unpack::XattrSpace;
use ociforge_manifests::{ChainId, Descriptor, Digest, Hasher};

use super::dir::{Dir, digests, there};
use super::stamp::{Comparison, Stamp};
use super::{RootState, Store};

/// Bytes per read.
const PIECE: usize = 256 << 10;

/// The state of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// Nothing.
    Missing,
    /// The blob.
    Sound,
    /// Damaged content, which was removed.
    Damaged,
}

/// The result of a check of the whole store.
#[derive(Debug, Default)]
pub struct Checked {
    /// The number of hashed files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The damaged files, which were removed.
    pub damaged: Vec<PathBuf>,
}

impl Store {
    /// Checks and claims the blob of a packed layer (see [`Layout::claim_blob`](super::Layout)).
    ///
    /// # Errors
    /// When it cannot be read, or a damaged one cannot be removed.
    pub fn check_layer(&self, layer: &Descriptor) -> io::Result<BlobState> {
        let (digest, stamp_file) = (&layer.digest, self.stamp_path(&layer.digest));
        let blob = self.layout().blob_path(digest);
        let untouched = matches!(Stamp::compare(&stamp_file, &blob), Ok(Comparison::Same));
        // The claim changes its times.
        let Some(size) = self.layout().claim_blob(digest) else { return Ok(BlobState::Missing) };
        // A change during the hash is noticed at the next check.
        let stamp = Stamp::of(&blob)?;
        if size != layer.size || !(untouched || is_blob(self.layout().open_blob(digest)?.0, digest)?) {
            self.layout().remove_blob(digest)?;
            return Ok(BlobState::Damaged);
        }
        stamp.write_to(&stamp_file)?;
        Ok(BlobState::Sound)
    }

    /// Writes the stamp of the blob of a new layer.
    ///
    /// # Errors
    /// When it cannot be read, or the stamp cannot be written.
    pub fn note_layer(&self, layer: &Digest) -> io::Result<()> {
        Stamp::of(&self.layout().blob_path(layer))?.write_to(&self.stamp_path(layer))
    }

    /// Hashes every blob and every downloaded wheel, compares unpacked layers with their stamps, and removes damaged
    /// files: the next build creates or fetches them again. `each` receives the size of each file before it is hashed.
    ///
    /// # Errors
    /// When a file cannot be read or removed.
    pub fn check_all(&self, mut each: impl FnMut(u64)) -> io::Result<Checked> {
        let (mut checked, blobs) = (Checked::default(), self.layout().root().join("blobs"));
        for (algorithm, directory) in self.layout().algorithms()? {
            for (digest, name) in digests(&algorithm, &directory)? {
                checked.file(&directory, &name, &blobs.join(&algorithm), &digest, &mut each)?;
            }
        }
        for (digest, wheels, path) in entries(&self.wheels())? {
            for name in wheels.names()?.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(".whl")) {
                checked.file(&wheels, name, &path, &digest, &mut each)?;
            }
        }
        if self.layout().index().is_err() {
            let index = self.layout().root().join("index.json");
            fs::remove_file(&index)?;
            checked.damaged.push(index);
        }
        self.check_roots(&mut checked)?;
        Ok(checked)
    }

    fn check_roots(&self, checked: &mut Checked) -> io::Result<()> {
        let place = self.root().join("roots");
        let kinds = there(Dir::open(&place))?.map_or(Ok(Vec::new()), |kinds| kinds.names())?;
        for kind in kinds.iter().filter_map(|name| name.to_str()) {
            // The namespace of extended attributes does not matter here.
            let roots = self.roots(kind, XattrSpace::User);
            for (digest, _, layer) in entries(&place.join(kind))? {
                let chain = ChainId(digest);
                if let RootState::Changed(path) = roots.check(&chain)? {
                    roots.discard(&chain)?;
                    checked.damaged.push(layer.join(path));
                }
            }
        }
        Ok(())
    }

    fn stamp_path(&self, layer: &Digest) -> PathBuf {
        self.root().join("layers").join(format!("{}.stamp", layer.hex()))
    }
}

impl Checked {
    /// Hashes the file `name` in `directory`, which is at `path`, and removes it if it is damaged.
    fn file(
        &mut self,
        directory: &Dir,
        name: &str,
        path: &Path,
        digest: &Digest,
        each: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        if let Some(facts) = directory.facts(name)? {
            each(facts.size);
            if is_blob(directory.open_file(name)?, digest)? {
                self.files += 1;
                self.bytes += facts.size;
                return Ok(());
            }
        }
        directory.remove(name)?;
        self.damaged.push(path.join(name));
        Ok(())
    }
}

/// The directories in `directory` whose name is a SHA-256 digest, with their paths.
fn entries(directory: &Path) -> io::Result<Vec<(Digest, Dir, PathBuf)>> {
    let Some(dir) = there(Dir::open(directory))? else { return Ok(Vec::new()) };
    let found = digests("sha256", &dir)?.into_iter();
    found.map(|(digest, name)| Ok((digest, dir.directory(&name)?, directory.join(name)))).collect()
}

/// Whether the file at `path`, whose stamp is in `stamp_file`, has the content of this digest. It is hashed only if the
/// stamp does not match, and then gets a new stamp.
///
/// # Errors
/// When it cannot be read, or the stamp cannot be written.
pub fn is_intact(path: &Path, stamp_file: &Path, digest: &Digest) -> io::Result<bool> {
    if matches!(Stamp::compare(stamp_file, path), Ok(Comparison::Same)) {
        return Ok(true);
    }
    let stamp = Stamp::of(path)?;
    let intact = is_blob(File::open(path)?, digest)?;
    if intact {
        stamp.write_to(stamp_file)?;
    }
    Ok(intact)
}

/// Whether a file has the content of this digest.
fn is_blob(mut file: File, digest: &Digest) -> io::Result<bool> {
    let Some(mut hasher) = Hasher::new(digest.algorithm()) else { return Ok(false) };
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish() == *digest),
            length => hasher.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store, Descriptor) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let digest = store.layout().put(&[7; 1000]).unwrap();
        store.note_layer(&digest).unwrap();
        let mut layer = Descriptor::of("application/octet-stream", &[7; 1000]);
        layer.digest = digest;
        (directory, store, layer)
    }

    fn flip(store: &Store, layer: &Descriptor) {
        // The clock of file times has a resolution of some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(15));
        let blob = store.layout().blob_path(&layer.digest);
        fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        File::options().write(true).open(blob).unwrap().write_at(&[8], 500).unwrap();
    }

    #[test]
    fn a_damaged_layer_is_noticed_and_removed() {
        let (_directory, store, layer) = store();
        assert_eq!(store.check_layer(&layer).unwrap(), BlobState::Sound);
        // A claim by this or another process is not damage.
        assert_eq!(store.check_layer(&layer).unwrap(), BlobState::Sound);
        store.layout().claim_blob(&layer.digest).unwrap();
        assert_eq!(store.check_layer(&layer).unwrap(), BlobState::Sound);
        flip(&store, &layer);
        assert_eq!(store.check_layer(&layer).unwrap(), BlobState::Damaged);
        assert_eq!(store.check_layer(&layer).unwrap(), BlobState::Missing);
    }

    #[test]
    fn a_layer_without_a_stamp_is_hashed() {
        let (_directory, store, layer) = store();
        fs::remove_file(store.stamp_path(&layer.digest)).unwrap();
        flip(&store, &layer);
        assert_eq!(store.check_layer(&layer).unwrap(), BlobState::Damaged);
    }

    #[test]
    fn a_check_of_all_removes_what_is_damaged_and_nothing_else() {
        let (_directory, store, layer) = store();
        let other = store.layout().put(b"other").unwrap();
        let [sound, damaged] = ["sound", "damaged"].map(|content| {
            let entry = store.wheels().join(Digest::of(content.as_bytes()).hex());
            fs::create_dir_all(&entry).unwrap();
            fs::write(entry.join("a-1-py3-none-any.whl"), "sound").unwrap();
            entry.join("a-1-py3-none-any.whl")
        });
        flip(&store, &layer);
        let mut told = 0;
        let checked = store.check_all(|bytes| told += bytes).unwrap();
        assert_eq!(checked.damaged, [store.layout().blob_path(&layer.digest), damaged.clone()]);
        assert!(sound.exists() && !damaged.exists() && store.layout().blob_size(&other).is_some());
        assert_eq!((checked.files, checked.bytes, told), (2, 10, 1015));
        let index = store.layout().root().join("index.json");
        fs::write(&index, "{").unwrap();
        assert_eq!(store.check_all(drop).unwrap().damaged, [index]);
        assert!(store.layout().index().unwrap().manifests.is_empty());
    }

    #[test]
    fn a_file_is_hashed_when_it_was_touched() {
        let place = tempfile::tempdir().unwrap();
        let [file, stamp] = ["file", "stamp"].map(|name| place.path().join(name));
        fs::write(&file, "content").unwrap();
        let digest = Digest::of(b"content");
        assert!(is_intact(&file, &stamp, &digest).unwrap() && stamp.exists());
        // Not hashed again.
        assert!(is_intact(&file, &stamp, &Digest::of(b"other")).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(15));
        fs::write(&file, "cuntent").unwrap();
        assert!(!is_intact(&file, &stamp, &digest).unwrap());
    }
}
