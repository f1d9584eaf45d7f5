//! Documents that are no usual image: indexes that do not say all, what is listed and unknown, what programs disagree
//! about, artifacts, and images in Docker's forms. skopeo and the registries have a say where they can.

mod indexes;
mod kinds;

use ociforge::store::Layout;
use ociforge::store::layout::REF_NAME;
use ociforge_manifests::{Descriptor, media_type};
use serde_json::{Value, json};

use crate::support::{Place, Registry, digest_of, json_of, put, put_blob, put_manifest, run, skopeo};

/// An image of one layer, in which there is a file with the name of its architecture.
fn image(layout: &Layout, architecture: &str) -> Descriptor {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    tar.append_data(&mut header, architecture, &b""[..]).unwrap();
    let layer = put_blob(layout, media_type::LAYER_TAR, &tar.into_inner().unwrap());
    let rootfs = json!({"type": "layers", "diff_ids": [layer.digest]});
    let config =
        json!({"architecture": architecture, "os": "linux", "config": {"Cmd": [architecture]}, "rootfs": rootfs});
    put_manifest(layout, &put(layout, media_type::CONFIG, &config), &[&layer], &json!({}))
}

fn index(layout: &Layout, entries: &[&Descriptor]) -> Descriptor {
    put(layout, media_type::INDEX, &json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries}))
}

/// Has the layout list the document under a name.
fn name(layout: &Layout, document: &Descriptor, name: &str) {
    let mut entry = document.clone();
    entry.annotations.insert(REF_NAME.into(), name.into());
    layout.edit_index(|entries| entries.push(entry)).unwrap();
}

/// The digest of the config that `inspect` shows.
fn config_of(place: &Place, image: &str, platform: &str) -> String {
    digest_of(run(&mut place.ociforge(["inspect", image, "--config", "--platform", platform])).ok().as_bytes())
}

fn copy(place: &Place, from: &str, to: &str) -> String {
    let printed = run(&mut place.ociforge(["copy", "--progress", "none", from, to])).ok();
    printed.trim().rsplit_once('@').unwrap().1.to_owned()
}
