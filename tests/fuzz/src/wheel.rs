//! What holds for every wheel that is accepted.

use std::collections::BTreeMap;
use std::io::sink;
use std::path::Path;

use ociforge_layers::source::wheel::{InstallOptions, Scheme, Wheel, installed_files};
use ociforge_layers::{Compression, Content, LayerPath, LayerTree, NodeKind, pack};

/// The file name that all of them have.
pub const NAME: &str = "demo-1.0-py3-none-any.whl";

/// Opens the wheel, verifies it, installs it and packs the result.
pub fn check(path: &Path) {
    let site_packages = LayerPath::new("usr/local/lib/python3.11/site-packages").expect("a sound path");
    let scheme = Scheme::new(site_packages, (3, 11), "/usr/local/bin/python3".into()).expect("a sound scheme");
    let Ok(mut wheel) = Wheel::open_as(path, NAME) else { return };
    let Ok(correction) = wheel.verify() else { return };
    if let Some(correction) = correction {
        assert!(!correction.discrepancies.is_empty());
        wheel = wheel.with_record(&correction.record);
        let again = wheel.verify().expect("the bytes are the same");
        assert_eq!(again, None, "a corrected RECORD is right: {:?}", correction.record);
    }
    let Ok(tree) = wheel.install(&scheme, InstallOptions { mtime: 0, requested: true }) else { return };
    for (path, _) in tree.iter() {
        assert!(path.starts_with(&scheme.data), "{path} is outside the prefix");
    }
    check_record(&tree, &scheme.purelib);
    if let Ok(files) = installed_files(path, NAME, &scheme) {
        for file in files {
            assert!(tree.get(&file).is_some(), "{file} is not in the tree");
        }
    }
    let plain = pack(&tree, Compression::None, 1, sink()).expect("a verified wheel can be packed");
    let gzip = pack(&tree, Compression::Gzip(6), 1, sink()).expect("a verified wheel can be packed");
    assert_eq!(plain.diff_id, gzip.diff_id);
}

/// Every file is in the RECORD that is installed, with its length. pip lists more there than it installs.
fn check_record(tree: &LayerTree, library: &LayerPath) {
    let above = |path: &LayerPath| path.parent()?.parent();
    let is_record =
        |path: &LayerPath| path.as_bytes().ends_with(b".dist-info/RECORD") && above(path).as_ref() == Some(library);
    let record = tree.iter().find(|(path, _)| is_record(path)).expect("a RECORD is installed");
    let NodeKind::File(Content::Bytes(record)) = &record.1.kind else { panic!("RECORD is written by the installer") };
    let record = String::from_utf8_lossy(record);
    if record.contains('"') {
        return;
    }
    let mut rows: BTreeMap<Vec<u8>, Vec<&str>> = BTreeMap::new();
    for row in record.lines() {
        let fields: Vec<&str> = row.rsplitn(3, ',').collect();
        let [length, _, path] = fields[..] else { panic!("{row:?} is no row") };
        rows.entry(resolved(library, path)).or_default().push(length);
    }
    for (path, node) in tree.iter() {
        if let NodeKind::File(content) = &node.kind {
            let lengths = rows.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is not in RECORD: {record}"));
            let right = content.len().to_string();
            assert!(lengths.iter().any(|length| length.is_empty() || *length == right), "{path}: {record}");
        }
    }
}

/// The path that a row means.
fn resolved(library: &LayerPath, path: &str) -> Vec<u8> {
    let mut components: Vec<&[u8]> = library.as_bytes().split(|byte| *byte == b'/').collect();
    for component in path.split('/') {
        match component {
            ".." => drop(components.pop()),
            component => components.push(component.as_bytes()),
        }
    }
    components.join(&b'/')
}
