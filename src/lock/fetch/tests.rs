use std::sync::Mutex;

use ociforge_manifests::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::error::Explain;

const FILE: &str = "a-1.0-py3-none-any.whl";

/// What the server does with one request.
#[derive(Clone)]
enum Answer {
    /// Sends the bytes as they are, and closes.
    Raw(Vec<u8>),
    /// Sends the file from where the range says; so many bytes of it at most, whatever the length says.
    File(Vec<u8>, usize),
}

fn status(line: &str) -> Answer {
    Answer::Raw(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

/// The whole file, whatever is asked for.
fn whole(body: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Answer::Raw([head.as_bytes(), body].concat())
}

/// A server that gives one answer after the other, the last one for ever. The requests' heads are kept.
struct Server {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}/x/{FILE}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if socket.read(&mut byte).await.unwrap_or(0) == 0 {
                        break;
                    }
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let bytes = respond(&answers[turn.min(answers.len() - 1)], &head);
                seen.lock().unwrap().push(head);
                let _ = socket.write_all(&bytes).await;
                let _ = socket.shutdown().await;
            }
        });
        Self { url, heads }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        let heads = self.heads.lock().unwrap();
        let range = |head: &String| head.lines().find_map(|line| line.strip_prefix("range: ")).map(str::to_owned);
        heads.iter().map(range).collect()
    }
}

fn respond(answer: &Answer, head: &str) -> Vec<u8> {
    match answer {
        Answer::Raw(bytes) => bytes.clone(),
        Answer::File(file, most) => {
            let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let start: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
            let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
            let (rest, end, size) = (file.len() - start, file.len() - 1, file.len());
            let mut bytes = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {rest}\r\nContent-Range: bytes {start}-{end}/{size}\r\n\r\n"
            )
            .into_bytes();
            bytes.extend(file[start..].iter().take(*most));
            bytes
        }
    }
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
        let mut fetcher =
            Fetcher::new(directory.path().join("wheels"), Credentials::find([], directory.path())).unwrap();
        fetcher.pause = Duration::from_millis(1);
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
    Location::of_url(&server.url).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_is_resumed() {
    let (body, setting) = (body(), Setting::new());
    let server = Server::new(vec![Answer::File(body.clone(), 150_000)]).await;
    let wheel = wheel(url(&server), &body);
    assert_eq!(setting.fetch(&wheel).await.unwrap(), body);
    let ranges = server.ranges();
    assert_eq!(ranges, [None, Some("bytes=150000-".into()), Some("bytes=300000-".into())]);
    assert!(server.heads.lock().unwrap()[0].contains("authorization: basic"));
    assert!(!setting.partial(&body).exists());
    // The second time nobody is asked.
    assert_eq!(setting.fetch(&wheel).await.unwrap(), body);
    assert_eq!(server.ranges().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_run_is_resumed() {
    let (body, setting) = (body(), Setting::new());
    setting.leave(&body, &body[..1000]);
    let server = Server::new(vec![Answer::File(body.clone(), usize::MAX)]).await;
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(server.ranges(), [Some("bytes=1000-".into())]);
    // All of it was there, but for the name.
    let setting = Setting::new();
    setting.leave(&body, &body);
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(server.ranges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_may_be_wrong() {
    let body = body();
    for left in [vec![7; 1000], vec![7; body.len()], vec![7; body.len() + 1]] {
        let setting = Setting::new();
        setting.leave(&body, &left);
        let server = Server::new(vec![Answer::File(body.clone(), usize::MAX)]).await;
        assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body, "{}", left.len());
        assert_eq!(server.ranges().last().unwrap(), &None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_ignored_refused_or_answered_with_others() {
    let body = body();
    let other = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/400000\r\nContent-Length: 5\r\n\r\nxxxxx";
    for first in [whole(&body), status("416 Range Not Satisfiable"), Answer::Raw(other.to_vec())] {
        let setting = Setting::new();
        setting.leave(&body, &body[..1000]);
        let server = Server::new(vec![first, whole(&body)]).await;
        assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_faults_are_waited_for() {
    let (body, setting) = (body(), Setting::new());
    let busy = Answer::Raw(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_vec());
    let nothing = Answer::Raw(Vec::new());
    let answers = vec![busy, status("503 Service Unavailable"), nothing, whole(&body)];
    let server = Server::new(answers).await;
    assert_eq!(setting.fetch(&wheel(url(&server), &body)).await.unwrap(), body);
    assert_eq!(server.ranges().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_faults_end_it() {
    let body = body();
    let closed = Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\nshort".to_vec());
    for (answer, requests, expected) in [
        (status("404 Not Found"), 1, "the server answered 404 Not Found"),
        (status("503 Service Unavailable"), 5, "the server answered 503"),
        (Answer::Raw(Vec::new()), 5, "no answer from the server"),
        (closed, 6, "it has 5 bytes, and the lock says 400000"),
    ] {
        let setting = Setting::new();
        let server = Server::new(vec![answer]).await;
        let error = setting.fetch(&wheel(url(&server), &body)).await.unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.starts_with(expected), "{cause}");
        assert!(server.ranges().len() <= requests, "{expected}: {}", server.ranges().len());
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
    for (sent, expected) in [(changed, "its SHA-256 is"), (longer, "it has at least 400001 bytes")] {
        let setting = Setting::new();
        let server = Server::new(vec![whole(&sent)]).await;
        let cause = setting.fetch(&wheel(url(&server), &body)).await.unwrap_err().source().unwrap().to_string();
        assert!(cause.starts_with(expected), "{cause}");
        assert!(!setting.partial(&body).exists());
        assert_eq!(server.ranges().len(), 1);
    }
    // A length that the lock does not know is the server's affair; the hash is not.
    let (setting, server) = (Setting::new(), Server::new(vec![whole(&body)]).await);
    let wheel = LockedWheel { size: None, ..wheel(url(&server), &body) };
    assert_eq!(setting.fetch(&wheel).await.unwrap(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_without_credentials() {
    let (body, setting) = (body(), Setting::new());
    let there = Server::new(vec![whole(&body)]).await;
    let to = there.url.replace("user:secret@", "");
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let here = Server::new(vec![Answer::Raw(moved.into_bytes())]).await;
    assert_eq!(setting.fetch(&wheel(url(&here), &body)).await.unwrap(), body);
    assert!(!there.heads.lock().unwrap()[0].contains("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wheel_that_is_refused_does_not_enter() {
    let (body, setting) = (body(), Setting::new());
    let server = Server::new(vec![whole(&body)]).await;
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
    let server = Server::new(vec![Answer::File(body.clone(), usize::MAX)]).await;
    let wheels = vec![wheel(url(&server), &body); 8];
    let check: Check = Arc::new(|_, _| Ok(()));
    let fetched = setting.fetcher.fetch(&wheels, setting.directory.path(), &check, &());
    let (first, second) = tokio::join!(fetched, setting.fetch(&wheels[0]));
    assert_eq!((first.unwrap().len(), second.unwrap()), (8, body));
    assert_eq!(server.ranges().len(), 1);
}
