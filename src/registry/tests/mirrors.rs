//! Mirrors: which are asked, and in which order.

use std::sync::atomic::Ordering;

use super::*;

/// A client to which `r.example` is `primary` with these mirrors, each followed by more of its table.
fn client(primary: &Server, mirrors: &[(&Server, &str)]) -> Client {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registries.conf");
    let mut text = format!("[[registry]]\nprefix = 'r.example'\nlocation = '{}'\n", primary.address);
    for (mirror, more) in mirrors {
        text += &format!("[[registry.mirror]]\nlocation = '{}'\n{more}\n", mirror.address);
    }
    fs::write(&file, text).unwrap();
    Client::new(Settings { registries_conf: vec![file], ..settings() }).unwrap()
}

fn repository(client: &Client) -> Remote {
    client.repository(&"r.example/a/b:1".parse().unwrap())
}

#[tokio::test]
async fn a_download_goes_on_at_the_next_place() {
    let breaks =
        |most| move |seen: &Seen| if seen.offset() > 0 { Reply::hang_up() } else { truncated(seen, &content(), most) };
    let first = Server::start(breaks(300_000)).await;
    let second = Server::start(|_| Reply::new(404)).await;
    let primary = Server::start(|seen| truncated(seen, &content(), 800_000)).await;
    let remote = repository(&client(&primary, &[(&first, ""), (&second, "")]));
    assert_eq!(read(&remote, &layer(&content()), 0).await.unwrap(), content());
    assert_eq!((second.lines().len(), primary.lines().len()), (1, 1));
    assert_eq!(primary.seen()[0].offset(), second.seen()[0].offset());
    assert!((1..=300_000).contains(&primary.seen()[0].offset()));
    // It stays with the place that had it.
    assert_eq!(read(&remote, &layer(&content()), 5).await.unwrap(), content()[5..]);
    assert_eq!((second.lines().len(), primary.lines().len()), (1, 2));
}

#[tokio::test]
async fn a_download_that_breaks_off_everywhere_is_an_error() {
    let first = Server::start(|seen| truncated(seen, &content(), if seen.offset() > 0 { 0 } else { 300_000 })).await;
    let primary = Server::start(|_| Reply::new(404)).await;
    let remote = repository(&client(&primary, &[(&first, "")]));
    assert_eq!(status(&read(&remote, &layer(&content()), 0).await.unwrap_err()), "404 Not Found");
}

#[tokio::test]
async fn mirrors_are_asked_for_what_they_are_there_for() {
    let [tags, digests, primary] = [(); 3].map(|()| Server::start(|_| Reply::new(200).body(manifest())));
    let (tags, digests, primary) = tokio::join!(tags, digests, primary);
    let mirrors = [(&digests, "pull-from-mirror = 'digest-only'"), (&tags, "pull-from-mirror = 'tag-only'")];
    let client = client(&primary, &mirrors);
    repository(&client).resolve().await.unwrap();
    assert_eq!((tags.lines().len(), digests.lines().len(), primary.lines().len()), (1, 0, 0));
    let name = format!("r.example/a/b@{}", Digest::of(&manifest()));
    client.repository(&name.parse().unwrap()).resolve().await.unwrap();
    assert_eq!((tags.lines().len(), digests.lines().len(), primary.lines().len()), (1, 1, 0));
    // What belongs to a manifest is where the manifest was.
    let remote = repository(&client);
    remote.tagged("1").await.unwrap().unwrap();
    read(&remote, &Descriptor::of(media_type::MANIFEST, &manifest()), 0).await.unwrap();
    assert_eq!((tags.lines().len(), digests.lines().len(), primary.lines().len()), (3, 1, 0));
}

#[tokio::test]
async fn the_repository_itself_says_what_is_not_there() {
    let broken = Server::start(|_| Reply::new(500)).await;
    let empty = Server::start(|_| Reply::new(404)).await;
    assert_eq!(repository(&client(&empty, &[(&broken, "")])).tagged("1").await.unwrap(), None);
    let error = repository(&client(&broken, &[(&empty, "")])).tagged("1").await.unwrap_err();
    assert_eq!(status(&error.cause), "500 Internal Server Error");
    let subject = Descriptor::of(media_type::MANIFEST, &manifest());
    assert_eq!(repository(&client(&empty, &[(&broken, "")])).referrers(&subject).await.unwrap(), []);
    assert!(repository(&client(&broken, &[(&empty, "")])).referrers(&subject).await.is_err());
}

#[tokio::test]
async fn the_repository_itself_says_what_is_wrong_even_when_asked_first() {
    let broken = Server::start(|_| Reply::new(500)).await;
    let empty = Server::start(|_| Reply::new(404)).await;
    let remote = repository(&client(&broken, &[(&empty, "")]));
    remote.serving.store(1, Ordering::Relaxed);
    let subject = Descriptor::of(media_type::MANIFEST, &manifest());
    let errors = [
        remote.resolve().await.unwrap_err(),
        remote.tags().await.unwrap_err(),
        remote.referrers(&subject).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(status(&error.cause), "500 Internal Server Error");
    }
}

#[tokio::test]
async fn what_no_mirror_has_is_not_there_when_the_repository_is_out_of_reach() {
    let broken = Server::start(|_| Reply::new(500)).await;
    let empty = Server::start(|_| Reply::new(404)).await;
    let gone = Server::start(|_| Reply::hang_up()).await;
    let subject = Descriptor::of(media_type::MANIFEST, &manifest());
    for (mirrors, is_none) in
        [(&[(&empty, "")][..], true), (&[(&broken, ""), (&empty, "")], true), (&[(&broken, "")], false), (&[], false)]
    {
        let remote = repository(&client(&gone, mirrors));
        assert_eq!(remote.tagged("1").await.ok(), is_none.then_some(None));
        assert_eq!(remote.referrers(&subject).await.ok(), is_none.then(Vec::new));
    }
}

#[tokio::test]
async fn an_image_that_is_nowhere_says_where_it_was_looked_for() {
    let (mirror, primary) = (Server::start(|_| Reply::new(404)).await, Server::start(|_| Reply::new(403)).await);
    let error = repository(&client(&primary, &[(&mirror, "")])).resolve().await.unwrap_err();
    assert_eq!(status(&error.cause), "403 Forbidden");
    let hint = error.hint().unwrap();
    assert!(hint.ends_with(&format!("; mirrors also failed: {} answered 404 Not Found", mirror.address)), "{hint}");
}
