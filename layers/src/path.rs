//! Paths inside a layer.

use std::borrow::Borrow;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Maximum length of a path in bytes, as in Linux (PATH_MAX).
pub(crate) const MAX_PATH: usize = 4096;
/// The maximum number of components of a path: far more than images have, and few enough for a recursive walk.
pub(crate) const MAX_DEPTH: usize = 256;

/// A path relative to the layer's root: components joined by single slashes, none of them empty, `.` or `..`; it has
/// bytes, not text. The root is the empty path.
///
/// Ordered by bytes, so a directory precedes its content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerPath(Vec<u8>);

/// A name that is invalid as a path in a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A `..` component.
    #[error("the path `{0}` has a component `..`, which layers do not allow")]
    Outside(String),
    /// A component longer than 255 bytes.
    #[error("the path `{0}` has a component of more than 255 bytes, the limit of file names")]
    LongComponent(String),
    /// A name that no file can have.
    #[error("`{0}` is not a valid file name")]
    Unusable(String),
    /// A NUL byte.
    #[error("the path `{0}` has a NUL byte")]
    Nul(String),
    /// A path that is longer than system calls accept.
    #[error("the path {0} is longer than {MAX_PATH} bytes: programs that unpack images cannot create it")]
    TooLong(String),
    /// A path with too many directories.
    #[error("the path {0} has more than {MAX_DEPTH} directories, the limit of layers")]
    TooDeep(String),
}

impl LayerPath {
    /// The layer's root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a name of a tar or a config: drops leading slashes and `.` components.
    ///
    /// # Errors
    /// When a component is `..`, has a NUL byte or is longer than 255 bytes ([`PathError`]).
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let name = name.as_ref();
        let shown = || shown(name);
        let mut path = Vec::with_capacity(name.len());
        for component in name.split(|b| *b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(PathError::Outside(shown())),
                c if c.contains(&0) => return Err(PathError::Nul(shown())),
                c if c.len() > 255 => return Err(PathError::LongComponent(shown())),
                c => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(c);
                }
            }
        }
        Ok(Self(path))
    }

    /// `self` followed by `name`.
    ///
    /// # Errors
    /// As [`LayerPath::new`].
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let mut joined = self.0.clone();
        joined.push(b'/');
        joined.extend_from_slice(name.as_ref());
        Self::new(joined)
    }

    /// The parent directory; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or(&[])
    }

    /// Every directory above it except the root, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(self.parent(), Self::parent).filter(|path| !path.is_root())
    }

    /// Its ancestors and itself, the outermost first, without the root.
    pub fn steps(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let whole = (!self.is_root()).then_some(self.0.len());
        ends.chain(whole).map(|end| Self(self.0[..end].to_vec()))
    }

    /// Checks that programs that unpack layers can create the path.
    ///
    /// # Errors
    /// [`PathError::TooLong`] and [`PathError::TooDeep`].
    pub fn check_limits(&self) -> Result<(), PathError> {
        // With the leading slash and the final NUL (path_resolution(7)).
        if self.0.len() + 2 > MAX_PATH {
            return Err(PathError::TooLong(self.shortened()));
        }
        if self.depth() > MAX_DEPTH {
            return Err(PathError::TooDeep(self.shortened()));
        }
        Ok(())
    }

    /// The number of its components.
    pub(crate) fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.iter().filter(|byte| **byte == b'/').count() + 1 }
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is `directory` or inside it.
    #[must_use]
    pub fn starts_with(&self, directory: &Self) -> bool {
        directory.is_root()
            || self.0.strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The bytes, without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as a relative filesystem path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl Borrow<[u8]> for LayerPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for LayerPath {
    type Err = PathError;

    fn from_str(name: &str) -> Result<Self, PathError> {
        Self::new(name)
    }
}

/// A name for a message: only the beginning of a long name.
pub(crate) fn shown(name: &[u8]) -> String {
    const MOST: usize = 80;
    let name = String::from_utf8_lossy(name);
    let name: String =
        name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

impl LayerPath {
    /// The path for a message, as [`fmt::Display`] writes it: only the beginning of a long path.
    pub(crate) fn shortened(&self) -> String {
        shown(self.to_string().as_bytes())
    }
}

impl fmt::Display for LayerPath {
    /// With a leading slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_wrong_in_a_line() {
        for (path, said) in [
            ("/a/..".to_owned(), "the path `/a/..` has a component `..`, which layers do not allow"),
            ("a\0".to_owned(), "the path `a\\u{0}` has a NUL byte"),
            ("n".repeat(300), "has a component of more than 255 bytes, the limit of file names"),
        ] {
            let error = LayerPath::new(&path).unwrap_err().to_string();
            assert!(error.ends_with(said) && error.len() < 200, "{error}");
        }
    }

    #[test]
    fn names_are_normalised_or_refused() {
        for (name, path) in [("/a//b/", "a/b"), ("./a/./b", "a/b"), ("", ""), ("/", ""), ("a..b/..c", "a..b/..c")] {
            assert_eq!(LayerPath::new(name).unwrap().as_bytes(), path.as_bytes(), "{name}");
        }
        for bad in ["..", "a/../b", "/..", "a\0b", &"x".repeat(256)] {
            assert!(LayerPath::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parents() {
        let path = LayerPath::new("a/b/c").unwrap();
        let above: Vec<_> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(above, ["/a/b", "/a"]);
        assert!(path.starts_with(&"a/b".parse().unwrap()) && !path.starts_with(&"a/bb".parse().unwrap()));
        assert_eq!(LayerPath::root().parent(), None);
    }
}
