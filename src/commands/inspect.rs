//! `ociforge inspect`

use std::fmt::Write as _;

use ociforge_manifests::graph::{GraphNode, Manifest};
use ociforge_manifests::{Descriptor, Document, Image, Platform};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{self, Format, InspectArgs, human_bytes};
use crate::error::Failure;
use crate::transport::ImageSource;

pub(super) async fn run(context: &Context, args: &InspectArgs) -> Result<(), Failure> {
    let located = context.find_image(&args.image).await?;
    if args.raw {
        return cli::raw_result(located.node.bytes());
    }
    if let (GraphNode::Index(_), None, false, false) = (&located.node, &args.platform, args.config, args.layers) {
        return print(args.format, &index_text(&located), || index_json(&located));
    }
    if let (GraphNode::Manifest(manifest), false, false) = (&located.node, args.config, args.layers)
        && let Some(kind) = manifest.artifact()
    {
        return print(args.format, &artifact_text(&located, manifest, kind), || {
            artifact_json(&located, manifest, kind)
        });
    }
    let image = located.image_or_only(args.platform.as_ref(), &Platform::default()).await?;
    if args.config {
        return cli::raw_result(image.config.bytes());
    }
    if args.layers {
        return print(args.format, &layers_text(&image), || layers_json(&image));
    }
    print(args.format, &image_text(&located, &image), || image_json(&located, &image))
}

fn print(format: Format, text: &str, json: impl FnOnce() -> Value) -> Result<(), Failure> {
    match format {
        Format::Text => cli::raw_result(text.as_bytes()),
        Format::Json => cli::result(&format!("{:#}", json())),
    }
}

fn index_json(located: &ImageSource) -> Value {
    json!({"name": located.name, "digest": located.node.descriptor().digest, "manifests": located.node.children()})
}

fn index_text(located: &ImageSource) -> String {
    let mut text = format!("{}\n  digest    {}\n", located.name, located.node.descriptor().digest);
    for child in located.node.children() {
        let platform = child.platform.as_ref().map_or("no platform".into(), ToString::to_string);
        let _ = writeln!(text, "  {:<16} {}", one_line(&platform), child.digest);
    }
    text
}

fn artifact_json(located: &ImageSource, manifest: &Document<Manifest>, kind: &str) -> Value {
    json!({
        "name": located.name,
        "digest": manifest.digest(),
        "mediaType": manifest.json().get("mediaType"),
        "artifactType": kind,
        "subject": manifest.subject,
        "annotations": manifest.annotations,
        "config": manifest.config,
        "blobs": manifest.layers,
    })
}

fn artifact_text(located: &ImageSource, manifest: &Document<Manifest>, kind: &str) -> String {
    let mut text = format!("{}\n", located.name);
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {}", one_line(value));
    };
    row("digest", manifest.digest().as_str());
    row("artifact", &format!("{kind} (not an image)"));
    manifest.subject.iter().for_each(|subject| row("subject", subject.digest.as_str()));
    for Descriptor { digest, size, media_type, .. } in &manifest.layers {
        row("blob", &format!("{digest} {:>9}  {media_type}", human_bytes(*size)));
    }
    manifest.annotations.iter().for_each(|(key, value)| row("annotation", &format!("{key}={value}")));
    text
}

fn image_json(located: &ImageSource, image: &Image) -> Value {
    json!({
        "name": located.name,
        "digest": image.manifest.digest(),
        "mediaType": image.manifest.json().get("mediaType"),
        "platform": image.config.platform.to_string(),
        "created": image.config.created,
        "annotations": image.manifest.annotations,
        "config": image.config.json().get("config"),
        "layers": layers_json(image),
    })
}

fn image_text(located: &ImageSource, image: &Image) -> String {
    let process = &image.config.config;
    let size: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    let mut text = format!("{}\n", located.name);
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<12} {}", one_line(value));
        }
    };
    row("digest", image.manifest.digest().as_str());
    row("platform", &image.config.platform.to_string());
    row("created", image.config.created.as_deref().unwrap_or_default());
    row("layers", &format!("{}, {}", image.manifest.layers.len(), human_bytes(size)));
    row("entrypoint", &words(&process.entrypoint));
    row("cmd", &words(&process.cmd));
    row("workdir", &process.working_dir);
    row("user", &process.user);
    process.env.iter().for_each(|entry| row("env", entry));
    process.labels.iter().for_each(|(key, value)| row("label", &format!("{key}={value}")));
    image.manifest.annotations.iter().for_each(|(key, value)| row("annotation", &format!("{key}={value}")));
    text
}

/// A value of a document as one line for a terminal: control characters are written as in Rust and JSON.
fn one_line(value: &str) -> String {
    let written = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    value.chars().map(written).collect()
}

/// A command as JSON, the form of image configs; empty for no command.
fn words(command: &[String]) -> String {
    if command.is_empty() { String::new() } else { json!(command).to_string() }
}

/// The layers with their history entries, lowest first.
fn layers(image: &Image) -> impl Iterator<Item = (&Descriptor, &str)> {
    let told = image.config.history.iter().filter(|entry| !entry.empty_layer);
    let told = told.map(|entry| entry.created_by.as_deref().unwrap_or_default()).chain(std::iter::repeat(""));
    image.manifest.layers.iter().zip(told)
}

fn layers_json(image: &Image) -> Value {
    let rows = layers(image).zip(&image.config.rootfs.diff_ids).map(|((layer, created_by), diff_id)| {
        json!({"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type, "diffId": diff_id, "createdBy": created_by})
    });
    rows.collect()
}

fn layers_text(image: &Image) -> String {
    let mut text = String::new();
    for (layer, created_by) in layers(image) {
        let _ = writeln!(text, "{} {:>9}  {}", layer.digest, human_bytes(layer.size), one_line(created_by));
    }
    text
}
