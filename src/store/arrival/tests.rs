use std::fs::OpenOptions;

use ociforge_manifests::Digest;

use super::*;
use crate::error::Explain;
use crate::store::testing::{Count, End, Script, noise};

fn arrival(begin: &[u8], there: &[u8]) -> (Arc<File>, Arrival<()>) {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, &[begin, there].concat()).unwrap();
    let file = Arc::new(file);
    (Arc::clone(&file), Arrival { file, begin: begin.len() as u64, held: () })
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

async fn receive(arrival: Arrival<()>, blob: &[u8], source: &Script, count: &Count) -> Result<(), ContentError> {
    arrival.receive(&Descriptor::of("", blob), source, count, "write it").await.map(|_| ())
}

#[tokio::test]
async fn pieces_of_any_size_arrive_in_order() {
    let blob = noise(3 * BATCH + 77);
    for piece in [1, 300, BATCH - 1, BATCH, 2 * BATCH] {
        let blob = if piece == 1 { &blob[..5000] } else { &blob };
        let (file, arrival) = arrival(b"before", b"");
        let (source, count) = (Script { piece, ..Script::new(blob, &[]) }, Count::default());
        receive(arrival, blob, &source, &count).await.unwrap();
        assert!(content(&file) == [b"before", blob].concat(), "{piece}");
        assert_eq!(count.get(), blob.len() as u64);
    }
}

#[tokio::test]
async fn what_came_before_the_line_broke_stays_and_is_gone_on_with() {
    let blob = noise(700_000);
    let (source, count) = (Script::new(&blob, &[End::Breaks(500_123)]), Count::default());
    let (file, first) = arrival(b"before", b"");
    let again = Arrival { file: Arc::clone(&file), begin: 6, held: () };
    let error = receive(first, &blob, &source, &Count::default()).await;
    assert_eq!(error.unwrap_err().cause.to_string(), "the line is dead");
    assert!(content(&file)[6..] == blob[..500_123]);
    receive(again, &blob, &source, &count).await.unwrap();
    assert!(content(&file)[6..] == blob);
    assert_eq!((source.offsets(), count.get()), (vec![0, 500_123], 700_000));
}

#[tokio::test]
async fn a_bad_old_part_is_read_anew_once() {
    let blob = noise(5000);
    for old in [&noise(3000)[1..], &[0; 4999], &[0; 5000], &[0; 9000]] {
        let (file, first) = arrival(b"before", old);
        let (source, count) = (Script::new(&blob, &[]), Count::default());
        receive(first, &blob, &source, &count).await.unwrap();
        assert!(content(&file)[6..] == blob);
        assert_eq!(source.offsets().last(), Some(&0));
        assert_eq!(count.get(), 5000);
    }
    let (file, first) = arrival(b"before", &[0; 10]);
    let wrong = Script::new(&noise(5001)[1..], &[]);
    let error = receive(first, &blob, &wrong, &Count::default()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongDigest { .. }));
    assert_eq!(error.operation, format!("read {} from the source", Digest::of(&blob)));
    assert_eq!((content(&file), wrong.offsets()), (b"before".to_vec(), vec![10, 0]));
}

#[tokio::test]
async fn a_whole_part_needs_no_source() {
    let blob = noise(5000);
    let (_, there) = arrival(b"", &blob);
    let source = Script::new(b"", &[]);
    receive(there, &blob, &source, &Count::default()).await.unwrap();
    let (_, empty) = arrival(b"", b"");
    receive(empty, b"", &source, &Count::default()).await.unwrap();
    assert_eq!(source.offsets(), [] as [u64; 0]);
}

#[tokio::test]
async fn too_many_bytes_leave_nothing_and_too_few_stay() {
    let blob = noise(5000);
    let (file, first) = arrival(b"", b"");
    let error = receive(first, &blob, &Script::new(&noise(5001), &[]), &Count::default()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongSize { expected: 5000, actual: 5001 }), "{error:?}");
    assert_eq!(content(&file).len(), 0);
    let (file, first) = arrival(b"", b"");
    let error = receive(first, &blob, &Script::new(&blob[..4000], &[]), &Count::default()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongSize { expected: 5000, actual: 4000 }), "{error:?}");
    assert_eq!(error.operation, format!("read {} from the source", Digest::of(&blob)));
    assert_eq!(content(&file).len(), 4000);
}

#[tokio::test]
async fn a_full_disk_is_told_with_a_hint() {
    let file = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let full = Arrival { file: Arc::new(file), begin: 0, held: () };
    // More than may wait for the writer.
    let blob = noise(20 * BATCH);
    let error = receive(full, &blob, &Script::new(&blob, &[]), &Count::default()).await.unwrap_err();
    assert!(matches!(&error.cause, Cause::Io(error) if error.kind() == io::ErrorKind::StorageFull), "{error:?}");
    assert!(error.hint().unwrap().contains("space"));
}
