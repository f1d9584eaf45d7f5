//! Tokens: asked for, shared, renewed, refused.

use super::*;

/// A registry with a token server in it, which gives `token-1`, `token-2`, …, the first for `expires_in` seconds and the others for
/// five minutes; the registry takes those that `valid` takes.
async fn token_registry(expires_in: u64, valid: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    let given = AtomicUsize::new(0);
    Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            let n = given.fetch_add(1, Ordering::Relaxed) + 1;
            let answer =
                json!({"access_token": format!("token-{n}"), "expires_in": if n == 1 { expires_in } else { 300 }});
            return Reply::new(200).with("content-type", "text/plain").body(answer.to_string());
        }
        if seen.header("authorization").strip_prefix("Bearer ").is_some_and(&valid) {
            return Reply::new(200).body(if seen.method == "GET" { content() } else { Vec::new() });
        }
        let realm = r#"Bearer realm="/token?x=1",scope="repository:a/b:pull""#;
        Reply::new(401).with("WWW-Authenticate", realm)
    })
    .await
}

#[tokio::test]
async fn a_token_without_service_is_fetched_once_and_shared() {
    let server = token_registry(300, |token| token == "token-1").await;
    let (_directory, client) = signed_in(&server, user());
    let remote = client.repository(&reference(&server, "a/b"));
    let descriptor = layer(&content());
    let reads = (0..6).map(|_| read(&remote, &descriptor, 0));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap(), content());
    }
    let tokens: Vec<_> = server.seen().into_iter().filter(|seen| seen.target.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].target, "/token?x=1&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(tokens[0].header("authorization"), BASIC);
    assert_eq!(client.stats().counts().tokens, 1);
    assert!(
        server.seen().iter().all(|seen| seen.header("authorization") != BASIC || seen.target.starts_with("/token"))
    );
}

#[tokio::test]
async fn a_token_that_expires_early_is_renewed_once() {
    let revoked = Arc::new(AtomicUsize::new(1));
    let valid = Arc::clone(&revoked);
    let server = token_registry(300, move |token| token == format!("token-{}", valid.load(Ordering::Relaxed))).await;
    let remote = remote(&server, "a/b");
    let descriptor = layer(&content());
    assert_eq!(read(&remote, &descriptor, 0).await.unwrap(), content());
    revoked.store(2, Ordering::Relaxed);
    assert_eq!(read(&remote, &descriptor, 0).await.unwrap(), content());
    revoked.store(99, Ordering::Relaxed);
    let cause = read(&remote, &descriptor, 0).await.unwrap_err();
    assert_eq!(status(&cause), "401 Unauthorized");
    let hint = cause.of("x").hint().unwrap();
    assert!(hint.starts_with(&format!("log in with `ociforge login {}`", server.address)), "{hint}");
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("GET /token")).count(), 3);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let server = token_registry(1, |_| true).await;
    let remote = remote(&server, "a/b");
    let descriptor = layer(&content());
    assert_eq!(read(&remote, &descriptor, 0).await.unwrap(), content());
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(read(&remote, &descriptor, 0).await.unwrap(), content());
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("GET /token")).count(), 2, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("GET /v2/a/b")).count(), 3, "{lines:?}");
}

