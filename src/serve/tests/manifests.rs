use super::*;

#[tokio::test]
async fn an_image_by_tag_and_digest() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    let (text, digest) = (image.to_string(), digest_of(&image));
    let put = registry.put("v1", &image).await;
    assert_eq!(put.status(), 201);
    assert_eq!(header(&put, "location"), format!("/v2/a/b/manifests/{digest}"));
    assert_eq!(header(&put, "docker-content-digest"), digest.as_str());
    assert!(put.headers().get("oci-subject").is_none());
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        for method in ["HEAD", "GET"] {
            let response = registry.send(method, &path).await;
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, "content-type"), media_type::MANIFEST);
            assert_eq!(header(&response, "content-length"), text.len().to_string());
            assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
            assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
            assert_eq!(response.text().await.unwrap(), if method == "GET" { text.as_str() } else { "" });
        }
        let unchanged = registry.request("GET", &path).header("if-none-match", format!("\"{digest}\""));
        assert_eq!(unchanged.send().await.unwrap().status(), 304);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    let digest = digest_of(&image);
    for path in [
        "/v2/a/b/manifests/other".to_owned(),
        format!("/v2/a/b/manifests/{}", Digest::of(b"other")),
        // A blob is no manifest, and a manifest is in its repositories only.
        format!("/v2/a/b/manifests/{}", Digest::of(b"layer")),
        format!("/v2/c/manifests/{digest}"),
        "/v2/c/manifests/t".to_owned(),
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            assert_eq!(registry.status(method, &path).await, 404, "{method} {path}");
        }
        assert_eq!(code(registry.get(&path).await).await, "MANIFEST_UNKNOWN");
    }
    for method in ["GET", "PUT"] {
        let bad = registry.send(method, "/v2/a/b/manifests/sha256:baddigeststring").await;
        assert_eq!((bad.status().as_u16(), code(bad).await.as_str()), (400, "DIGEST_INVALID"));
    }
}

#[tokio::test]
async fn manifests_that_are_none_are_refused() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    let with = |key: &str, value: Value| {
        let mut image = image.clone();
        image[key] = value;
        image.to_string()
    };
    for (media_type, body) in [
        (media_type::MANIFEST, String::new()),
        (media_type::MANIFEST, "<html>".into()),
        (media_type::MANIFEST, "[]".into()),
        (media_type::MANIFEST, "[".repeat(100_000)),
        (media_type::MANIFEST, with("layers", json!(3))),
        (media_type::MANIFEST, with("config", json!({}))),
        (media_type::MANIFEST, with("schemaVersion", json!(1))),
        (media_type::MANIFEST, with("mediaType", json!("text/html"))),
        (media_type::MANIFEST, with("mediaType", json!(media_type::INDEX))),
        (media_type::INDEX, image.to_string()),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", image.to_string()),
    ] {
        let refused = registry.put_as("t", media_type, body.clone()).await;
        assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (400, "MANIFEST_INVALID"), "{body:.200}");
    }
    let other = registry.put_as(Digest::of(b"other").as_str(), media_type::MANIFEST, image.to_string()).await;
    assert_eq!((other.status().as_u16(), code(other).await.as_str()), (400, "DIGEST_INVALID"));
    for (body, tag) in [(image.to_string(), ".bad"), (image.to_string(), &"a".repeat(129))] {
        assert_eq!(registry.put_as(tag, media_type::MANIFEST, body).await.status(), 400);
    }
    assert_eq!(registry.layout.index().unwrap().manifests.len(), 0);
}

#[tokio::test]
async fn the_type_is_found_where_it_is_given() {
    let registry = Registry::new().await;
    let mut image = registry.image(b"layer").await;
    image.as_object_mut().unwrap().remove("mediaType");
    for (sent, got) in [
        ("application/json", media_type::MANIFEST),
        ("application/vnd.oci.image.manifest.v1+json; charset=utf-8", media_type::MANIFEST),
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_MANIFEST),
    ] {
        assert_eq!(registry.put_as("t", sent, image.to_string()).await.status(), 201, "{sent}");
        assert_eq!(header(&registry.get("/v2/a/b/manifests/t").await, "content-type"), got);
    }
}

