//! Uploads, mounts and tags.

use super::*;

/// Takes uploads as a registry does, with a relative location that has parameters of its own.
fn takes(seen: &Seen) -> Reply {
    match seen.method.as_str() {
        "POST" => Reply::new(202).with("location", "../../up/1?_state=a%2Bb%3D"),
        "PUT" => Reply::new(201),
        _ => Reply::new(404),
    }
}

#[tokio::test]
async fn a_blob_is_put_whole() {
    let server = Server::start(takes).await;
    let (source, bar) = (Memory::of(&content()), Bar::default());
    let descriptor = layer(&content());
    remote(&server, "a/b").push(&descriptor, &source, &bar).await.unwrap();
    let seen = server.seen();
    let digest = descriptor.digest.as_str().replace(':', "%3A");
    assert_eq!(
        server.lines(),
        ["POST /v2/a/b/blobs/uploads/".to_owned(), format!("PUT /v2/a/b/up/1?_state=a%2Bb%3D&digest={digest}")]
    );
    assert_eq!(seen[0].header("content-length"), "0");
    assert_eq!((seen[1].header("content-length"), seen[1].body == content()), ("800000", true));
    assert_eq!(seen[1].header("transfer-encoding"), "");
    assert_eq!(bar.0.load(Ordering::Relaxed), 800_000);
}

#[tokio::test]
async fn a_push_that_breaks_begins_anew() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match (seen.method.as_str(), asked.load(Ordering::Relaxed)) {
        ("PUT", n) if n < 3 => {
            asked.fetch_add(1, Ordering::Relaxed);
            [Reply::hang_up(), Reply::new(404), Reply::new(502).body("<html>")][n].clone()
        }
        _ => takes(seen),
    })
    .await;
    let (source, bar) = (Memory::of(&content()), Bar::default());
    remote(&server, "a/b").push(&layer(&content()), &source, &bar).await.unwrap();
    assert_eq!(source.opened.load(Ordering::Relaxed), 4);
    assert_eq!(bar.0.load(Ordering::Relaxed), 800_000);
    assert_eq!(server.seen().last().unwrap().body, content());
}

#[tokio::test]
async fn only_the_answer_was_lost() {
    let put = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.method.as_str() {
        "PUT" => {
            put.fetch_add(1, Ordering::Relaxed);
            Reply::hang_up()
        }
        "HEAD" if put.load(Ordering::Relaxed) > 0 => Reply::new(200).length(800_000),
        _ => takes(seen),
    })
    .await;
    remote(&server, "a/b").push(&layer(&content()), &Memory::of(&content()), &()).await.unwrap();
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

#[tokio::test]
async fn an_answer_before_the_body_is_read_is_the_error() {
    let body = r#"{"errors":[{"code":"DENIED","message":"too large for you"}]}"#;
    let early = |seen: &Seen| seen.method == "PUT";
    let handler = move |seen: &Seen| if early(seen) { Reply::new(413).body(body) } else { takes(seen) };
    let server = Server::start_with(early, handler).await;
    let big = vec![1; 16 << 20];
    let error = remote(&server, "a/b").push(&layer(&big), &Memory::of(&big), &()).await.unwrap_err();
    assert_eq!(status(&error.cause), "413 Payload Too Large");
    assert!(error.cause.to_string().ends_with("too large for you"), "{}", error.cause);
    assert!(error.to_string().starts_with("cannot push layer sha256:"), "{error}");
}

#[tokio::test]
async fn a_token_that_expires_before_the_put_costs_no_push() {
    let given = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            let n = given.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::new(200).body(format!(r#"{{"token":"token-{n}","expires_in":300}}"#));
        }
        let good = if seen.method == "PUT" { "Bearer token-2" } else { "Bearer token-1" };
        if seen.header("authorization") == good {
            return takes(seen);
        }
        Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token",scope="repository:a/b:pull,push""#)
    })
    .await;
    let (source, bar) = (Memory::of(&content()), Bar::default());
    remote(&server, "a/b").push(&layer(&content()), &source, &bar).await.unwrap();
    assert_eq!(bar.0.load(Ordering::Relaxed), 800_000);
    let puts: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0].target, puts[1].target);
    assert_eq!(puts[1].body, content());
}

