use super::*;

const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn digest() -> Digest {
    Digest::of(CONTENT)
}

/// Whether the blob is there, by all ways to ask.
async fn pullable(registry: &Registry, digest: &Digest, content: &[u8]) -> bool {
    let path = format!("/v2/other/blobs/{digest}");
    let head = registry.send("HEAD", &path).await;
    if head.status() == 404 {
        assert_eq!(registry.status("GET", &path).await, 404);
        return false;
    }
    assert_eq!(head.status(), 200);
    assert_eq!(header(&head, "content-length"), content.len().to_string());
    assert_eq!(header(&head, "docker-content-digest"), digest.as_str());
    let get = registry.get(&path).await;
    assert_eq!(header(&get, "docker-content-digest"), digest.as_str());
    assert_eq!(get.bytes().await.unwrap(), content);
    true
}

#[tokio::test]
async fn post_then_put() {
    let registry = Registry::new().await;
    for (content, digest) in
        [(CONTENT, digest()), (b"", Digest::of(b"")), (b"{}", Digest::of(b"{}")), (CONTENT, sha512(CONTENT))]
    {
        let location = registry.begin("").await;
        let put = registry.request("PUT", &format!("{location}?digest={digest}")).body(content).send().await.unwrap();
        assert_eq!(put.status(), 201);
        assert_eq!(header(&put, "docker-content-digest"), digest.as_str());
        assert_eq!(registry.status("GET", &header(&put, "location")).await, 200);
        assert!(pullable(&registry, &digest, content).await);
        assert_eq!(registry.status("DELETE", &format!("/v2/a/b/blobs/{digest}")).await, 202);
        assert_eq!(registry.status("DELETE", &format!("/v2/a/b/blobs/{digest}")).await, 404);
        assert!(!pullable(&registry, &digest, content).await);
        // The upload ended.
        assert_eq!(registry.status("GET", &location).await, 404);
    }
    assert_eq!(registry.uploads(), 0);
}

#[tokio::test]
async fn a_single_post() {
    let registry = Registry::new().await;
    for digest in [digest(), sha512(CONTENT)] {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        let post = registry.request("POST", &path).body(CONTENT).send().await.unwrap();
        assert_eq!((post.status().as_u16(), header(&post, "location")), (201, format!("/v2/a/blobs/{digest}")));
        assert!(pullable(&registry, &digest, CONTENT).await);
    }
    let wrong = registry.request("POST", &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x")));
    let wrong = wrong.body(CONTENT).send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), code(wrong).await.as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(registry.uploads(), 0);
}

