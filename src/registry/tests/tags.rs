//! What a tag names in the end, whatever happens to the manifest on its way.

use std::sync::Mutex;

use super::*;

/// What a registry of these tests does otherwise than it should.
#[derive(Clone, Copy, Default)]
struct Ways {
    /// Takes `?tag=` with a manifest that is put under its digest.
    takes_tags: bool,
    /// Does not say what digest the manifest has that was put.
    silent: bool,
    /// Removes tags.
    removes: bool,
    /// Removes manifests with all their tags.
    removes_manifests: bool,
    /// This many manifests that are put under a tag arrive with a byte changed.
    changed: usize,
    /// The answers to those are lost.
    lost: bool,
    /// What arrives changed is refused when it is put under a digest.
    changes_all: bool,
}

/// What a registry has.
#[derive(Default)]
struct Kept {
    manifests: BTreeMap<String, Vec<u8>>,
    tags: BTreeMap<String, String>,
    changed: usize,
}

struct Registry {
    server: Server,
    kept: Arc<Mutex<Kept>>,
}

impl Registry {
    async fn new(ways: Ways) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let state = Arc::clone(&kept);
        let server = Server::start(move |seen| answer(&mut state.lock().unwrap(), ways, seen)).await;
        Self { server, kept }
    }

    /// The repository, to which the layers of an image have just been pushed, or had been long before.
    fn remote(&self, has_news: bool) -> Remote {
        let remote = remote(&self.server, "a/b");
        remote.has_news.store(has_news, Ordering::Relaxed);
        remote
    }

    /// What the tag names.
    fn tag(&self, tag: &str) -> Option<String> {
        self.kept.lock().unwrap().tags.get(tag).cloned()
    }

    /// Requests, with the manifest's own digest as `DIGEST`.
    fn lines(&self, digest: &Digest) -> Vec<String> {
        self.server
            .lines()
            .iter()
            .map(|line| line.replace("/v2/a/b/manifests/", "").replace(digest.as_str(), "DIGEST"))
            .collect()
    }
}

fn answer(kept: &mut Kept, ways: Ways, seen: &Seen) -> Reply {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let name = path.rsplit('/').next().unwrap().to_owned();
    let digest = if name.contains(':') { Some(name.clone()) } else { kept.tags.get(&name).cloned() };
    match seen.method.as_str() {
        "PUT" => put(kept, ways, seen, &name, query),
        "DELETE" if name.contains(':') && ways.removes_manifests => {
            kept.tags.retain(|_, digest| *digest != name);
            kept.manifests.remove(&name);
            Reply::new(202)
        }
        "DELETE" if !name.contains(':') && ways.removes => {
            kept.tags.remove(&name);
            Reply::new(202)
        }
        "DELETE" => Reply::new(405),
        _ => match digest.and_then(|digest| Some((kept.manifests.get(&digest)?, digest))) {
            Some((bytes, digest)) => Reply::new(200).with("docker-content-digest", digest).body(bytes.clone()),
            None => Reply::new(404),
        },
    }
}

fn put(kept: &mut Kept, ways: Ways, seen: &Seen, name: &str, query: &str) -> Reply {
    let (mut body, by_tag) = (seen.body.clone(), !name.contains(':'));
    let changes = kept.changed < ways.changed && (by_tag || ways.changes_all);
    if changes {
        kept.changed += 1;
        *body.last_mut().unwrap() ^= 4;
    }
    let digest = Digest::of(&body).to_string();
    if !by_tag && digest != name {
        return Reply::new(400);
    }
    kept.manifests.insert(digest.clone(), body);
    let mut reply = if ways.silent { Reply::new(201) } else { Reply::new(201).with("docker-content-digest", &digest) };
    if by_tag {
        kept.tags.insert(name.to_owned(), digest.clone());
    }
    for tag in query.split('&').filter_map(|pair| pair.strip_prefix("tag=")).filter(|_| ways.takes_tags) {
        kept.tags.insert(tag.to_owned(), digest.clone());
        reply = reply.with("OCI-Tag", tag);
    }
    if changes && ways.lost { Reply::hang_up() } else { reply }
}

