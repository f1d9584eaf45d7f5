//! Referrers: listed by the registry, or by a tag.

use std::sync::Mutex;

use super::*;

fn index(entries: &[Descriptor]) -> String {
    json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries}).to_string()
}

fn subject() -> Descriptor {
    Descriptor::of(media_type::MANIFEST, b"subject")
}

fn signature(of: &str) -> (Descriptor, Vec<u8>) {
    let config = Descriptor::of("application/vnd.oci.empty.v1+json", b"{}");
    let bytes = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": "signature/x", "config": config,
        "layers": [], "subject": subject(), "annotations": {"of": of},
    });
    let bytes = bytes.to_string().into_bytes();
    (Descriptor::of(media_type::MANIFEST, &bytes), bytes)
}

/// A registry without a list of referrers, that keeps what is put under tags.
async fn old_registry() -> Server {
    let tags: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
    Server::start(move |seen| {
        let mut tags = tags.lock().unwrap();
        match (seen.method.as_str(), tags.get(&seen.target)) {
            ("PUT", _) => {
                tags.insert(seen.target.split('?').next().unwrap().to_owned(), seen.body.clone());
                Reply::new(201)
            }
            ("GET" | "HEAD", Some(bytes)) => Reply::new(200)
                .with("content-type", media_type::INDEX)
                .with("docker-content-digest", Digest::of(bytes).as_str())
                .body(bytes.clone()),
            _ => Reply::new(404),
        }
    })
    .await
}

fn puts(server: &Server) -> usize {
    server.lines().iter().filter(|line| line.starts_with("PUT")).count()
}

#[tokio::test]
async fn the_registry_lists_referrers_in_pages() {
    let [one, two] = ["one", "two"].map(|of| signature(of).0);
    let layer = layer(b"x");
    let pages = [index(&[two.clone(), layer, one.clone()]), index(std::slice::from_ref(&one))];
    let server = Server::start(move |seen| match seen.target.contains("page=2") {
        true => Reply::new(200).body(pages[1].clone()),
        false => Reply::new(200).with("link", "<?page=2>; rel=\"next\"").body(pages[0].clone()),
    })
    .await;
    let mut expected = [one, two];
    expected.sort_by(|a, b| a.digest.cmp(&b.digest));
    assert_eq!(remote(&server, "a/b").referrers(&subject()).await.unwrap(), expected);
    let first = format!("GET /v2/a/b/referrers/{}", subject().digest);
    assert_eq!(server.lines(), [first.clone(), first + "?page=2"]);
    assert_eq!(server.seen()[0].header("accept"), media_type::INDEX);
}

#[tokio::test]
async fn a_registry_without_such_a_list_is_asked_for_the_tag() {
    let tag = subject().digest.as_str().replace(':', "-");
    let listed = signature("one").0;
    for reply in [Reply::new(404), Reply::new(400), Reply::new(200).body("<html>welcome"), Reply::new(200).body("{}")] {
        let (tagged, body) = (format!("/v2/a/b/manifests/{tag}"), index(std::slice::from_ref(&listed)));
        let server = Server::start(move |seen| match seen.target == tagged {
            true => Reply::new(200).body(body.clone()),
            false => reply.clone(),
        })
        .await;
        assert_eq!(remote(&server, "a/b").referrers(&subject()).await.unwrap(), std::slice::from_ref(&listed));
    }
    let server = Server::start(|_| Reply::new(404)).await;
    assert_eq!(remote(&server, "a/b").referrers(&subject()).await.unwrap(), []);
    let server = Server::start(|_| Reply::new(403)).await;
    let error = remote(&server, "a/b").referrers(&subject()).await.unwrap_err();
    assert_eq!(status(&error.cause), "403 Forbidden");
}

#[tokio::test]
async fn referrers_are_entered_under_the_tag_where_the_registry_does_not_list_them() {
    let server = old_registry().await;
    let remote = remote(&server, "a/b");
    let all = ["one", "two", "three", "four"].map(signature);
    let kept = all.iter().map(|(descriptor, bytes)| remote.keep(descriptor, bytes));
    for kept in futures_util::future::join_all(kept).await {
        kept.unwrap();
    }
    let found = remote.referrers(&subject()).await.unwrap();
    assert_eq!(found.len(), 4);
    assert!(found.is_sorted_by_key(|found| found.digest.as_str()));
    for (descriptor, _) in &all {
        let entry = found.iter().find(|found| found.digest == descriptor.digest).unwrap();
        assert_eq!((entry.other["artifactType"].as_str(), entry.size), (Some("signature/x"), descriptor.size));
        assert!(entry.annotations.contains_key("of"));
    }
    assert_eq!(puts(&server), 8);
    // The same again is only put.
    remote.tag(&all[0].0, &all[0].1, "signed").await.unwrap();
    assert_eq!(puts(&server), 9);
}

#[tokio::test]
async fn nothing_is_entered_where_the_registry_lists_referrers_or_there_is_no_subject() {
    let server = Server::start(|_| Reply::new(201).with("OCI-Subject", subject().digest.as_str())).await;
    let (descriptor, bytes) = signature("one");
    remote(&server, "a/b").keep(&descriptor, &bytes).await.unwrap();
    let old = old_registry().await;
    remote(&old, "a/b").keep(&Descriptor::of(media_type::MANIFEST, &manifest()), &manifest()).await.unwrap();
    assert_eq!((server.lines().len(), old.lines().len()), (1, 1));
}

#[tokio::test]
async fn what_else_the_tag_names_is_left_alone() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "PUT" => Reply::new(201),
        _ => Reply::new(200).body(manifest()),
    })
    .await;
    let (descriptor, bytes) = signature("one");
    let error = remote(&server, "a/b").keep(&descriptor, &bytes).await.unwrap_err();
    assert!(error.cause.to_string().contains("does not name an index"), "{}", error.cause);
    assert_eq!(puts(&server), 1);
}
