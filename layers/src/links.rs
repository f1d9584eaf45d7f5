//! Symbolic links, followed without ever leaving the root.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::path::LayerPath;

/// The maximum number of links in one path, as in Linux.
const MAX_LINKS: usize = 40;

/// `path` with every symbolic link in it followed, its last component included; `None` for a loop.
///
/// `link_at` returns the target of the link at a path, if any. Targets are relative to the directory of their link or,
/// with a leading slash, to the root; a `..` at the root stays there.
///
/// # Errors
/// Those of `link_at`.
pub fn follow<E>(
    path: &LayerPath,
    link_at: impl FnMut(&LayerPath) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<LayerPath>, E> {
    follow_from(LayerPath::root(), path.as_bytes(), link_at)
}

/// As [`follow`], for a path relative to `directory`, which has no links in it.
///
/// # Errors
/// Those of `link_at`.
pub(crate) fn follow_from<E>(
    directory: LayerPath,
    path: &[u8],
    mut link_at: impl FnMut(&LayerPath) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<LayerPath>, E> {
    let mut left = components(path);
    let mut here = directory;
    let mut links = 0;
    while let Some(component) = left.pop_front() {
        if component == b".." {
            here = here.parent().unwrap_or_default();
            continue;
        }
        // A target may have components that no path can have.
        let Ok(next) = here.join(&component) else { return Ok(None) };
        match link_at(&next)? {
            None => here = next,
            Some(_) if links == MAX_LINKS => return Ok(None),
            Some(target) => {
                links += 1;
                if target.starts_with(b"/") {
                    here = LayerPath::root();
                }
                let mut all = components(&target);
                all.append(&mut left);
                left = all;
            }
        }
    }
    Ok(Some(here))
}

/// The path of a layer's entry after the symbolic links of the directories above it, as an unpacker follows them. The
/// last component is not followed. A path with a loop stays as it is.
pub fn behind_links<'a>(path: LayerPath, link_at: impl Fn(&LayerPath) -> Option<&'a [u8]>) -> LayerPath {
    if !path.ancestors().any(|directory| link_at(&directory).is_some()) {
        return path;
    }
    let followed = |parent: LayerPath| {
        let target = |path: &LayerPath| Ok::<_, Infallible>(link_at(path).map(<[u8]>::to_vec));
        follow(&parent, target).unwrap_or_default()
    };
    let parent = path.parent().and_then(followed);
    parent.and_then(|parent| parent.join(path.file_name()).ok()).unwrap_or(path)
}

/// The target of `path` for a process with the root directory `root`. It may not exist.
///
/// # Errors
/// For a loop of links, and when a link cannot be read.
pub fn follow_on_disk(root: &Path, path: &LayerPath) -> io::Result<LayerPath> {
    let link_at = |path: &LayerPath| match fs::read_link(root.join(path.as_path())) {
        Ok(target) => Ok(Some(target.as_os_str().as_bytes().to_vec())),
        // No link, or not there.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(error),
    };
    follow(path, link_at)?.ok_or_else(|| io::Error::other("it leads through a loop of links"))
}

/// Creates `path`, which has no links in it, and its parent directories with mode 0755. Returns the created ones,
/// outermost first.
///
/// # Errors
/// When one of them cannot be created, or has another type.
pub fn make_directories(root: &Path, path: &LayerPath) -> io::Result<Vec<LayerPath>> {
    let mut made = Vec::new();
    for step in path.steps() {
        let directory = root.join(step.as_path());
        match fs::create_dir(&directory) {
            Ok(()) => {
                // Independent of the umask: the container has other users.
                fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
                made.push(step);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let is_directory = fs::symlink_metadata(root.join(path.as_path()))?.is_dir();
    if is_directory { Ok(made) } else { Err(io::Error::other("another entry has its path")) }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn followed(path: &str, links: &[(&str, &str)]) -> Option<String> {
        let link_at = |path: &LayerPath| {
            let found = links.iter().find(|(name, _)| path.as_bytes() == name.as_bytes());
            Ok::<_, Infallible>(found.map(|(_, target)| target.as_bytes().to_vec()))
        };
        follow(&path.parse().unwrap(), link_at)
            .unwrap()
            .map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn links_lead_everywhere_but_out() {
        let links = [
            ("lib", "usr/lib"),
            ("usr/lib/here", "../../etc"),
            ("up", "../../../etc/x"),
            ("absolute", "/lib/y"),
            ("loop", "pool"),
            ("pool", "loop"),
            ("self", "self/x"),
            ("dots", "./usr/./lib//"),
        ];
        for (path, expected) in [
            ("lib/x", Some("usr/lib/x")),
            ("lib", Some("usr/lib")),
            ("lib/here/y", Some("etc/y")),
            ("up", Some("etc/x")),
            ("absolute/z", Some("usr/lib/y/z")),
            ("dots/z", Some("usr/lib/z")),
            ("a/b", Some("a/b")),
            ("", Some("")),
            ("loop/x", None),
            ("self", None),
        ] {
            assert_eq!(followed(path, &links).as_deref(), expected, "{path}");
        }
    }
}
