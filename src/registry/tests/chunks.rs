//! Uploads in chunks.

use super::depot::{Depot, State, chunked};
use super::*;

fn well(_: &Seen, _: &mut State) -> Option<Reply> {
    None
}

#[tokio::test]
async fn a_long_blob_goes_in_chunks_out_of_one_stream() {
    let depot = Depot::new(well).await;
    let source = Memory::of(&content());
    let (pushed, told) = depot.push(&content(), &source).await;
    pushed.unwrap();
    assert_eq!(depot.story(), "POST, PATCH 0-300, PATCH 300-600, PATCH 600-800, PUT");
    assert!(depot.has(&content()));
    assert_eq!((source.opened.load(Ordering::Relaxed), told), (1, 800_000));
    let seen = depot.server.seen();
    let chunk = &seen[1];
    assert_eq!((chunk.header("content-range"), chunk.header("content-length")), ("0-299999", "300000"));
    assert_eq!((chunk.header("content-type"), chunk.header("transfer-encoding")), ("application/octet-stream", ""));
    assert_eq!(seen[4].header("content-length"), "0");
}

#[tokio::test]
async fn a_host_that_refuses_chunks_gets_blobs_whole() {
    for status in [400, 404, 405, 411, 415, 416, 500, 501] {
        let refuse = move |seen: &Seen, _: &mut State| (seen.method == "PATCH").then(|| Reply::new(status));
        let depot = Depot::new(refuse).await;
        let remote = depot.remote(chunked(300_000));
        let (source, bar) = (Memory::of(&content()), Bar::default());
        remote.push(&layer(&content()), &source, &bar).await.unwrap();
        let asked = match status {
            416 => " GET,",
            500 => " GET, PATCH 0-300,",
            _ => "",
        };
        assert_eq!(depot.story(), format!("POST, PATCH 0-300,{asked} DELETE, POST, PUT"));
        assert!(depot.has(&content()));
        assert_eq!(bar.0.load(Ordering::Relaxed), 800_000);
        // It is remembered.
        let other = vec![1; 500_000];
        remote.push(&layer(&other), &Memory::of(&other), &()).await.unwrap();
        assert!(depot.story().ends_with("PUT, POST, PUT"), "{}", depot.story());
        assert!(depot.has(&other));
    }
}

#[tokio::test]
async fn who_may_not_push_gets_no_second_try() {
    for status in [401, 403] {
        let refuse = move |seen: &Seen, _: &mut State| (seen.method == "PATCH").then(|| Reply::new(status));
        let depot = Depot::new(refuse).await;
        let error = depot.push(&content(), &Memory::of(&content())).await.0.unwrap_err();
        assert!(super::status(&error.cause).starts_with(&status.to_string()));
        assert_eq!(depot.story(), "POST, PATCH 0-300");
    }
}

#[tokio::test]
async fn chunks_that_are_dropped_in_silence_are_noticed() {
    for dropped in [1, 2] {
        let depot = Depot::new(move |seen: &Seen, state: &mut State| {
            let there = state.uploads.values().next().map_or(0, Vec::len).max(1);
            let drop = seen.method == "PATCH" && state.nth(seen) >= dropped;
            drop.then(|| Reply::new(201).with("range", format!("0-{}", there - 1)))
        })
        .await;
        depot.push(&content(), &Memory::of(&content())).await.0.unwrap();
        assert!(depot.story().ends_with("DELETE, POST, PUT"), "{}", depot.story());
        assert!(depot.has(&content()));
    }
    // It says that all is there, and has nothing.
    let depot = Depot::new(|seen: &Seen, _: &mut State| {
        let said = seen.header("content-range").split_once('-')?.1;
        Some(Reply::new(202).with("range", format!("0-{said}")))
    })
    .await;
    depot.push(&content(), &Memory::of(&content())).await.0.unwrap();
    assert!(depot.story().ends_with("PATCH 600-800, PUT, DELETE, POST, PUT"), "{}", depot.story());
    assert!(depot.has(&content()));
}

#[tokio::test]
async fn what_is_left_over_of_a_chunk_is_sent_again() {
    let depot = Depot::new(|seen: &Seen, state: &mut State| {
        if seen.method != "PATCH" || state.nth(seen) != 2 {
            return None;
        }
        let some = Seen { body: seen.body[..150_000].to_vec(), ..seen.clone() };
        Some(state.answer(&some))
    })
    .await;
    let (pushed, told) = depot.push(&content(), &Memory::of(&content())).await;
    pushed.unwrap();
    assert_eq!(depot.story(), "POST, PATCH 0-300, PATCH 300-600, PATCH 450-750, PATCH 750-800, PUT");
    assert!(depot.has(&content()));
    assert_eq!(told, 800_000);
}

