use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ociforge_manifests::{ArchivedImage, Descriptor, DiffId, Digest, Document, Image, media_type};
use serde_json::{Value, json};
use tar::EntryType;

use super::*;
use crate::content::{Cause, ContentError, Named, Source, read_document};
use crate::error::Explain;
use crate::store::Layout;

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

#[tokio::test]
async fn what_old_docker_writes_is_read() {
    let (one, two) = (b"one".repeat(600), b"two");
    let entries = old(&one, two);
    let debian = image(&entries, Some("debian")).unwrap();
    let made = manifest(&debian).await;
    assert_eq!(made["config"]["digest"], json!(Digest::of(&config(&[&one, two]))));
    assert_eq!(made["layers"], json!([one.as_slice(), two].map(|bytes| Descriptor::of(media_type::LAYER_TAR, bytes))));
    for layer in [one.as_slice(), two, &config(&[&one, two])] {
        assert_eq!(read_document(&debian, &Descriptor::of("", layer)).await.unwrap(), layer);
    }
    assert_eq!(debian.tags().await.unwrap(), ["docker.io/library/debian:latest", "example.com:5000/a/b:c"]);
    let (descriptor, bytes) = debian.tagged("example.com:5000/a/b:c").await.unwrap().unwrap();
    assert_eq!((&descriptor, Digest::of(&bytes)), (debian.descriptor(), descriptor.digest.clone()));
    assert_eq!(debian.tagged("small:1").await.unwrap(), None);
    // The same image by another name, and the same file once more.
    assert_eq!(image(&entries, Some("example.com:5000/a/b:c")).unwrap().descriptor(), debian.descriptor());
    let small = image(&entries, Some("docker.io/library/small:1")).unwrap();
    assert_eq!(read_document(&small, &Descriptor::of("", &one)).await.unwrap(), one);
    assert!(small.fetch(&Descriptor::of("", two), 0).await.is_err(), "a layer of the other image");
}

#[tokio::test]
async fn a_name_chooses_and_an_error_lists_the_names() {
    let entries = old(b"one", b"two");
    for (name, message) in [(None, "has several images"), (Some("debian:12"), "no image `debian:12`")] {
        let error = image(&entries, name).unwrap_err();
        assert!(error.cause.to_string().contains(message), "{error:?}");
        assert!(error.hint().unwrap().ends_with("debian:latest, example.com:5000/a/b:c, small:1"), "{error:?}");
    }
    let twice = listing(&[("a", json!(["x"]), &[]), ("b", json!(["x:latest"]), &[])]);
    assert!(image(&[twice], Some("x")).unwrap_err().cause.to_string().contains("several images `x:latest`"));
    let alone = [file("c", &config(&[])), listing(&[("c", Value::Null, &[])])];
    assert!(image(&alone, None).is_ok());
    let two = [("a", b"1".as_slice()), ("b", b"2")].map(|(name, layer)| (name, config(&[layer]), layer));
    let mut entries: Vec<Entry> = two.iter().map(|(name, config, _)| file(name, config)).collect();
    entries.extend([file("1", b"1"), file("2", b"2")]);
    entries.push(listing(&[("a", Value::Null, &["1"]), ("b", json!(["x:1"]), &["2"])]));
    for (index, (_, config, _)) in two.iter().enumerate() {
        let found = image(&entries, Some(&format!("@{index}"))).unwrap();
        assert_eq!(manifest(&found).await["config"]["digest"], json!(Digest::of(config)));
    }
    assert_eq!(image(&entries, None).unwrap_err().hint().unwrap(), "name one of them: @0, x:1");
    let error = image(&entries, Some("@2")).unwrap_err();
    assert_eq!(
        (error.cause.to_string().as_str(), error.hint().unwrap().as_str()),
        ("the archive has no image `@2`", "it has: @0, x:1")
    );
    assert!(image(&[listing(&[])], None).unwrap_err().cause.to_string().contains("empty"));
}

