//! Archives in Docker's form, made entry by entry.

mod damage;
mod read;
mod write;

use std::fs;
use std::io::Write;

use ociforge_manifests::{ArchivedImage, Descriptor, Digest, Document, media_type};
use serde_json::{Value, json};
use tar::EntryType;

use super::*;
use crate::content::{Cause, ContentError, Named, read_document};
use crate::error::Explain;

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;

/// An entry of a tar file: kind, name, and content or, of a link, where it leads.
type Entry = (EntryType, String, Vec<u8>);

fn file(name: &str, content: &[u8]) -> Entry {
    (FILE, name.into(), content.to_vec())
}

fn link(name: &str, target: &str) -> Entry {
    (LINK, name.into(), target.into())
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // Written by hand: the crate refuses the names that are tested here.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        let content = if *kind == FILE {
            content.as_slice()
        } else {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content);
            b""
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn open_bytes(bytes: &[u8]) -> Result<DockerArchive, ContentError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    DockerArchive::open(path)
}

/// The image called `name`, or at `@INDEX`, in an archive of these entries.
fn image(entries: &[Entry], name: Option<&str>) -> Result<DockerImage, ContentError> {
    let wanted: Option<ArchivedImage> = name.map(|name| name.parse().unwrap());
    open_bytes(&tar(entries))?.image(wanted.as_ref())
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    // The spaces stay: it is the bytes that have the digest.
    format!("{:#}", json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "OnBuild": null})).into()
}

/// A `manifest.json` of these images: config, names, layers.
fn listing(images: &[(&str, Value, &[&str])]) -> Entry {
    let images = images.iter().map(|(config, names, layers)| {
        json!({"Config": config, "RepoTags": names, "Layers": layers, "Parent": "unknown fields are left alone"})
    });
    file(MANIFEST, Value::Array(images.collect()).to_string().as_bytes())
}

/// What docker before 25 writes: a directory for each layer, and links where it has been written already.
fn old(one: &[u8], two: &[u8]) -> Vec<Entry> {
    let (first, second) = (config(&[one, two]), config(&[one]));
    let (a, b) = (format!("{}.json", Digest::of(&first).hex()), format!("{}.json", Digest::of(&second).hex()));
    vec![
        (EntryType::Directory, "1/".into(), Vec::new()),
        file("1/VERSION", b"1.0"),
        file("1/json", b"{}"),
        file("1/layer.tar", one),
        file("2/layer.tar", two),
        link("3/layer.tar", "../1/layer.tar"),
        file(&a, &first),
        file(&b, &second),
        listing(&[
            (&a, json!(["debian:latest", "example.com:5000/a/b:c"]), &["1/layer.tar", "2/layer.tar"]),
            (&b, json!(["small:1"]), &["3/layer.tar"]),
        ]),
        file("repositories", b"{}"),
    ]
}

async fn manifest(image: &DockerImage) -> Value {
    serde_json::from_slice(&read_document(image, image.descriptor()).await.unwrap()).unwrap()
}

/// What docker writes since 25: an OCI layout with a `manifest.json`.
fn new(layer: &[u8]) -> (Vec<Entry>, Descriptor) {
    let config = config(&[b"one"]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": Descriptor::of(media_type::CONFIG, &config),
        "layers": [Descriptor::of(media_type::LAYER_GZIP, layer)],
        "annotations": {"kept": "as it is"},
    });
    let manifest = format!("{manifest:#}").into_bytes();
    let missing = Descriptor::of(media_type::MANIFEST, b"another platform's");
    let below = Descriptor::of(media_type::MANIFEST, &manifest);
    let inner = json!({"schemaVersion": 2, "manifests": [missing, below]}).to_string().into_bytes();
    let outer = json!({"schemaVersion": 2, "manifests": [Descriptor::of(media_type::INDEX, &inner)]}).to_string();
    let entries = vec![
        file("oci-layout", b"{}"),
        file("index.json", outer.as_bytes()),
        file(&blob(&inner), &inner),
        file(&blob(&manifest), &manifest),
        file(&blob(&config), &config),
        file(&blob(layer), layer),
        listing(&[(&blob(&config), json!(["x:y"]), &[&blob(layer)])]),
    ];
    (entries, below)
}
