use serde_json::json;

use super::*;
use crate::store::Layout;

const FULL: &str = "localhost:5000/a/b";

/// A layout and what is put into it.
struct TarRange {
    _directory: tempfile::TempDir,
    layout: Layout,
}

impl TarRange {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        Self { _directory: directory, layout }
    }

    /// Puts a manifest into the layout, and into its index with that annotation.
    fn put(&self, annotation: Option<(&str, &str)>, content: &str, subject: Option<&Descriptor>) -> Descriptor {
        let mut json = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "config": Descriptor::of("application/x", b"{}"), "layers": [], "annotations": {"content": content}});
        if let Some(subject) = subject {
            json["subject"] = json!(subject);
        }
        self.list(annotation, media_type::MANIFEST, json.to_string().as_bytes())
    }

    fn list(&self, annotation: Option<(&str, &str)>, media_type: &str, bytes: &[u8]) -> Descriptor {
        self.layout.put(bytes).unwrap();
        let descriptor = Descriptor::of(media_type, bytes);
        let mut entry = descriptor.clone();
        entry.annotations.extend(annotation.map(|(key, value)| (key.to_owned(), value.to_owned())));
        self.layout.edit_index(|entries| entries.push(entry)).unwrap();
        descriptor
    }

    fn names(&self) -> Names {
        Names::new(Arc::new(self.layout.clone())).unwrap()
    }
}

async fn tagged(names: &Names, tag: &str) -> Option<Descriptor> {
    names.tagged(tag).await.unwrap().map(|(descriptor, _)| descriptor)
}

async fn referrers(names: &Names, subject: &Descriptor) -> Vec<Digest> {
    names.referrers(subject).await.unwrap().into_iter().map(|entry| entry.digest).collect()
}

fn sorted<const N: usize>(descriptors: [&Descriptor; N]) -> Vec<Digest> {
    let mut digests = descriptors.map(|descriptor| descriptor.digest.clone()).to_vec();
    digests.sort();
    digests
}

#[tokio::test]
async fn a_name_is_a_tag_of_the_repository_before_it() {
    let place = TarRange::new();
    let [bare, one, latest, other] =
        ["t".into(), format!("{FULL}:1"), FULL.into(), "other.example.com/a/b:1".to_owned()]
            .map(|name| place.put(Some((REF_NAME, &name)), &name, None));
    place.put(None, "nameless", None);
    let digest = format!("{FULL}@{}", one.digest);
    place.put(Some((REF_NAME, &digest)), "by digest", None);
    let names = place.names();
    assert_eq!(names.tags().await.unwrap(), ["t"]);
    assert_eq!(tagged(&names, "t").await, Some(bare));
    assert_eq!(tagged(&names, "other.example.com/a/b:1").await, Some(other.clone()));
    let in_repository = names.of(FULL);
    assert_eq!(in_repository.tags().await.unwrap(), ["1", "latest"]);
    assert_eq!(tagged(&in_repository, "1").await, Some(one));
    assert_eq!(tagged(&in_repository, "latest").await, Some(latest));
    assert_eq!(tagged(&in_repository, "t").await, None);
    assert_eq!(names.of("a/b").tags().await.unwrap(), [] as [&str; 0]);
    let all: Vec<_> = names.entries().into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, ["t", &format!("{FULL}:1"), FULL, "other.example.com/a/b:1", &digest]);
    assert_eq!(names.entries()[3].1, other);
}

#[tokio::test]
async fn one_name_for_two_images_is_an_error() {
    let place = TarRange::new();
    let same = place.put(Some((REF_NAME, "same")), "same", None);
    place.put(Some((REF_NAME, "same")), "same", None);
    for content in ["a", "b"] {
        place.put(Some((REF_NAME, "t")), content, None);
    }
    let names = place.names();
    assert_eq!(tagged(&names, "same").await, Some(same));
    assert!(names.tagged("t").await.unwrap_err().cause.to_string().contains("ambiguous"));
}

#[tokio::test]
async fn referrers_are_found_by_their_subject() {
    let place = TarRange::new();
    let image = place.put(Some((REF_NAME, &format!("{FULL}:1"))), "image", None);
    let kept = place.put(None, "kept", Some(&image));
    let named = place.put(Some((REF_NAME, &format!("{FULL}:sig"))), "named", Some(&image));
    let elsewhere = place.put(Some((REPOSITORY, "other.example.com/x")), "elsewhere", Some(&image));
    place.put(None, "of another", Some(&Descriptor::of(media_type::MANIFEST, b"another")));
    place.layout.edit_index(|entries| entries.push(Descriptor::of(media_type::MANIFEST, b"missing"))).unwrap();
    let names = place.names();
    assert_eq!(referrers(&names, &image).await, sorted([&kept, &named, &elsewhere]));
    assert_eq!(referrers(&names.of(FULL), &image).await, sorted([&kept, &named]));
    assert_eq!(referrers(&names, &kept).await, []);
    let listed = names.referrers(&image).await.unwrap();
    let listed = listed.iter().find(|entry| entry.digest == kept.digest).unwrap();
    assert_eq!(listed.other["artifactType"], "application/x");
    assert_eq!(listed.annotations, [("content".to_owned(), "kept".to_owned())].into());
}

#[tokio::test]
async fn referrers_are_also_what_the_tag_for_them_lists() {
    let place = TarRange::new();
    let image = place.put(Some((REF_NAME, &format!("{FULL}:1"))), "image", None);
    let kept = place.put(None, "kept", Some(&image));
    let listed = Descriptor::of(media_type::MANIFEST, b"listed");
    let list = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [&listed, &kept]});
    let tag = format!("{FULL}:sha256-{}", image.digest.hex());
    place.list(Some((REF_NAME, &tag)), media_type::INDEX, list.to_string().as_bytes());
    assert_eq!(referrers(&place.names().of(FULL), &image).await, sorted([&kept, &listed]));
    assert_eq!(referrers(&place.names(), &image).await, sorted([&kept]));
}

#[tokio::test]
async fn damaged_documents_are_passed_over_but_a_disk_that_fails_is_an_error() {
    let place = TarRange::new();
    let image = place.put(Some((REF_NAME, "t")), "image", None);
    let [changed, cut, gone] = ["changed", "cut", "gone"].map(|content| place.put(None, content, Some(&image)));
    let size = usize::try_from(changed.size).unwrap();
    std::fs::write(place.layout.blob_path(&changed.digest), vec![b'x'; size]).unwrap();
    std::fs::write(place.layout.blob_path(&cut.digest), "{").unwrap();
    std::fs::remove_file(place.layout.blob_path(&gone.digest)).unwrap();
    place.list(None, media_type::MANIFEST, b"no manifest");
    let mut large = Descriptor::of(media_type::MANIFEST, b"large");
    large.size = u64::MAX;
    place.layout.edit_index(|entries| entries.push(large)).unwrap();
    let sound = place.put(None, "sound", Some(&image));
    assert_eq!(referrers(&place.names(), &image).await, sorted([&sound]));

    let path = place.layout.blob_path(&sound.digest);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let error = place.names().referrers(&image).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Io(_)), "{error:?}");
}