/// Sends a chunk that begins at `start`.
async fn chunk(registry: &Registry, method: &str, location: &str, start: usize, content: &[u8]) -> Response {
    let range = format!("{start}-{}", start + content.len() - 1);
    registry.request(method, location).header("content-range", range).body(content.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn chunks_in_order() {
    let registry = Registry::new().await;
    for query in ["", "?digest-algorithm=sha512"] {
        for last_in_put in [false, true] {
            let digest = if query.is_empty() { digest() } else { sha512(CONTENT) };
            let mut location = registry.begin(query).await;
            for (start, end) in [(0, 10), (10, 30), (30, 36)] {
                if last_in_put && end == 36 {
                    break;
                }
                let patch = chunk(&registry, "PATCH", &location, start, &CONTENT[start..end]).await;
                assert_eq!((patch.status().as_u16(), header(&patch, "range")), (202, format!("0-{}", end - 1)));
                location = header(&patch, "location");
                let status = registry.get(&location).await;
                assert_eq!((status.status().as_u16(), header(&status, "range")), (204, format!("0-{}", end - 1)));
            }
            let close = format!("{location}?digest={digest}");
            let put = if last_in_put {
                chunk(&registry, "PUT", &close, 30, &CONTENT[30..]).await
            } else {
                registry.send("PUT", &close).await
            };
            assert_eq!(put.status(), 201);
            assert!(pullable(&registry, &digest, CONTENT).await);
            registry.send("DELETE", &format!("/v2/a/b/blobs/{digest}")).await;
        }
    }
}

#[tokio::test]
async fn chunks_out_of_order_are_refused_and_the_upload_goes_on() {
    let registry = Registry::new().await;
    let location = registry.begin("").await;
    let refused = chunk(&registry, "PATCH", &location, 5, b"xx").await;
    assert_eq!((refused.status().as_u16(), header(&refused, "location")), (416, location.clone()));
    assert_eq!(header(&refused, "range"), "0-0");
    assert_eq!(chunk(&registry, "PATCH", &location, 0, &CONTENT[..10]).await.status(), 202);
    for start in [0, 5, 9, 11] {
        let refused = chunk(&registry, "PATCH", &location, start, b"xx").await;
        assert_eq!((refused.status().as_u16(), header(&refused, "range")), (416, "0-9".into()));
    }
    let close = format!("{location}?digest={}", digest());
    assert_eq!(chunk(&registry, "PUT", &close, 20, &CONTENT[20..]).await.status(), 416);
    assert_eq!(header(&registry.get(&location).await, "range"), "0-9");
    assert_eq!(chunk(&registry, "PUT", &close, 10, &CONTENT[10..]).await.status(), 201);
    assert!(pullable(&registry, &digest(), CONTENT).await);
}

#[tokio::test]
async fn a_chunk_of_another_length_than_it_says_leaves_nothing() {
    let registry = Registry::new().await;
    let location = registry.begin("").await;
    chunk(&registry, "PATCH", &location, 0, &CONTENT[..10]).await;
    for (range, streamed) in [("10-11", false), ("10-11", true), ("10-19", true), ("bytes 10-12/36", false)] {
        let request = registry.request("PATCH", &location).header("content-range", range);
        let body = match streamed {
            false => reqwest::Body::from("xxx"),
            true => reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("xxx")])),
        };
        assert_eq!(request.body(body).send().await.unwrap().status(), 400, "{range}");
        assert_eq!(header(&registry.get(&location).await, "range"), "0-9");
    }
    let close = format!("{location}?digest={}", digest());
    assert_eq!(chunk(&registry, "PUT", &close, 10, &CONTENT[10..]).await.status(), 201);
}

#[tokio::test]
async fn a_stream_without_ranges() {
    let registry = Registry::new().await;
    let location = registry.begin("").await;
    for piece in [&CONTENT[..7], &CONTENT[7..]] {
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(piece)]));
        assert_eq!(registry.request("PATCH", &location).body(body).send().await.unwrap().status(), 202);
    }
    assert_eq!(registry.status("PUT", &format!("{location}?digest={}", digest())).await, 201);
    assert!(pullable(&registry, &digest(), CONTENT).await);
}

#[tokio::test]
async fn a_wrong_digest_ends_the_upload_and_a_malformed_one_does_not() {
    let registry = Registry::new().await;
    for in_put in [true, false] {
        let location = registry.begin("").await;
        for bad in ["", "?digest=", "?digest=sha256:bad", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"] {
            let refused = registry.send("PUT", &format!("{location}{bad}")).await;
            assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (400, "DIGEST_INVALID"));
        }
        let mut body = CONTENT;
        if !in_put {
            registry.request("PATCH", &location).body(CONTENT).send().await.unwrap();
            body = b"";
        }
        let close = format!("{location}?digest={}", Digest::of(b"other"));
        let refused = registry.request("PUT", &close).body(body).send().await.unwrap();
        assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (400, "DIGEST_INVALID"));
        let gone = registry.get(&location).await;
        assert_eq!((gone.status().as_u16(), code(gone).await.as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
        assert!(!pullable(&registry, &digest(), CONTENT).await);
        assert!(!pullable(&registry, &Digest::of(b"other"), b"other").await);
    }
    assert_eq!(registry.uploads(), 0);
}

#[tokio::test]
async fn an_upload_is_given_up() {
    let registry = Registry::new().await;
    let location = registry.begin("").await;
    registry.request("PATCH", &location).body(CONTENT).send().await.unwrap();
    assert_eq!(registry.status("DELETE", &location).await, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(registry.status(method, &location).await, 404);
    }
    assert_eq!(registry.status("PUT", &format!("{location}?digest={}", digest())).await, 404);
    assert_eq!(registry.uploads(), 0);
}

