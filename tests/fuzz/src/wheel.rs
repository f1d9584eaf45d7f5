//! What holds for every wheel that is accepted.

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
    check_record(&tree);
    if let Ok(files) = installed_files(path, NAME, &scheme) {
        for file in files {
            assert!(tree.get(&file).is_some(), "{file} is not in the tree");
        }
    }
    let plain = pack(&tree, Compression::None, 1, sink()).expect("a verified wheel can be packed");
    let gzip = pack(&tree, Compression::Gzip(6), 1, sink()).expect("a verified wheel can be packed");
    assert_eq!(plain.diff_id, gzip.diff_id);
}

/// Every file is in the RECORD that is installed, with its length.
fn check_record(tree: &LayerTree) {
    let is_record = |path: &LayerPath| path.as_bytes().ends_with(b".dist-info/RECORD");
    let record = tree.iter().find(|(path, _)| is_record(path)).expect("a RECORD is installed");
    let NodeKind::File(Content::Bytes(record)) = &record.1.kind else { panic!("RECORD is written by the installer") };
    let record = String::from_utf8_lossy(record);
    let count = |quote| record.matches(quote).count();
    if count('"') > 0 {
        return;
    }
    let lengths: Vec<&str> = record.lines().filter_map(|line| Some(line.rsplit_once(',')?.1)).collect();
    let files = tree.iter().filter_map(|(_, node)| match &node.kind {
        NodeKind::File(content) => Some(content.len().to_string()),
        _ => None,
    });
    let files: Vec<String> = files.collect();
    assert_eq!(files.len(), lengths.len(), "{record}");
    for length in lengths.iter().filter(|length| !length.is_empty()) {
        assert!(files.iter().any(|file| file == length), "no file has the length {length} of RECORD: {record}");
    }
}
