//! Unpacks an image of an OCI layout and prints how long it took.
//!
//! `unpack LAYOUT TAG OUTPUT [JOBS]`, where OUTPUT does not exist yet

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ociforge_layers::unpack::{Blob, Expected, Options, unpack_image};
use ociforge_manifests::{DiffId, Digest};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, tag, output, rest @ ..] = &arguments[..] else {
        return Err("usage: unpack LAYOUT TAG OUTPUT [JOBS]".into());
    };
    let threads = std::thread::available_parallelism()?.get();
    let jobs = rest.first().map_or(Ok(threads), |jobs| jobs.parse())?;
    let layers = layers(Path::new(layout), tag)?;
    let output = Path::new(output);
    let staging = output.parent().ok_or("the output has a parent")?;

    let start = Instant::now();
    let summary = unpack_image(&layers, output, staging, jobs, &Options::default())?;
    let seconds = start.elapsed().as_secs_f64();
    writeln!(io::stdout(), "{seconds:.2} s, {} layers, {jobs} jobs, {summary:?}", layers.len())?;
    Ok(())
}

fn layers(layout: &Path, tag: &str) -> Result<Vec<Blob<'static>>> {
    let index = json(&layout.join("index.json"))?;
    let named = |manifest: &&Value| manifest["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let descriptor = index["manifests"].as_array().and_then(|all| all.iter().find(named)).ok_or("no such tag")?;
    let manifest = json(&blob(layout, &digest(&descriptor["digest"])?))?;
    let config = json(&blob(layout, &digest(&manifest["config"]["digest"])?))?;
    let layers = manifest["layers"].as_array().ok_or("the manifest has no layers")?;
    let diff_ids = config["rootfs"]["diff_ids"].as_array().ok_or("the config has no DiffIds")?;
    layers
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| {
            let (name, size) = (digest(&layer["digest"])?, layer["size"].as_u64().ok_or("a layer has a size")?);
            let path = blob(layout, &name);
            Ok(Blob {
                open: Box::new(move || Ok(Box::new(File::open(&path)?))),
                expected: Expected { blob: Some((name, size)), diff_id: DiffId(digest(diff_id)?) },
            })
        })
        .collect()
}

fn digest(text: &Value) -> Result<Digest> {
    Ok(text.as_str().ok_or("a digest is text")?.parse()?)
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm()).join(digest.hex())
}

fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
