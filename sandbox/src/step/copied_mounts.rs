//! Replacement of mounts by copies: content is copied into the root filesystem, and removed afterwards.
//!
//! Files are copied. Directories that the step can write to are moved in and out, so that they keep its writes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ociforge_layers::materialize::materialize;
use ociforge_layers::source::directory::{DirectoryOptions, directory};
use ociforge_layers::{LayerPath, links};
use serde::Deserialize;
use serde_json::Value;

/// The inserted copies; dropping this value removes them.
#[derive(Debug)]
pub struct CopiedMounts {
    root: PathBuf,
    pieces: Vec<Piece>,
}

/// One inserted copy.
#[derive(Debug)]
struct Piece {
    /// Its path.
    place: PathBuf,
    /// The original path of a moved directory; `None` for a copy, which is removed.
    home: Option<PathBuf>,
    /// The previous file at the path, and its temporary place.
    before: Option<PathBuf>,
    /// The parent directories created for it, outermost first.
    made: Vec<PathBuf>,
}

/// A mount of the spec.
#[derive(Debug, Deserialize)]
struct CopiedMount {
    destination: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    source: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

impl CopiedMounts {
    /// Inserts the mounts of `spec`, except the system's own filesystems. Existing files at their paths are moved to
    /// `aside`, a directory in the same filesystem.
    ///
    /// # Errors
    /// When a copy cannot be inserted; the previous ones are removed again.
    pub fn put(spec: &Value, root: &Path, aside: &Path) -> io::Result<Self> {
        let mut copied_mounts = Self { root: root.to_owned(), pieces: Vec::new() };
        let mounts: Vec<CopiedMount> = serde_json::from_value(spec["mounts"].clone())?;
        for mount in mounts.iter().filter(|mount| !is_systems(&mount.destination)) {
            let path = LayerPath::new(&mount.destination).map_err(io::Error::other)?;
            let path = links::follow_on_disk(root, &path)?;
            if path.is_root() {
                return Err(io::Error::other(format!("{} leads to the root directory", mount.destination)));
            }
            let above = path.parent().unwrap_or_default();
            let made = links::make_directories(root, &above)?;
            let made = made.iter().map(|path| root.join(path.as_path())).collect();
            let place = root.join(path.as_path());
            let before = aside.join(copied_mounts.pieces.len().to_string());
            let before = match fs::rename(&place, &before) {
                Ok(()) => Some(before),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let writable = mount.kind == "bind" && !mount.options.iter().any(|option| option == "ro");
            let home = (writable && mount.source.is_dir()).then(|| mount.source.clone());
            // Recorded first, so that a partial insertion is also undone.
            copied_mounts.pieces.push(Piece { place: place.clone(), home: home.clone(), before, made });
            match (&home, mount.kind.as_str()) {
                (Some(home), _) => fs::rename(home, &place)?,
                (None, "bind") => copy_tree(&mount.source, &place)?,
                (None, _) => {
                    fs::create_dir(&place)?;
                    fs::set_permissions(&place, Permissions::from_mode(0o1777))?;
                }
            }
        }
        Ok(copied_mounts)
    }

    /// The paths, absolute in the root, with restored previous files, whose ctime has changed.
    #[must_use]
    pub fn restored(&self, root: &Path) -> Vec<PathBuf> {
        let restored = self.pieces.iter().filter(|piece| piece.before.is_some());
        let absolute = |piece: &Piece| Some(Path::new("/").join(piece.place.strip_prefix(root).ok()?));
        restored.filter_map(absolute).collect()
    }
}

/// Whether it is one of the system's own filesystems, which are not copied.
fn is_systems(destination: &str) -> bool {
    ["/proc", "/dev", "/sys"].iter().any(|place| Path::new(destination).starts_with(place))
}

/// Copies a file, or a directory with its content, to `place`, which must not exist. Owners and times are not kept.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_tree(source: &Path, place: &Path) -> io::Result<()> {
    if !source.is_dir() {
        return fs::copy(source, place).map(drop);
    }
    let to = "copy".parse().map_err(io::Error::other)?;
    let tree = directory(source, &to, &DirectoryOptions::default()).map_err(io::Error::other)?;
    materialize(&tree, &to.path, place).map_err(io::Error::other)
}

impl CopiedMounts {
    /// Whether no parent of a path in the root is a link: the step may have created links out of the root.
    fn is_inside(&self, path: &Path) -> bool {
        let Ok(path) = path.strip_prefix(&self.root) else { return false };
        path.ancestors().skip(1).all(|above| is_directory(&self.root.join(above)))
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

impl Drop for CopiedMounts {
    /// Removes the copies in reverse order.
    fn drop(&mut self) {
        for Piece { place, home, before, made } in self.pieces.iter().rev() {
            if self.is_inside(place) {
                let _ = match home {
                    Some(home) if is_directory(place) => fs::rename(place, home),
                    None if is_directory(place) => fs::remove_dir_all(place),
                    _ => fs::remove_file(place),
                };
                if let Some(before) = before {
                    let _ = fs::rename(before, place);
                }
            }
            // The first non-empty directory ends it.
            let inside = made.iter().rev().take_while(|made| self.is_inside(made));
            let _ = inside.into_iter().try_for_each(fs::remove_dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_as_before_but_what_was_written_stays() {
        let place = tempfile::tempdir().unwrap();
        let [root, aside, cache, source] = ["root", "aside", "cache", "source"].map(|name| place.path().join(name));
        for new in [&root.join("etc"), &root.join("dir"), &aside, &cache, &source] {
            fs::create_dir_all(new).unwrap();
        }
        fs::write(root.join("etc/hosts"), "image").unwrap();
        std::os::unix::fs::symlink("/dir", root.join("link")).unwrap();
        fs::write(source.join("file"), "source").unwrap();
        fs::write(cache.join("old"), "").unwrap();
        let spec = json!({"mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/etc/hosts", "type": "bind", "source": source.join("file"), "options": ["rbind", "ro"]},
            {"destination": "/link/a/src", "type": "bind", "source": &source, "options": ["rbind", "ro"]},
            {"destination": "/var/cache", "type": "bind", "source": &cache, "options": ["rbind"]},
            {"destination": "/tmp", "type": "tmpfs"},
        ]});
        let copied_mounts = CopiedMounts::put(&spec, &root, &aside).unwrap();
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "source");
        assert_eq!(fs::read_to_string(root.join("dir/a/src/file")).unwrap(), "source");
        assert!(root.join("var/cache/old").exists() && root.join("tmp").is_dir() && !root.join("proc").exists());
        fs::write(root.join("var/cache/new"), "").unwrap();
        fs::write(root.join("dir/a/src/file"), "lost").unwrap();
        assert_eq!(copied_mounts.restored(&root), [Path::new("/etc/hosts")]);
        drop(copied_mounts);
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "image");
        assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "source");
        assert!(cache.join("new").exists());
        for gone in ["var", "tmp", "dir/a"] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn links_that_a_step_has_left_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let [root, aside, cache, other, out] =
            ["root", "aside", "cache", "other", "out"].map(|name| place.path().join(name));
        for new in [&root, &aside, &cache, &other, &out.join("tmp/empty"), &out.join("cache")] {
            fs::create_dir_all(new).unwrap();
        }
        let spec = json!({"mounts": [
            {"destination": "/a/tmp", "type": "tmpfs"},
            {"destination": "/b/cache", "type": "bind", "source": &cache},
            {"destination": "/other", "type": "bind", "source": &other},
        ]});
        let copied_mounts = CopiedMounts::put(&spec, &root, &aside).unwrap();
        for gone in ["a", "b", "other"] {
            fs::remove_dir_all(root.join(gone)).unwrap();
            std::os::unix::fs::symlink(&out, root.join(gone)).unwrap();
        }
        drop(copied_mounts);
        assert!(out.join("tmp/empty").exists() && out.join("cache").exists());
        assert!(!cache.exists() && !other.exists() && !root.join("other").is_symlink());
    }

    #[test]
    fn half_of_it_is_undone() {
        let place = tempfile::tempdir().unwrap();
        let [root, aside] = ["root", "aside"].map(|name| place.path().join(name));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&aside).unwrap();
        let spec = json!({"mounts": [
            {"destination": "/a/b", "type": "tmpfs"},
            {"destination": "/c", "type": "bind", "source": "/no/such", "options": ["ro"]},
        ]});
        assert!(CopiedMounts::put(&spec, &root, &aside).is_err());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    }
}
