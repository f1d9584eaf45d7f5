//! The registry over a real socket. What the specification's conformance suite checks is checked here too.

mod blobs;
mod client;
mod damage;
mod hostile;
mod manifests;
mod names;
mod patience;
mod server;

use std::sync::{Arc, Mutex};

use ociforge_manifests::{Descriptor, Digest, media_type};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::connections::ConnectionTimeouts;
use super::{AccessLogEntry, ServeOptions, Server};
use crate::store::Layout;

/// A registry over an empty layout.
struct Registry {
    _directory: Option<tempfile::TempDir>,
    layout: Layout,
    base: String,
    client: reqwest::Client,
    seen: Arc<Mutex<Vec<AccessLogEntry>>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), super::ServeError>>,
}

impl Registry {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        Self { _directory: Some(directory), ..Self::over(layout, false).await }
    }

    async fn over(layout: Layout, read_only: bool) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let observed = Arc::clone(&seen);
        let observer: super::Observer = Arc::new(move |access| observed.lock().unwrap().push(access.clone()));
        let options = ServeOptions { read_only, observer: Some(observer), ..ServeOptions::default() };
        Self { seen, ..Self::with(layout, options, ConnectionTimeouts::default()).await }
    }

    /// A registry over an empty layout, with less patience.
    async fn impatient(patience: ConnectionTimeouts) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        Self { _directory: Some(directory), ..Self::with(layout, ServeOptions::default(), patience).await }
    }

    async fn with(layout: Layout, options: ServeOptions, patience: ConnectionTimeouts) -> Self {
        // Fails when another test was first, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut server = Server::bind(layout.clone(), ([127, 0, 0, 1], 0).into(), options).await.unwrap();
        server.patience = patience;
        let base = format!("http://{}", server.local_addr());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { _directory: None, layout, base, client, seen: Arc::default(), stop, running }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, method: &str, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.send("GET", path).await
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.send(method, path).await.status().as_u16()
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        parse(response).await
    }

    /// Begins an upload and tells where it is.
    async fn begin(&self, query: &str) -> String {
        let response = self.send("POST", &format!("/v2/a/b/blobs/uploads/{query}")).await;
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }

    /// Pushes a blob and gives its descriptor.
    async fn blob(&self, media_type: &str, content: &[u8]) -> Descriptor {
        let digest = Digest::of(content);
        let request = self.request("POST", &format!("/v2/a/b/blobs/uploads/?digest={digest}"));
        assert_eq!(request.body(content.to_vec()).send().await.unwrap().status(), 201);
        Descriptor::new(media_type, digest, content.len() as u64)
    }

    /// Pushes a manifest.
    async fn put(&self, reference: &str, manifest: &Value) -> Response {
        self.put_as(reference, manifest["mediaType"].as_str().unwrap_or(media_type::MANIFEST), manifest.to_string())
            .await
    }

    async fn put_as(&self, reference: &str, media_type: &str, body: String) -> Response {
        let request = self.request("PUT", &format!("/v2/a/b/manifests/{reference}"));
        request.header("content-type", media_type).body(body).send().await.unwrap()
    }

    /// An image manifest, with its config and a layer pushed.
    async fn image(&self, layer: &[u8]) -> Value {
        let config = self.blob(media_type::CONFIG, b"{}").await;
        let layer = self.blob(media_type::LAYER_TAR, layer).await;
        json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer]})
    }

    /// Files in the layout's directory for uploads.
    fn uploads(&self) -> usize {
        std::fs::read_dir(self.layout.root().join(".uploads")).map_or(0, Iterator::count)
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

async fn parse(response: Response) -> Value {
    assert_eq!(header(&response, "content-length").parse::<u64>().ok(), response.content_length());
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The code of an answer that is an error.
async fn code(response: Response) -> String {
    assert!(response.status().is_client_error() || response.status().is_server_error());
    let body = parse(response).await;
    assert!(body["errors"][0]["message"].is_string());
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

fn digest_of(manifest: &Value) -> Digest {
    Digest::of(manifest.to_string().as_bytes())
}

fn descriptor_of(manifest: &Value) -> Descriptor {
    Descriptor::of(manifest["mediaType"].as_str().unwrap(), manifest.to_string().as_bytes())
}

fn index_of(manifests: &[&Value]) -> Value {
    let manifests: Vec<_> = manifests.iter().map(|manifest| descriptor_of(manifest)).collect();
    json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests})
}

fn sha512(content: &[u8]) -> Digest {
    Digest::from_sha512(&sha2::Sha512::digest(content).into())
}