#[tokio::test]
async fn chunks_are_as_long_as_the_registry_wants_them() {
    for (least, expected) in [
        ("500000", "POST, PATCH 0-500, PATCH 500-800, PUT"),
        ("5", "POST, PATCH 0-300, PATCH 300-600, PATCH 600-800, PUT"),
        ("18446744073709551615", "POST, PUT"),
        ("many", "POST, PATCH 0-300, PATCH 300-600, PATCH 600-800, PUT"),
    ] {
        let depot = Depot::new(well).await;
        depot.change(|state| state.headers.push(("OCI-Chunk-Min-Length", least)));
        depot.push(&content(), &Memory::of(&content())).await.0.unwrap();
        assert_eq!(depot.story(), expected);
        assert!(depot.has(&content()));
    }
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_shorter_chunks() {
    let big: Vec<u8> = content().into_iter().cycle().take(3 << 20).collect();
    for (chunk, expected) in [
        (4 << 20, "POST, PUT, DELETE, POST, PATCH 0-1573, PATCH 1573-3146, PUT"),
        (2 << 20, "POST, PATCH 0-2098, GET, PATCH 0-1049, PATCH 1049-2098, PATCH 2098-3146, PUT"),
    ] {
        let limit = |seen: &Seen, _: &mut State| (seen.body.len() > 1_600_000).then(|| Reply::new(413));
        let depot = Depot::new(limit).await;
        depot.push_with(chunked(chunk), &big, &Memory::of(&big)).await.0.unwrap();
        assert_eq!(depot.story(), expected);
        assert!(depot.has(&big));
    }
    let none = |seen: &Seen, _: &mut State| (!seen.body.is_empty()).then(|| Reply::new(413));
    let depot = Depot::new(none).await;
    let error = depot.push_with(chunked(2 << 20), &big, &Memory::of(&big)).await.0.unwrap_err();
    assert_eq!(status(&error.cause), "413 Payload Too Large");
    assert!(error.hint().unwrap().contains("raise that limit"));
    assert_eq!(depot.story(), "POST, PATCH 0-2098, GET, PATCH 0-1049");
}

/// Reads half of the second chunk.
fn half(seen: &Seen) -> usize {
    if seen.header("content-range").starts_with("300000-") { 150_000 } else { usize::MAX }
}

#[tokio::test]
async fn an_upload_goes_on_where_the_connection_broke() {
    for broken in [Reply::hang_up(), Reply::silence(), Reply::new(500), Reply::new(503), Reply::new(429)] {
        let depot = Depot::reading(half, move |seen: &Seen, state: &mut State| {
            (half(seen) < usize::MAX).then(|| {
                state.answer(seen);
                broken.clone()
            })
        })
        .await;
        let (pushed, told) = depot.push_with(hasty(chunked(300_000)), &content(), &Memory::of(&content())).await;
        pushed.unwrap();
        assert_eq!(depot.story(), "POST, PATCH 0-300, PATCH 300-600, GET, PATCH 450-750, PATCH 750-800, PUT");
        assert!(depot.has(&content()));
        assert_eq!(told, 800_000);
    }
}

#[tokio::test]
async fn an_upload_that_is_no_longer_known_begins_anew() {
    // What it says about the chunk, and about the upload: of those that have but half of a chunk some say 416.
    for (chunk, asked) in [(404, 404), (502, 404), (502, 416), (502, 405), (502, 500), (502, 204)] {
        let depot = Depot::new(move |seen: &Seen, state: &mut State| {
            if seen.method == "GET" {
                return Some(Reply::new(asked));
            }
            let fails = seen.method == "PATCH" && state.nth(seen) == 2;
            fails.then(|| {
                state.uploads.clear();
                Reply::new(chunk)
            })
        })
        .await;
        let (pushed, told) = depot.push(&content(), &Memory::of(&content())).await;
        pushed.unwrap();
        let expected = "POST, PATCH 0-300, PATCH 300-600, POST, PATCH 0-300, PATCH 300-600, PATCH 600-800, PUT";
        assert_eq!(depot.story().replace(" GET,", ""), expected);
        assert!(depot.has(&content()));
        assert_eq!(told, 800_000);
    }
}

#[tokio::test]
async fn a_registry_that_forgets_all_the_time_is_given_up() {
    let depot = Depot::new(|seen: &Seen, state: &mut State| {
        (seen.method == "PATCH" && state.nth(seen).is_multiple_of(2)).then(|| Reply::new(404))
    })
    .await;
    let error = depot.push(&content(), &Memory::of(&content())).await.0.unwrap_err();
    assert_eq!(status(&error.cause), "404 Not Found");
    let posts = depot.story().matches("POST").count();
    assert_eq!(posts, RetryPolicy::default().tries as usize);
}

#[tokio::test]
async fn the_registry_may_know_of_less_than_it_said() {
    let depot = Depot::new(|seen: &Seen, state: &mut State| {
        if seen.method == "PATCH" && state.nth(seen) == 3 {
            state.upload().truncate(100_000);
        }
        None
    })
    .await;
    let (pushed, told) = depot.push(&content(), &Memory::of(&content())).await;
    pushed.unwrap();
    let expected = "PATCH 300-600, PATCH 600-800, GET, PATCH 100-400, PATCH 400-700, PATCH 700-800, PUT";
    assert!(depot.story().ends_with(expected), "{}", depot.story());
    assert!(depot.has(&content()));
    assert_eq!(told, 800_000);
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_a_chunk_loses_no_byte() {
    let depot = Depot::reading(
        |seen| if seen.header("authorization") == "Bearer token-1" { half(seen) } else { usize::MAX },
        |seen: &Seen, state: &mut State| {
            if seen.target.starts_with("/token") {
                let n = state.nth(seen);
                return Some(Reply::new(200).body(format!(r#"{{"token":"token-{n}","expires_in":300}}"#)));
            }
            let expired = half(seen) < usize::MAX && seen.header("authorization") == "Bearer token-1";
            let challenge = r#"Bearer realm="/token",scope="repository:a/b:pull,push""#;
            let bad = expired || seen.header("authorization").is_empty();
            bad.then(|| Reply::new(401).with("WWW-Authenticate", challenge))
        },
    )
    .await;
    let (pushed, told) = depot.push(&content(), &Memory::of(&content())).await;
    pushed.unwrap();
    let expected = "POST, GET, POST, PATCH 0-300, PATCH 300-600, GET, PATCH 300-600, PATCH 600-800, PUT";
    assert_eq!(depot.story(), expected);
    assert!(depot.has(&content()));
    assert_eq!(told, 800_000);
}

#[tokio::test]
async fn the_end_of_an_upload_may_get_lost() {
    for arrived in [true, false] {
        let depot = Depot::new(move |seen: &Seen, state: &mut State| {
            (seen.method == "PUT" && state.nth(seen) == 1).then(|| {
                if arrived {
                    state.answer(seen);
                }
                Reply::hang_up()
            })
        })
        .await;
        depot.push(&content(), &Memory::of(&content())).await.0.unwrap();
        let end = if arrived { "PUT, HEAD" } else { "PUT, HEAD, GET, PUT" };
        assert!(depot.story().ends_with(&format!("PATCH 600-800, {end}")), "{}", depot.story());
        assert!(depot.has(&content()));
    }
}

#[tokio::test]
async fn the_last_bytes_of_a_wrong_blob_are_never_sent() {
    let depot = Depot::new(well).await;
    let mut wrong = content();
    wrong[100] ^= 1;
    let mut source = Memory::default();
    source.blobs.insert(Digest::of(&content()), wrong);
    let error = depot.push(&content(), &source).await.0.unwrap_err();
    assert!(matches!(error.cause, Cause::WrongDigest { .. }), "{}", error.cause);
    assert_eq!(depot.story(), "POST, PATCH 0-300, PATCH 300-600, DELETE");
    assert!(depot.change(|state| state.uploads.is_empty()));
    for length in [799_999, 800_001] {
        source.blobs.insert(Digest::of(&content()), content().into_iter().chain([0]).take(length).collect());
        let error = depot.push(&content(), &source).await.0.unwrap_err();
        assert!(matches!(error.cause, Cause::WrongSize { .. }), "{}", error.cause);
    }
}

#[tokio::test]
async fn an_upload_that_a_mount_began_takes_chunks() {
    let depot = Depot::new(well).await;
    let remote = depot.remote(chunked(300_000));
    let from = Repository { registry: depot.server.address.clone(), name: "other".into() };
    assert!(!remote.mount(&layer(&content()), &from).await.unwrap());
    remote.push(&layer(&content()), &Memory::of(&content()), &()).await.unwrap();
    assert_eq!(depot.story(), "POST, PATCH 0-300, PATCH 300-600, PATCH 600-800, PUT");
    assert!(depot.has(&content()));
}

/// A source without an end that counts what it gave.
struct Endless(Arc<AtomicU64>);

#[async_trait]
impl Source for Endless {
    async fn fetch(&self, _: &Descriptor, _: u64) -> Result<ByteStream, ContentError> {
        let given = Arc::clone(&self.0);
        let piece = move || {
            given.fetch_add(64 << 10, Ordering::Relaxed);
            Ok(Bytes::from_static(&[0; 64 << 10]))
        };
        Ok(stream::repeat_with(piece).boxed())
    }
}

#[tokio::test]
async fn no_more_is_read_than_is_taken() {
    let enough = |seen: &Seen| if seen.method == "PATCH" { 1 << 20 } else { usize::MAX };
    let silent = |seen: &Seen, _: &mut State| (seen.method == "PATCH").then(Reply::silence);
    let depot = Depot::reading(enough, silent).await;
    let given = Arc::new(AtomicU64::new(0));
    let descriptor = Descriptor::new(media_type::LAYER_TAR, Digest::of(b""), 40 << 30);
    let mut settings = chunked(20 << 30);
    settings.retry.tries = 1;
    let pushed = depot.remote(settings).push(&descriptor, &Endless(Arc::clone(&given)), &()).await;
    assert!(matches!(pushed.unwrap_err().cause, Cause::Network { .. }));
    let ahead = given.load(Ordering::Relaxed) - (1 << 20);
    // Nearly all of it is what the system keeps for the two ends of a connection.
    assert!(ahead < 16 << 20, "{ahead} bytes ahead");
}
