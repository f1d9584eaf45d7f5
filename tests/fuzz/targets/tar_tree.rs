//! A tar becomes a tree, and the tree a layer, which is the same tree again.

#![no_main]

use std::io::Read;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ociforge_fuzz::{file, scratch, tar::with_checksums};
use ociforge_layers::decompress::{CompressionFormat, decompress};
use ociforge_layers::source::tar::{TarOptions, read_tar};
use ociforge_layers::{Compression, Layer, LayerTree, pack};
use ociforge_manifests::Digest;

/// Larger trees are not packed: holes of sparse files cost nothing in the archive.
const MAX_CONTENT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if CompressionFormat::of(data) != CompressionFormat::Plain {
        return;
    }
    let Ok(tree) = read(&file("archive.tar", &with_checksums(data))) else { return };
    if tree.content_len() > MAX_CONTENT {
        return;
    }
    let (layer, tar) = packed(&tree, Compression::None);
    assert_eq!((layer.diff_id.0.clone(), layer.uncompressed), (layer.descriptor.digest, tar.len() as u64));

    let again = read(&file("layer.tar", &tar)).expect("a layer is a sound tar");
    assert_eq!(again.len(), tree.len());
    assert!(packed(&again, Compression::None).1 == tar, "a layer that is read and packed stays the same");

    let (gzip, blob) = packed(&tree, Compression::Gzip(1));
    assert_eq!(gzip.diff_id, layer.diff_id);
    let mut inflated = Vec::new();
    decompress(&blob[..]).and_then(|mut reader| reader.read_to_end(&mut inflated)).expect("a sound blob");
    assert!(inflated == tar);
});

fn read(path: &Path) -> Result<LayerTree, ociforge_layers::source::tar::TarError> {
    read_tar(path, &TarOptions { scratch: &scratch(), latest: None })
}

fn packed(tree: &LayerTree, compression: Compression) -> (Layer, Vec<u8>) {
    let mut blob = Vec::new();
    let layer = pack(tree, compression, 1, &mut blob).expect("a tree that was read can be packed");
    assert_eq!(layer.descriptor.digest, Digest::of(&blob));
    assert_eq!(layer.descriptor.size, blob.len() as u64);
    (layer, blob)
}