fn image(text: &str) -> (Descriptor, Vec<u8>) {
    let config = Descriptor::of(media_type::CONFIG, b"{}");
    let json = json!({"annotations": {"a": text}, "config": config, "layers": [], "schemaVersion": 2, "z": "0"});
    // The last byte is a space: JSON also when it is changed.
    let bytes = format!("{json}\t").into_bytes();
    (Descriptor::of(media_type::MANIFEST, &bytes), bytes)
}

#[tokio::test]
async fn tags_are_set_together_with_the_digest_where_that_can_be() {
    let (descriptor, bytes) = image("one");
    let digest = &descriptor.digest;
    let able = Registry::new(Ways { takes_tags: true, changed: 9, ..Ways::default() }).await;
    let tags = ["1".to_owned(), "1.0".to_owned()];
    let remote = able.remote(true);
    remote.tag_all(&descriptor, &bytes.clone().into(), &tags).await.unwrap();
    assert_eq!(able.lines(digest), ["HEAD 1", "HEAD 1.0", "PUT DIGEST?tag=1&tag=1.0"]);
    assert_eq!((able.tag("1").as_deref(), able.tag("1.0").as_deref()), (Some(digest.as_str()), Some(digest.as_str())));
    // What is there is not put again, and what the registry can do is remembered.
    remote.tag(&descriptor, &bytes, "1.0").await.unwrap();
    remote.tag(&descriptor, &bytes, "2").await.unwrap();
    assert_eq!(able.lines(digest)[3..], ["HEAD 1.0", "HEAD 2", "PUT DIGEST?tag=2"]);

    let old = Registry::new(Ways::default()).await;
    old.remote(true).tag_all(&descriptor, &bytes.clone().into(), &tags).await.unwrap();
    assert_eq!(old.lines(digest), ["HEAD 1", "HEAD 1.0", "PUT DIGEST?tag=1&tag=1.0", "PUT 1", "PUT 1.0"]);
    assert!(old.server.seen().iter().all(|seen| seen.method != "PUT" || seen.body == bytes));
    assert!(
        old.server
            .seen()
            .iter()
            .all(|seen| seen.method != "PUT" || seen.header("content-type") == media_type::MANIFEST)
    );
    old.remote(true).tag(&descriptor, &bytes, "2").await.unwrap();
    assert_eq!(old.lines(digest)[5..], ["HEAD 2", "PUT 2"]);
    assert!(old.remote(true).tag(&descriptor, b"{}", "1").await.is_err());
}

#[tokio::test]
async fn an_image_that_was_there_takes_one_request() {
    let (descriptor, bytes) = image("one");
    for (ways, requests) in [
        (Ways::default(), &["PUT t"][..]),
        (Ways { changed: 1, ..Ways::default() }, &["PUT t", "PUT t"]),
        (
            Ways { changed: 99, takes_tags: true, ..Ways::default() },
            &["PUT t", "PUT t", "PUT t", "PUT t", "PUT DIGEST?tag=t"],
        ),
    ] {
        let registry = Registry::new(ways).await;
        registry.remote(false).tag(&descriptor, &bytes, "t").await.unwrap();
        assert_eq!(registry.lines(&descriptor.digest), requests);
        assert_eq!(registry.tag("t").as_deref(), Some(descriptor.digest.as_str()));
    }
    let registry = Registry::new(Ways { changed: 99, removes: true, ..Ways::default() }).await;
    let error = registry.remote(false).tag(&descriptor, &bytes, "t").await.unwrap_err();
    assert!(error.cause.to_string().ends_with("; `t` was removed again"), "{}", error.cause);
    assert_eq!(registry.tag("t"), None);
}

#[tokio::test]
async fn what_was_changed_on_its_way_is_put_again() {
    let (descriptor, bytes) = image("one");
    for silent in [false, true] {
        for lost in [false, true] {
            let registry = Registry::new(Ways { silent, lost, changed: 2, ..Ways::default() }).await;
            registry.remote(true).tag(&descriptor, &bytes, "t").await.unwrap();
            assert_eq!(registry.tag("t").as_deref(), Some(descriptor.digest.as_str()), "{silent} {lost}");
        }
    }
}

