use super::*;
use crate::content::read_document;
use crate::store::testing::{End, Script, noise};
use crate::store::{Archive, layout::REF_NAME};

/// Blobs of sizes around those of blocks, and the manifest.
fn blobs() -> Vec<Vec<u8>> {
    [0, 1, 511, 512, 513, 3000].into_iter().map(noise).chain([br#"{"schemaVersion":2}"#.to_vec()]).collect()
}

fn descriptor(blob: &[u8]) -> Descriptor {
    Descriptor::of(media_type::MANIFEST, blob)
}

/// Does what a copy does: puts what is not there, one blob after the other, and tags the last one.
async fn copy(writer: &ArchiveWriter) -> Result<(), ContentError> {
    let blobs = blobs();
    let (manifest, layers) = blobs.split_last().unwrap();
    for blob in layers {
        if !writer.contains(&descriptor(blob)).await? {
            writer.push(&descriptor(blob), &Script::new(blob, &[]), &()).await?;
        }
    }
    writer.keep(&descriptor(b"referrer"), b"referrer").await?;
    writer.tag(&descriptor(manifest), manifest, "example.com/a/b:1").await
}

async fn write(path: &Path) {
    let writer = ArchiveWriter::create(path).await.unwrap();
    copy(&writer).await.unwrap();
    writer.finish().await.unwrap();
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("tar.partial")
}

#[tokio::test]
async fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    write(&path).await;
    let archive = Archive::open(&path).unwrap();
    for blob in blobs() {
        assert_eq!(read_document(&archive, &descriptor(&blob)).await.unwrap(), blob);
    }
    let image = archive.find(Some("example.com/a/b:1")).unwrap();
    assert_eq!(image.digest, descriptor(blobs().last().unwrap()).digest);
    let names: Vec<_> = archive.index().manifests.iter().map(|entry| entry.annotations.get(REF_NAME)).collect();
    assert_eq!(names, [None, Some(&"example.com/a/b:1".to_owned())]);
    assert!(!partial(&path).exists());
}

#[tokio::test]
async fn wherever_it_was_cut_off_the_same_bytes_come_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole.tar", "cut.tar"].map(|name| directory.path().join(name));
    write(&whole).await;
    let whole = fs::read(whole).unwrap();
    for length in (0..whole.len()).step_by(97).chain([512, 1024, 1536, whole.len()]) {
        fs::write(partial(&cut), &whole[..length]).unwrap();
        write(&cut).await;
        assert!(fs::read(&cut).unwrap() == whole, "{length}");
    }
}

#[tokio::test]
async fn what_a_crash_of_the_machine_spoilt_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let [whole, spoilt] = ["whole.tar", "spoilt.tar"].map(|name| directory.path().join(name));
    write(&whole).await;
    let whole = fs::read(whole).unwrap();
    for from in (1024..whole.len()).step_by(131) {
        for length in [whole.len(), whole.len() - 3000] {
            let mut bytes = whole[..length].to_vec();
            let end = length.min(from + 512);
            bytes[from.min(end)..end].fill(0);
            fs::write(partial(&spoilt), &bytes).unwrap();
            write(&spoilt).await;
            assert!(fs::read(&spoilt).unwrap() == whole, "{from} {length}");
        }
    }
}

#[tokio::test]
async fn a_blob_in_hand_is_gone_on_with_and_makes_room_for_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    let (blob, other) = (noise(700_000), noise(2000));
    let source = Script::new(&blob, &[End::Breaks(200_000), End::Hangs(600_000), End::Breaks(650_000)]);
    let writer = ArchiveWriter::create(&path).await.unwrap();
    assert!(writer.push(&descriptor(&blob), &source, &()).await.is_err());
    drop(writer);
    let writer = ArchiveWriter::create(&path).await.unwrap();
    source.push_until_it_hangs(&writer, &descriptor(&blob)).await;
    assert!(writer.push(&descriptor(&blob), &source, &()).await.is_err());
    let offsets = source.offsets();
    assert_eq!(offsets[..2], [0, 200_000]);
    assert!(offsets[2] > 200_000, "{offsets:?}");

    writer.push(&descriptor(&other), &Script::new(&other, &[]), &()).await.unwrap();
    writer.push(&descriptor(&blob), &source, &()).await.unwrap();
    assert_eq!(source.offsets().last(), Some(&0));
    assert_eq!(read_document(&writer, &descriptor(&blob)).await.unwrap(), blob);
    writer.finish().await.unwrap();
    let archive = Archive::open(&path).unwrap();
    for blob in [blob, other] {
        assert_eq!(read_document(&archive, &descriptor(&blob)).await.unwrap(), blob);
    }
}

#[tokio::test]
async fn blobs_are_in_the_order_in_which_they_were_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let [one, many] = ["1.tar", "2.tar"].map(|name| directory.path().join(name));
    write(&one).await;
    let writer = ArchiveWriter::create(&many).await.unwrap();
    let layers = blobs();
    let sources: Vec<_> = layers[..6].iter().map(|blob| Script::new(blob, &[])).collect();
    let descriptors: Vec<_> = layers[..6].iter().map(|blob| descriptor(blob)).collect();
    let twice = descriptors.iter().zip(&sources).chain(descriptors.iter().zip(&sources));
    let pushes = twice.map(|(blob, source)| writer.push(blob, source, &()));
    assert!(futures_util::future::join_all(pushes).await.iter().all(Result::is_ok));
    copy(&writer).await.unwrap();
    writer.finish().await.unwrap();
    assert!(fs::read(one).unwrap() == fs::read(many).unwrap());
}

