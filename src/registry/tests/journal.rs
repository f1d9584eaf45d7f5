//! Uploads that a later run goes on with.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use ociforge_manifests::Hasher;

use super::depot::{Depot, State, chunked};
use super::*;

/// A registry that takes two chunks and then nothing, until the flag is lowered.
async fn failing() -> (Depot, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&down);
    let fault = move |seen: &Seen, _: &mut State| {
        let fails = flag.load(Ordering::Relaxed) && !["POST", "GET"].contains(&seen.method.as_str());
        (fails && !seen.header("content-range").starts_with(['0', '3'])).then(|| Reply::new(503))
    };
    (Depot::new(fault).await, down)
}

fn journaled(directory: &Path) -> Settings {
    let mut settings = chunked(300_000);
    settings.retry.tries = 2;
    Settings { journal: Some(directory.to_owned()), ..settings }
}

/// Leaves an upload of which the registry has 600 kB, and its note in the directory.
async fn left(directory: &Path) -> Depot {
    let (depot, down) = failing().await;
    let error = depot.push_with(journaled(directory), &content(), &Memory::of(&content())).await.0.unwrap_err();
    assert_eq!(status(&error.cause), "503 Service Unavailable");
    down.store(false, Ordering::Relaxed);
    depot
}

fn notes(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What the second of two runs asked.
async fn second(depot: &Depot, directory: &Path) -> String {
    let before = depot.story();
    let (pushed, told) = depot.push_with(journaled(directory), &content(), &Memory::of(&content())).await;
    pushed.unwrap();
    assert_eq!(told, 800_000);
    assert_eq!(notes(directory), [] as [PathBuf; 0]);
    depot.story()[before.len()..].trim_start_matches(", ").to_owned()
}

const FROM_THE_START: &str = "POST, PATCH 0-300, PATCH 300-600, PATCH 600-800, PUT";

#[tokio::test]
async fn a_later_run_goes_on_where_the_first_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("state/uploads");
    let depot = left(&journal).await;
    let notes = notes(&journal);
    assert_eq!(notes.len(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&journal), mode(&notes[0])), (0o700, 0o600));
    assert_eq!(second(&depot, &journal).await, "GET, PATCH 600-800, PUT");
    assert!(depot.has(&content()));
}

#[tokio::test]
async fn all_may_have_been_sent_but_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let depot = left(directory.path()).await;
    depot.change(|state| state.upload().extend(&content()[600_000..]));
    assert_eq!(second(&depot, directory.path()).await, "GET, PUT");
    assert!(depot.has(&content()));
}

#[tokio::test]
async fn the_registry_may_have_more_or_less_than_was_noted() {
    for (there, expected) in [(450_000, "GET, PATCH 450-750, PATCH 750-800, PUT"), (700_000, "GET, PATCH 700-800, PUT")]
    {
        let directory = tempfile::tempdir().unwrap();
        let depot = left(directory.path()).await;
        depot.change(|state| *state.upload() = content()[..there].to_vec());
        assert_eq!(second(&depot, directory.path()).await, expected);
        assert!(depot.has(&content()));
    }
}

#[tokio::test]
async fn notes_that_are_of_no_use_are_dropped() {
    type Spoil = fn(&mut serde_json::Value);
    let spoils: [Spoil; 8] = [
        |note| *note = json!(null),
        |note| note["registry"] = json!("r.example"),
        |note| note["repository"] = json!("a/c"),
        |note| note["digest"] = json!(Digest::of(b"").as_str()),
        |note| note["size"] = json!(700_000),
        |note| note["offset"] = json!(800_001),
        |note| note["hash"] = json!("00"),
        |note| note["url"] = json!("up"),
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let depot = left(directory.path()).await;
        depot.change(|state| state.uploads.clear());
        let note = &notes(directory.path())[0];
        let mut json = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
        spoil(&mut json);
        fs::write(note, json.to_string()).unwrap();
        assert_eq!(second(&depot, directory.path()).await, FROM_THE_START, "{index}");
        assert!(depot.has(&content()));
    }
    // The registry has forgotten it, or says what cannot be.
    let directory = tempfile::tempdir().unwrap();
    let depot = left(directory.path()).await;
    depot.change(|state| state.uploads.clear());
    assert_eq!(second(&depot, directory.path()).await, format!("GET, {FROM_THE_START}"));
    let depot = left(directory.path()).await;
    depot.change(|state| state.upload().extend([0; 300_000]));
    assert_eq!(second(&depot, directory.path()).await, format!("GET, {FROM_THE_START}"));
}