#[tokio::test]
async fn compressed_layers_have_the_digest_of_their_bytes() {
    let (one, two) = (b"one".repeat(400_000), b"two".repeat(100));
    let (gzip, zstd) = (gzip(&one), zstd::encode_all(two.as_slice(), 1).unwrap());
    let entries = [
        file("sha256:config", &config(&[&one, &two])),
        file("1.tar.gz", &gzip),
        file("2", &zstd),
        listing(&[("sha256:config", json!([]), &["./1.tar.gz", "2"])]),
    ];
    let image = image(&entries, None).unwrap();
    let layers = json!([Descriptor::of(media_type::LAYER_GZIP, &gzip), Descriptor::of(media_type::LAYER_ZSTD, &zstd)]);
    assert_eq!(manifest(&image).await["layers"], layers);
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

#[tokio::test]
async fn a_layouts_own_manifest_is_taken() {
    let layer = gzip(b"one");
    let (mut entries, expected) = new(&layer);
    let found = image(&entries, None).unwrap();
    assert_eq!(found.descriptor(), &expected);
    for content in [&config(&[b"one"]), &layer] {
        assert_eq!(read_document(&found, &Descriptor::of("", content)).await.unwrap(), *content);
    }
    // Without it one is made of what `manifest.json` says, with the same layer.
    entries.retain(|(_, name, _)| !name.ends_with(expected.digest.hex()));
    let made = image(&entries, None).unwrap();
    assert_ne!(made.descriptor(), &expected);
    assert_eq!(manifest(&made).await["layers"], json!([Descriptor::of(media_type::LAYER_GZIP, &layer)]));
    // One that was changed is an error.
    let (mut entries, _) = new(&layer);
    entries[3].2[20] ^= 1;
    assert!(matches!(image(&entries, None).unwrap_err().cause, Cause::WrongDigest { .. }));
}

#[test]
fn hostile_and_damaged_archives_are_refused() {
    let one = config(&[b"one"]);
    let with = |extra: &[Entry], layers: &[&str]| {
        let entries = [file("c", &one), listing(&[("c", Value::Null, layers)])];
        image(&[entries.as_slice(), extra].concat(), None).map(|_| ()).map_err(|error| error.cause.to_string())
    };
    assert_eq!(with(&[file("1", b"one")], &["1"]), Ok(()));
    assert_eq!(with(&[file("1", b"one"), (EntryType::Link, "2".into(), b"1".into())], &["2"]), Ok(()));
    let circle = [link("1", "2"), link("2", "d/../1")];
    let device = (EntryType::Char, "tty".to_owned(), Vec::new());
    let cases: [(&[Entry], &[&str], &str); 14] = [
        (&[], &["1"], "refers to the file `1`"),
        (&[], &["../1"], "refers to the file `../1`"),
        (&[], &["/etc/passwd"], "refers to the file `/etc/passwd`"),
        (&[link("1", "nowhere")], &["1"], "refers to the file `1`"),
        (&[link("1", "/etc/passwd")], &["1"], "points out"),
        (&[link("1", "../1")], &["1"], "points out"),
        (&[(EntryType::Link, "1".into(), b"../1".into())], &["1"], "points out"),
        (&[file("../1", b"one")], &["../1"], "points out"),
        (&circle, &["1"], "loop"),
        (&[link("1", "1")], &["1"], "loop"),
        (&[file("1", b"one"), file("./1", b"one")], &["1"], "twice"),
        (&[file("1", b"one"), device], &["1"], "a device"),
        (&[file("1", b"one")], &["1", "1"], "2 layers but its config 1 diff ids"),
        (&[file("1", b"BZh9")], &["1"], "compressed with bzip2 or xz"),
    ];
    for (extra, layers, expected) in cases {
        let error = with(extra, layers).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn documents_are_what_they_should_be() {
    let name = format!("{}.json", Digest::of(b"other").hex());
    let changed = [file(&name, &config(&[])), listing(&[(&name, Value::Null, &[])])];
    assert!(matches!(image(&changed, None).unwrap_err().cause, Cause::WrongDigest { .. }));
    let no_config = [file("c", b"[]"), listing(&[("c", Value::Null, &[])])];
    assert!(matches!(image(&no_config, None).unwrap_err().cause, Cause::Document(_)));
    for bad in ["{}", "[{}]", "[{\"Config\": 1}]", "["] {
        let error = image(&[file(MANIFEST, bad.as_bytes())], None).unwrap_err();
        assert!(error.cause.to_string().contains("not valid"), "{bad}: {error:?}");
    }
    let huge = vec![b' '; (16 << 20) + 1];
    assert!(matches!(image(&[file(MANIFEST, &huge)], None).unwrap_err().cause, Cause::TooLarge { .. }));
    let layout = image(&[file("oci-layout", b"{}"), file("index.json", b"{}")], None).unwrap_err();
    assert!(layout.hint().unwrap().contains("oci-archive:"));
}

#[tokio::test]
async fn a_changed_layer_is_found_when_it_is_read() {
    let mut entries = old(b"one", b"two");
    let sound = image(&entries, Some("debian")).unwrap();
    entries[3].2 = b"eno".to_vec();
    let changed = image(&entries, Some("debian")).unwrap();
    assert_eq!(changed.descriptor(), sound.descriptor());
    let error = read_document(&changed, &Descriptor::of("", b"one")).await.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongDigest { .. }));
}

/// All that an archive's only image needs, verified.
async fn read_all(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ContentError> {
    let image = open_bytes(bytes)?.image(None)?;
    let manifest = read_document(&image, image.descriptor()).await?;
    let parsed: Document<ociforge_manifests::graph::Manifest> = Document::parse(manifest).unwrap();
    let mut all = Vec::new();
    for blob in parsed.layers.iter().chain([&parsed.config]) {
        all.push(read_document(&image, blob).await?);
    }
    Ok(all)
}

#[tokio::test]
async fn a_changed_byte_changes_the_image_or_is_an_error() {
    let layer = gzip(b"one");
    let plain = [file("c.json", &config(&[b"one"])), file("1", b"one"), link("2", "1")];
    let plain = [&plain[..], &[listing(&[("c.json", json!(["x"]), &["2"])])]].concat();
    for (entries, layer) in [(new(&layer).0, layer.as_slice()), (plain, b"one")] {
        let sound = tar(&entries);
        assert_eq!(read_all(&sound).await.unwrap(), [layer.to_vec(), config(&[b"one"])]);
        for at in (0..sound.len()).step_by(29) {
            let mut changed = sound.clone();
            changed[at] ^= 1 << (at % 8);
            if let Ok(all) = read_all(&changed).await {
                assert!(all[0] == layer, "byte {at}");
            }
        }
    }
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let whole = tar(&old(b"one", b"two"));
    assert!(open_bytes(&whole).is_ok());
    for cut in [300, 600, 2600, whole.len() - 1024] {
        assert!(open_bytes(&whole[..cut]).is_err(), "{cut}");
    }
    for other in [b"".as_slice(), b"hello", &[0; 2048], &[b'x'; 4096]] {
        assert!(open_bytes(other).is_err());
    }
}

#[tokio::test]
async fn a_compressed_archive_is_read_and_a_damaged_one_is_refused() {
    let plain = tar(&old(b"one", b"two"));
    let wanted: ArchivedImage = "debian".parse().unwrap();
    let expected = open_bytes(&plain).unwrap().image(Some(&wanted)).unwrap().descriptor().clone();
    let mut two_members = gzip(&plain[..1000]);
    two_members.extend(gzip(&plain[1000..]));
    for compressed in [gzip(&plain), two_members, zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let found = open_bytes(&compressed).unwrap().image(Some(&wanted)).unwrap();
        assert_eq!(found.descriptor(), &expected);
        assert_eq!(read_document(&found, &Descriptor::of("", b"two")).await.unwrap(), b"two");
        let cut = open_bytes(&compressed[..compressed.len() - 20]).unwrap_err();
        assert!(cut.cause.to_string().starts_with("it cannot be decompressed: "), "{cut:?}");
        assert!(cut.hint().is_some());
    }
    assert!(open_bytes(&gzip(b"no tar")).is_err());
}

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
