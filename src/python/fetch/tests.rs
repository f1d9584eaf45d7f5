use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ociforge_manifests::Digest;

use super::*;
use crate::error::Explain;
use crate::http::testing::{Reply, Seen, Server, truncated};

const FILE: &str = "a-1.0-py3-none-any.whl";

/// What the server does with one request.
#[derive(Clone)]
enum Answer {
    /// The same for all.
    Fixed(Reply),
    /// Sends the file from where the range says; so many bytes of it at most, whatever the length says.
    File(Vec<u8>, usize),
}

fn status(status: u16) -> Answer {
    Answer::Fixed(Reply::new(status))
}

/// The whole file, whatever is asked for.
fn whole(body: &[u8]) -> Answer {
    Answer::Fixed(Reply::new(200).body(body))
}

/// A server that gives one answer after the other, the last one for ever.
async fn serve(answers: Vec<Answer>) -> Server {
    let turn = AtomicUsize::new(0);
    let handler = move |seen: &Seen| match &answers[turn.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)] {
        Answer::Fixed(reply) => reply.clone(),
        Answer::File(file, most) => truncated(seen, file, *most),
    };
    Server::start(handler).await
}

/// The ranges that were asked for, one for each request.
fn ranges(server: &Server) -> Vec<Option<String>> {
    server.seen().iter().map(|seen| seen.headers.get("range").cloned()).collect()
}

fn body() -> Vec<u8> {
    (0..100_000_u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn wheel(location: Location, body: &[u8]) -> LockedWheel {
    LockedWheel {
        name: "a".into(),
        version: "1.0".into(),
        file: FILE.into(),
        location,
        size: Some(body.len() as u64),
        sha256: Digest::of(body),
        requested: true,
    }
}

struct Setting {
    directory: tempfile::TempDir,
    fetcher: Fetcher,
}

impl Setting {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hashes = Store::open(&directory.path().join("store")).unwrap().file_hashes();
        let mut fetcher =
            Fetcher::new(directory.path().join("wheels"), hashes, IndexCredentials::find([], directory.path()))
                .unwrap();
        fetcher.retry = RetryPolicy { tries: 5, first_pause: Duration::from_millis(1), ..RetryPolicy::default() };
        Self { directory, fetcher }
    }

    async fn fetch(&self, wheel: &LockedWheel) -> Result<Vec<u8>, FetchError> {
        self.fetch_checked(wheel, Arc::new(|_, _| Ok(()))).await
    }

    async fn fetch_checked(&self, wheel: &LockedWheel, check: Check) -> Result<Vec<u8>, FetchError> {
        let paths = self.fetcher.fetch(std::slice::from_ref(wheel), self.directory.path(), &check, &()).await?;
        assert_eq!(paths[0].file_name().unwrap(), FILE);
        Ok(fs::read(&paths[0]).unwrap())
    }

    fn partial(&self, body: &[u8]) -> PathBuf {
        self.directory.path().join("wheels").join(Digest::of(body).hex()).join(format!("{FILE}.partial"))
    }

    fn leave(&self, body: &[u8], partial: &[u8]) {
        let path = self.partial(body);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, partial).unwrap();
    }
}

