//! Images whose layers are nothing but bytes, and a registry that has them.

use std::io::Write;
use std::time::Duration;

use ociforge::content::{ContentError, Target, read_document};
use ociforge::http::{RetryPolicy, Timeouts};
use ociforge::registry::{Client, Remote, Settings};
use ociforge::store::Layout;

use ociforge::transfer::{Copied, ImageCopy, copy_graph};
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use super::{Registry, digest_of};

/// Puts an image of one platform into a layout; its layers have these lengths, and bytes that `seed` makes.
pub(crate) fn noise_image(layout: &Layout, seed: u64, lengths: &[usize]) -> Descriptor {
    let mut random = fastrand::Rng::with_seed(seed);
    let layers: Vec<_> = lengths.iter().map(|length| noise_layer(layout, &mut random, *length)).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(layout, media_type::CONFIG, &config);
    put(
        layout,
        media_type::MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers}),
    )
}

fn noise_layer(layout: &Layout, random: &mut fastrand::Rng, length: usize) -> Descriptor {
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

/// Puts a document into a layout.
pub(crate) fn put(layout: &Layout, media_type: &str, json: &Value) -> Descriptor {
    let bytes = json.to_string().into_bytes();
    layout.put(&bytes).unwrap();
    Descriptor::of(media_type, &bytes)
}

/// Settings for registries that are near and fail often, but always answer in the end.
pub(crate) fn impatient() -> Settings {
    let (first_pause, longest_pause) = (Duration::from_millis(4), Duration::from_millis(1500));
    let retry = RetryPolicy { tries: 4, first_pause, longest_pause };
    let seconds = Duration::from_secs;
    let timeouts = Timeouts { connect: seconds(20), idle: seconds(30), commit: seconds(60) };
    Settings { chunk: 256 << 10, retry, timeouts, ..Settings::default() }
}

/// `NAME` at the registry or proxy at `address`.
pub(crate) fn remote(client: &Client, address: &str, name: &str) -> Remote {
    client.repository(&format!("{address}/{name}").parse().unwrap())
}

/// Puts an image of a layout, under a tag, into a registry.
pub(crate) async fn upload(layout: &Layout, root: &Descriptor, to: &Remote, tag: &str) {
    let node = GraphNode::parse(&root.media_type, read_document(layout, root).await.unwrap()).unwrap();
    copy_graph(layout, to, &node, &[tag.to_owned()], 4, &()).await.unwrap();
}

/// Copies the image that `source` names, with its referrers, and calls it `tag`.
pub(crate) async fn copy(source: &Remote, target: &dyn Target, tag: &str, jobs: usize) -> Result<Copied, ContentError> {
    let (descriptor, bytes) = source.resolve().await?;
    let node = GraphNode::parse(&descriptor.media_type, bytes).unwrap();
    let naming = &str::to_owned;
    let copy = ImageCopy { source, target, naming, platforms: &[], referrers: true, jobs, reporter: &() };
    copy.copy(&node, &[tag.to_owned()]).await
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
