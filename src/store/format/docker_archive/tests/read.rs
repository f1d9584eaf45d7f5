//! Archives that docker and others write.

use super::*;
use crate::content::Source;

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
