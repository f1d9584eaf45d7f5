//! Many images at once, with skopeo and docker-registry beside them.

mod checks;
mod transfer;

use std::fs;
use std::path::Path;
use std::process::Command;

use ociforge::store::Layout;
use ociforge::store::layout::REF_NAME;
use ociforge_manifests::{Descriptor, media_type};
use serde_json::{Value, json};

use crate::support::{Place, Registry, digest_of, files, noise_layer, put, put_blob, put_image, run, skopeo_raw};

/// A layout in `name` with images that share a layer, by the full names under which they are mirrored:
/// `nvcr.io/team/a:1`, `a:2`, `a:10`, `ghcr.io/team/b:1`, and `ghcr.io/team/multi:1`, an index of two platforms with a
/// referrer and a signature as cosign makes them.
fn images(place: &Place, name: &str) -> Layout {
    let layout = Layout::create(place.path(name)).unwrap();
    let layer = |seed: u64, length: usize| noise_layer(&layout, &mut fastrand::Rng::with_seed(seed), length);
    let image = |architecture: &str, layers: &[&Descriptor]| put_image(&layout, architecture, layers, &json!({}));
    let common = layer(1, 3 << 20);
    let mut entries = Vec::new();
    for (n, name) in
        ["nvcr.io/team/a:1", "nvcr.io/team/a:2", "nvcr.io/team/a:10", "ghcr.io/team/b:1"].iter().enumerate()
    {
        let own = layer(10 + n as u64, 1 << 20);
        entries.push((image("amd64", &[&common, &own]), *name));
    }
    let mut manifests = Vec::new();
    for (n, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        let own = layer(20 + n as u64, 1 << 20);
        let mut entry = json!(image(architecture, &[&common, &own]));
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests});
    let index = put(&layout, media_type::INDEX, &index);
    let sbom = put_blob(&layout, "application/spdx+json", b"{\"sbom\":1}");
    let more = json!({"subject": index, "artifactType": "application/spdx+json"});
    let referrer = put_image(&layout, "amd64", &[&sbom], &more);
    let signed = put_blob(&layout, "application/vnd.dev.cosign.simplesigning.v1+json", b"{\"signed\":1}");
    let signature = image("amd64", &[&signed]);
    let signature_name = format!("ghcr.io/team/multi:sha256-{}.sig", index.digest.hex());
    entries.extend([(index, "ghcr.io/team/multi:1"), (signature, &signature_name)]);
    layout
        .edit_index(|list| {
            for (mut entry, name) in entries {
                entry.annotations.insert(REF_NAME.into(), name.into());
                list.push(entry);
            }
            list.push(referrer);
        })
        .unwrap();
    layout
}

/// `ociforge mirror`
fn mirror(place: &Place, arguments: &[&str]) -> Command {
    place.ociforge([&["mirror", "--progress", "none"], arguments].concat())
}

/// Mirrors, and gives the report.
#[track_caller]
fn mirrored(place: &Place, arguments: &[&str]) -> Value {
    let text = run(&mut mirror(place, &[&["--format", "json"], arguments].concat())).ok();
    serde_json::from_str(&text).unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    report["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect()
}

/// The digest of what `docker://NAME` gives, by skopeo's word.
fn remote_digest(name: &str) -> String {
    digest_of(skopeo_raw(name).as_bytes())
}

/// The names and digests of a layout's index, and its blobs by name.
fn content(layout: &Path) -> (Vec<(String, String)>, Vec<String>) {
    let layout_index = Layout::open(layout).unwrap().index().unwrap();
    let named =
        |entry: &Descriptor| (entry.annotations.get(REF_NAME).cloned().unwrap_or_default(), entry.digest.to_string());
    let mut entries: Vec<_> = layout_index.manifests.iter().map(named).collect();
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut blobs: Vec<_> = files(&layout.join("blobs")).iter().map(name).collect();
    entries.sort();
    blobs.sort();
    (entries, blobs)
}
