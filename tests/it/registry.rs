//! The registry client against Debian's docker-registry, with skopeo as the second opinion.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge::content::{ByteStream, ContentError, Source, Target, read_verified};
use ociforge::error::Explain;
use ociforge::http::{Counts, RetryPolicy};
use ociforge::registry::{Client, Settings};
use ociforge::store::Layout;
use ociforge_manifests::Descriptor;
use tokio::sync::{Notify, watch};

use super::support::{Place, Registry, client, one_layer, push, quick, remote, signed_in, skopeo};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_there_and_comes_back() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    let (_directory, layout, layer, manifest) = one_layer(5_000_000);
    let client = client();
    let [image, missing] = ["ml/train:1.0", "ml/train:2.0"].map(|name| remote(&client, &registry.address, name));
    push(&image, &layout, &manifest, "1.0").await.unwrap();

    let (resolved, bytes) = image.resolve().await.unwrap();
    assert_eq!((&resolved, &bytes), (&manifest, &fs::read(layout.blob_path(&manifest.digest)).unwrap()));
    let mut tail = image.fetch(&layer, 4_999_990).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(next) = tail.next().await {
        bytes.extend_from_slice(&next.unwrap());
    }
    assert_eq!(bytes, fs::read(layout.blob_path(&layer.digest)).unwrap()[4_999_990..]);
    let (_other, back, ..) = one_layer(0);
    back.push(&layer, &image, &()).await.unwrap();
    assert!(back.contains(&layer).await.unwrap());

    let shown = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &registry.name("ml/train:1.0")];
    assert_eq!(skopeo(&shown).trim(), manifest.digest.as_str());

    let missing = missing.resolve().await.unwrap_err();
    assert!(missing.cause.to_string().contains("404 Not Found: manifest unknown"), "{}", missing.cause);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_with_nothing_new_only_asks() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    let (_directory, layout, _, manifest) = one_layer(100_000);
    push(&remote(&client(), &registry.address, "a"), &layout, &manifest, "1").await.unwrap();
    let again = client();
    push(&remote(&again, &registry.address, "a"), &layout, &manifest, "1").await.unwrap();
    let expected = Counts { head: 4, put: 1, sent: manifest.size, ..Counts::default() };
    assert_eq!(again.stats().counts(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_mounted() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    let (_directory, layout, layer, manifest) = one_layer(100_000);
    let client = client();
    let base = remote(&client, &registry.address, "base");
    push(&base, &layout, &manifest, "1").await.unwrap();
    let target = remote(&client, &registry.address, "deep/er/target");
    assert!(target.mount(&layer, &base.repository(&layer).unwrap()).await.unwrap());
    assert!(target.contains(&layer).await.unwrap());
    // The registry begins an upload instead of mounting what it does not have; that upload is used.
    let (_other, elsewhere, unknown, _) = one_layer(200_000);
    assert!(!target.mount(&unknown, &base.repository(&unknown).unwrap()).await.unwrap());
    let posts = client.stats().counts().post;
    target.push(&unknown, &elsewhere, &()).await.unwrap();
    assert!(target.contains(&unknown).await.unwrap());
    assert_eq!(client.stats().counts().post, posts);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_a_locked_registry() {
    let place = Place::new();
    let registry = Registry::locked(&place, "registry");
    let (_directory, layout, layer, manifest) = one_layer(30_000_000);
    for settings in [quick(), signed_in(&place, &registry, "wrong")] {
        let remote = remote(&Client::new(settings).unwrap(), &registry.address, "a");
        for error in [remote.contains(&layer).await.err(), remote.push(&layer, &layout, &()).await.err()] {
            let error = error.unwrap();
            assert!(error.cause.to_string().contains("401 Unauthorized"), "{}", error.cause);
            let hint = error.hint().unwrap();
            assert!(hint.starts_with(&format!("log in with `ociforge login {}`", registry.address)), "{hint}");
        }
    }
    let client = Client::new(signed_in(&place, &registry, "secret")).unwrap();
    let remote = remote(&client, &registry.address, "a:1");
    push(&remote, &layout, &manifest, "1").await.unwrap();
    assert_eq!(remote.resolve().await.unwrap().0, manifest);
}

/// Where an upload stands is signed with it, by registries that are to be restarted.
const SECRET: &str = "  secret: s\n";

/// A source that gives half of the blob, says that it waits, and goes on when something has happened.
struct Held<'a> {
    layout: &'a Layout,
    waits: Arc<Notify>,
    happens: watch::Receiver<bool>,
}

#[async_trait]
impl Source for Held<'_> {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let (mut at, half) = (offset, descriptor.size / 2);
        let (waits, happens) = (Arc::clone(&self.waits), self.happens.clone());
        let piece = move |piece: io::Result<Bytes>| {
            at += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
            let (held, waits, mut happened) = (at > half, Arc::clone(&waits), happens.clone());
            async move {
                if held {
                    waits.notify_one();
                    happened.wait_for(|happened| *happened).await.unwrap();
                }
                piece
            }
        };
        Ok(self.layout.fetch(descriptor, offset).await?.then(piece).boxed())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_restarted_costs_only_time() {
    let (_directory, layout, layer, _) = one_layer(20_000_000);
    for chunk in [Settings::default().chunk, 4_000_000] {
        let place = Place::new();
        let mut registry = Registry::docker_lasting(&place, "registry", SECRET);
        // As long as the machine takes to start it.
        let (first_pause, longest_pause) = (Duration::from_millis(300), Duration::from_secs(2));
        let retry = RetryPolicy { first_pause, longest_pause, tries: 20 };
        let client = Client::new(Settings { retry, chunk, ..Settings::default() }).unwrap();
        let remote = remote(&client, &registry.address, "a");
        let (happened, happens) = watch::channel(false);
        let waits = Arc::<Notify>::default();
        let source = Held { layout: &layout, waits: Arc::clone(&waits), happens };
        let restart = async {
            // In the middle of the upload.
            waits.notified().await;
            registry.stop();
            happened.send_replace(true);
            tokio::time::sleep(Duration::from_millis(400)).await;
            registry.restart();
        };
        let (pushed, ()) = tokio::join!(remote.push(&layer, &source, &()), restart);
        pushed.unwrap();
        assert!(client.stats().counts().sent > layer.size);
        let stream = read_verified(&layer, remote.fetch(&layer, 0).await.unwrap());
        assert!(stream.all(|bytes| async move { bytes.is_ok() }).await);
    }
}

/// A source that has only the beginning of the blob at hand.
struct Begun<'a>(&'a Layout, usize);

