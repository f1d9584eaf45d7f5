//! A server for tests that misbehaves in ways that no real registry does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Method and target in one.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// The offset that a `Range` header requests.
    pub(crate) fn offset(&self) -> usize {
        self.header("range").trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0)
    }
}

/// The server's reaction to a request. Every connection is closed after one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// A stated length that differs from the body's.
    length: Option<usize>,
    no_length: bool,
    hang_up: bool,
    silent: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// States this length, independent of the body.
    pub(crate) fn length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// States no length: the body ends with the connection.
    pub(crate) fn without_length(mut self) -> Self {
        self.no_length = true;
        self
    }

    /// Closes the connection without a response.
    pub(crate) fn hang_up() -> Self {
        Self { hang_up: true, ..Self::default() }
    }

    /// Sends no response for longer than any timeout.
    pub(crate) fn silence() -> Self {
        Self { silent: true, ..Self::default() }
    }
}

/// Answers with `content` from the requested offset, but stops after `most` bytes.
pub(crate) fn truncated(seen: &Seen, content: &[u8], most: usize) -> Reply {
    let offset = seen.offset();
    let rest = &content[offset..];
    let sent = rest[..rest.len().min(most)].to_vec();
    let reply = Reply::new(if offset > 0 { 206 } else { 200 }).length(rest.len()).body(sent);
    reply.with("content-range", format!("bytes {offset}-{}/{}", content.len() - 1, content.len()))
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server on a loopback port, until it is dropped.
pub(crate) struct Server {
    /// Host and port.
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// `handler` answers each request. For requests whose line matches `early`, it answers before it reads the body.
    pub(crate) async fn start_with(
        early: impl Fn(&Seen) -> bool + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_reading(move |seen| if early(seen) { 0 } else { usize::MAX }, handler).await
    }

    /// `handler` answers each request after it has read `enough` bytes of the body.
    pub(crate) async fn start_reading(
        enough: impl Fn(&Seen) -> usize + Send + Sync + 'static,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, handler, enough) = (Arc::clone(&seen), Arc::new(handler), Arc::new(enough));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, handler, enough) = (Arc::clone(&log), Arc::clone(&handler), Arc::clone(&enough));
                // Clients that close the connection early are part of many tests.
                tokio::spawn(async move { serve(stream, &log, &*handler, &*enough).await.ok() });
            }
        });
        Self { address, seen, task }
    }

    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(|_| false, handler).await
    }

    /// All requests so far, except the one that detects the protocol.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Their methods and targets.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    handler: &Handler,
    enough: &(dyn Fn(&Seen) -> usize + Send + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first().map(String::as_str).unwrap_or_default().split(' ').map(str::to_owned);
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut seen = Seen { method, target, headers, body: Vec::new() };
    let length = seen.header("content-length").parse().unwrap_or(0);
    seen.body = vec![0; enough(&seen).min(length)];
    stream.read_exact(&mut seen.body).await?;
    // That request only detects the protocol.
    let reply = if seen.line() == "HEAD /v2/" {
        Reply::new(200)
    } else {
        log.lock().unwrap().push(seen.clone());
        handler(&seen)
    };
    if reply.silent {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    if !reply.hang_up {
        let mut head = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !reply.no_length {
            head += &format!("content-length: {}\r\n", reply.length.unwrap_or(reply.body.len()));
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).await?;
        if seen.method != "HEAD" {
            stream.write_all(&reply.body).await?;
        }
        stream.flush().await?;
        // Like real servers, gives the client some time to read the response before the connection is reset.
        if seen.body.len() < length {
            stream.shutdown().await?;
            let mut sink = tokio::io::sink();
            let drain = tokio::io::copy(&mut stream, &mut sink);
            tokio::time::timeout(Duration::from_millis(200), drain).await.ok();
        }
    }
    Ok(())
}