#[tokio::test]
async fn a_source_that_lies_pushes_nothing() {
    let server = Server::start(takes).await;
    let descriptor = layer(&content());
    let mut wrong = content();
    wrong[799_999] ^= 1;
    let mut source = Memory::default();
    source.blobs.insert(descriptor.digest.clone(), wrong);
    let error = remote(&server, "a/b").push(&descriptor, &source, &()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongDigest { .. }), "{}", error.cause);
    assert_eq!(error.operation, format!("read {} from the source", descriptor.digest));
    assert_eq!(source.opened.load(Ordering::Relaxed), 1);
    // The server logs a request only when all of its body is there.
    assert_eq!(server.lines().len(), 1);
    let error = remote(&server, "a/b").push(&descriptor, &Memory::default(), &()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::NotFound), "{}", error.cause);
}

#[tokio::test]
async fn a_registry_that_takes_no_bytes_is_given_up() {
    let early = |seen: &Seen| seen.method == "PUT";
    let handler = move |seen: &Seen| if early(seen) { Reply::silence() } else { takes(seen) };
    let server = Server::start_with(early, handler).await;
    let big = vec![1; 16 << 20];
    let client = {
        let mut settings = hasty(settings());
        settings.retry.tries = 2;
        Client::new(settings).unwrap()
    };
    let remote = client.repository(&reference(&server, "a/b"));
    let error = remote.push(&layer(&big), &Memory::of(&big), &()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Network { .. }), "{}", error.cause);
}

#[tokio::test]
async fn uploads_to_another_host_get_no_credentials() {
    let store = Server::start(takes).await;
    let location = format!("http://{}/up?x=1", store.address);
    let server = Server::start(move |seen| match seen.header("authorization") {
        BASIC => Reply::new(202).with("location", location.as_str()),
        _ => Reply::new(401).with("WWW-Authenticate", "Basic realm=r"),
    })
    .await;
    let (_directory, client) = signed_in(&server, user());
    let remote = client.repository(&reference(&server, "a/b"));
    remote.push(&layer(&content()), &Memory::of(&content()), &()).await.unwrap();
    assert!(!store.seen()[0].headers.contains_key("authorization"));
    assert_eq!(store.seen()[0].body, content());
}

#[tokio::test]
async fn a_mount_is_done_or_refused() {
    let descriptor = layer(&content());
    for (status, expected) in
        [(201, true), (202, false), (401, false), (403, false), (404, false), (400, false), (405, false)]
    {
        let server = Server::start(move |seen| match seen.target.contains("mount=") {
            true => Reply::new(status).with("location", "/v2/a/b/blobs/uploads/9"),
            false => takes(seen),
        })
        .await;
        let remote = remote(&server, "a/b");
        let from = Repository { registry: server.address.clone(), name: "other/base".into() };
        assert_eq!(remote.mount(&descriptor, &from).await.unwrap(), expected, "{status}");
        let digest = descriptor.digest.as_str().replace(':', "%3A");
        assert_eq!(server.lines(), [format!("POST /v2/a/b/blobs/uploads/?mount={digest}&from=other%2Fbase")]);
        if !expected {
            remote.push(&descriptor, &Memory::of(&content()), &()).await.unwrap();
            // The upload that a 202 began is made use of.
            assert_eq!(server.lines().len(), if status == 202 { 2 } else { 3 });
        }
    }
}

#[tokio::test]
async fn a_mount_asks_for_both_scopes() {
    let server = Server::start(|seen| {
        if seen.target.starts_with("/token") {
            return Reply::new(200).body(r#"{"token":"t"}"#);
        }
        match seen.header("authorization") {
            "Bearer t" => Reply::new(201),
            _ => Reply::new(401)
                .with("WWW-Authenticate", r#"Bearer realm="/token",service="s",scope="repository:a/b:pull,push""#),
        }
    })
    .await;
    let from = Repository { registry: server.address.clone(), name: "base".into() };
    assert!(remote(&server, "a/b").mount(&layer(b"x"), &from).await.unwrap());
    let expected = "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Abase%3Apull";
    assert_eq!(server.lines()[1], expected);
    let elsewhere = Repository { registry: "nvcr.io".into(), name: "base".into() };
    assert!(!remote(&server, "a/b").mount(&layer(b"x"), &elsewhere).await.unwrap());
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn contains_compares_sizes() {
    for (reply, expected) in
        [(Reply::new(200).length(5), true), (Reply::new(200).length(6), false), (Reply::new(404), false)]
    {
        let server = Server::start(move |_| reply.clone()).await;
        assert_eq!(remote(&server, "a/b").contains(&layer(b"hello")).await.unwrap(), expected);
    }
    let server = Server::start(|_| Reply::new(403)).await;
    let error = remote(&server, "a/b").contains(&layer(b"hello")).await.unwrap_err();
    assert_eq!(status(&error.cause), "403 Forbidden");
}