#[tokio::test]
async fn mounts() {
    let registry = Registry::new().await;
    registry.blob("x", CONTENT).await;
    for from in ["&from=a/b", ""] {
        let mounted = registry.send("POST", &format!("/v2/c/blobs/uploads/?mount={}{from}", digest())).await;
        let location = format!("/v2/c/blobs/{}", digest());
        assert_eq!((mounted.status().as_u16(), header(&mounted, "location")), (201, location));
    }
    let unknown = format!("?mount={}&from=c", Digest::of(b"unknown"));
    let location = registry.begin(&unknown).await;
    let close = format!("{location}?digest={}", Digest::of(b"unknown"));
    assert_eq!(registry.request("PUT", &close).body("unknown").send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn ranges() {
    let registry = Registry::new().await;
    let content: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    let blob = registry.blob("x", &content).await;
    let path = format!("/v2/a/blobs/{}", blob.digest);
    let length = content.len();
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, length),
        ("bytes=-500", length - 500, length),
        ("bytes=690000-9999999", 690_000, length),
        ("bytes=262143-600000", 262_143, 600_001),
    ] {
        let part = registry.request("GET", &path).header("range", range).send().await.unwrap();
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(header(&part, "content-range"), format!("bytes {start}-{}/{length}", end - 1));
        assert_eq!(header(&part, "content-length"), (end - start).to_string());
        assert_eq!(part.bytes().await.unwrap(), content[start..end]);
    }
    for range in ["bytes=500-0", "bytes=700000-", "bytes=800000-900000"] {
        let none = registry.request("GET", &path).header("range", range).send().await.unwrap();
        assert_eq!((none.status().as_u16(), header(&none, "content-range")), (416, format!("bytes */{length}")));
    }
    let unchanged = registry.request("GET", &path).header("if-none-match", format!("\"{}\"", blob.digest));
    assert_eq!(unchanged.send().await.unwrap().status(), 304);
    let changed = registry.request("GET", &path).header("range", "bytes=0-1").header("if-range", "\"old\"");
    assert_eq!(changed.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_blob_that_a_manifest_needs_stays() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    let blob = format!("/v2/other/blobs/{}", Digest::of(b"layer"));
    assert_eq!(registry.status("DELETE", &blob).await, 405);
    assert_eq!(registry.status("DELETE", &format!("/v2/a/b/manifests/{}", digest_of(&image))).await, 202);
    assert_eq!(registry.status("DELETE", &blob).await, 202);
}

/// A body that sends `content` and then breaks the connection.
fn cut_after(content: &'static [u8]) -> impl futures_util::Stream<Item = std::io::Result<&'static [u8]>> + Send {
    let broken = futures_util::stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        Err(std::io::Error::other("cut"))
    });
    futures_util::StreamExt::chain(futures_util::stream::iter([Ok(content)]), broken)
}

#[tokio::test]
async fn a_body_that_is_cut_off_can_be_continued() {
    let registry = Registry::new().await;
    let location = registry.begin("").await;
    let body = reqwest::Body::wrap_stream(cut_after(&CONTENT[..10]));
    assert!(registry.request("PATCH", &location).body(body).send().await.is_err());
    // The server may notice later than the client. A request on the upload waits for the one before.
    for _ in 0..1000 {
        if header(&registry.get(&location).await, "range") == "0-9" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let close = format!("{location}?digest={}", digest());
    assert_eq!(chunk(&registry, "PUT", &close, 10, &CONTENT[10..]).await.status(), 201);
    let single = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"never"));
    let body = reqwest::Body::wrap_stream(cut_after(b"nev"));
    assert!(registry.request("POST", &single).body(body).send().await.is_err());
    for _ in 0..1000 {
        if registry.uploads() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("an upload that nobody knows is left");
}

#[tokio::test]
async fn many_at_once() {
    let registry = Registry::new().await;
    let same = futures_util::future::join_all((0..8).map(|_| registry.blob("x", CONTENT)));
    let contents: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 500_000]).collect();
    let different = futures_util::future::join_all(contents.iter().map(|content| registry.blob("x", content)));
    futures_util::future::join(same, different).await;
    for content in &contents {
        assert!(pullable(&registry, &Digest::of(content), content).await);
    }
    assert_eq!(registry.uploads(), 0);
}