#[async_trait]
impl Source for Begun<'_> {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        let mut whole = self.0.fetch(descriptor, offset).await?;
        let mut begun = Vec::new();
        while begun.len() + offset as usize <= self.1 {
            begun.extend_from_slice(&whole.next().await.unwrap().unwrap());
        }
        begun.truncate(self.1 - offset as usize);
        Ok(stream::iter([Ok(begun.into())]).chain(stream::pending()).boxed())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_registry_and_client() {
    let place = Place::new();
    let mut registry = Registry::docker_lasting(&place, "registry", SECRET);
    let (_directory, layout, layer, _) = one_layer(20_000_000);
    let journal = tempfile::tempdir().unwrap();
    let settings = Settings { chunk: 4_000_000, journal: Some(journal.path().to_owned()), ..quick() };
    let (first, second) = (Client::new(settings.clone()).unwrap(), Client::new(settings).unwrap());
    let begun = remote(&first, &registry.address, "a");
    let source = Begun(&layout, 12_000_000);
    let noted = async {
        let noted = || {
            fs::read_dir(journal.path())
                .unwrap()
                .flatten()
                .any(|note| fs::read_to_string(note.path()).unwrap_or_default().contains("\"offset\":12000000"))
        };
        while !noted() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        pushed = begun.push(&layer, &source, &()) => panic!("{pushed:?}"),
        () = noted => {}
    }
    registry.stop();
    registry.restart();
    let remote = remote(&second, &registry.address, "a");
    remote.push(&layer, &layout, &()).await.unwrap();
    let counts = second.stats().counts();
    assert_eq!((counts.post, counts.sent), (0, 8_000_000));
    let stream = read_verified(&layer, remote.fetch(&layer, 0).await.unwrap());
    assert!(stream.all(|bytes| async move { bytes.is_ok() }).await);
    assert_eq!(fs::read_dir(journal.path()).unwrap().count(), 0);
}
