//! Hostile and damaged archives.

use super::*;

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
