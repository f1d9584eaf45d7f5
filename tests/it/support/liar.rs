//! A server whose answers a test makes: a registry, for pulls only, that can be made to answer what no sound one does, or
//! something else.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::digest_of;

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// After how many bytes of the body the connection ends.
    pub(crate) cut: usize,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: usize::MAX }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A request's method and path with all that follows in its head.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
}

/// What it answers.
type Answering = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; it goes with the process.
pub(crate) struct Liar {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Liar {
    /// Answers with the blobs of the layout in `layout`, whose only image every tag names, as `alter` changes them.
    pub(crate) fn start(layout: &Path, alter: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static) -> Self {
        let layout = layout.to_owned();
        Self::answering(move |asked| alter(asked, truth(&layout, &asked.path)))
    }

    /// Answers as it is told.
    pub(crate) fn answering(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer: Arc<Answering> = Arc::new(answer);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
                std::thread::spawn(move || serve(stream, &*answer, &record));
            }
        });
        Self { address, asked }
    }

    /// What it was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request, then closes.
fn serve(stream: TcpStream, answer: &Answering, record: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|l| l.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned()))).collect();
    let asked = Asked { method, path, headers };
    record.lock().ok()?.push(asked.clone());
    let Answer { status, headers, body, cut } = answer(&asked);
    let mut stream = stream;
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if asked.method != "HEAD" {
        stream.write_all(&body[..cut.min(body.len())]).ok()?;
    }
    Some(())
}

fn truth(layout: &Path, path: &str) -> Answer {
    if path == "/v2/" {
        return Answer::status(200);
    }
    let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let top = &index["manifests"][0];
    let reference = path.rsplit('/').next().unwrap();
    let digest = if reference.starts_with("sha256:") { reference } else { top["digest"].as_str().unwrap() };
    let Ok(body) = fs::read(layout.join("blobs").join(digest.replace(':', "/"))) else { return Answer::status(404) };
    let kind =
        if path.contains("/manifests/") { top["mediaType"].as_str().unwrap() } else { "application/octet-stream" };
    let answer = Answer { body, ..Answer::status(200) }.header("Content-Type", kind);
    let digest = digest_of(&answer.body);
    answer.header("Docker-Content-Digest", digest)
}
