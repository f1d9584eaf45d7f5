//! The client against registries that misbehave. Real ones are in `tests/registry.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge_manifests::{Descriptor, Digest, Reference, media_type};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fault::Fault;
use super::{Client, Remote, Settings};
use crate::content::{ByteStream, Cause, ContentError, Named, Repository, Source, Target, cause_of, read_verified};
use crate::error::Explain;
use crate::http::testing::{Reply, Seen, Server, truncated};
use crate::http::{HttpClient, HttpRequest, RetryPolicy, Timeouts};
use crate::progress::Progress;

mod chunks;
mod depot;
mod downloads;
mod journal;
mod limits;
mod login;
mod manifests;
mod mirrors;
mod names;
mod referrers;
mod tags;
mod tokens;
mod uploads;

fn settings() -> Settings {
    let (first_pause, longest_pause) = (Duration::from_millis(2), Duration::from_secs(2));
    let retry = RetryPolicy { first_pause, longest_pause, ..RetryPolicy::default() };
    Settings { retry, ..Settings::default() }
}

/// For servers that do not go on, and for no others: on a machine with other work they take their time, too.
fn hasty(settings: Settings) -> Settings {
    let short = Duration::from_secs(1);
    Settings { timeouts: Timeouts { connect: short, idle: short, commit: short }, ..settings }
}

fn reference(server: &Server, rest: &str) -> Reference {
    format!("{}/{rest}", server.address).parse().unwrap()
}

fn remote(server: &Server, rest: &str) -> Remote {
    Client::new(settings()).unwrap().repository(&reference(server, rest))
}

/// With credentials for the server, and whatever keeps them there.
fn signed_in(server: &Server, entry: serde_json::Value) -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("auth.json");
    fs::write(&file, json!({"auths": {server.address.as_str(): entry}}).to_string()).unwrap();
    (directory, Client::new(Settings { authfile: Some(file), ..settings() }).unwrap())
}

fn user() -> serde_json::Value {
    json!({"username": "user", "password": "secret"})
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn manifest() -> Vec<u8> {
    json!({"schemaVersion": 2, "config": {}, "layers": []}).to_string().into_bytes()
}

fn layer(content: &[u8]) -> Descriptor {
    Descriptor::of(media_type::LAYER_GZIP, content)
}

fn content() -> Vec<u8> {
    (0..200_000u32).flat_map(u32::to_le_bytes).collect()
}

async fn read(source: &dyn Source, descriptor: &Descriptor, offset: u64) -> Result<Vec<u8>, Cause> {
    let mut stream = source.fetch(descriptor, offset).await.map_err(|error| error.cause)?;
    if offset == 0 {
        stream = read_verified(descriptor, stream);
    }
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes.map_err(cause_of)?);
    }
    Ok(all)
}

fn status(cause: &Cause) -> &str {
    match cause {
        Cause::Status { status, .. } => status,
        other => panic!("no status: {other}"),
    }
}

/// Blobs in memory, in small chunks.
#[derive(Default)]
struct Memory {
    blobs: BTreeMap<Digest, Vec<u8>>,
    opened: AtomicUsize,
}

impl Memory {
    fn of(content: &[u8]) -> Self {
        Self { blobs: [(Digest::of(content), content.to_vec())].into(), ..Self::default() }
    }
}

#[async_trait]
impl Source for Memory {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let blob = self.blobs.get(&descriptor.digest).ok_or_else(|| Cause::NotFound.of("find it"))?;
        let chunks: Vec<_> = blob[offset as usize..].chunks(16 << 10).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Ok(stream::iter(chunks).boxed())
    }
}

/// What a progress bar would show at the end.
#[derive(Default)]
struct Bar(AtomicU64);

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
    fn restart(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
    fn done(&self, _: &str) {}
}

#[tokio::test]
async fn names_lead_where_registries_conf_says() {
    let primary = Server::start(|_| Reply::new(200).body(manifest())).await;
    let empty = Server::start(|_| Reply::new(404)).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registries.conf");
    let conf = |server: &Server| {
        format!(
            "[[registry]]\nprefix = 'nvcr.io'\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}/cache'\n\
             [[registry]]\nlocation = 'bad.example'\nblocked = true\n",
            server.address, empty.address
        )
    };
    fs::write(&file, conf(&primary)).unwrap();
    let client = Client::new(Settings { registries_conf: vec![file], ..settings() }).unwrap();
    let remote = client.repository(&"nvcr.io/nvidia/pytorch:22.12-py3".parse().unwrap());
    assert_eq!(remote.resolve().await.unwrap().1, manifest());
    assert_eq!(empty.lines(), ["GET /v2/cache/nvidia/pytorch/manifests/22.12-py3"]);
    assert_eq!(primary.lines(), ["GET /v2/nvidia/pytorch/manifests/22.12-py3"]);
    let origin = Repository { registry: primary.address.clone(), name: "nvidia/pytorch".into() };
    assert_eq!(remote.repository(&layer(b"x")), Some(origin));
    assert_eq!(remote.name(), "nvcr.io/nvidia/pytorch");

    let blocked = client.repository(&"bad.example/a".parse().unwrap()).resolve().await.unwrap_err();
    assert!(blocked.cause.to_string().contains("blocks bad.example/a"), "{}", blocked.cause);
    let hub = client.repository(&"debian".parse().unwrap()).repository(&layer(b"x")).unwrap();
    assert_eq!(hub, Repository { registry: "registry-1.docker.io".into(), name: "library/debian".into() });
}

#[test]
fn named_files_must_be_there() {
    let missing = |settings: Settings| Client::new(settings).err().unwrap().to_string();
    let settings = Settings { authfile: Some("/none/auth.json".into()), ..Settings::default() };
    assert_eq!(missing(settings), "cannot read /none/auth.json");
    let settings = Settings { registries_conf: vec!["/none/registries.conf".into()], ..Settings::default() };
    assert_eq!(missing(settings), "cannot read /none/registries.conf");
}
