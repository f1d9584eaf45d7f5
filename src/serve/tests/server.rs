use super::*;
use std::time::{Duration, Instant};

#[tokio::test]
async fn the_root_and_what_is_nowhere() {
    let registry = Registry::new().await;
    for path in ["/v2/", "/v2"] {
        let root = registry.get(path).await;
        assert_eq!(
            (root.status().as_u16(), header(&root, "docker-distribution-api-version").as_str()),
            (200, "registry/2.0")
        );
    }
    assert_eq!(registry.status("GET", "/").await, 404);
    assert_eq!(registry.status("GET", "/v2/a/b").await, 404);
    assert_eq!(code(registry.get("/v2/A/tags/list").await).await, "NAME_INVALID");
    for (method, path, allow) in [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/_catalog", "GET, HEAD"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("PATCH", "/v2/a/manifests/t", "GET, HEAD, PUT, DELETE"),
    ] {
        let refused = registry.send(method, path).await;
        assert_eq!((refused.status().as_u16(), header(&refused, "allow").as_str()), (405, allow));
    }
}

#[tokio::test]
async fn read_only_means_that_nothing_changes() {
    let first = Registry::new().await;
    let image = first.image(b"layer").await;
    first.put("t", &image).await;
    let registry = Registry::over(first.layout.clone(), true).await;
    let before = std::fs::read(first.layout.root().join("index.json")).unwrap();
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/t").await, 200);
    for (method, path) in [
        ("POST", "/v2/a/b/blobs/uploads/"),
        ("PUT", "/v2/a/b/manifests/u"),
        ("DELETE", "/v2/a/b/manifests/t"),
        ("DELETE", &format!("/v2/a/b/blobs/{}", Digest::of(b"layer"))),
    ] {
        let refused = registry.send(method, path).await;
        assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (405, "UNSUPPORTED"), "{method} {path}");
    }
    assert_eq!(std::fs::read(first.layout.root().join("index.json")).unwrap(), before);
}

#[tokio::test]
async fn an_upload_outlives_the_server() {
    let first = Registry::new().await;
    let location = first.begin("").await;
    first.request("PATCH", &location).body("hel").send().await.unwrap();
    first.stop.send(()).unwrap();
    first.running.await.unwrap().unwrap();
    let second = Registry::over(first.layout.clone(), false).await;
    assert_eq!(header(&second.get(&location).await, "range"), "0-2");
    let close = format!("{location}?digest={}", Digest::of(b"hello"));
    assert_eq!(second.request("PUT", &close).body("lo").send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn two_servers_on_one_layout() {
    let first = Registry::new().await;
    let second = Registry::over(first.layout.clone(), false).await;
    let image = first.image(b"layer").await;
    let mut puts = Vec::new();
    for n in 0..10 {
        let tags = [format!("a{n}"), format!("b{n}")];
        puts.push(
            futures_util::future::join(async { first.put(&tags[0], &image).await.status() }, async {
                second.put(&tags[1], &image).await.status()
            })
            .await,
        );
    }
    assert!(puts.iter().all(|(one, two)| *one == 201 && *two == 201));
    assert_eq!(second.json("/v2/a/b/tags/list").await["tags"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn the_observer_sees_requests() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    registry.send("HEAD", "/v2/a/b/manifests/t").await;
    registry.get("/v2/a/b/manifests/t?x=y").await;
    registry.get("/v2/a/b/manifests/other").await;
    let seen = registry.seen.lock().unwrap();
    let length = image.to_string().len() as u64;
    let put = &seen[seen.len() - 4];
    assert_eq!((put.method.as_str(), put.status, put.received, put.sent), ("PUT", 201, length, 0));
    let head = &seen[seen.len() - 3];
    assert_eq!((head.method.as_str(), head.status, head.sent), ("HEAD", 200, 0));
    let get = &seen[seen.len() - 2];
    assert_eq!((get.path.as_str(), get.sent, &get.error), ("/v2/a/b/manifests/t?x=y", length, &None));
    let error = seen[seen.len() - 1].error.as_deref();
    assert_eq!(error, Some("the repository a/b has no manifest other"));
}

#[tokio::test]
async fn the_end_waits_for_requests_but_not_for_ever() {
    let registry = Registry::new().await;
    let location = registry.begin("").await;
    let (sender, receiver) = futures_util::future::poll_fn(|_| {
        std::task::Poll::Ready(tokio::sync::mpsc::channel::<std::io::Result<&'static str>>(1))
    })
    .await;
    let body =
        futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let request = registry.request("PATCH", &location).body(reqwest::Body::wrap_stream(body)).send();
    let request = tokio::spawn(request);
    sender.send(Ok("hello")).await.unwrap();
    let arrived = || {
        let uploads = std::fs::read_dir(registry.layout.root().join(".uploads")).unwrap().flatten();
        uploads.map(|upload| upload.metadata().unwrap().len()).sum::<u64>() >= 5
    };
    while !arrived() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let since = Instant::now();
    registry.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!registry.running.is_finished());
    drop(sender);
    assert_eq!(request.await.unwrap().unwrap().status(), 202);
    registry.running.await.unwrap().unwrap();
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

#[tokio::test]
async fn an_address_in_use_is_explained() {
    use crate::error::Explain;
    let registry = Registry::new().await;
    let address = registry.base.strip_prefix("http://").unwrap().parse().unwrap();
    let error = Server::bind(registry.layout.clone(), address, ServeOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    assert!(error.hint().unwrap().contains("--listen"));
}
