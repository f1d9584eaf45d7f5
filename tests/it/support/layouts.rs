//! Documents and blobs in layouts, and images whose layers are nothing but bytes.

use std::io::Write;

use ociforge::store::Layout;
use ociforge_manifests::{Descriptor, Digest, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Registry, digest_of, json_of};

/// Puts a blob into a layout.
pub(crate) fn put_blob(layout: &Layout, media_type: &str, content: &[u8]) -> Descriptor {
    layout.put(content).unwrap();
    Descriptor::of(media_type, content)
}

/// Puts a document into a layout.
pub(crate) fn put(layout: &Layout, media_type: &str, json: &Value) -> Descriptor {
    put_blob(layout, media_type, json.to_string().as_bytes())
}

/// Puts an image's manifest into a layout; `more` has further keys, or others.
pub(crate) fn put_manifest(layout: &Layout, config: &Descriptor, layers: &[&Descriptor], more: &Value) -> Descriptor {
    let mut json = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers});
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    put(layout, json["mediaType"].as_str().unwrap(), &json)
}

/// Puts an image of uncompressed layers into a layout.
pub(crate) fn put_image(layout: &Layout, architecture: &str, layers: &[&Descriptor], more: &Value) -> Descriptor {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": rootfs});
    put_manifest(layout, &put(layout, media_type::CONFIG, &config), layers, more)
}

/// Puts an image of one platform into a layout; its layers have these lengths, and bytes that `seed` makes.
pub(crate) fn noise_image(layout: &Layout, seed: u64, lengths: &[usize]) -> Descriptor {
    let mut random = fastrand::Rng::with_seed(seed);
    let layers: Vec<_> = lengths.iter().map(|length| noise_layer(layout, &mut random, *length)).collect();
    put_image(layout, "amd64", &layers.iter().collect::<Vec<_>>(), &json!({}))
}

/// A layout with an image of one layer of `size` bytes: the directory, the layout, its layer and its manifest.
pub(crate) fn one_layer(size: usize) -> (TempDir, Layout, Descriptor, Descriptor) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("layout")).unwrap();
    let manifest = noise_image(&layout, 1, &[size]);
    let layer = json_of(layout.blob_path(&manifest.digest))["layers"][0].clone();
    (directory, layout, serde_json::from_value(layer).unwrap(), manifest)
}

/// Puts a layer of random bytes into a layout.
pub(crate) fn noise_layer(layout: &Layout, random: &mut fastrand::Rng, length: usize) -> Descriptor {
    let mut writer = layout.writer().unwrap();
    let mut block = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len());
        random.fill(&mut block[..now]);
        writer.write_all(&block[..now]).unwrap();
        left -= now;
    }
    let (digest, size) = writer.finish().unwrap();
    Descriptor::new(media_type::LAYER_TAR, digest, size)
}

/// Asserts that all that `NAME:TAG` points to is in the registry and what it should be; the digest that it has, if it is
/// there.
#[track_caller]
pub(crate) fn sound(registry: &Registry, name: &str, reference: &str) -> Option<Digest> {
    let (status, bytes) = registry.get(&format!("/v2/{name}/manifests/{reference}"));
    if status == 404 {
        return None;
    }
    assert_eq!(status, 200, "{name}:{reference}");
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    for child in document["manifests"].as_array().into_iter().flatten() {
        let digest = child["digest"].as_str().unwrap();
        assert_eq!(sound(registry, name, digest).unwrap().as_str(), digest, "{name}:{reference}");
    }
    for blob in document["layers"].as_array().into_iter().flatten().chain(document.get("config")) {
        let digest = blob["digest"].as_str().unwrap();
        let (status, bytes) = registry.get(&format!("/v2/{name}/blobs/{digest}"));
        assert_eq!((status, digest_of(&bytes).as_str()), (200, digest), "a blob of {name}:{reference}");
    }
    Some(Digest::of(&bytes))
}
