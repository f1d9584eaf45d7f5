//! Images in a layout, sound and broken, with one job and with several.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use ociforge_layers::unpack::{UnpackError, XattrSpace};
use ociforge_manifests::{ConfigEdit, Digest, NewLayer, Platform, media_type};
use tokio::runtime::Runtime;

use super::error::LayerUnpackError;
use super::*;
use crate::store::{Layout, Store};

/// An image, and a store with its layers.
struct Scene {
    _directory: TempDir,
    store: Store,
    layout: Layout,
    image: Image,
}

impl Scene {
    fn new(layers: &[Vec<u8>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        let new = |layer: &Vec<u8>| {
            let diff_id = DiffId(layout.put(layer).unwrap());
            let descriptor = Descriptor::of(media_type::LAYER_TAR, layer);
            NewLayer { descriptor, diff_id, created_by: "test".into() }
        };
        let layers: Vec<_> = layers.iter().map(new).collect();
        let scratch = Image::scratch(&Platform::default()).unwrap();
        let image = scratch.append(&layers, &ConfigEdit::default(), "1970-01-01T00:00:00Z", &BTreeMap::new()).unwrap();
        Self { _directory: directory, store, layout, image }
    }

    fn roots(&self) -> Roots {
        self.store.roots("test", XattrSpace::User)
    }

    /// Works on a runtime of its own, which ends when its last thread has.
    fn unpack<T>(&self, jobs: usize, cancel: &Cancel, work: impl AsyncFnOnce(Unpacker<'_>) -> T) -> T {
        let unpacker =
            Unpacker { source: &self.layout, reporter: &(), jobs, owners: OwnerPolicy::KeptWherePossible, cancel };
        Runtime::new().unwrap().block_on(work(unpacker))
    }

    fn flat(&self, jobs: usize, cancel: &Cancel) -> (Arc<TempDir>, Result<Losses, RootfsError>) {
        let place = Arc::new(tempfile::tempdir().unwrap());
        let result = self.unpack(jobs, cancel, async |unpacker| unpacker.flat(&self.image, &place, "root").await);
        (place, result)
    }

    fn stack(&self, jobs: usize, cancel: &Cancel) -> Result<Vec<PathBuf>, RootfsError> {
        let stacked = self.unpack(jobs, cancel, async |unpacker| unpacker.stack(&self.image, &self.roots()).await);
        stacked.map(|(directories, _)| directories.into_iter().rev().collect())
    }

    /// Neither way succeeds with any number of jobs, and `expected` is the error. Of what is made on the way nothing is
    /// left but the root that is for the caller to remove, and the first `whole` layers of the stack.
    fn fails(&self, whole: usize, cancel: &Cancel, expected: impl Fn(&RootfsError) -> bool) {
        for jobs in [0, 1, 2, 3] {
            let (place, result) = self.flat(jobs, cancel);
            let error = result.unwrap_err();
            assert!(expected(&error), "{jobs} jobs: {error:?}");
            let mut left = names(place.path());
            left.retain(|name| name != "root");
            assert_eq!(left, [] as [String; 0], "{jobs} jobs");
            assert!(Arc::into_inner(place).is_some(), "somebody still holds the place");

            let error = self.stack(jobs, cancel).unwrap_err();
            assert!(expected(&error), "{jobs} jobs: {error:?}");
            let chain = ChainId::of(&self.image.config.rootfs.diff_ids);
            let mut kept: Vec<_> = chain[..whole].iter().map(|id| id.0.hex().to_owned()).collect();
            kept.sort();
            assert_eq!(names(self.roots().path(&chain[0]).parent().unwrap()), kept, "{jobs} jobs");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_mtime(77);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Three sound layers.
fn three() -> [Vec<u8>; 3] {
    ["a", "b", "c"].map(|name| tar(&[("d/same", name), (&format!("d/{name}"), name)]))
}

/// Everything below `root`, sorted: the path, the mode, when it was changed, and what is in it.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names(root) {
        let path = root.join(&name);
        let meta = fs::symlink_metadata(&path).unwrap();
        let text = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        lines.push(if meta.file_type().is_char_device() {
            format!("{name} whiteout")
        } else {
            format!("{name} {:o} {} {}", meta.mode(), meta.mtime(), Digest::of(&text).short())
        });
        if meta.is_dir() {
            lines.extend(listing(&path).iter().map(|line| format!("{name}/{line}")));
        }
    }
    lines
}

#[test]
fn a_broken_layer_leaves_nothing() {
    for broken in 0..3 {
        let mut layers = three();
        // It ends before the content of the second file, when the first is there.
        layers[broken].truncate(1024 + 512);
        let scene = Scene::new(&layers);
        let digest = Digest::of(&layers[broken]);
        scene.fails(broken, &Cancel::default(), |error| {
            matches!(error, RootfsError::Layer { layer, source: LayerUnpackError::Unpack(UnpackError::Tar(_)) } if *layer == digest)
        });
    }
}

#[test]
fn what_is_cancelled_leaves_nothing() {
    let cancel = Cancel::default();
    cancel.cancel();
    Scene::new(&three()).fails(0, &cancel, |error| {
        matches!(error, RootfsError::Layer { source: LayerUnpackError::Unpack(UnpackError::Cancelled), .. })
    });
}

#[test]
fn the_source_says_why_a_layer_can_not_be_had() {
    let layers = three();
    let cause = |error: &RootfsError| match error {
        RootfsError::Content(error) => error.cause.to_string(),
        RootfsError::Layer { source: LayerUnpackError::Unpack(UnpackError::Blob(mismatch)), .. } => {
            mismatch.to_string()
        }
        error => panic!("{error:?}"),
    };
    for (content, why) in [
        (None, "not found"),
        (Some(&layers[0]), "the digest of the uncompressed content is"),
        (Some(&layers[1][..1024].to_vec()), "the size is 1024 bytes"),
    ] {
        let scene = Scene::new(&layers);
        let blob = scene.layout.blob_path(&Digest::of(&layers[1]));
        fs::remove_file(&blob).unwrap();
        if let Some(content) = content {
            fs::write(&blob, content).unwrap();
        }
        scene.fails(1, &Cancel::default(), |error| cause(error).starts_with(why));
    }
}

#[test]
fn an_image_without_layers_is_empty() {
    let scene = Scene::new(&[]);
    let (place, result) = scene.flat(1, &Cancel::default());
    assert_eq!(result.unwrap(), Losses::default());
    assert_eq!((names(place.path()), names(&place.path().join("root"))), (vec!["root".into()], vec![]));
    assert_eq!(scene.stack(1, &Cancel::default()).unwrap(), [] as [PathBuf; 0]);
}

/// Whichever layer is finished first.
#[test]
fn the_number_of_jobs_changes_nothing() {
    let layers: Vec<_> = (0..12)
        .map(|n| {
            let text = "x".repeat(if n % 3 == 0 { 2_000_000 } else { 10 });
            let (own, gone) = (format!("d/{n}/own"), format!("d/.wh.{}", n * 7 % 11));
            tar(&[("same", &format!("{n}{text}")), (&own, "1"), (&gone, "")])
        })
        .collect();
    let mut first = None;
    for jobs in [0, 1, 2, 5, 20] {
        let scene = Scene::new(&layers);
        let (place, result) = scene.flat(jobs, &Cancel::default());
        result.unwrap();
        assert_eq!(names(place.path()), ["root"]);
        let stack = scene.stack(jobs, &Cancel::default()).unwrap();
        let stack: Vec<_> = stack.iter().map(|directory| listing(directory)).collect();
        let made = (listing(&place.path().join("root")), stack);
        assert_eq!(first.get_or_insert_with(|| made.clone()), &made, "{jobs} jobs");
    }
    let (flat, stack) = first.unwrap();
    assert!(flat.len() > 10 && stack.len() == 12 && stack[8].iter().any(|line| line.ends_with("whiteout")));
}

#[test]
fn layers_that_are_there_are_not_unpacked_again() {
    let layers = three();
    let scene = Scene::new(&layers);
    let directories = scene.stack(2, &Cancel::default()).unwrap();
    let before = listing(&directories[1]);
    fs::remove_dir_all(&directories[1]).unwrap();
    for other in [&layers[0], &layers[2]] {
        fs::remove_file(scene.layout.blob_path(&Digest::of(other))).unwrap();
    }
    assert_eq!(scene.stack(2, &Cancel::default()).unwrap(), directories);
    assert_eq!(listing(&directories[1]), before);
}

#[test]
fn layers_below_an_opaque_root_are_not_stacked() {
    let layers = [tar(&[("a", "1")]), tar(&[("b", "2"), (".wh..wh..opq", "")]), tar(&[("c", "3")])];
    let scene = Scene::new(&layers);
    // Unpacked just now, and found unpacked.
    for _ in 0..2 {
        let stack = scene.stack(1, &Cancel::default()).unwrap();
        assert_eq!(stack.iter().map(|directory| names(directory)).collect::<Vec<_>>(), [["b"], ["c"]]);
    }
    let (place, result) = scene.flat(1, &Cancel::default());
    result.unwrap();
    assert_eq!(names(&place.path().join("root")), ["b", "c"]);
}