#[tokio::test]
async fn a_tag_that_can_not_be_set_right_is_as_it_was_before() {
    let (one, two) = (image("one"), image("two"));
    let changed = Ways { changed: 4, ..Ways::default() };
    for ways in [
        Ways { removes: true, changed: 99, ..changed },
        Ways { removes_manifests: true, changed: 99, ..changed },
        Ways { removes: true, changed: 99, lost: true, ..changed },
    ] {
        let registry = Registry::new(ways).await;
        let error = registry.remote(true).tag(&one.0, &one.1, "t").await.unwrap_err();
        assert!(error.cause.to_string().ends_with("; `t` was removed again"), "{}", error.cause);
        assert_eq!(registry.tag("t"), None);
    }
    let registry = Registry::new(changed).await;
    registry.kept.lock().unwrap().changed = 99;
    registry.remote(true).tag(&one.0, &one.1, "t").await.unwrap();
    registry.kept.lock().unwrap().changed = 0;
    let error = registry.remote(true).tag(&two.0, &two.1, "t").await.unwrap_err();
    let said = format!("; ociforge restored `t`, which names {} again", one.0.digest);
    assert!(error.cause.to_string().ends_with(&said), "{}", error.cause);
    assert_eq!(registry.tag("t").as_deref(), Some(one.0.digest.as_str()));

    // One that takes nothing back is told of.
    let registry = Registry::new(Ways { changed: 99, ..changed }).await;
    let error = registry.remote(true).tag(&one.0, &one.1, "t").await.unwrap_err();
    assert!(
        error.cause.to_string().contains(
            "which differs from the pushed manifest, and \
        127.0.0.1:"
        ),
        "{}",
        error.cause
    );
    assert!(error.cause.to_string().contains("refuses to restore it"), "{}", error.cause);
}

#[tokio::test]
async fn where_nothing_arrives_unchanged_a_registry_that_takes_tags_has_none_touched() {
    let ((old, old_bytes), (descriptor, bytes)) = (image("old"), image("new"));
    let registry = Registry::new(Ways { takes_tags: true, changed: 9, changes_all: true, ..Ways::default() }).await;
    registry.kept.lock().unwrap().changed = 9;
    let remote = registry.remote(true);
    let tags = ["t".to_owned(), "u".to_owned()];
    remote.tag_all(&old, &old_bytes.into(), &tags).await.unwrap();
    registry.kept.lock().unwrap().changed = 0;
    for tags in [&tags[..], &tags[..1]] {
        let error = remote.tag_all(&descriptor, &bytes.clone().into(), tags).await.unwrap_err();
        assert_eq!(status(&error.cause), "400 Bad Request");
        assert_eq!(registry.tag("t").as_deref(), Some(old.digest.as_str()));
    }
}

#[tokio::test]
async fn what_somebody_else_puts_is_left_alone() {
    let ((descriptor, bytes), other) = (image("one"), image("other"));
    let theirs = other.0.digest.to_string();
    let answered = theirs.clone();
    let server = Server::start(move |seen| match (seen.method.as_str(), seen.target.ends_with("/t")) {
        ("PUT", true) => Reply::new(403),
        ("PUT", _) => Reply::new(201),
        ("DELETE", _) => panic!("somebody else's is removed"),
        (_, true) if seen.method == "HEAD" => Reply::new(200).with("docker-content-digest", &answered),
        _ => Reply::new(200).body(other.1.clone()),
    })
    .await;
    let remote = remote(&server, "a/b");
    remote.has_news.store(true, Ordering::Relaxed);
    let error = remote.tag(&descriptor, &bytes, "t").await.unwrap_err();
    assert_eq!(status(&error.cause), "403 Forbidden");
    assert!(server.lines().iter().all(|line| !line.starts_with("DELETE")), "{theirs}");
}