#[tokio::test]
async fn large_manifests() {
    let registry = Registry::new().await;
    let mut image = registry.image(b"layer").await;
    image["annotations"] = json!({"large": "A".repeat(3_900_000)});
    assert_eq!(registry.put("large", &image).await.status(), 201);
    assert_eq!(registry.get("/v2/a/b/manifests/large").await.text().await.unwrap(), image.to_string());
    image["annotations"] = json!({"large": "A".repeat(4 << 20)});
    assert_eq!(registry.put("larger", &image).await.status(), 413);
}

#[tokio::test]
async fn children_come_first() {
    let registry = Registry::new().await;
    let mut image = registry.image(b"layer").await;
    let unknown = Descriptor::of(media_type::LAYER_TAR, b"unknown");
    image["layers"].as_array_mut().unwrap().push(json!(unknown));
    let refused = registry.put("t", &image).await;
    assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    let refused = registry.put("t", &index_of(&[&image])).await;
    assert_eq!((refused.status().as_u16(), code(refused).await.as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    // What is to be had elsewhere need not be here.
    image["layers"][1]["urls"] = json!(["https://store.example.com/layer"]);
    assert_eq!(registry.put("t", &image).await.status(), 201);
    image["layers"][1]["urls"] = json!([]);
    image["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    assert_eq!(registry.put("t", &image).await.status(), 201);
}

#[tokio::test]
async fn nested_indexes_and_their_end() {
    let registry = Registry::new().await;
    let (one, two) = (registry.image(b"1").await, registry.image(b"2").await);
    let index = index_of(&[&one, &two]);
    let outer = index_of(&[&index]);
    let empty = index_of(&[]);
    for manifest in [&one, &two, &index, &outer, &empty] {
        assert_eq!(registry.put(digest_of(manifest).as_str(), manifest).await.status(), 201);
    }
    registry.put("outer", &outer).await;
    assert_eq!(header(&registry.get("/v2/a/b/manifests/outer").await, "content-type"), media_type::INDEX);
    let path = |manifest: &Value| format!("/v2/a/b/manifests/{}", digest_of(manifest));
    assert_eq!(registry.status("DELETE", &path(&one)).await, 405);
    for manifest in [&outer, &index, &one, &two, &empty] {
        assert_eq!(registry.status("DELETE", &path(manifest)).await, 202);
        assert_eq!(registry.status("GET", &path(manifest)).await, 404);
    }
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/outer").await, 404);
    assert_eq!(registry.layout.index().unwrap().manifests.len(), 0);
}

#[tokio::test]
async fn sha512_and_tags_as_parameters() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    let digest = sha512(image.to_string().as_bytes());
    let put = registry.put(&format!("{digest}?tag=one&tag=two"), &image).await;
    assert_eq!(put.status(), 201);
    let tags: Vec<_> = put.headers().get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["one", "two"]);
    for reference in ["one", "two", digest.as_str()] {
        let get = registry.get(&format!("/v2/a/b/manifests/{reference}")).await;
        assert_eq!(header(&get, "docker-content-digest"), digest.as_str());
        assert_eq!(get.text().await.unwrap(), image.to_string());
    }
    assert_eq!(registry.put(&format!("{digest}?tag=.bad"), &image).await.status(), 400);
    let many = |tags: usize| (0..tags).map(|n| format!("&tag=t{n}")).collect::<String>();
    assert_eq!(registry.put(&format!("{digest}?{}", &many(65)[1..]), &image).await.status(), 400);
    assert_eq!(registry.put(&format!("{digest}?{}", &many(64)[1..]), &image).await.status(), 201);
}

#[tokio::test]
async fn deleting_a_tag_leaves_the_manifest() {
    let registry = Registry::new().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    assert_eq!(registry.status("DELETE", "/v2/a/b/manifests/t").await, 202);
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/t").await, 404);
    assert_eq!(registry.status("GET", &format!("/v2/a/b/manifests/{}", digest_of(&image))).await, 200);
    assert_eq!(registry.json("/v2/a/b/tags/list").await["tags"], json!([]));
}

#[tokio::test]
async fn referrers() {
    let registry = Registry::new().await;
    let subject = registry.image(b"layer").await;
    let of = digest_of(&subject);
    let path = format!("/v2/a/b/referrers/{of}");
    let none = registry.get(&path).await;
    assert_eq!((none.status().as_u16(), header(&none, "content-type")), (200, media_type::INDEX.into()));
    assert_eq!(parse(none).await["manifests"], json!([]));

    // They may come before their subject.
    let mut plain = registry.image(b"referrer").await;
    plain["subject"] = json!(descriptor_of(&subject));
    let mut typed = plain.clone();
    typed["artifactType"] = json!("application/vnd.example.sbom");
    typed["annotations"] = json!({"key": "value"});
    let mut index = index_of(&[]);
    index["subject"] = json!(descriptor_of(&subject));
    for referrer in [&plain, &typed, &index] {
        let put = registry.put(digest_of(referrer).as_str(), referrer).await;
        assert_eq!((put.status().as_u16(), header(&put, "oci-subject")), (201, of.to_string()));
    }
    registry.put("t", &subject).await;
    registry.put("tagged", &typed).await;

    let entry = |referrer: &Value, kind: Option<&str>| {
        let mut entry = json!(descriptor_of(referrer));
        entry.as_object_mut().unwrap().extend(kind.map(|kind| ("artifactType".into(), json!(kind))));
        entry.as_object_mut().unwrap().extend(referrer.get("annotations").map(|a| ("annotations".into(), a.clone())));
        entry
    };
    let all = registry.json(&path).await["manifests"].as_array().unwrap().clone();
    assert_eq!(all.len(), 3);
    assert!(all.contains(&entry(&plain, Some(media_type::CONFIG))));
    assert!(all.contains(&entry(&typed, Some("application/vnd.example.sbom"))));
    assert!(all.contains(&entry(&index, None)));

    let filtered = registry.get(&format!("{path}?artifactType=application/vnd.example.sbom")).await;
    assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
    assert_eq!(parse(filtered).await["manifests"], json!([entry(&typed, Some("application/vnd.example.sbom"))]));

    assert_eq!(registry.json(&format!("/v2/c/referrers/{of}")).await["manifests"], json!([]));
    assert_eq!(registry.status("GET", "/v2/a/b/referrers/sha256:bad").await, 400);
    registry.send("DELETE", &format!("/v2/a/b/manifests/{}", digest_of(&typed))).await;
    assert_eq!(registry.json(&path).await["manifests"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn referrers_that_a_client_listed_under_a_tag() {
    let registry = Registry::new().await;
    let subject = registry.image(b"layer").await;
    let mut referrer = registry.image(b"referrer").await;
    referrer["subject"] = json!(descriptor_of(&subject));
    let list = index_of(&[&referrer, &subject]);
    // As in a layout that was copied from an older registry: only the list has a name.
    for manifest in [&subject, &referrer, &list] {
        registry.layout.put(manifest.to_string().as_bytes()).unwrap();
    }
    let tag = format!("a/b:{}", digest_of(&subject).as_str().replace(':', "-"));
    crate::content::Target::tag(&registry.layout, &descriptor_of(&list), b"", &tag).await.unwrap();
    let found = registry.json(&format!("/v2/a/b/referrers/{}", digest_of(&subject))).await;
    assert_eq!(found["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(found["manifests"][0]["digest"], digest_of(&referrer).as_str());
}
