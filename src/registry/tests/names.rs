//! Tags, and what they name.

use super::*;

fn tags(names: &[&str]) -> Reply {
    Reply::new(200).body(json!({"name": "a/b", "tags": names}).to_string())
}

async fn error_of(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Server, ContentError) {
    let server = Server::start(handler).await;
    let error = remote(&server, "a/b").tags().await.unwrap_err();
    (server, error)
}

#[tokio::test]
async fn a_tag_names_a_manifest_or_nothing() {
    let server = Server::start(|seen| match seen.target.rsplit('/').next() {
        Some("good") => Reply::new(200).body(manifest()),
        Some("lie") => Reply::new(200).with("docker-content-digest", Digest::of(b"x").as_str()).body(manifest()),
        Some("secret") => Reply::new(403),
        _ => Reply::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
    })
    .await;
    let remote = remote(&server, "a/b:other");
    let (descriptor, bytes) = remote.tagged("good").await.unwrap().unwrap();
    assert_eq!((bytes, descriptor), (manifest(), Descriptor::of(media_type::MANIFEST, &manifest())));
    assert_eq!(remote.tagged("none").await.unwrap(), None);
    let error = remote.tagged("secret").await.unwrap_err();
    assert_eq!(status(&error.cause), "403 Forbidden");
    assert_eq!(error.to_string(), format!("cannot read the manifest of {}/a/b:secret", server.address));
    assert!(matches!(remote.tagged("lie").await.unwrap_err().cause, Cause::WrongDigest { .. }));
}

#[tokio::test]
async fn tags_come_in_pages() {
    let server = Server::start(|seen| match seen.target.split_once('?').map(|(_, query)| query) {
        None => tags(&["b", "10"]).with("link", r#"</v2/a/b/tags/list?last=10&n=2>; rel="next""#),
        // A registry that does not know by which port it is reached.
        Some("last=10&n=2") => tags(&["a", "9"]).with("link", "<https://127.0.0.1:1/v2/a/b/tags/list?last=9>;rel=next"),
        _ => Reply::new(200).body(r#"{"name":"a/b","tags":null}"#),
    })
    .await;
    assert_eq!(remote(&server, "a/b").tags().await.unwrap(), ["10", "9", "a", "b"]);
    let list = "GET /v2/a/b/tags/list";
    assert_eq!(server.lines(), [list.to_owned(), format!("{list}?last=10&n=2"), format!("{list}?last=9")]);
}

#[tokio::test]
async fn lists_end() {
    let (server, error) = error_of(|_| tags(&["a"]).with("link", r#"</v2/a/b/tags/list>; rel="next""#)).await;
    assert!(error.cause.to_string().ends_with("does not end"), "{}", error.cause);
    assert_eq!(server.lines().len(), 1);
    let (thief, asked) = (Server::start(|_| tags(&["x"])).await, AtomicUsize::new(0));
    let link = format!("<http://{}/v2/a/b/tags/list>; rel=next", thief.address.replace("127.0.0.1", "127.0.0.2"));
    let (_, error) = error_of(move |_| tags(&["a"]).with("link", link.as_str())).await;
    assert!(error.cause.to_string().ends_with("at another host, 127.0.0.2"), "{}", error.cause);
    let (server, error) = error_of(move |_| {
        let n = asked.fetch_add(1, Ordering::Relaxed);
        tags(&["a"]).with("link", format!("<list?n={n}>; rel=next"))
    })
    .await;
    assert!(error.cause.to_string().ends_with("does not end"), "{}", error.cause);
    assert_eq!(server.lines().len(), 1000);
}

#[tokio::test]
async fn what_is_no_list_of_tags_is_refused() {
    for (reply, expected) in [
        (Reply::new(200).body("<html>"), "not a list of tags"),
        (Reply::new(200).body(r#"{"tags":5}"#), "not a list of tags"),
        (tags(&["good", "../bad\n"]), r"lists `../bad\n`, which is not a tag"),
        (Reply::new(404), "404 Not Found"),
    ] {
        let (_, error) = error_of(move |_| reply.clone()).await;
        assert!(error.cause.to_string().contains(expected), "{}", error.cause);
    }
}
