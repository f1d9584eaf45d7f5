//! Manifests, indexes and configs: bytes are kept, and no document is two things.

#![no_main]

use std::collections::{BTreeMap, HashMap};

use libfuzzer_sys::fuzz_target;
use ociforge_manifests::convert::{index_as_oci, manifest_as_oci};
use ociforge_manifests::document::{DocumentType, canonical};
use ociforge_manifests::graph::{GraphNode, Index, Manifest, media_type_of};
use ociforge_manifests::{Config, ConfigEdit, Descriptor, Digest, Document, Image, media_type};
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let manifest = Document::<Manifest>::parse(bytes.clone());
    let index = Document::<Index>::parse(bytes.clone());
    assert!(manifest.is_err() || index.is_err(), "one document is a manifest and an index");
    if let Ok(manifest) = &manifest {
        kept(manifest, data);
        let again = Document::<Manifest>::from_json(manifest.json().clone()).expect("it was one before");
        assert_eq!(canonical(manifest.json()), again.bytes());
        assert!(manifest_as_oci(manifest).is_ok());
        std::iter::once(&manifest.config).chain(&manifest.layers).chain(&manifest.subject).for_each(descriptor);
    }
    if let Ok(index) = &index {
        kept(index, data);
        assert!(index_as_oci(index, &HashMap::new()).is_ok());
        index.manifests.iter().chain(&index.subject).for_each(descriptor);
    }
    let config = Document::<Config>::parse(bytes.clone());
    if let Ok(config) = config {
        kept(&config, data);
        extend(config);
    }
    for stated in media_type::MANIFESTS.into_iter().chain(["", "text/plain", "application/vnd.oci.empty.v1+json"]) {
        let node = GraphNode::parse(stated, bytes.clone());
        assert_eq!(matches!(node, Ok(GraphNode::Manifest(_))), node.is_ok() && manifest.is_ok());
        assert_eq!(matches!(node, Ok(GraphNode::Index(_))), node.is_ok() && index.is_ok());
        if let Ok(Some(found)) = media_type_of(stated, data)
            && media_type::is_manifest(&found)
        {
            assert!(index.is_err(), "{found} was found for an index");
        }
        if let Ok(node) = node {
            let _ = node.as_referrer(&Descriptor::of(stated, data));
            node.children().into_iter().for_each(descriptor);
        }
    }
});

fn kept<T: DeserializeOwned + DocumentType>(document: &Document<T>, data: &[u8]) {
    assert_eq!(document.bytes(), data);
    assert_eq!(document.digest(), Digest::of(data));
    assert!(!document.json().is_null());
}

/// What a descriptor brings along is what its digest says.
fn descriptor(descriptor: &Descriptor) {
    if let Some(Ok(content)) = descriptor.data() {
        assert_eq!(content.len() as u64, descriptor.size);
        if descriptor.digest.algorithm() == "sha256" {
            assert_eq!(Digest::of(&content), descriptor.digest);
        }
    }
    let json = serde_json::to_value(descriptor).expect("a descriptor is JSON");
    assert_eq!(serde_json::from_value::<Descriptor>(json).expect("it was one before"), *descriptor);
}

/// An image with this config can be built on.
fn extend(config: Document<Config>) {
    let layers: Vec<Descriptor> =
        config.rootfs.diff_ids.iter().map(|id| Descriptor::new(media_type::LAYER_TAR, id.0.clone(), 0)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": config.descriptor(media_type::CONFIG), "layers": layers,
    });
    let image = Image::new(Document::from_json(manifest).expect("a manifest"), config).expect("they fit together");
    let edit = ConfigEdit { workdir: Some("/w".into()), ..ConfigEdit::default() };
    let built = image.append(&[], &edit, "1970-01-01T00:00:00Z", &BTreeMap::new()).expect("it can be built on");
    assert_eq!(built.config.config.working_dir, "/w");
    assert_eq!(built.config.rootfs.diff_ids, image.config.rootfs.diff_ids);
}
