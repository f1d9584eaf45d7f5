//! The registry client against Debian's docker-registry, with skopeo as the second opinion.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge::content::{ByteStream, ContentError, Source, Target, read_document, read_verified};
use ociforge::error::Explain;
use ociforge::http::{Counts, RetryPolicy};
use ociforge::registry::{Client, Remote, Settings};
use ociforge::store::Layout;
use ociforge_manifests::{Descriptor, media_type};
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::support::wait_until;

/// `user` with the password `secret`, as htpasswd writes it.
const HTPASSWD: &str = "user:$2y$05$mxyu.d57PWBFUxSe/6VTKuOW9T1PWQvpvxtw/8ktv/RHZetEeEw2i\n";

/// A docker-registry on a free loopback port, until it is dropped.
pub(crate) struct Registry {
    directory: tempfile::TempDir,
    pub(crate) address: String,
    process: Child,
}

impl Registry {
    pub(crate) fn start(extra: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", lasting_port());
        fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        let extra = extra.replace("DIR", directory.path().to_str().unwrap());
        let config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp:\n  addr: {address}\n{extra}",
            directory.path().display()
        );
        fs::write(directory.path().join("config.yml"), config).unwrap();
        let process = Self::spawn(directory.path(), &address);
        Self { directory, address, process }
    }

    fn spawn(directory: &Path, address: &str) -> Child {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(directory.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("docker-registry must be installed (Debian: docker-registry)");
        wait_until("docker-registry listens", || TcpStream::connect(address).is_ok());
        process
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = Self::spawn(self.directory.path(), &self.address);
    }

    pub(crate) fn remote(&self, client: &Client, rest: &str) -> Remote {
        client.repository(&format!("{}/{rest}", self.address).parse().unwrap())
    }

    /// Settings with these credentials for the registry.
    pub(crate) fn signed_in(&self, password: &str) -> Settings {
        let file = self.directory.path().join(format!("auth-{password}.json"));
        let entry = json!({"username": "user", "password": password});
        fs::write(&file, json!({"auths": {self.address.as_str(): entry}}).to_string()).unwrap();
        Settings { authfile: Some(file), ..quick() }
    }
}

/// A free port of the loopback that stays free while nobody listens there: the system gives none of these to those who want
/// any port, which all other tests do.
fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let of_process = u16::try_from(std::process::id() % 64).unwrap() * 100;
    let ports = std::iter::repeat_with(|| given - 1 - of_process - NEXT.fetch_add(1, Ordering::Relaxed));
    ports.take(100).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) fn quick() -> Settings {
    Settings {
        retry: RetryPolicy { first_pause: Duration::from_millis(50), ..RetryPolicy::default() },
        ..Settings::default()
    }
}

pub(crate) fn client() -> Client {
    Client::new(quick()).unwrap()
}

/// A layout with an image of one layer of `size` bytes: the layout, its layer and its manifest.
pub(crate) fn image(size: usize) -> (tempfile::TempDir, Layout, Descriptor, Descriptor) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("layout")).unwrap();
    let mut writer = layout.writer().unwrap();
    let block: Vec<u8> = (0..1u32 << 16).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut left = size;
    while left > 0 {
        let next = left.min(block.len());
        writer.write_all(&block[..next]).unwrap();
        left -= next;
    }
    let (digest, size) = writer.finish().unwrap();
    let layer = Descriptor::new(media_type::LAYER_TAR, digest.clone(), size);
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let config = config.to_string().into_bytes();
    layout.put(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": Descriptor::of(media_type::CONFIG, &config), "layers": [layer],
    });
    let manifest = manifest.to_string().into_bytes();
    layout.put(&manifest).unwrap();
    (directory, layout, layer, Descriptor::of(media_type::MANIFEST, &manifest))
}

