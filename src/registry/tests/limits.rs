//! How much is asked of a host, and when it is left alone.

use super::*;

#[tokio::test]
async fn a_host_that_has_had_enough_is_left_alone_by_all() {
    let refused = AtomicUsize::new(0);
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&times);
    let server = Server::start(move |_| {
        log.lock().unwrap().push(Instant::now());
        match refused.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::new(429).with("retry-after", "1"),
            _ => Reply::new(200).body(content()),
        }
    })
    .await;
    let client = Client::new(settings()).unwrap();
    let descriptor = layer(&content());
    let (one, two) = (client.repository(&reference(&server, "a")), client.repository(&reference(&server, "b")));
    let later = async {
        while server.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        read(&two, &descriptor, 0).await
    };
    let (first, second) = tokio::join!(read(&one, &descriptor, 0), later);
    assert_eq!((first.unwrap(), second.unwrap()), (content(), content()));
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 3);
    assert!(times[1..].iter().all(|time| *time - times[0] >= Duration::from_secs(1)), "{times:?}");
}

#[tokio::test]
async fn a_registry_that_asks_for_an_hour_is_not_asked_again() {
    for refusal in [429, 503] {
        let server = Server::start(move |_| Reply::new(refusal).with("retry-after", "3600")).await;
        let error = remote(&server, "a/b").resolve().await.unwrap_err();
        assert!(error.hint().unwrap().starts_with("the registry asks to wait 60 minutes"), "{error:?}");
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_host_that_never_answers_is_asked_once_in_each_protocol() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            count.store(open.len(), Ordering::Relaxed);
        }
    });
    let remote = Client::new(hasty(settings())).unwrap().repository(&format!("{address}/a").parse().unwrap());
    let error = remote.resolve().await.unwrap_err();
    assert_eq!(error.cause.to_string(), format!("no answer from {address}: the host sent no data before the timeout"));
    assert_eq!(taken.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn connections_are_limited() {
    let server = Server::start(|_| Reply::new(200).body(content())).await;
    for connections in [0, 1, 3] {
        let client = Client::new(Settings { connections, ..settings() }).unwrap();
        let remote = client.repository(&reference(&server, "a/b"));
        let descriptor = layer(&content());
        // Each holds its connection until it is read or dropped.
        let mut open = Vec::new();
        for _ in 0..connections.max(1) {
            open.push(remote.fetch(&descriptor, 0).await.unwrap());
        }
        let more = remote.fetch(&descriptor, 0);
        assert!(tokio::time::timeout(Duration::from_millis(100), more).await.is_err(), "{connections}");
        open.pop();
        assert_eq!(read(&remote, &descriptor, 0).await.unwrap(), content());
    }
}

/// A server whose answers have this status and a body that comes byte by byte, one each 20 ms. Only what asks for the
/// protocol is answered at once.
async fn trickling(status: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let for_protocol = request[..length].starts_with(b"HEAD /v2/ ");
                let (status, length) = if for_protocol { ("200 OK", 0) } else { (status, 1_000_000) };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.ok();
                while length > 0 && stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn answers_that_come_drop_by_drop_end_in_an_error() {
    let address = trickling("200 OK").await;
    let remote = Client::new(hasty(settings())).unwrap().repository(&format!("{address}/a").parse().unwrap());
    let begun = Instant::now();
    for error in [remote.tags().await.unwrap_err(), remote.resolve().await.unwrap_err()] {
        let said = error.cause.to_string();
        assert!(said.starts_with(&format!("no answer from {address}: the answer is too slow: ")), "{said}");
    }
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_token_server_that_answers_drop_by_drop_is_named() {
    let tokens = trickling("200 OK").await;
    let challenge = format!("Bearer realm=\"http://{tokens}/token\",service=\"s\"");
    let server = Server::start(move |_| Reply::new(401).with("www-authenticate", &challenge)).await;
    let begun = Instant::now();
    let remote = Client::new(hasty(settings())).unwrap().repository(&reference(&server, "a/b"));
    let error = remote.resolve().await.unwrap_err();
    assert!(
        error.cause.to_string().starts_with(&format!("no answer from {tokens}: the answer is too slow")),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refusal_that_does_not_end_is_one() {
    let address = trickling("403 Forbidden").await;
    let remote = Client::new(hasty(settings())).unwrap().repository(&format!("{address}/a").parse().unwrap());
    let begun = Instant::now();
    assert_eq!(status(&remote.resolve().await.unwrap_err().cause), "403 Forbidden");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}