#[tokio::test]
async fn wrong_bytes_of_an_earlier_run_are_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let depot = left(directory.path()).await;
    let note = &notes(directory.path())[0];
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
    let mut hasher = Hasher::default();
    hasher.update(&[0; 600_000]);
    json["hash"] = json!(hex::encode(hasher.state()));
    fs::write(note, json.to_string()).unwrap();
    assert_eq!(second(&depot, directory.path()).await, format!("GET, DELETE, {FROM_THE_START}"));
    assert!(depot.has(&content()));
    // Where it is the source that is wrong, nothing is kept.
    let depot = left(directory.path()).await;
    let mut wrong = content();
    wrong[700_000] ^= 1;
    let mut source = Memory::default();
    source.blobs.insert(Digest::of(&content()), wrong);
    let pushed = depot.push_with(journaled(directory.path()), &content(), &source).await.0;
    assert!(matches!(pushed.unwrap_err().cause, Cause::WrongDigest { .. }));
    assert_eq!(notes(directory.path()), [] as [PathBuf; 0]);
    assert!(depot.change(|state| state.uploads.is_empty()));
}

/// Gives 700 kB and then waits for ever.
struct Stuck(Memory);

#[async_trait]
impl Source for Stuck {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let some = self.0.fetch(descriptor, offset).await?.take((700_000 - offset as usize) / (16 << 10));
        Ok(some.chain(stream::pending()).boxed())
    }
}

#[tokio::test]
async fn two_runs_at_once_have_an_upload_each() {
    let directory = tempfile::tempdir().unwrap();
    let depot = Depot::new(|_: &Seen, _: &mut State| None).await;
    let (content, stuck) = (content(), Stuck(Memory::of(&content())));
    let second = async {
        while depot.server.lines().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        depot.push_with(journaled(directory.path()), &content, &Memory::of(&content)).await.0.unwrap();
    };
    tokio::select! {
        _ = depot.push_with(journaled(directory.path()), &content, &stuck) => panic!("it can't end"),
        () = second => {}
    }
    assert_eq!(depot.change(|state| (state.blobs.len(), state.uploads.len())), (1, 1));
    assert_eq!(depot.story().matches("POST").count(), 2);
    // The note is that of the first.
    assert_eq!(notes(directory.path()).len(), 1);
    depot.change(|state| state.blobs.clear());
    let (pushed, _) = depot.push_with(journaled(directory.path()), &content, &Memory::of(&content)).await;
    pushed.unwrap();
    assert!(depot.story().ends_with(", GET, PATCH 600-800, PUT"), "{}", depot.story());
    assert!(depot.has(&content));
}

#[tokio::test]
async fn old_notes_are_swept_away() {
    let directory = tempfile::tempdir().unwrap();
    let past = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    for (name, old) in [("a.upload", true), ("b.upload", false), (".tmp-c", true), ("other", true)] {
        let file = fs::File::create(directory.path().join(name)).unwrap();
        if old {
            file.set_modified(past).unwrap();
        }
    }
    let depot = Depot::new(|_: &Seen, _: &mut State| None).await;
    let short = b"no longer than a chunk";
    depot.push_with(journaled(directory.path()), short, &Memory::of(short)).await.0.unwrap();
    assert_eq!(notes(directory.path()).len(), 4);
    depot.push_with(journaled(directory.path()), &content(), &Memory::of(&content())).await.0.unwrap();
    let mut left = notes(directory.path());
    left.sort();
    assert_eq!(left, ["b.upload", "other"].map(|name| directory.path().join(name)));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_costs_nothing() {
    let depot = Depot::new(|_: &Seen, _: &mut State| None).await;
    let settings = journaled(Path::new("/proc/none/uploads"));
    depot.push_with(settings, &content(), &Memory::of(&content())).await.0.unwrap();
    assert!(depot.has(&content()));
}
