//! What the distribution-spec asks of a registry, requirement by requirement, over HTTP.

use ociforge_manifests::{Descriptor, Digest, media_type};
use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::Digest as _;
use tempfile::TempDir;

use crate::support::served::Served;

/// A registry over an empty layout, and a client of it. Paths that do not begin with `/` are in the repository `a/b`.
struct Registry {
    _directory: TempDir,
    served: Served,
    client: reqwest::Client,
}

impl Registry {
    fn new() -> Self {
        // Fails when another test was first, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let served = Served::new(&directory.path().join("layout"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { _directory: directory, served, client }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/v2/a/b/{path}") };
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), self.served.url(&path))
    }

    async fn send(&self, method: &str, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str) -> u16 {
        self.send(method, path).await.status().as_u16()
    }

    /// Status, and the code of the error.
    async fn error(&self, method: &str, path: &str) -> (u16, String) {
        error(self.send(method, path).await).await
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.send("GET", path).await;
        assert_eq!(response.status(), 200, "{path}");
        json_of(response).await
    }

    /// Where a new upload is.
    async fn begin(&self) -> String {
        let response = self.send("POST", "blobs/uploads/").await;
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }

    async fn chunk(&self, location: &str, start: usize, content: &'static str) -> Response {
        let range = format!("{start}-{}", start + content.len() - 1);
        self.request("PATCH", location).header("content-range", range).body(content).send().await.unwrap()
    }

    async fn close(&self, location: &str, digest: &Digest, content: &'static str) -> Response {
        self.request("PUT", &format!("{location}?digest={digest}")).body(content).send().await.unwrap()
    }

    async fn blob(&self, media_type: &str, content: &'static str) -> Descriptor {
        let descriptor = Descriptor::of(media_type, content.as_bytes());
        let location = self.begin().await;
        assert_eq!(self.close(&location, &descriptor.digest, content).await.status(), 201);
        descriptor
    }

    async fn put(&self, reference: &str, manifest: &Value) -> Response {
        let request = self.request("PUT", &format!("manifests/{reference}"));
        let media_type = manifest["mediaType"].as_str().unwrap();
        request.header("content-type", media_type).body(manifest.to_string()).send().await.unwrap()
    }

    /// An image manifest whose blobs are there.
    async fn image(&self, layer: &'static str) -> Value {
        let config = self.blob(media_type::CONFIG, "{}").await;
        let layer = self.blob(media_type::LAYER_TAR, layer).await;
        json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer]})
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn error(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = json_of(response).await;
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn digest_of(manifest: &Value) -> Digest {
    Digest::of(manifest.to_string().as_bytes())
}

fn sha512(content: &str) -> Digest {
    Digest::from_sha512(&sha2::Sha512::digest(content).into())
}

#[tokio::test]
async fn pull() {
    let registry = Registry::new();
    assert_eq!(registry.status("GET", "/v2/").await, 200);
    let image = registry.image("layer").await;
    registry.put("t", &image).await;
    let digest = digest_of(&image);
    for reference in ["t", digest.as_str()] {
        let path = format!("manifests/{reference}");
        let head = registry.send("HEAD", &path).await;
        assert_eq!(head.status(), 200);
        let get = registry.send("GET", &path).await;
        for response in [&head, &get] {
            assert_eq!(header(response, "content-type"), media_type::MANIFEST);
            assert_eq!(header(response, "docker-content-digest"), digest.as_str());
            assert_eq!(header(response, "content-length"), image.to_string().len().to_string());
        }
        assert_eq!(get.text().await.unwrap(), image.to_string());
    }
    let blob = format!("blobs/{}", Digest::of(b"layer"));
    let head = registry.send("HEAD", &blob).await;
    assert_eq!((head.status().as_u16(), header(&head, "content-length").as_str()), (200, "5"));
    assert_eq!(header(&head, "docker-content-digest"), Digest::of(b"layer").as_str());
    assert_eq!(registry.send("GET", &blob).await.text().await.unwrap(), "layer");

    for (method, path, status, code) in [
        ("GET", "manifests/missing".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("GET", format!("manifests/{}", Digest::of(b"missing")), 404, "MANIFEST_UNKNOWN"),
        ("GET", format!("blobs/{}", Digest::of(b"missing")), 404, "BLOB_UNKNOWN"),
        ("GET", "blobs/sha256:short".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", "/v2/UPPER/manifests/t".to_owned(), 400, "NAME_INVALID"),
    ] {
        assert_eq!(registry.error(method, &path).await, is(status, code), "{path}");
        assert_eq!(registry.status("HEAD", &path).await, status);
    }
}

#[tokio::test]
async fn parts_of_a_blob() {
    let registry = Registry::new();
    let blob = registry.blob("text/plain", "0123456789").await;
    let path = format!("blobs/{}", blob.digest);
    for (range, content, told) in [("2-4", "234", "2-4/10"), ("7-", "789", "7-9/10"), ("-2", "89", "8-9/10")] {
        let part = registry.request("GET", &path).header("range", format!("bytes={range}")).send().await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(header(&part, "content-range"), format!("bytes {told}"));
        assert_eq!(part.text().await.unwrap(), content);
    }
    let beyond = registry.request("GET", &path).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
}

#[tokio::test]
async fn blobs_in_one_request_or_two() {
    let registry = Registry::new();
    for digest in [Digest::of(b"one"), sha512("one")] {
        let path = format!("blobs/uploads/?digest={digest}");
        let response = registry.request("POST", &path).body("one").send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(registry.send("GET", &header(&response, "location")).await.text().await.unwrap(), "one");
    }
    for digest in [Digest::of(b"two"), sha512("two")] {
        let location = registry.begin().await;
        let response = registry.close(&location, &digest, "two").await;
        assert_eq!(response.status(), 201);
        assert_eq!(registry.send("GET", &header(&response, "location")).await.text().await.unwrap(), "two");
    }
    assert_eq!(registry.blob("text/plain", "").await.size, 0);
}

#[tokio::test]
async fn blobs_in_chunks() {
    let registry = Registry::new();
    let location = registry.begin().await;
    let first = registry.chunk(&location, 0, "0123").await;
    assert_eq!((first.status().as_u16(), header(&first, "range").as_str()), (202, "0-3"));
    let location = header(&first, "location");
    for (start, content) in [(5, "56"), (0, "0123"), (3, "34")] {
        assert_eq!(registry.chunk(&location, start, content).await.status(), 416, "{start}");
    }
    // Nothing of those was taken: the client asks, and goes on from there.
    let status = registry.send("GET", &location).await;
    assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-3"));
    let second = registry.chunk(&header(&status, "location"), 4, "45").await;
    assert_eq!((second.status().as_u16(), header(&second, "range").as_str()), (202, "0-5"));
    let last = registry.request("PUT", &format!("{location}?digest={}", Digest::of(b"01234567")));
    let last = last.header("content-range", "6-7").body("67").send().await.unwrap();
    assert_eq!(last.status(), 201);
    assert_eq!(registry.send("GET", &header(&last, "location")).await.text().await.unwrap(), "01234567");

    // A stream: one chunk that does not say where it belongs.
    let location = registry.begin().await;
    let streamed = registry.request("PATCH", &location).body("stream").send().await.unwrap();
    assert_eq!(streamed.status(), 202);
    assert_eq!(registry.close(&location, &sha512("stream"), "").await.status(), 201);
}

#[tokio::test]
async fn uploads_end() {
    let registry = Registry::new();
    let location = registry.begin().await;
    assert_eq!(registry.status("DELETE", &location).await, 204);
    assert_eq!(registry.error("GET", &location).await, is(404, "BLOB_UPLOAD_UNKNOWN"));
    assert_eq!(registry.chunk(&location, 0, "x").await.status(), 404);
    assert_eq!(registry.status("DELETE", &location).await, 404);

    for digest in [Digest::of(b"other"), sha512("other")] {
        let location = registry.begin().await;
        registry.chunk(&location, 0, "some").await;
        assert_eq!(error(registry.close(&location, &digest, "thing").await).await, is(400, "DIGEST_INVALID"));
        assert_eq!(registry.status("GET", &format!("blobs/{digest}")).await, 404);
        let path = format!("blobs/uploads/?digest={digest}");
        let response = registry.request("POST", &path).body("something").send().await.unwrap();
        assert_eq!(error(response).await, is(400, "DIGEST_INVALID"));
    }
    let location = registry.begin().await;
    assert_eq!(registry.error("PUT", &location).await, is(400, "DIGEST_INVALID"));
    assert_eq!(registry.error("PUT", &format!("{location}?digest=sha256:x")).await, is(400, "DIGEST_INVALID"));
}

#[tokio::test]
async fn mounts() {
    let registry = Registry::new();
    let blob = registry.blob("text/plain", "blob").await;
    for query in [format!("mount={}&from=a/b", blob.digest), format!("mount={}", blob.digest)] {
        let mounted = registry.send("POST", &format!("/v2/other/blobs/uploads/?{query}")).await;
        assert_eq!(mounted.status(), 201);
        assert_eq!(header(&mounted, "location"), format!("/v2/other/blobs/{}", blob.digest));
        assert_eq!(registry.status("HEAD", &header(&mounted, "location")).await, 200);
    }
    // What can't be mounted is an upload.
    let missing = Digest::of(b"missing");
    let begun = registry.send("POST", &format!("/v2/other/blobs/uploads/?mount={missing}&from=a/b")).await;
    assert_eq!(begun.status(), 202);
    assert_eq!(registry.close(&header(&begun, "location"), &missing, "missing").await.status(), 201);
}

#[tokio::test]
async fn manifests_are_pushed() {
    let registry = Registry::new();
    let image = registry.image("layer").await;
    let digest = digest_of(&image);
    for reference in ["t", digest.as_str(), sha512(&image.to_string()).as_str()] {
        let put = registry.put(reference, &image).await;
        assert_eq!(put.status(), 201);
        assert_eq!(registry.send("GET", &header(&put, "location")).await.text().await.unwrap(), image.to_string());
    }
    let named = registry.put(&format!("{digest}?tag=u&tag=v"), &image).await;
    let tags: Vec<_> = named.headers().get_all("oci-tag").iter().collect();
    assert_eq!(
        (named.status().as_u16(), tags),
        (201, vec![&HeaderValue::from_static("u"), &HeaderValue::from_static("v")])
    );
    assert_eq!(registry.status("HEAD", "manifests/v").await, 200);

    let wrong = registry.put(Digest::of(b"other").as_str(), &image).await;
    assert_eq!(error(wrong).await, is(400, "DIGEST_INVALID"));
    let mut needy = image.clone();
    needy["layers"][0]["digest"] = json!(Digest::of(b"missing"));
    assert_eq!(error(registry.put("x", &needy).await).await, is(404, "MANIFEST_BLOB_UNKNOWN"));
    let mut fits = image.clone();
    let pad = (4 << 20) - image.to_string().len() - r#","pad":"""#.len();
    fits["pad"] = json!("x".repeat(pad));
    assert_eq!((fits.to_string().len(), registry.put("x", &fits).await.status().as_u16()), (4 << 20, 201));
    fits["pad"] = json!("x".repeat(pad + 1));
    assert_eq!(registry.put("x", &fits).await.status(), 413);
    for bad in ["{", "{}", "[]", "null", ""] {
        let put = registry.request("PUT", "manifests/x").header("content-type", media_type::MANIFEST);
        assert_eq!(error(put.body(bad).send().await.unwrap()).await, is(400, "MANIFEST_INVALID"), "{bad}");
    }
    let mut subject = image.clone();
    subject["subject"] = json!(Descriptor::of(media_type::MANIFEST, b"not there yet"));
    let put = registry.put("s", &subject).await;
    assert_eq!((put.status().as_u16(), header(&put, "oci-subject")), (201, Digest::of(b"not there yet").to_string()));
}

#[tokio::test]
async fn tags_are_listed() {
    let registry = Registry::new();
    assert_eq!(registry.error("GET", "tags/list").await, is(404, "NAME_UNKNOWN"));
    let image = registry.image("layer").await;
    for tag in ["b", "d", "a", "e", "c"] {
        registry.put(tag, &image).await;
    }
    let list = registry.json("tags/list").await;
    assert_eq!(list, json!({"name": "a/b", "tags": ["a", "b", "c", "d", "e"]}));
    assert_eq!(registry.json("tags/list?last=c").await["tags"], json!(["d", "e"]));
    assert_eq!(registry.json("tags/list?n=0").await["tags"], json!([]));
    let part = registry.send("GET", "tags/list?n=2&last=a").await;
    let link = header(&part, "link");
    assert_eq!(json_of(part).await["tags"], json!(["b", "c"]));
    let next = link.strip_prefix('<').unwrap().strip_suffix(r#">; rel="next""#).unwrap();
    let part = registry.send("GET", next).await;
    assert!(!part.headers().contains_key("link"));
    assert_eq!(json_of(part).await["tags"], json!(["d", "e"]));
}

#[tokio::test]
async fn referrers_are_listed() {
    let registry = Registry::new();
    let subject = registry.image("layer").await;
    registry.put("t", &subject).await;
    let path = format!("referrers/{}", digest_of(&subject));
    let empty = registry.send("GET", &path).await;
    assert_eq!((empty.status().as_u16(), header(&empty, "content-type").as_str()), (200, media_type::INDEX));
    let empty = json_of(empty).await;
    assert_eq!((&empty["schemaVersion"], &empty["manifests"]), (&json!(2), &json!([])));
    assert_eq!(registry.error("GET", "referrers/sha256:x").await, is(400, "DIGEST_INVALID"));

    let subject = Descriptor::of(media_type::MANIFEST, subject.to_string().as_bytes());
    let mut typed = registry.image("typed").await;
    typed["subject"] = json!(subject);
    typed["artifactType"] = json!("application/x.one");
    typed["annotations"] = json!({"key": "value"});
    // Without a type of its own it has its config's.
    let mut untyped = registry.image("untyped").await;
    untyped["subject"] = json!(subject);
    let mut index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []});
    index["subject"] = json!(subject);
    index["artifactType"] = json!("application/x.two");
    for manifest in [&typed, &untyped, &index] {
        let put = registry.put(digest_of(manifest).as_str(), manifest).await;
        assert_eq!((put.status().as_u16(), header(&put, "oci-subject")), (201, subject.digest.to_string()));
    }
    let list = registry.json(&path).await;
    let entry = |manifest: &Value| {
        let entries = list["manifests"].as_array().unwrap();
        entries.iter().find(|entry| entry["digest"] == json!(digest_of(manifest))).unwrap().clone()
    };
    assert_eq!(list["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(entry(&typed)["artifactType"], "application/x.one");
    assert_eq!(entry(&typed)["annotations"], json!({"key": "value"}));
    assert_eq!(entry(&typed)["size"], typed.to_string().len());
    assert_eq!(entry(&untyped)["artifactType"], media_type::CONFIG);
    assert_eq!(entry(&index)["mediaType"], media_type::INDEX);

    let filtered = registry.send("GET", &format!("{path}?artifactType=application/x.two")).await;
    assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
    assert_eq!(json_of(filtered).await["manifests"], json!([entry(&index)]));
    assert_eq!(registry.status("DELETE", &format!("manifests/{}", digest_of(&typed))).await, 202);
    assert_eq!(registry.json(&path).await["manifests"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn content_is_deleted() {
    let registry = Registry::new();
    let image = registry.image("layer").await;
    let digest = digest_of(&image);
    for tag in ["t", "u", "v"] {
        registry.put(tag, &image).await;
    }
    assert_eq!(registry.status("DELETE", "manifests/t").await, 202);
    assert_eq!(registry.error("GET", "manifests/t").await, is(404, "MANIFEST_UNKNOWN"));
    assert_eq!(registry.json("tags/list").await["tags"], json!(["u", "v"]));
    assert_eq!(registry.status("GET", &format!("manifests/{digest}")).await, 200);

    assert_eq!(registry.status("DELETE", &format!("manifests/{digest}")).await, 202);
    for reference in ["u", "v", digest.as_str()] {
        assert_eq!(registry.status("GET", &format!("manifests/{reference}")).await, 404);
        assert_eq!(registry.status("DELETE", &format!("manifests/{reference}")).await, 404);
    }
    let blob = format!("blobs/{}", Digest::of(b"layer"));
    assert_eq!(registry.status("DELETE", &blob).await, 202);
    assert_eq!(registry.status("HEAD", &blob).await, 404);
    assert_eq!(registry.error("DELETE", &blob).await, is(404, "BLOB_UNKNOWN"));
    assert_eq!(registry.error("DELETE", "blobs/sha256:x").await, is(400, "DIGEST_INVALID"));
}
