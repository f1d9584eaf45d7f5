use std::fs::{self, File};
use std::path::Path;

use ociforge_manifests::{Digest, media_type};
use serde_json::{Value, json};

use super::*;
use crate::store::layout::UPLOADS;
use crate::store::partial::Partial;

const NOW: GcOptions = GcOptions { keep_for: Duration::ZERO, untagged: false, dry_run: false };
const UNTAGGED: GcOptions = GcOptions { untagged: true, ..NOW };

fn layout() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("layout")).unwrap();
    layout.edit_index(|_| {}).unwrap();
    (directory, layout)
}

/// Puts a document and says what it is.
fn put(layout: &Layout, json: &Value) -> Descriptor {
    let bytes = json.to_string();
    layout.put(bytes.as_bytes()).unwrap();
    Descriptor::of(json["mediaType"].as_str().unwrap(), bytes.as_bytes())
}

/// An image of the layer `content`, as JSON.
fn image(layout: &Layout, content: &str) -> Value {
    let layer = Descriptor::new(media_type::LAYER_TAR, layout.put(content.as_bytes()).unwrap(), content.len() as u64);
    let config = Descriptor::new(media_type::CONFIG, layout.put(b"{}").unwrap(), 2);
    json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer]})
}

fn index(manifests: &[&Descriptor]) -> Value {
    json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests})
}

fn list(layout: &Layout, manifest: &Descriptor, annotation: &str, value: &str) {
    let mut entry = manifest.clone();
    entry.annotations.insert(annotation.into(), value.into());
    layout.edit_index(|entries| entries.push(entry)).unwrap();
}

fn name(layout: &Layout, manifest: &Descriptor, name: &str) {
    list(layout, manifest, REF_NAME, name);
}

fn keep(layout: &Layout, manifest: &Descriptor) {
    list(layout, manifest, REPOSITORY, "a");
}

fn has(layout: &Layout, content: &str) -> bool {
    layout.blob_size(&Digest::of(content.as_bytes())).is_some()
}

fn age(path: &Path, time: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - time).unwrap();
}

const HOURS: Duration = Duration::from_secs(3 * 60 * 60);

#[test]
fn what_the_index_reaches_stays() {
    let (_directory, layout) = layout();
    let [one, two, three] = ["1", "2", "3"].map(|content| put(&layout, &image(&layout, content)));
    let inner = put(&layout, &index(&[&one]));
    let outer = put(&layout, &index(&[&inner]));
    name(&layout, &outer, "a:t");
    keep(&layout, &two);
    let mut referrer = image(&layout, "signature");
    referrer["subject"] = json!(three);
    name(&layout, &put(&layout, &referrer), "a:s");
    layout.put(b"garbage").unwrap();
    let sha512 = layout.root().join("blobs/sha512");
    fs::create_dir_all(&sha512).unwrap();
    fs::write(sha512.join("ab".repeat(64)), "more").unwrap();
    fs::write(sha512.join("README"), "no blob").unwrap();

    let dry = collect(&layout, &GcOptions { dry_run: true, ..NOW }).unwrap();
    assert!(has(&layout, "garbage") && (dry.blobs, dry.bytes) == (2, 11));
    let collected = collect(&layout, &NOW).unwrap();
    assert_eq!(collected, dry);
    assert!(!has(&layout, "garbage") && sha512.join("README").exists());
    for content in ["1", "2", "3", "signature", "{}"] {
        assert!(has(&layout, content), "{content}");
    }
    // 4 layers, 4 manifests, 2 indexes, a config.
    assert_eq!((collected.kept_blobs, collected.young_blobs), (11, 0));
    assert_eq!(collect(&layout, &NOW).unwrap().blobs, 0);
}

