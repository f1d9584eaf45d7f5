//! Tags and referrers with Debian's docker-registry, which keeps no list of referrers.

use ociforge::content::{Cause, Named, Target};
use ociforge_manifests::{Descriptor, media_type};
use serde_json::{Value, json};

use crate::support::{Place, Registry, client, one_layer, push, remote, run, skopeo_raw};

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_listed_and_found() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    let (_directory, layout, _, manifest) = one_layer(1000);
    let remote = remote(&client(), &registry.address, "ml/train");
    assert!(
        matches!(remote.tags().await.unwrap_err().cause, Cause::Status { status, .. } if status == "404 Not Found")
    );
    assert_eq!(remote.tagged("1").await.unwrap(), None);
    for tag in ["b", "10", "9", "a"] {
        push(&remote, &layout, &manifest, tag).await.unwrap();
    }
    assert_eq!(remote.tags().await.unwrap(), ["10", "9", "a", "b"]);
    assert_eq!(remote.tagged("9").await.unwrap().unwrap().0, manifest);
    assert_eq!(remote.tagged("c").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_listed_by_a_tag() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    let (_directory, layout, layer, manifest) = one_layer(1000);
    let remote = remote(&client(), &registry.address, "ml/train");
    push(&remote, &layout, &manifest, "1").await.unwrap();
    assert_eq!(remote.referrers(&manifest).await.unwrap(), []);
    for of in ["one", "two"] {
        let bytes = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": "signature/x", "subject": manifest,
            "config": layer, "layers": [layer], "annotations": {"of": of},
        });
        let bytes = bytes.to_string().into_bytes();
        remote.keep(&Descriptor::of(media_type::MANIFEST, &bytes), &bytes).await.unwrap();
        remote.keep(&Descriptor::of(media_type::MANIFEST, &bytes), &bytes).await.unwrap();
    }
    let found = remote.referrers(&manifest).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.other["artifactType"] == "signature/x"));
    let tag = manifest.digest.as_str().replace(':', "-");
    assert_eq!(remote.tags().await.unwrap(), ["1", &tag]);
    let index: Value = serde_json::from_str(&skopeo_raw(&registry.name(&format!("ml/train:{tag}")))).unwrap();
    assert_eq!(index["manifests"], json!(found));
}

#[test]
fn a_registry_may_be_an_ipv6_address() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let place = Place::new();
    place.small_base(&format!("oci:{}:x", place.at("layout")), "small");
    let serve = Registry::serve_at(&place, "served", "[::1]:0", place.ociforge([]), &[]);
    let address = &serve.address;
    assert!(address.starts_with("[::1]:"), "{address}");
    let name = format!("{address}/a/b:t");
    let copied = run(&mut place.ociforge(["copy", "oci:layout:x", &name]));
    let back = run(&mut place.ociforge(["copy", &format!("docker://{name}"), "oci:back:x"]));
    let mirrored = run(&mut place.ociforge(["mirror", &name, "--to", "oci:mirrored"]));
    let digest = copied.ok().trim().strip_prefix(&format!("{name}@")).unwrap().to_owned();
    assert_eq!(back.ok().trim(), format!("oci:back:x@{digest}"));
    assert!(mirrored.ok().contains(&format!("mirrored:{name}@{digest}")));
}
