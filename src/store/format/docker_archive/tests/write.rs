//! Archives that are written.

use std::path::{Path, PathBuf};

use ociforge_manifests::{DiffId, Image};

use super::*;
use crate::store::Layout;

/// An image in a layout: its layers in all forms that there are, one of them twice.
fn built(directory: &Path) -> (Layout, Image, [Vec<u8>; 3]) {
    let layout = Layout::create(directory.join("layout")).unwrap();
    let layers = [b"gzip".repeat(1000), b"zstd".repeat(300_000), b"plain".repeat(77)];
    let put = |media_type: &str, bytes: &[u8]| {
        layout.put(bytes).unwrap();
        Descriptor::of(media_type, bytes)
    };
    let [a, b, c] = &layers;
    let descriptors = [
        put(media_type::LAYER_GZIP, &gzip(a)),
        put(media_type::LAYER_ZSTD, &zstd::encode_all(b.as_slice(), 1).unwrap()),
        put(media_type::LAYER_TAR, c),
        put(media_type::LAYER_TAR, a),
    ];
    let config = config(&[a, b, c, a]);
    let manifest = json!({
        "schemaVersion": 2, "config": put(media_type::CONFIG, &config), "layers": descriptors,
    });
    let image = Image::new(Document::from_json(manifest).unwrap(), Document::parse(config).unwrap()).unwrap();
    (layout, image, layers)
}

fn names(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| complete(name).unwrap()).collect()
}

async fn write(layout: &Layout, image: &Image, shown: &[&str], path: &Path) -> Result<(), ContentError> {
    write_docker_archive(layout, image, &names(shown), path, &()).await
}

#[tokio::test]
async fn what_was_written_is_read_and_is_the_same_every_time() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, built, layers) = built(directory.path());
    let files = ["1.tar", "2.tar"].map(|name| directory.path().join(name));
    for file in &files {
        write(&layout, &built, &["debian", "example.com/a:b"], file).await.unwrap();
    }
    let bytes = fs::read(&files[0]).unwrap();
    assert_eq!(bytes, fs::read(&files[1]).unwrap());

    let mut tar = tar::Archive::new(bytes.as_slice());
    let entries: Vec<PathBuf> = tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into()).collect();
    let mut expected = vec![PathBuf::from(MANIFEST), format!("{}.json", built.config.digest().hex()).into()];
    expected.extend(layers.iter().map(|layer| PathBuf::from(format!("{}.tar", Digest::of(layer).hex()))));
    assert_eq!(entries, expected, "each layer once");

    let archive = DockerArchive::open(&files[0]).unwrap();
    assert_eq!(archive.names(), ["debian:latest", "example.com/a:b"]);
    let image = archive.image(None).unwrap();
    let made = manifest(&image).await;
    assert_eq!(made["config"]["digest"], json!(built.config.digest()));
    let [a, b, c] = &layers;
    for (layer, descriptor) in [a, b, c, a].into_iter().zip(made["layers"].as_array().unwrap()) {
        let descriptor = serde_json::from_value(descriptor.clone()).unwrap();
        assert_eq!(read_document(&image, &descriptor).await.unwrap(), *layer);
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_write_that_fails_and_what_was_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image, [a, ..]) = built(directory.path());
    let path = directory.path().join("a.tar");
    fs::write(&path, "old").unwrap();
    let blob = layout.blob_path(&image.manifest.layers[0].digest);
    let sound = fs::read(&blob).unwrap();
    let other = gzip(&vec![b'x'; a.len()]);
    let junk = [&*gzip(&a), b"junk"].concat();
    for damaged in [other.as_slice(), &sound[..sound.len() - 1], b"no gzip", &junk] {
        fs::write(&blob, damaged).unwrap();
        let error = write(&layout, &image, &[], &path).await.unwrap_err();
        let layer = &image.manifest.layers[0].digest;
        assert_eq!(error.operation, format!("read {layer} from {}", layout.root().display()), "{error:?}");
    }
    fs::remove_file(&blob).unwrap();
    assert!(matches!(write(&layout, &image, &[], &path).await.unwrap_err().cause, Cause::NotFound));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    fs::write(&blob, sound).unwrap();
    write(&layout, &image, &[], &path).await.unwrap();
    assert_ne!(fs::read(&path).unwrap(), b"old");
}

#[tokio::test]
async fn a_content_that_is_not_the_configs_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image, _) = built(directory.path());
    let mut config = image.config.json().clone();
    config["rootfs"]["diff_ids"][2] = json!(DiffId(Digest::of(b"other")));
    let image = Image::new(image.manifest, Document::from_json(config).unwrap()).unwrap();
    let error = write(&layout, &image, &[], &directory.path().join("a.tar")).await.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongDigest { .. }), "{error:?}");
}

#[tokio::test]
async fn what_can_not_be_an_archive_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image, _) = built(directory.path());
    let path = directory.path().join("a.tar");
    let digest = format!("a@{}", Digest::of(b""));
    assert!(write(&layout, &image, &[&digest], &path).await.unwrap_err().cause.to_string().contains("has a digest"));
    let device = write(&layout, &image, &[], Path::new("/dev/null")).await.unwrap_err();
    assert!(device.cause.to_string().contains("not a regular file"), "{device:?}");
    let mut manifest = image.manifest.json().clone();
    manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let image = Image::new(Document::from_json(manifest).unwrap(), image.config).unwrap();
    let foreign = write(&layout, &image, &[], &path).await.unwrap_err();
    assert!(foreign.cause.to_string().contains("not distributable"), "{foreign:?}");
    assert!(!path.exists());
}

#[test]
fn names_are_shown_as_docker_does() {
    for (whole, shown) in [
        ("docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/a/b:c", "a/b:c"),
        ("docker.io/library/a/b:c", "library/a/b:c"),
        ("docker.io/a.b/c:d", "docker.io/a.b/c:d"),
        ("example.com:5000/library/a:b", "example.com:5000/library/a:b"),
        ("localhost/a:b", "localhost/a:b"),
    ] {
        let name = complete(whole).unwrap();
        assert_eq!(familiar(&name), shown);
        assert_eq!(complete(shown), Some(name));
    }
    assert_eq!(complete("oci:a").unwrap().whole(), "docker.io/library/oci:a");
    assert_eq!(complete("UPPER"), None);
}