#[test]
fn untagged_manifests_go_unless_something_needs_them() {
    let (_directory, layout) = layout();
    let [tagged, child, lost, subject, foreign] =
        ["tagged", "child", "lost", "subject", "foreign"].map(|content| put(&layout, &image(&layout, content)));
    let refer = |content: &str, subject: &Descriptor| {
        let mut referrer = image(&layout, content);
        referrer["subject"] = json!(subject);
        put(&layout, &referrer)
    };
    // A signature of what stays, and one of that; one of what goes; and one that has a tag itself.
    let signature = refer("signature", &tagged);
    for entry in [&refer("of signature", &signature), &signature, &refer("of lost", &lost), &child, &lost, &subject] {
        keep(&layout, entry);
    }
    name(&layout, &tagged, "a:t");
    name(&layout, &put(&layout, &index(&[&child])), "a:i");
    name(&layout, &refer("named", &subject), "a:s");
    // Somebody else's tools list manifests without any annotation.
    layout.edit_index(|entries| entries.push(foreign)).unwrap();

    assert_eq!(collect(&layout, &NOW).unwrap().blobs, 0);
    let collected = collect(&layout, &UNTAGGED).unwrap();
    assert_eq!((collected.manifests, collected.blobs), (2, 4));
    for content in ["tagged", "child", "subject", "foreign", "signature", "of signature", "named"] {
        assert!(has(&layout, content), "{content}");
    }
    assert!(!has(&layout, "lost") && !has(&layout, "of lost"));
    assert_eq!(layout.index().unwrap().manifests.len(), 8);
}

#[test]
fn what_is_young_stays_and_claiming_makes_young() {
    let (_directory, layout) = layout();
    let options = GcOptions { untagged: true, ..GcOptions::default() };
    let [old, claimed] = ["old", "claimed"].map(|content| layout.put(content.as_bytes()).unwrap());
    let pushed = put(&layout, &image(&layout, "pushed by digest"));
    keep(&layout, &pushed);
    let collected = collect(&layout, &options).unwrap();
    assert_eq!((collected.manifests, collected.blobs, collected.young_blobs), (0, 0, 2));

    [&old, &claimed, &pushed.digest].iter().for_each(|digest| age(&layout.blob_path(digest), HOURS));
    assert_eq!(layout.claim_blob(&claimed), Some(7));
    assert_eq!(layout.claim_blob(&pushed.digest), Some(pushed.size));
    assert_eq!(collect(&layout, &options).unwrap().blobs, 1);
    assert!(has(&layout, "claimed") && has(&layout, "pushed by digest"));
    assert_eq!(layout.claim_blob(&old), None);
}

#[test]
fn unfinished_files_go_unless_somebody_has_them() {
    let (_directory, layout) = layout();
    let uploads = layout.root().join(UPLOADS);
    fs::create_dir(&uploads).unwrap();
    let files = ["old", "taken", "new"].map(|name| uploads.join(name));
    let remains = [layout.root().join(".tmp-a"), layout.root().join("blobs/sha256/.tmp-b")];
    for path in files.iter().chain(&remains) {
        fs::write(path, "123").unwrap();
        age(path, HOURS);
    }
    age(&files[2], Duration::ZERO);
    let taken = File::open(&files[1]).unwrap();
    taken.lock().unwrap();
    let collected = collect(&layout, &GcOptions::default()).unwrap();
    assert_eq!((collected.unfinished, collected.bytes), (3, 9));
    assert_eq!(files.map(|path| path.exists()), [false, true, true]);
    assert!(!remains.iter().any(|path| path.exists()));
}

