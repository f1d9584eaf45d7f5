//! Manifests that are what they say, and others.

use super::*;

#[tokio::test]
async fn a_manifest_is_what_it_says() {
    let typed = json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_LIST, "manifests": []}).to_string();
    for (reply, expected) in [
        (Reply::new(200).with("content-type", media_type::MANIFEST).body(manifest()), media_type::MANIFEST),
        (Reply::new(200).with("content-type", "text/plain; charset=utf-8").body(manifest()), media_type::MANIFEST),
        (Reply::new(200).with("content-type", media_type::INDEX).body(typed.clone()), media_type::DOCKER_LIST),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let (descriptor, bytes) = remote(&server, "a/b:1.0").resolve().await.unwrap();
        assert_eq!((descriptor.media_type.as_str(), &descriptor.digest), (expected, &Digest::of(&bytes)));
        assert_eq!(server.lines(), ["GET /v2/a/b/manifests/1.0"]);
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_the_right_one_is_refused() {
    let other = Digest::of(b"other");
    let lying = Reply::new(200).with("docker-content-digest", other.as_str()).body(manifest());
    let server = Server::start(move |_| lying.clone()).await;
    for name in ["a/b:1.0".to_owned(), format!("a/b@{other}")] {
        let error = remote(&server, &name).resolve().await.unwrap_err();
        assert!(matches!(error.cause, Cause::WrongDigest { .. }), "{}", error.cause);
    }
    let honest = format!("a/b:1.0@{}", Digest::of(&manifest()));
    assert_eq!(remote(&server, &honest).resolve().await.unwrap().1, manifest());
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    for (body, expected) in [
        (b"<html>".to_vec(), "not a manifest"),
        (b"{}".to_vec(), "not a manifest"),
        (br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(), "schema 1"),
        (vec![b' '; 17 << 20], "the limit is"),
    ] {
        let server = Server::start(move |_| Reply::new(200).body(body.clone())).await;
        let error = remote(&server, "a/b").resolve().await.unwrap_err();
        assert!(error.cause.to_string().contains(expected), "{}", error.cause);
    }
}

#[tokio::test]
async fn an_unknown_manifest_has_a_hint() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let server = Server::start(move |_| Reply::new(404).body(body)).await;
    let error = remote(&server, "a/b:1.0").resolve().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read the manifest of {}/a/b:1.0", server.address));
    assert!(error.cause.to_string().ends_with("answered 404 Not Found: manifest unknown"));
    assert_eq!(error.hint().unwrap(), "check the repository's name and the tag");
}

#[tokio::test]
async fn a_media_type_that_no_header_can_have_is_refused() {
    let server = Server::start(|_| Reply::new(201)).await;
    let odd = Descriptor::of("a\nb", &manifest());
    let error = remote(&server, "a/b").keep(&odd, &manifest()).await.unwrap_err();
    assert!(error.cause.to_string().contains(r"`a\nb`"), "{}", error.cause);
}