/// Pushes what is missing, layer and config and then the manifest, and tags it.
pub(crate) async fn push(
    remote: &Remote,
    layout: &Layout,
    manifest: &Descriptor,
    tag: &str,
) -> Result<(), ContentError> {
    let bytes = read_document(layout, manifest).await?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    for child in [&json["config"], &json["layers"][0]] {
        let child: Descriptor = serde_json::from_value(child.clone()).unwrap();
        if !remote.contains(&child).await? {
            remote.push(&child, layout, &()).await?;
        }
    }
    if !remote.contains(manifest).await? {
        remote.push(manifest, layout, &()).await?;
    }
    remote.tag(manifest, &bytes, tag).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_there_and_comes_back() {
    let registry = Registry::start("");
    let (_directory, layout, layer, manifest) = image(5_000_000);
    let client = client();
    let remote = registry.remote(&client, "ml/train:1.0");
    push(&remote, &layout, &manifest, "1.0").await.unwrap();

    let (resolved, bytes) = remote.resolve().await.unwrap();
    assert_eq!((&resolved, &bytes), (&manifest, &fs::read(layout.blob_path(&manifest.digest)).unwrap()));
    let mut tail = remote.fetch(&layer, 4_999_990).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(next) = tail.next().await {
        bytes.extend_from_slice(&next.unwrap());
    }
    assert_eq!(bytes, fs::read(layout.blob_path(&layer.digest)).unwrap()[4_999_990..]);
    let (_other, back, ..) = image(0);
    back.push(&layer, &remote, &()).await.unwrap();
    assert!(back.contains(&layer).await.unwrap());

    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    let output = skopeo.arg(format!("docker://{}/ml/train:1.0", registry.address)).output();
    let output = output.expect("skopeo must be installed (Debian: skopeo)");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), manifest.digest.as_str());

    let missing = registry.remote(&client, "ml/train:2.0").resolve().await.unwrap_err();
    assert!(missing.cause.to_string().contains("404 Not Found: manifest unknown"), "{}", missing.cause);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_with_nothing_new_only_asks() {
    let registry = Registry::start("");
    let (_directory, layout, _, manifest) = image(100_000);
    push(&registry.remote(&client(), "a"), &layout, &manifest, "1").await.unwrap();
    let again = client();
    push(&registry.remote(&again, "a"), &layout, &manifest, "1").await.unwrap();
    let expected = Counts { head: 4, put: 1, sent: manifest.size, ..Counts::default() };
    assert_eq!(again.stats().counts(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_mounted() {
    let registry = Registry::start("");
    let (_directory, layout, layer, manifest) = image(100_000);
    let client = client();
    let base = registry.remote(&client, "base");
    push(&base, &layout, &manifest, "1").await.unwrap();
    let target = registry.remote(&client, "deep/er/target");
    assert!(target.mount(&layer, &base.repository(&layer).unwrap()).await.unwrap());
    assert!(target.contains(&layer).await.unwrap());
    // The registry begins an upload instead of mounting what it does not have; that upload is used.
    let (_other, elsewhere, unknown, _) = image(200_000);
    assert!(!target.mount(&unknown, &base.repository(&unknown).unwrap()).await.unwrap());
    let posts = client.stats().counts().post;
    target.push(&unknown, &elsewhere, &()).await.unwrap();
    assert!(target.contains(&unknown).await.unwrap());
    assert_eq!(client.stats().counts().post, posts);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_a_locked_registry() {
    let registry = Registry::start("auth: {htpasswd: {realm: r, path: DIR/htpasswd}}\n");
    let (_directory, layout, layer, manifest) = image(30_000_000);
    for settings in [quick(), registry.signed_in("wrong")] {
        let remote = registry.remote(&Client::new(settings).unwrap(), "a");
        for error in [remote.contains(&layer).await.err(), remote.push(&layer, &layout, &()).await.err()] {
            let error = error.unwrap();
            assert!(error.cause.to_string().contains("401 Unauthorized"), "{}", error.cause);
            let hint = error.hint().unwrap();
            assert!(hint.starts_with(&format!("log in with `ociforge login {}`", registry.address)), "{hint}");
        }
    }
    let client = Client::new(registry.signed_in("secret")).unwrap();
    let remote = registry.remote(&client, "a:1");
    push(&remote, &layout, &manifest, "1").await.unwrap();
    assert_eq!(remote.resolve().await.unwrap().0, manifest);
}

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
    let (_directory, layout, layer, _) = image(20_000_000);
    for chunk in [Settings::default().chunk, 4_000_000] {
        let mut registry = Registry::start("  secret: s\n");
        // As long as the machine takes to start it.
        let (first_pause, longest_pause) = (Duration::from_millis(300), Duration::from_secs(2));
        let retry = RetryPolicy { first_pause, longest_pause, tries: 20 };
        let client = Client::new(Settings { retry, chunk, ..Settings::default() }).unwrap();
        let remote = registry.remote(&client, "a");
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
    // Where an upload stands is signed with the secret.
    let mut registry = Registry::start("  secret: s\n");
    let (_directory, layout, layer, _) = image(20_000_000);
    let journal = tempfile::tempdir().unwrap();
    let settings = Settings { chunk: 4_000_000, journal: Some(journal.path().to_owned()), ..quick() };
    let (first, second) = (Client::new(settings.clone()).unwrap(), Client::new(settings).unwrap());
    let remote = registry.remote(&first, "a");
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
        pushed = remote.push(&layer, &source, &()) => panic!("{pushed:?}"),
        () = noted => {}
    }
    registry.stop();
    registry.restart();
    let remote = registry.remote(&second, "a");
    remote.push(&layer, &layout, &()).await.unwrap();
    let counts = second.stats().counts();
    assert_eq!((counts.post, counts.sent), (0, 8_000_000));
    let stream = read_verified(&layer, remote.fetch(&layer, 0).await.unwrap());
    assert!(stream.all(|bytes| async move { bytes.is_ok() }).await);
    assert_eq!(fs::read_dir(journal.path()).unwrap().count(), 0);
}