#[test]
fn blobs_that_came_in_part_go_unless_somebody_writes_them() {
    let (_directory, layout) = layout();
    let digests = ["old", "taken", "new"].map(|content| Digest::of(content.as_bytes()));
    let [old, taken, new] = digests.each_ref().map(|digest| layout.claim_partial(digest).unwrap().unwrap());
    let age = |partial: &Partial| partial.file().set_modified(SystemTime::now() - HOURS).unwrap();
    for partial in [&old, &taken, &new] {
        partial.file().set_len(5).unwrap();
    }
    age(&old);
    age(&taken);
    drop((old, new));
    let dry = collect(&layout, &GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    assert_eq!((dry.unfinished, dry.bytes), (1, 5));
    assert_eq!(collect(&layout, &GcOptions::default()).unwrap(), dry);
    assert_eq!(layout.partials().unwrap().unwrap().names().unwrap().len(), 2);
    drop(taken);
    digests[1..].iter().for_each(|digest| age(&layout.claim_partial(digest).unwrap().unwrap()));
    assert_eq!(collect(&layout, &GcOptions::default()).unwrap().unfinished, 2);
    assert!(layout.partials().unwrap().is_none());
}

#[test]
fn what_a_killed_collection_put_aside_is_judged_anew() {
    let (_directory, layout) = layout();
    let [young, old, again] = ["young", "old", "again"].map(|content| layout.put(content.as_bytes()).unwrap());
    let aside = |digest: &Digest| layout.blob_path(digest).with_file_name(format!(".gc-{}", digest.hex()));
    for digest in [&young, &old, &again] {
        fs::rename(layout.blob_path(digest), aside(digest)).unwrap();
    }
    age(&aside(&old), HOURS);
    age(&aside(&again), HOURS);
    layout.put(b"again").unwrap();
    let collected = collect(&layout, &GcOptions::default()).unwrap();
    assert_eq!((collected.blobs, collected.bytes, collected.unfinished, collected.young_blobs), (1, 3, 0, 2));
    assert_eq!(["young", "old", "again"].map(|content| has(&layout, content)), [true, false, true]);
    assert!(![&young, &old, &again].iter().any(|digest| aside(digest).exists()));
}

#[test]
fn damage_ends_it_before_anything_is_removed() {
    let (_directory, layout) = layout();
    layout.put(b"garbage").unwrap();
    let inner = put(&layout, &image(&layout, "layer"));
    let outer = put(&layout, &index(&[&inner]));
    name(&layout, &outer, "a:t");
    let path = layout.blob_path(&inner.digest);
    let sound = fs::read(&path).unwrap();
    let cut = &sound[..sound.len() - 1];
    let changed = String::from_utf8(sound.clone()).unwrap().replace("sha256:", "sha256:0");
    for damaged in [cut, b"", b"{}", changed.as_bytes()] {
        fs::write(&path, damaged).unwrap();
        let error = collect(&layout, &NOW).unwrap_err();
        assert!(error.to_string().contains(inner.digest.as_str()) && error.to_string().contains("nothing is removed"));
        assert!(has(&layout, "garbage") && has(&layout, "layer"));
    }
    // An index may list what is not there; the layout's own may not.
    fs::remove_file(&path).unwrap();
    fs::remove_file(layout.blob_path(&outer.digest)).unwrap();
    assert!(collect(&layout, &NOW).is_err());
    put(&layout, &index(&[&inner]));
    assert!(collect(&layout, &NOW).is_ok());
    assert!(!has(&layout, "garbage"));
}

/// What any client can bring about: a blob that an index or a subject names as a manifest.
#[test]
fn what_is_listed_as_a_manifest_and_is_none_stops_nothing() {
    let (_directory, layout) = layout();
    let [kept, named] = ["kept", "named"].map(|content| layout.put(content.as_bytes()).unwrap());
    let text = layout.put(b"no JSON").unwrap();
    // It names one blob as a manifest would, and one somewhere in it.
    let json = layout.put(json!({"blobs": [kept], "text": "x".repeat(100)}).to_string().as_bytes()).unwrap();
    let huge = [b"{\"d\": \"", named.as_str().as_bytes(), b"\"}", &vec![b' '; 17 << 20][..]].concat();
    let huge = layout.put(&huge).unwrap();
    let listed = [text, json, huge].map(|digest| Descriptor::new(media_type::MANIFEST, digest, 1));
    name(&layout, &put(&layout, &index(&listed.each_ref()[..2])), "a:t");
    let mut referrer = image(&layout, "layer");
    referrer["subject"] = json!(listed[2]);
    let referrer = put(&layout, &referrer);
    keep(&layout, &referrer);
    layout.put(b"garbage").unwrap();

    let collected = collect(&layout, &NOW).unwrap();
    let mut expected = listed.map(|listed| listed.digest).to_vec();
    expected.sort();
    assert_eq!((collected.blobs, &collected.unreadable_manifests), (1, &expected));
    assert!(!has(&layout, "garbage"));
    for content in ["kept", "named", "layer", "no JSON"] {
        assert!(has(&layout, content), "{content}");
    }
    assert_eq!(collect(&layout, &UNTAGGED).unwrap().manifests, 1);
    assert!(!has(&layout, "named") && has(&layout, "kept"));
}

#[test]
fn nothing_outside_is_removed_or_waited_for() {
    let (directory, layout) = layout();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    age(&victim, HOURS);
    let uploads = layout.root().join(UPLOADS);
    fs::create_dir(&uploads).unwrap();
    std::os::unix::fs::symlink(&victim, uploads.join("link")).unwrap();
    for fifo in [uploads.join("fifo"), layout.blob_path(&Digest::of(b"1")), layout.root().join(".tmp-fifo")] {
        rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    }
    assert_eq!(collect(&layout, &NOW).unwrap(), Collected::default());
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    fs::remove_dir(layout.root().join("blobs/sha512")).unwrap_err();
    std::os::unix::fs::symlink(directory.path(), layout.root().join("blobs/sha512")).unwrap();
    assert!(collect(&layout, &NOW).unwrap_err().cause.to_string().contains("blobs/sha512 is a symbolic link"));
}

#[test]
fn a_lost_index_is_no_empty_one() {
    let (_directory, layout) = layout();
    fs::remove_file(layout.root().join("index.json")).unwrap();
    assert_eq!(collect(&layout, &NOW).unwrap(), Collected::default());
    layout.put(b"layer").unwrap();
    let error = collect(&layout, &NOW).unwrap_err();
    assert_eq!(error.cause.to_string(), "the layout has blobs but no index.json");
    assert!(has(&layout, "layer"));
    fs::write(layout.root().join("index.json"), "{").unwrap();
    assert!(collect(&layout, &NOW).is_err() && has(&layout, "layer"));
}

#[test]
fn documents_of_unknown_kinds_keep_whatever_they_name() {
    let (_directory, layout) = layout();
    let image = put(&layout, &image(&layout, "layer"));
    let data = layout.put(b"data").unwrap();
    let kind = "application/vnd.oci.artifact.manifest.v1+json";
    let artifact = json!({"mediaType": kind, "blobs": [{"digest": data}], "refers": {"to": image.digest}});
    name(&layout, &put(&layout, &artifact), "a:t");
    layout.put(b"garbage").unwrap();
    assert_eq!(collect(&layout, &NOW).unwrap().blobs, 1);
    for content in ["data", "layer", "{}"] {
        assert!(has(&layout, content), "{content}");
    }
}

/// Whoever is told that a blob is there finds it there afterwards, however often garbage is collected.
#[test]
fn a_claim_holds_while_garbage_is_collected() {
    let (_directory, layout) = layout();
    let content = |n: u32| format!("blob {n}");
    let blobs: Vec<Digest> = (0..300).map(|n| layout.put(content(n).as_bytes()).unwrap()).collect();
    blobs.iter().for_each(|digest| age(&layout.blob_path(digest), HOURS));
    std::thread::scope(|scope| {
        scope.spawn(|| while collect(&layout, &GcOptions::default()).unwrap().blobs > 0 {});
        let claimed: Vec<&Digest> = blobs.iter().rev().filter(|digest| layout.claim_blob(digest).is_some()).collect();
        std::thread::sleep(Duration::from_millis(20));
        assert!(claimed.iter().all(|digest| layout.blob_size(digest).is_some()));
    });
}

#[test]
fn who_writes_into_the_layout_keeps_it_away() {
    let (_directory, layout) = layout();
    layout.put(b"on its way").unwrap();
    let holds = [super::Hold::on(&layout).unwrap(), super::Hold::on(&layout).unwrap()];
    let error = collect(&layout, &NOW).unwrap_err();
    assert_eq!(error.cause.to_string(), "another process is copying an image into the layout");
    assert!(has(&layout, "on its way"));
    drop(holds);
    collect(&layout, &NOW).unwrap();
    assert!(!has(&layout, "on its way"));
}
