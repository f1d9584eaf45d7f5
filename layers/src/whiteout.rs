//! Whiteouts (image-spec, layer.md, "Whiteouts"). Only this module handles their names.

use crate::path::{LayerPath, PathError};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The meaning of a tar entry's name.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An entry of that name.
    Entry(LayerPath),
    /// The entry of lower layers at that path is removed.
    Whiteout(LayerPath),
    /// The content of that directory in lower layers is removed.
    Opaque(LayerPath),
}

/// Whether a component of the path is the name of a whiteout, which no file of an image can have.
#[must_use]
pub fn is_reserved(path: &LayerPath) -> bool {
    path.as_bytes().split(|byte| *byte == b'/').any(|component| component.starts_with(PREFIX))
}

/// Parses a path of a layer's tar.
///
/// # Errors
/// For a whiteout without a name (`.wh.`), or of `.` or `..`.
pub fn read(path: LayerPath) -> Result<Meaning, PathError> {
    let name = path.file_name();
    let parent = path.parent().unwrap_or_default();
    if name == OPAQUE {
        return Ok(Meaning::Opaque(parent));
    }
    match name.strip_prefix(PREFIX) {
        None => Ok(Meaning::Entry(path)),
        Some(hidden) => {
            let gone = parent.join(hidden)?;
            if gone == parent { Err(PathError::Unusable(path.to_string())) } else { Ok(Meaning::Whiteout(gone)) }
        }
    }
}

/// The name of the tar entry that hides `path`.
#[must_use]
pub fn hiding(path: &LayerPath) -> Vec<u8> {
    beside(path.parent().unwrap_or_default().as_bytes(), &[PREFIX, path.file_name()].concat())
}

/// The name of the tar entry that makes `directory` opaque.
#[must_use]
pub fn opaque(directory: &LayerPath) -> Vec<u8> {
    beside(directory.as_bytes(), OPAQUE)
}

fn beside(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let path = |name: &str| -> LayerPath { name.parse().unwrap() };
        for name in ["a/b", "a"] {
            let hidden = LayerPath::new(hiding(&path(name))).unwrap();
            assert_eq!(read(hidden).unwrap(), Meaning::Whiteout(path(name)));
            let opaque = LayerPath::new(opaque(&path(name))).unwrap();
            assert_eq!(read(opaque).unwrap(), Meaning::Opaque(path(name)));
        }
        assert_eq!(read(path("a/wh.b")).unwrap(), Meaning::Entry(path("a/wh.b")));
        for bad in ["a/.wh.", "a/.wh..", "a/.wh..."] {
            assert!(read(path(bad)).is_err(), "{bad}");
        }
    }
}
