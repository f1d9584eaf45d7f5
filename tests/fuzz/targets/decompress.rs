//! Compressed streams: the same in whatever pieces they arrive, and what is compressed here is read again.

#![no_main]

use std::io::{BufRead, BufReader, Read};

use libfuzzer_sys::fuzz_target;
use ociforge_layers::decompress::decompress;
use ociforge_layers::{Compression, Content, LayerPath, LayerTree, Metadata, NodeKind, TreeNode, pack};

/// No more is read of a stream, in bytes.
const MAX_CONTENT: u64 = 4 << 20;

fuzz_target!(|data: &[u8]| {
    assert_eq!(read(data), read(BufReader::with_capacity(3, data)));

    let kind = NodeKind::File(Content::Bytes(data.to_vec()));
    let mut tree = LayerTree::new();
    let path = LayerPath::new("file").expect("a sound path");
    tree.insert(path, TreeNode { metadata: Metadata::root(0o644, 0), kind }).expect("the tree is empty");
    let mut blobs = [Compression::None, Compression::Gzip(6), Compression::Zstd(3)].map(|compression| {
        let mut blob = Vec::new();
        pack(&tree, compression, 1, &mut blob).expect("bytes can be packed");
        read(&blob[..]).expect("what is packed is sound")
    });
    blobs.sort();
    assert!(blobs[0] == blobs[2]);
});

/// The content; nothing where the stream is damaged.
fn read(stream: impl BufRead + Send) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    decompress(stream).ok()?.take(MAX_CONTENT).read_to_end(&mut content).ok()?;
    Some(content)
}
