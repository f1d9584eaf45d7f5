//! Archives of images, docker's and OCI's: every image in one can be asked for, and what is read is what was named.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge::content::{Named, Source, read_document, verify};
use ociforge::error::Explain;
use ociforge::store::{Archive, DockerArchive, DockerImage};
use ociforge_fuzz::{block_on, file, tar::with_checksums};
use ociforge_layers::decompress::CompressionFormat;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{ArchivedImage, Descriptor, Digest};

fuzz_target!(|data: &[u8]| {
    if CompressionFormat::of(data) != CompressionFormat::Plain {
        return;
    }
    let path = file("archive.tar", &with_checksums(data));
    if let Ok(archive) = DockerArchive::open(&path) {
        let mut wanted: Vec<Option<ArchivedImage>> = vec![None, Some(ArchivedImage::At(0)), Some(ArchivedImage::At(1))];
        wanted.extend(archive.names().iter().filter_map(|name| name.parse().ok()).map(Some));
        for wanted in wanted.iter().take(8) {
            match archive.image(wanted.as_ref()) {
                Ok(image) => block_on(check(&image)),
                Err(error) => drop(format!("{error} {:?}", error.hint())),
            }
        }
    }
    if let Ok(archive) = Archive::open(&path) {
        let _ = archive.find(None);
        for descriptor in archive.index().manifests.iter().take(8) {
            block_on(read(&archive, descriptor));
        }
    }
});

async fn check(image: &DockerImage) {
    let manifest = image.descriptor();
    let bytes = read_document(image, manifest).await.expect("an image has its manifest");
    assert_eq!(Digest::of(&bytes), manifest.digest);
    let Ok(GraphNode::Manifest(node)) = GraphNode::parse(&manifest.media_type, bytes) else {
        panic!("it is no manifest")
    };
    read_document(image, &node.config).await.expect("an image has its config");
    for layer in node.layers.iter().take(8) {
        read(image, layer).await;
    }
    for tag in image.tags().await.expect("they are known") {
        let (found, _) = image.tagged(&tag).await.expect("it is known").expect("it is there");
        assert_eq!(found, *manifest);
    }
}

/// Reads what a descriptor names: the right bytes or an error.
async fn read(source: &dyn Source, descriptor: &Descriptor) {
    let verified = verify(source, descriptor).await.is_ok();
    if let Ok(bytes) = read_document(source, descriptor).await {
        assert!(verified);
        assert_eq!(bytes.len() as u64, descriptor.size);
        assert!(descriptor.digest.algorithm() != "sha256" || Digest::of(&bytes) == descriptor.digest);
    }
}
