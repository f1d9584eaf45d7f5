//! Damaged files are not sent as what they are called, and are mended by who pushes again.

use std::fs;

use super::*;

/// Flips a bit of the blob's file.
fn flip(registry: &Registry, digest: &Digest, at: usize) {
    let path = registry.layout.blob_path(digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

async fn registry() -> (Registry, Arc<Mutex<Vec<Digest>>>) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("layout")).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&told);
    let damage_observer: super::super::DamageObserver =
        Arc::new(move |digest| observed.lock().unwrap().push(digest.clone()));
    let options = ServeOptions { damage_observer: Some(damage_observer), ..ServeOptions::default() };
    (
        Registry {
            _directory: Some(directory),
            ..Registry::with(layout, options, ConnectionTimeouts::default()).await
        },
        told,
    )
}

#[tokio::test]
async fn a_damaged_blob_does_not_come_to_its_end() {
    let (registry, told) = registry().await;
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    for (position, at) in [0, 500_000, 999_999].into_iter().enumerate() {
        let blob = registry.blob("x", &content).await;
        let path = format!("/v2/a/blobs/{}", blob.digest);
        assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
        flip(&registry, &blob.digest, at);
        let cut = registry.get(&path).await;
        assert_eq!((cut.status().as_u16(), cut.content_length()), (200, Some(1_000_000)));
        assert!(cut.bytes().await.is_err());
        assert_eq!(told.lock().unwrap().as_slice(), vec![blob.digest.clone(); position + 1]);
        // From now on it is known.
        let refused = registry.get(&path).await;
        assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (500, "UNKNOWN"));
        assert_eq!(registry.status("HEAD", &path).await, 404);
        let mount = format!("/v2/c/blobs/uploads/?mount={}&from=a", blob.digest);
        assert_eq!(registry.status("POST", &mount).await, 202);
        // Who pushes it again mends it.
        registry.blob("x", &content).await;
        assert_eq!(registry.get(&path).await.bytes().await.unwrap(), content);
    }
}

#[tokio::test]
async fn parts_that_end_where_the_blob_does_are_looked_at() {
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    for range in ["bytes=0-", "bytes=999999-", "bytes=600000-999999", "bytes=-300000"] {
        let (registry, told) = registry().await;
        let blob = registry.blob("x", &content).await;
        let path = format!("/v2/a/blobs/{}", blob.digest);
        let part = async |range: &str| registry.request("GET", &path).header("range", range).send().await.unwrap();
        assert!(content.ends_with(&part(range).await.bytes().await.unwrap()));
        // Before the part that is asked for, mostly.
        flip(&registry, &blob.digest, 100_000);
        assert_eq!(part("bytes=0-199999").await.bytes().await.unwrap().len(), 200_000);
        let cut = part(range).await;
        assert_eq!(cut.status(), 206);
        assert!(cut.bytes().await.is_err(), "{range}");
        assert_eq!(told.lock().unwrap().len(), 1);
        assert_eq!(part("bytes=0-199999").await.status(), 500);
    }
}

#[tokio::test]
async fn small_blobs_and_manifests_are_looked_at_before_the_answer_begins() {
    let (registry, told) = registry().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    let layer = Digest::of(b"layer");
    let path = format!("/v2/a/b/blobs/{layer}");
    for damaged in [&b"lawer"[..], b"", b"layer and more"] {
        fs::write(registry.layout.blob_path(&layer), damaged).unwrap();
        assert_eq!(registry.status("GET", &path).await, 500);
        assert_eq!(registry.status("HEAD", &path).await, 404);
    }
    assert_eq!(told.lock().unwrap().len(), 3);
    // A manifest does not get in while what it needs is damaged.
    assert_eq!(code(registry.put("u", &image).await).await, "MANIFEST_BLOB_UNKNOWN");
    registry.blob("x", b"layer").await;
    assert_eq!(registry.put("u", &image).await.status(), 201);

    flip(&registry, &digest_of(&image), 30);
    for reference in ["t", digest_of(&image).as_str()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let refused = registry.get(&path).await;
        assert_eq!(refused.status(), 500);
        assert!(parse(refused).await["errors"][0]["message"].as_str().unwrap().contains("is damaged; push it again"));
        assert_eq!(registry.status("HEAD", &path).await, 404);
    }
    assert_eq!(registry.put("t", &image).await.status(), 201);
    assert_eq!(registry.json("/v2/a/b/manifests/u").await, image);
}

#[tokio::test]
async fn an_index_lists_what_is_a_manifest() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    let index = index_of(&[&image]);
    assert_eq!(registry.put("i", &index).await.status(), 201);
    let layer = Digest::of(b"layer");
    for (media_type, digest) in [
        (media_type::MANIFEST, layer.clone()),
        (media_type::INDEX, layer),
        (media_type::INDEX, digest_of(&image)),
        (media_type::MANIFEST, digest_of(&index)),
        (media_type::DOCKER_MANIFEST, digest_of(&index)),
    ] {
        let mut listing = index.clone();
        listing["manifests"][0] = json!(Descriptor::new(media_type, digest, 5));
        let refused = registry.put("x", &listing).await;
        assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (400, "MANIFEST_INVALID"));
    }
    // Other kinds of things may be listed by who knows what they are.
    let mut listing = index.clone();
    listing["manifests"][0]["mediaType"] = json!("application/vnd.example.thing");
    listing["manifests"][0]["digest"] = json!(Digest::of(b"layer"));
    assert_eq!(registry.put("x", &listing).await.status(), 201);
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/i").await, 200);
}