fn url(server: &Server) -> Location {
    Location::of_url(&format!("http://user:secret@{}/x/{FILE}", server.address)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_is_resumed() {
    let (body, setting) = (body(), Setting::new());
    let server = serve(vec![Answer::File(body.clone(), 150_000)]).await;
    let wheel = wheel(url(&server), &body);
    assert_eq!(setting.fetch(&wheel).await.unwrap(), body);
    assert_eq!(ranges(&server), [None, Some("bytes=150000-".into()), Some("bytes=300000-".into())]);
    assert_eq!(server.seen()[0].header("authorization"), "Basic dXNlcjpzZWNyZXQ=");
    assert!(!setting.partial(&body).exists());
    // The second time nobody is asked.
    assert_eq!(setting.fetch(&wheel).await.unwrap(), body);
    assert_eq!(ranges(&server).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_run_is_resumed() {
    let (body, setting) = (body(), Setting::new());
    setting.leave(&body, &body[..1000]);
    let server = serve(vec![Answer::File(body.clone(), usize::MAX)]).await;
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(ranges(&server), [Some("bytes=1000-".into())]);
    // All of it was there, but for the name.
    let setting = Setting::new();
    setting.leave(&body, &body);
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(ranges(&server).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_may_be_wrong() {
    let body = body();
    for left in [vec![7; 1000], vec![7; body.len()], vec![7; body.len() + 1]] {
        let setting = Setting::new();
        setting.leave(&body, &left);
        let server = serve(vec![Answer::File(body.clone(), usize::MAX)]).await;
        assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body, "{}", left.len());
        assert_eq!(ranges(&server).last().unwrap(), &None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_ignored_refused_or_answered_with_others() {
    let body = body();
    let other = Reply::new(206).with("content-range", "bytes 5-9/400000").body("xxxxx");
    for first in [whole(&body), status(416), Answer::Fixed(other)] {
        let setting = Setting::new();
        setting.leave(&body, &body[..1000]);
        let server = serve(vec![first, whole(&body)]).await;
        assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_faults_are_waited_for() {
    let (body, setting) = (body(), Setting::new());
    let busy = Answer::Fixed(Reply::new(429).with("Retry-After", "0"));
    let answers = vec![busy, status(503), Answer::Fixed(Reply::hang_up()), whole(&body)];
    let server = serve(answers).await;
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(ranges(&server).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    for refusal in [429, 503] {
        let (body, setting) = (body(), Setting::new());
        let busy = Answer::Fixed(Reply::new(refusal).with("Retry-After", "1"));
        let server = serve(vec![busy, whole(&body)]).await;
        let begun = Instant::now();
        assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{refusal}: {:?}", begun.elapsed());
        assert_eq!(ranges(&server).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_an_hour_is_not_asked_again() {
    let (body, setting) = (body(), Setting::new());
    setting.leave(&body, &body[..1000]);
    let server = serve(vec![Answer::Fixed(Reply::new(503).with("Retry-After", "3600"))]).await;
    let error = setting.fetch(&wheel(url(&server), &body)).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "the server answered 503 Service Unavailable");
    assert_eq!(error.hint().unwrap(), "the server asks to wait 60 minutes; the next run resumes the download");
    assert_eq!(ranges(&server), [Some("bytes=1000-".into())]);
    assert_eq!(fs::read(setting.partial(&body)).unwrap(), body[..1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_had_enough_is_left_alone_by_all_downloads() {
    let (first, second, setting) = (body(), vec![1; 1000], Setting::new());
    let busy = Answer::Fixed(Reply::new(429).with("Retry-After", "1"));
    let server = serve(vec![busy, whole(&first)]).await;
    let (one, two) = (wheel(url(&server), &first), wheel(url(&server), &second));
    let begun = Instant::now();
    let later = async {
        let is_paused = || setting.fetcher.hosts.lock().unwrap().values().any(|host| host.is_paused());
        while !is_paused() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The server has no other file.
        setting.fetch(&two).await.unwrap_err();
        begun.elapsed()
    };
    let (fetched, waited) = tokio::join!(setting.fetch(&one), later);
    assert_eq!(fetched.unwrap(), first);
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_faults_end_it() {
    let body = body();
    let closed = Answer::Fixed(Reply::new(200).body("short").without_length());
    for (answer, requests, expected) in [
        (status(404), 1, "the server answered 404 Not Found"),
        (status(503), 5, "the server answered 503"),
        (Answer::Fixed(Reply::hang_up()), 5, "the server does not answer"),
        (closed, 6, "its size is 5 bytes, not 400000 as in the lock"),
    ] {
        let setting = Setting::new();
        let server = serve(vec![answer]).await;
        let error = setting.fetch(&wheel(url(&server), &body)).await.unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.starts_with(expected), "{cause}");
        assert!(ranges(&server).len() <= requests, "{expected}: {}", ranges(&server).len());
        assert_eq!(error.to_string(), format!("cannot fetch a 1.0 ({FILE})"));
        assert!(error.hint().is_some() && !format!("{error:?}{cause}").contains("secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_leaves_nothing() {
    let body = body();
    let mut changed = body.clone();
    changed[77] ^= 1;
    let longer = [&body[..], b"!"].concat();
    for (sent, expected) in [(changed, "its SHA-256 is"), (longer, "its size is at least 400001 bytes")] {
        let setting = Setting::new();
        let server = serve(vec![whole(&sent)]).await;
        let cause = setting.fetch(&wheel(url(&server), &body)).await.unwrap_err().source().unwrap().to_string();
        assert!(cause.starts_with(expected), "{cause}");
        assert!(!setting.partial(&body).exists());
        assert_eq!(ranges(&server).len(), 1);
    }
    // A length that the lock does not know is the server's affair; the hash is not.
    let (setting, server) = (Setting::new(), serve(vec![whole(&body)]).await);
    let wheel = LockedWheel { size: None, ..wheel(url(&server), &body) };
    assert_eq!(setting.fetch(&wheel).await.unwrap(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_without_credentials() {
    let (body, setting) = (body(), Setting::new());
    let there = serve(vec![whole(&body)]).await;
    let to = format!("http://{}/x/{FILE}", there.address);
    let here = serve(vec![Answer::Fixed(Reply::new(302).with("Location", to))]).await;
    assert_eq!(setting.fetch(&wheel(url(&here), &body)).await.unwrap(), body);
    assert!(!there.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_on_the_same_server_keeps_the_credentials() {
    let (body, setting) = (body(), Setting::new());
    let server = serve(vec![Answer::Fixed(Reply::new(302).with("Location", "/y")), whole(&body)]).await;
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(server.lines(), [format!("GET /x/{FILE}"), "GET /y".into()]);
    assert!(server.seen().iter().all(|seen| seen.header("authorization") == "Basic dXNlcjpzZWNyZXQ="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wheel_that_is_refused_does_not_enter() {
    let (body, setting) = (body(), Setting::new());
    let server = serve(vec![whole(&body)]).await;
    let wheel = wheel(url(&server), &body);
    let error = setting.fetch_checked(&wheel, Arc::new(|_, _| Err("no RECORD".into()))).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "no RECORD");
    assert!(!setting.partial(&body).exists() && !setting.partial(&body).with_file_name(FILE).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_here_are_copied_and_verified() {
    let (body, setting) = (body(), Setting::new());
    fs::write(setting.directory.path().join("local.whl"), &body).unwrap();
    let good = wheel(Location::Path("local.whl".into()), &body);
    assert_eq!(setting.fetch(&good).await.unwrap(), body);
    let other = wheel(Location::Path("local.whl".into()), &body[..body.len() - 1]);
    assert!(matches!(setting.fetch(&other).await, Err(FetchError::Wheel { cause: FetchCause::WrongSize { .. }, .. })));
    assert!(!setting.partial(&body[..body.len() - 1]).exists());
    let missing = wheel(Location::Path("missing.whl".into()), b"");
    assert!(setting.fetch(&missing).await.unwrap_err().source().unwrap().to_string().ends_with("missing.whl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_download_serves_all_who_wait_for_it() {
    let (body, setting) = (body(), Setting::new());
    let server = serve(vec![Answer::File(body.clone(), usize::MAX)]).await;
    let wheels = vec![wheel(url(&server), &body); 8];
    let check: Check = Arc::new(|_, _| Ok(()));
    let fetched = setting.fetcher.fetch(&wheels, setting.directory.path(), &check, &());
    let (first, second) = tokio::join!(fetched, setting.fetch(&wheels[0]));
    assert_eq!((first.unwrap().len(), second.unwrap()), (8, body));
    assert_eq!(ranges(&server).len(), 1);
}
