//! A tree from a zip archive, the older form of source archives.

use std::path::{Path, PathBuf};

use super::wheel::{WheelFault, archive};
use crate::mapped::MappedFile;
use crate::path::LayerPath;
use crate::tree::{LayerTree, Metadata, NodeKind, TreeNode};

/// An error of reading a zip archive.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", archive.display())]
pub struct ZipError {
    /// The archive.
    pub archive: PathBuf,
    /// The fault.
    #[source]
    pub fault: WheelFault,
}

/// Reads a zip archive under the rules for wheels: only regular files, stored or deflated, no paths out of the archive,
/// no ambiguities. Files get 0755 or 0644, depending on their execute permission; all get the time `mtime`, seconds
/// since 1970, because the archive's times have no time zone.
///
/// # Errors
/// When the archive cannot be mapped or breaks a rule.
pub fn read_zip(path: &Path, mtime: i64) -> Result<LayerTree, ZipError> {
    read(path, mtime).map_err(|fault| ZipError { archive: path.into(), fault })
}

fn read(path: &Path, mtime: i64) -> Result<LayerTree, WheelFault> {
    let file = MappedFile::open(path).map_err(WheelFault::Open)?;
    let mut tree = LayerTree::new();
    for member in archive::read(&file)?.members {
        let path = LayerPath::new(&member.name)?;
        if tree.get(&path).is_some() {
            return Err(WheelFault::Collision(path));
        }
        let metadata = Metadata::root(if member.executable { 0o755 } else { 0o644 }, mtime);
        tree.insert(path, TreeNode { metadata, kind: NodeKind::File(member.content(&file, None)) })?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    fn zip(members: &[(&str, u32)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, mode) in members {
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(*mode)).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        file.write_all(&zip.finish().unwrap().into_inner()).unwrap();
        file
    }

    #[test]
    fn members_become_files() {
        let file = zip(&[("p-1/setup.py", 0o644), ("p-1/configure", 0o775)]);
        let tree = read_zip(file.path(), 7).unwrap();
        let modes: Vec<_> = tree.iter().map(|(path, node)| (path.to_string(), node.metadata.mode)).collect();
        assert_eq!(modes, [("/p-1/configure".to_owned(), 0o755), ("/p-1/setup.py".to_owned(), 0o644)]);
        let NodeKind::File(content) = &tree.get(&"p-1/setup.py".parse::<LayerPath>().unwrap()).unwrap().kind else {
            panic!("no file")
        };
        assert_eq!(content.read(99).unwrap().unwrap(), b"p-1/setup.py");
        assert!(read_zip(zip(&[("../x", 0o644)]).path(), 0).is_err());
        assert!(read_zip(zip(&[("a", 0o644), ("a/b", 0o644)]).path(), 0).is_err());
        assert!(read_zip(Path::new("/dev/null"), 0).is_err());
    }
}
