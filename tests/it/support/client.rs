//! Clients of registries inside the test's process, and what they do with whole images.

use std::time::Duration;

use ociforge::content::{ContentError, Target, read_document};
use ociforge::http::{RetryPolicy, Timeouts};
use ociforge::registry::{Client, Remote, Settings};
use ociforge::store::Layout;
use ociforge::transfer::{Copied, ImageCopy, copy_graph};
use ociforge_manifests::Descriptor;
use ociforge_manifests::graph::GraphNode;
use serde_json::{Value, json};

use super::{Place, Registry};

/// Settings for registries that are near and fail often, but always answer in the end.
pub(crate) fn impatient() -> Settings {
    let (first_pause, longest_pause) = (Duration::from_millis(4), Duration::from_millis(1500));
    let retry = RetryPolicy { tries: 4, first_pause, longest_pause };
    let seconds = Duration::from_secs;
    let timeouts = Timeouts { connect: seconds(20), idle: seconds(30), commit: seconds(60) };
    Settings { chunk: 256 << 10, retry, timeouts, ..Settings::default() }
}

/// Settings as users have them, but for a short pause before the second try.
pub(crate) fn quick() -> Settings {
    let retry = RetryPolicy { first_pause: Duration::from_millis(50), ..RetryPolicy::default() };
    Settings { retry, ..Settings::default() }
}

/// The same, with this password of `user` for the registry.
pub(crate) fn signed_in(place: &Place, registry: &Registry, password: &str) -> Settings {
    let entry = json!({"username": "user", "password": password});
    let auths = json!({"auths": {registry.address.as_str(): entry}});
    let file = place.write(&format!("auth-{password}.json"), auths.to_string());
    Settings { authfile: Some(file), ..quick() }
}

/// A client with [`quick`] settings.
pub(crate) fn client() -> Client {
    Client::new(quick()).unwrap()
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

/// Pushes what is missing of an image of one layer, request by request: layer and config, then the manifest and its tag.
pub(crate) async fn push(to: &Remote, layout: &Layout, manifest: &Descriptor, tag: &str) -> Result<(), ContentError> {
    let bytes = read_document(layout, manifest).await?;
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    for child in [&json["config"], &json["layers"][0]] {
        let child: Descriptor = serde_json::from_value(child.clone()).unwrap();
        if !to.contains(&child).await? {
            to.push(&child, layout, &()).await?;
        }
    }
    if !to.contains(manifest).await? {
        to.push(manifest, layout, &()).await?;
    }
    to.tag(manifest, &bytes, tag).await
}

/// Copies the image that `source` names, with its referrers, and calls it `tag`.
pub(crate) async fn copy(source: &Remote, target: &dyn Target, tag: &str, jobs: usize) -> Result<Copied, ContentError> {
    let (descriptor, bytes) = source.resolve().await?;
    let node = GraphNode::parse(&descriptor.media_type, bytes).unwrap();
    let naming = &str::to_owned;
    let copy = ImageCopy { source, target, naming, platforms: &[], referrers: true, jobs, reporter: &() };
    copy.copy(&node, &[tag.to_owned()]).await
}
