use super::*;
use crate::content::Target;

#[tokio::test]
async fn tags_are_sorted_and_come_in_parts() {
    let registry = Registry::new().await;
    assert_eq!(code(registry.get("/v2/a/b/tags/list").await).await, "NAME_UNKNOWN");
    let image = registry.image(b"layer").await;
    for tag in ["b", "c", "B", "a", "10", "9"] {
        registry.put(tag, &image).await;
    }
    let all = registry.json("/v2/a/b/tags/list").await;
    assert_eq!(all, json!({"name": "a/b", "tags": ["10", "9", "B", "a", "b", "c"]}));
    let tags = |query: &'static str| {
        let registry = &registry;
        async move { registry.json(&format!("/v2/a/b/tags/list?{query}")).await["tags"].clone() }
    };
    assert_eq!(tags("n=2&last=B").await, json!(["a", "b"]));
    assert_eq!(tags("last=a").await, json!(["b", "c"]));
    assert_eq!(tags("last=not-there").await, json!([]));
    assert_eq!(tags("n=0").await, json!([]));
    assert_eq!(tags("n=100").await.as_array().unwrap().len(), 6);
    for bad in ["n=-1", "n=x", "n="] {
        assert_eq!(registry.status("GET", &format!("/v2/a/b/tags/list?{bad}")).await, 400);
    }

    let (mut path, mut seen) = ("/v2/a/b/tags/list?n=4".to_owned(), Vec::new());
    loop {
        let response = registry.get(&path).await;
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        seen.extend(parse(response).await["tags"].as_array().unwrap().clone());
        let Some(link) = link else { break };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(json!(seen), all["tags"]);
}

#[tokio::test]
async fn names_in_the_index_are_repositories() {
    let registry = Registry::new().await;
    let mut image = registry.image(b"layer").await;
    for name in ["latest", "nvcr.io/nvidia/pytorch:22.12-py3", "localhost:5000/x:t", "a/b:t"] {
        image["annotations"] = json!({"name": name});
        registry.layout.put(image.to_string().as_bytes()).unwrap();
        registry.layout.tag(&descriptor_of(&image), b"", name).await.unwrap();
    }
    let name_of = |path: &'static str| {
        let registry = &registry;
        async move { registry.json(path).await["annotations"]["name"].clone() }
    };
    assert_eq!(name_of("/v2/nvidia/pytorch/manifests/22.12-py3").await, "nvcr.io/nvidia/pytorch:22.12-py3");
    assert_eq!(name_of("/v2/nvcr.io/nvidia/pytorch/manifests/22.12-py3").await, "nvcr.io/nvidia/pytorch:22.12-py3");
    assert_eq!(name_of("/v2/x/manifests/t").await, "localhost:5000/x:t");
    assert_eq!(name_of("/v2/a/b/manifests/t").await, "a/b:t");
    assert_eq!(name_of("/v2/any/name/manifests/latest").await, "latest");
    assert_eq!(registry.json("/v2/a/b/tags/list").await["tags"], json!(["latest", "t"]));
    assert_eq!(registry.json("/v2/_catalog").await["repositories"], json!(["a/b", "nvcr.io/nvidia/pytorch", "x"]));
    let part = registry.get("/v2/_catalog?n=1&last=a/b").await;
    assert_eq!(header(&part, "link"), "</v2/_catalog?n=1&last=nvcr.io%2Fnvidia%2Fpytorch>; rel=\"next\"");
}

#[tokio::test]
async fn what_is_pushed_is_named_in_the_layout() {
    let registry = Registry::new().await;
    let (one, two) = (registry.image(b"1").await, registry.image(b"2").await);
    registry.put("t", &one).await;
    assert_eq!(registry.layout.find(Some("a/b:t")).unwrap().digest, digest_of(&one));
    assert_eq!(registry.layout.find(None).unwrap().digest, digest_of(&one));
    registry.put("t", &two).await;
    assert_eq!(registry.layout.find(None).unwrap().digest, digest_of(&two));
    // The one that lost its tag is still there.
    assert_eq!(registry.status("GET", &format!("/v2/a/b/manifests/{}", digest_of(&one))).await, 200);
}

#[tokio::test]
async fn a_damaged_index_is_an_error_not_an_empty_registry() {
    let registry = Registry::new().await;
    std::fs::write(registry.layout.root().join("index.json"), "{").unwrap();
    let image = registry.image(b"layer").await;
    for response in [registry.get("/v2/_catalog").await, registry.put("t", &image).await] {
        assert_eq!((response.status().as_u16(), code(response).await.as_str()), (500, "UNKNOWN"));
    }
    assert_eq!(std::fs::read(registry.layout.root().join("index.json")).unwrap(), b"{");
}