#[tokio::test]
async fn a_delta_has_no_blob_that_is_elsewhere_but_the_documents_of_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let [base, delta] = ["base.tar", "delta.tar"].map(|name| directory.path().join(name));
    write(&base).await;
    let base = Archive::open(base).unwrap();
    let writer = ArchiveWriter::create(&delta).await.unwrap().since(move |digest| base.blob_size(digest).is_some());
    let new = noise(4000);
    writer.push(&descriptor(&new), &Script::new(&new, &[]), &()).await.unwrap();
    copy(&writer).await.unwrap();
    writer.finish().await.unwrap();
    let delta = Archive::open(delta).unwrap();
    let there: Vec<_> = blobs().iter().chain([&new]).map(|blob| delta.blob_size(&Digest::of(blob)).is_some()).collect();
    assert_eq!(there, [false, false, false, false, false, false, true, true]);
}

#[tokio::test]
async fn what_a_killed_copy_of_something_else_left_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let [whole, after] = ["whole.tar", "after.tar"].map(|name| directory.path().join(name));
    write(&whole).await;
    // Between what both have there is what only one has, and a part of more.
    let (private, more) = (noise(5000), noise(900_000));
    let writer = ArchiveWriter::create(&after).await.unwrap();
    for blob in [&blobs()[0], &blobs()[1], &private, &blobs()[2]] {
        writer.push(&descriptor(blob), &Script::new(blob, &[]), &()).await.unwrap();
    }
    let cut = Script::new(&more, &[End::Breaks(600_000)]);
    assert!(writer.push(&descriptor(&more), &cut, &()).await.is_err());
    drop(writer);
    // Somebody else's file is not written over, but what a killed process left is.
    let anew = directory.path().join("after.tar.partial.new");
    fs::write(&anew, "precious").unwrap();
    let writer = ArchiveWriter::create(&after).await.unwrap();
    copy(&writer).await.unwrap();
    assert!(writer.finish().await.is_err());
    assert_eq!(fs::read(&anew).unwrap(), b"precious");
    fs::write(&anew, &fs::read(partial(&after)).unwrap()[..3000]).unwrap();
    write(&after).await;
    assert_eq!(Archive::open(&after).unwrap().blob_size(&Digest::of(&private)), None);
    assert!(fs::read(&after).unwrap() == fs::read(&whole).unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn what_is_not_its_own_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    fs::write(partial(&path), "precious").unwrap();
    assert!(ArchiveWriter::create(&path).await.is_err());
    assert_eq!(fs::read(partial(&path)).unwrap(), b"precious");
    assert!(ArchiveWriter::create(directory.path()).await.is_err());

    let path = directory.path().join("b.tar");
    let first = ArchiveWriter::create(&path).await.unwrap();
    let second = ArchiveWriter::create(&path).await.err().unwrap();
    assert!(second.cause.to_string().contains("another process"), "{second:?}");
    copy(&first).await.unwrap();
    first.finish().await.unwrap();
    assert!(Archive::open(&path).is_ok());
}

#[tokio::test]
async fn an_old_file_stays_until_the_new_one_is_whole_and_a_link_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let [file, link] = ["file.tar", "link.tar"].map(|name| directory.path().join(name));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let writer = ArchiveWriter::create(&link).await.unwrap();
    copy(&writer).await.unwrap();
    drop(writer);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_eq!(ArchiveWriter::partial_path(&link), partial(&file.canonicalize().unwrap()));
    assert!(ArchiveWriter::partial_path(&link).is_file());
    write(&link).await;
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(Archive::open(&file).is_ok());
}

#[tokio::test]
async fn wrong_content_and_a_wrong_size_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    let writer = ArchiveWriter::create(&path).await.unwrap();
    let blob = noise(3000);
    assert!(writer.push(&descriptor(&blob), &Script::new(&noise(3001)[1..], &[]), &()).await.is_err());
    writer.push(&descriptor(&blob), &Script::new(&blob, &[]), &()).await.unwrap();
    let longer = Descriptor { size: 3001, ..descriptor(&blob) };
    assert!(matches!(writer.contains(&longer).await.unwrap_err().cause, Cause::WrongSize { .. }));
    writer.finish().await.unwrap();
    assert_eq!(read_document(&Archive::open(&path).unwrap(), &descriptor(&blob)).await.unwrap(), blob);
}

#[tokio::test]
async fn a_sha512_blob_is_gone_on_with_too() {
    use sha2::Digest as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    let blob = noise(5000);
    let blob_descriptor = Descriptor::new("", Digest::from_sha512(&sha2::Sha512::digest(&blob).into()), 5000);
    let source = Script::new(&blob, &[End::Breaks(3000)]);
    for whole in [false, true] {
        let writer = ArchiveWriter::create(&path).await.unwrap();
        assert_eq!(writer.push(&blob_descriptor, &source, &()).await.is_ok(), whole);
    }
    assert_eq!(source.offsets(), [0, 3000]);
    let writer = ArchiveWriter::create(&path).await.unwrap();
    assert!(writer.contains(&blob_descriptor).await.unwrap());
    writer.finish().await.unwrap();
    assert_eq!(read_document(&Archive::open(&path).unwrap(), &blob_descriptor).await.unwrap(), blob);
}