#[tokio::test]
async fn the_first_realm_stays() {
    let (asked, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        if seen.target.starts_with("/good") {
            let n = given.fetch_add(1, Ordering::Relaxed);
            return Reply::new(200).body(format!(r#"{{"token":"","access_token":"good-{n}","expires_in":60}}"#));
        }
        match (seen.target.starts_with("/v2/"), asked.fetch_add(1, Ordering::Relaxed)) {
            (true, 0) => Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/good""#),
            (true, 2) => Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/dead-end""#),
            (true, _) => Reply::new(200).body(content()),
            (false, _) => Reply::new(403),
        }
    })
    .await;
    let remote = remote(&server, "a/b");
    for _ in 0..2 {
        assert_eq!(read(&remote, &layer(&content()), 0).await.unwrap(), content());
    }
    assert!(!server.lines().iter().any(|line| line.contains("dead-end")), "{:?}", server.lines());
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let server = Server::start(|seen| {
        if seen.line() == "POST /token" {
            return Reply::new(200).body(r#"{"access_token":"t"}"#);
        }
        if seen.header("authorization") == "Bearer t" {
            return Reply::new(200).body(content());
        }
        Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token",service="the service""#)
    })
    .await;
    let (_directory, client) = signed_in(&server, json!({"identitytoken": "re/fresh"}));
    assert_eq!(read(&client.repository(&reference(&server, "a")), &layer(&content()), 0).await.unwrap(), content());
    let seen = server.seen();
    let form = seen.iter().find(|seen| seen.method == "POST").unwrap();
    let expected = "grant_type=refresh_token&client_id=ociforge&service=the+service&scope=repository%3Aa%3Apull&\
                    refresh_token=re%2Ffresh";
    assert_eq!(String::from_utf8_lossy(&form.body), expected);
}

#[tokio::test]
async fn an_identity_token_stays_with_its_token_server() {
    let thief = Server::start(|_| Reply::new(200).body(r#"{"access_token":"t"}"#)).await;
    for status in [307, 308] {
        let (thief_address, other) = (thief.address.clone(), format!("http://{}/token", thief.address));
        let server = Server::start(move |seen| match seen.target.as_str() {
            "/token" => Reply::new(status).with("location", "/token/new"),
            "/token/new" => Reply::new(status).with("location", other.as_str()),
            _ => Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token""#),
        })
        .await;
        let (_directory, client) = signed_in(&server, json!({"identitytoken": "re/fresh"}));
        let error = client.repository(&reference(&server, "a")).resolve().await.unwrap_err();
        let expected = format!(
            "{} asks to send the credentials to another host, \
            http://{thief_address}",
            server.address
        );
        assert_eq!(error.cause.to_string(), expected);
        // Within the server it may go where it is sent.
        assert!(server.lines().contains(&"POST /token/new".to_owned()), "{:?}", server.lines());
    }
    assert_eq!(thief.lines(), [""; 0]);
}

#[tokio::test]
async fn a_token_server_that_refuses_is_an_error_that_says_so() {
    for (reply, expected) in [
        (Reply::new(401).body(r#"{"details":"incorrect username or password"}"#), "incorrect username or password"),
        (Reply::new(200).body("<html>welcome</html>"), "returned no token"),
        (Reply::new(200).body(r#"{"token": 5}"#), "returned no token"),
    ] {
        let server = Server::start(move |seen| match seen.target.starts_with("/token") {
            true => reply.clone(),
            false => Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token""#),
        })
        .await;
        let (_directory, client) = signed_in(&server, user());
        let error = client.repository(&reference(&server, "a")).resolve().await.unwrap_err();
        assert!(error.cause.to_string().contains(expected), "{}", error.cause);
        assert!(!format!("{error:?}").contains("secret"));
    }
}

#[tokio::test]
async fn a_token_that_runs_out_in_mid_layer_is_renewed_where_the_download_stands() {
    let (given, opened) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let served = Arc::clone(&opened);
    let server = Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            let n = given.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::new(200).body(json!({"token": format!("token-{n}"), "expires_in": 300}).to_string());
        }
        // The connection breaks once, and by then the first token is worth nothing.
        let breaks = served.load(Ordering::Relaxed) == 0;
        if seen.header("authorization") == if breaks { "Bearer token-1" } else { "Bearer token-2" } {
            served.fetch_add(1, Ordering::Relaxed);
            return truncated(seen, &content(), if breaks { 300_000 } else { 800_000 });
        }
        Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token",scope="repository:a/b:pull""#)
    })
    .await;
    assert_eq!(read(&remote(&server, "a/b"), &layer(&content()), 0).await.unwrap(), content());
    let blobs: Vec<_> = server.seen().into_iter().filter(|seen| seen.target.contains("/blobs/")).collect();
    let offsets: Vec<_> = blobs.iter().map(|seen| seen.offset() > 0).collect();
    assert_eq!(offsets, [false, false, true, true]);
    assert_eq!(blobs[2].offset(), blobs[3].offset());
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}
