//! Downloads: broken off, redirected, lied about.

use super::*;

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let server = Server::start(|seen| truncated(seen, &content(), 70_000)).await;
    let remote = remote(&server, "a/b");
    // More breaks than there are tries: each of them got on.
    assert_eq!(read(&remote, &layer(&content()), 0).await.unwrap(), content());
    assert_eq!(server.lines().len(), content().len().div_ceil(70_000));
    assert_eq!(read(&remote, &layer(&content()), 799_000).await.unwrap(), content()[799_000..]);
    assert_eq!(read(&remote, &layer(&content()), 800_000).await.unwrap(), b"");
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_from_the_beginning() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let most = if asked.fetch_add(1, Ordering::Relaxed) == 0 { 300_000 } else { 800_000 };
        Reply::new(200).length(800_000).body(&content()[..most])
    })
    .await;
    assert_eq!(read(&remote(&server, "a/b"), &layer(&content()), 0).await.unwrap(), content());
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_download_that_gets_nowhere_ends() {
    let server = Server::start(|seen| truncated(seen, &content(), 0)).await;
    let cause = read(&remote(&server, "a/b"), &layer(&content()), 0).await.unwrap_err();
    assert!(matches!(cause, Cause::Network { .. }), "{cause}");
    assert_eq!(server.lines().len(), 6);
}

#[tokio::test]
async fn lies_about_length_range_and_content_are_seen() {
    let short = Server::start(|_| Reply::new(200).body(&content()[..1000])).await;
    let long = Server::start(|_| Reply::new(200).body([content(), vec![0]].concat())).await;
    for (server, actual) in [(short, 1000), (long, 800_001)] {
        let cause = read(&remote(&server, "a/b"), &layer(&content()), 0).await.unwrap_err();
        assert!(matches!(cause, Cause::WrongSize { expected: 800_000, actual: a } if a == actual), "{cause}");
    }
    let other = Server::start(|_| Reply::new(200).body(vec![7; 800_000])).await;
    let cause = read(&remote(&other, "a/b"), &layer(&content()), 0).await.unwrap_err();
    assert!(matches!(cause, Cause::WrongDigest { .. }), "{cause}");
    let shifted =
        Server::start(|_| Reply::new(206).with("content-range", "bytes 0-799999/800000").body(content())).await;
    let cause = read(&remote(&shifted, "a/b"), &layer(&content()), 5).await.unwrap_err();
    assert!(cause.to_string().contains("bytes 0-799999/800000"), "{cause}");
}

#[tokio::test]
async fn silence_is_not_waited_for_forever() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::silence(),
        _ => Reply::new(200).body(content()),
    })
    .await;
    let remote = Client::new(hasty(settings())).unwrap().repository(&reference(&server, "a/b"));
    assert_eq!(read(&remote, &layer(&content()), 0).await.unwrap(), content());
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let store = Server::start(|seen| truncated(seen, &content(), 500_000)).await;
    let target = format!("http://{}/bucket/blob?signature=s", store.address);
    let server = Server::start(move |seen| match seen.header("authorization") {
        BASIC => Reply::new(307).with("location", target.as_str()),
        _ => Reply::new(401).with("WWW-Authenticate", r#"Basic realm="r""#),
    })
    .await;
    let (_directory, client) = signed_in(&server, user());
    let remote = client.repository(&reference(&server, "a/b"));
    assert_eq!(read(&remote, &layer(&content()), 0).await.unwrap(), content());
    assert_eq!(store.lines(), ["GET /bucket/blob?signature=s"; 2]);
    assert!(store.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_host_that_a_redirect_leads_to_gets_no_credentials_by_asking() {
    let thief = Server::start(|seen| match seen.target.starts_with("/token") {
        true => Reply::new(200).body(r#"{"token":"t"}"#),
        false => Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token""#),
    })
    .await;
    let target = format!("http://{}/blob", thief.address);
    let server = Server::start(move |_| Reply::new(302).with("location", target.as_str())).await;
    let (_directory, client) = signed_in(&server, user());
    let cause = read(&client.repository(&reference(&server, "a/b")), &layer(&content()), 0).await.unwrap_err();
    assert_eq!(status(&cause), "401 Unauthorized");
    assert_eq!(thief.lines(), ["GET /blob"]);
    assert!(!thief.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn redirects_in_circles_end() {
    let server = Server::start(|seen| Reply::new(302).with("location", seen.target.as_str())).await;
    let cause = read(&remote(&server, "a/b"), &layer(&content()), 0).await.unwrap_err();
    assert!(cause.to_string().contains("in a loop"), "{cause}");
}

#[tokio::test]
async fn passing_trouble_passes() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(429).with("retry-after", "1"),
        1 => Reply::new(503),
        2 => Reply::hang_up(),
        _ => Reply::new(200).body(content()),
    })
    .await;
    let begun = Instant::now();
    assert_eq!(read(&remote(&server, "a/b"), &layer(&content()), 0).await.unwrap(), content());
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
    assert_eq!(server.lines().len(), 4);

    let busy = Server::start(|_| Reply::new(503)).await;
    let error = remote(&busy, "a/b").resolve().await.unwrap_err();
    assert_eq!(status(&error.cause), "503 Service Unavailable");
    assert_eq!(busy.lines().len(), 6);
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let server = Server::start(|_| Reply::new(200)).await;
    let gone = remote(&server, "a/b");
    let address = server.address.clone();
    drop(server);
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = gone.resolve().await.unwrap_err();
    assert!(error.hint().unwrap().contains("check that the registry is running"), "{error:?}");
}

#[tokio::test]
async fn plain_http_where_tls_should_be_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
        // The client closes the connection itself when it has read that.
        stream.read_to_end(&mut Vec::new()).await.ok();
    });
    let http = HttpClient::new(true, Vec::new(), settings().timeouts);
    let request = HttpRequest::new(Method::GET, format!("https://{address}/v2/").parse().unwrap());
    let fault = Fault::from(http.send(&request).await.err().unwrap());
    serve.await.unwrap();
    assert!(!fault.transient);
    assert!(fault.cause.of("x").hint().unwrap().contains("seems to speak plain HTTP"));
}
