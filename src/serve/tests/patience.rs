//! Clients that are slow, or do nothing, and others beside them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::store::descriptors::raise_descriptor_limit;

/// Runs a test whose server has a few threads for work that blocks.
fn with_few_threads(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(3).enable_all().build().unwrap().block_on(test);
}

async fn connect(registry: &Registry) -> TcpStream {
    TcpStream::connect(registry.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// A connection on which this was sent.
async fn sent(registry: &Registry, text: &str) -> TcpStream {
    let mut stream = connect(registry).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// The status of the answer to a request that must not wait for any other.
async fn answered(registry: &Registry, path: &str) -> u16 {
    // The others have two minutes and more.
    let answer = tokio::time::timeout(Duration::from_secs(60), registry.get(path));
    answer.await.expect("it waits for other clients").status().as_u16()
}

/// What comes until the server closes the connection, and how long that takes.
async fn end(mut stream: TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(120), stream.read_to_end(&mut text)).await;
    // Where it has not read all, the end is a reset.
    let _ = read.expect("the server does not close the connection");
    (String::from_utf8_lossy(&text).into_owned(), begun.elapsed())
}

#[test]
fn uploads_that_trickle_hold_no_thread() {
    with_few_threads(async {
        let registry = Registry::new().await;
        let mut slow = Vec::new();
        for _ in 0..40 {
            let location = registry.begin("").await;
            let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na");
            slow.push((location, sent(&registry, &head).await));
            let head = "PUT /v2/a/b/manifests/t HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
            slow.push((String::new(), sent(&registry, head).await));
        }
        assert_eq!(answered(&registry, "/v2/").await, 200);
        registry.blob("x", b"another upload").await;
        // Somebody else who wants the same upload waits without a thread, too.
        let busy = slow.iter().filter(|(location, _)| !location.is_empty()).take(10).map(|(location, _)| async {
            registry.request("PATCH", location).body("b").send().await.unwrap().status().as_u16()
        });
        let (busy, other) = tokio::join!(futures_util::future::join_all(busy), answered(&registry, "/v2/_catalog"));
        assert_eq!((busy, other), (vec![409; 10], 200));
        // Each goes on when its client does.
        let (location, stream) = &mut slow[0];
        stream.write_all(&[b'a'; 999]).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 202");
        assert_eq!(header(&registry.get(location).await, "range"), "0-999");
    });
}

#[test]
fn downloads_that_nobody_takes_hold_no_thread() {
    with_few_threads(async {
        let registry = Registry::new().await;
        let blob = registry.blob("x", &vec![7; 20_000_000]).await;
        let mut slow = Vec::new();
        for n in 0..30 {
            let range = if n % 2 == 0 { "" } else { "Range: bytes=1-\r\n" };
            let head = format!("GET /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\n{range}\r\n", blob.digest);
            slow.push(sent(&registry, &head).await);
        }
        assert_eq!(answered(&registry, "/v2/").await, 200);
        let other = registry.get(&format!("/v2/a/blobs/{}", blob.digest)).await.bytes();
        assert_eq!(tokio::time::timeout(Duration::from_secs(120), other).await.unwrap().unwrap().len(), 20_000_000);
    });
}

#[test]
fn who_waits_for_the_index_holds_no_thread() {
    with_few_threads(async {
        let registry = Registry::new().await;
        let image = registry.image(b"layer").await;
        // As garbage collection holds it.
        let lock = registry.layout.lock().unwrap();
        let tags: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
        let puts = futures_util::future::join_all(tags.iter().map(|tag| registry.put(tag, &image)));
        let others = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let status = answered(&registry, "/v2/_catalog").await;
            drop(lock);
            status
        };
        let (puts, status) = tokio::join!(puts, others);
        assert_eq!(status, 200);
        assert!(puts.iter().all(|put| put.status() == 201));
        assert_eq!(registry.json("/v2/a/b/tags/list").await["tags"].as_array().unwrap().len(), 20);
    });
}

const SHORT: Duration = Duration::from_millis(400);

fn impatient() -> ConnectionTimeouts {
    let long = Duration::from_secs(3600);
    ConnectionTimeouts { first: long, idle: long, stalled: long, body: long }
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let registry = Registry::impatient(ConnectionTimeouts { first: SHORT, ..impatient() }).await;
    for text in ["", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let (_, took) = end(sent(&registry, text).await).await;
        assert!(took >= SHORT / 2, "{took:?}");
    }
    // One that has had a request has more time.
    let mut served = sent(&registry, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    tokio::time::sleep(SHORT * 2).await;
    served.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(end(served).await.0.matches("HTTP/1.1 200 OK").count(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let registry = Registry::impatient(ConnectionTimeouts { idle: SHORT, ..impatient() }).await;
    for rest in ["", "GET /v2/ HTTP/1.1\r\nHost:"] {
        let text = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n{rest}");
        let (said, took) = end(sent(&registry, &text).await).await;
        assert!(said.starts_with("HTTP/1.1 200 OK") && took >= SHORT / 2, "{said} {took:?}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_go_on_is_given_up_and_what_came_stays() {
    let registry = Registry::impatient(ConnectionTimeouts { body: SHORT, ..impatient() }).await;
    let location = registry.begin("").await;
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello");
    let (said, _) = end(sent(&registry, &head).await).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("the client sends too slowly"), "{said}");
    assert_eq!(header(&registry.get(&location).await, "range"), "0-4");
    let close = format!("{location}?digest={}", Digest::of(b"hello!"));
    assert_eq!(registry.request("PUT", &close).body("!").send().await.unwrap().status(), 201);
    for path in ["/v2/a/b/manifests/t", "/v2/a/blobs/uploads/?digest=sha256:bad"] {
        let method = if path.contains('?') { "POST" } else { "PUT" };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{");
        let (said, _) = end(sent(&registry, &head).await).await;
        assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    }
    assert_eq!(registry.uploads(), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let registry = Registry::impatient(ConnectionTimeouts { stalled: SHORT, ..impatient() }).await;
    let blob = registry.blob("x", &vec![7; 50_000_000]).await;
    let head = format!("GET /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n", blob.digest);
    let stream = sent(&registry, &head).await;
    while is_open(&stream) {
        tokio::time::sleep(SHORT / 40).await;
    }
    assert!(end(stream).await.0.len() < 50_000_000);
    // One that takes it slowly, but does, gets it all, unless this machine keeps it from taking it for too long.
    let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    for _ in 0..20 {
        let mut stream = sent(&registry, &head).await;
        let (mut came, mut pause, mut buffer) = (0, Duration::ZERO, vec![0; 4_000_000]);
        let mut begun = Instant::now();
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            came += read;
            tokio::time::sleep(SHORT / 40).await;
            pause = pause.max(begun.elapsed());
            begun = Instant::now();
        }
        if came > 50_000_000 {
            return;
        }
        assert!(pause > SHORT / 2, "{came}");
    }
    panic!("this machine is too slow");
}

/// Whether the server has not closed its side of a connection; what it has sent may still be under way.
fn is_open(stream: &TcpStream) -> bool {
    let (server, client) = (stream.peer_addr().unwrap().port(), stream.local_addr().unwrap().port());
    // 127.0.0.1 on both sides, established.
    let connection = format!(" 0100007F:{server:04X} 0100007F:{client:04X} 01 ");
    std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&connection)
}

#[tokio::test]
async fn connections_beyond_the_backlog_of_others_are_taken() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    raise_descriptor_limit().unwrap();
    let listener = super::super::server::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..1500.min(allowed) {
        let connected = tokio::time::timeout(Duration::from_millis(900), TcpStream::connect(address)).await;
        waiting.push(connected.expect("the backlog is full").unwrap());
    }
}

#[tokio::test]
async fn many_idle_connections_shut_nobody_out() {
    raise_descriptor_limit().unwrap();
    let registry = Registry::new().await;
    let mut idle = Vec::new();
    for _ in 0..1200 {
        idle.push(connect(&registry).await);
    }
    assert_eq!(answered(&registry, "/v2/").await, 200);
}
