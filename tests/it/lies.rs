//! Layouts and registries that hold something else than they say, and what they must not learn.

use std::fs;

use serde_json::json;

use super::support::{Answer, Liar, Place, Registry, files, run, skopeo_copy};

/// A recipe that adds a directory to `base`.
fn on(place: &Place, base: &str, target: &str) {
    place.write(
        "recipe/ociforge.toml",
        format!("name = '{target}/app'\nbase = '{base}'\n[[layer]]\ndirectories = ['/a']\n"),
    );
}

#[test]
fn a_damaged_base_in_a_layout() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    // Made elsewhere: the own store would have what is damaged here.
    let theirs = Place::new();
    let image = format!("oci:{}:base", theirs.at("layout"));
    theirs.small_base(&image, "base");
    on(&place, &image, &registry.address);
    // The layer, the config and the manifest; each changed in place, then cut.
    for blob in files(&theirs.path("layout/blobs/sha256")) {
        let bytes = fs::read(&blob).unwrap();
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for damaged in [&changed[..], &bytes[..bytes.len() - 1]] {
            fs::write(&blob, damaged).unwrap();
            let said = run(&mut place.build("recipe", &["--push"])).fails(1, &["cause: "]);
            let name = blob.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(&name[..7]) || said.contains("digest") || said.contains("bytes"), "{said}");
            place.assert_clean();
            registry.assert_no_tag("app");
        }
        fs::write(&blob, bytes).unwrap();
    }
    run(&mut place.build("recipe", &["--push"])).ok();
}

#[test]
fn registries_that_lie() {
    let place = Place::new();
    let target = Registry::docker(&place, "registry");
    let theirs = Place::new();
    theirs.small_base(&format!("oci:{}:base", theirs.at("layout")), &"0123456789".repeat(50_000));
    let layout = theirs.path("layout");
    let of = |kind: &'static str| move |path: &str| path.contains(kind) && path != "/v2/";
    type Lie = fn(Answer) -> Answer;
    let flip: Lie = |mut answer| {
        if let Some(byte) = answer.body.last_mut() {
            *byte ^= 1;
        }
        answer
    };
    let longer: Lie = |mut answer| {
        answer.body.push(0);
        answer
    };
    let shorter: Lie = |mut answer| {
        answer.body.pop();
        answer
    };
    let digest: Lie = |mut answer| {
        answer.headers.retain(|(name, _)| name != "Docker-Content-Digest");
        answer.header("Docker-Content-Digest", format!("sha256:{}", "1".repeat(64)))
    };
    let nonsense: Lie = |answer| Answer { body: b"<html>hello</html>".to_vec(), ..answer }.header("X", "y");
    for (kind, lie) in [
        ("/blobs/", flip),
        ("/blobs/", longer),
        ("/blobs/", shorter),
        ("/blobs/", nonsense),
        ("/manifests/", digest),
        ("/manifests/", nonsense),
    ] {
        let wanted = of(kind);
        let liar = Liar::start(&layout, move |asked, answer| if wanted(&asked.path) { lie(answer) } else { answer });
        on(&place, &format!("{}/base:v1", liar.address), &target.address);
        run(&mut place.build("recipe", &["--push"])).fails(1, &["cause: "]);
        target.assert_no_tag("app");
        place.assert_clean();
    }
    // Only the layer is a lie, and it is streamed into the other registry.
    let manifest: serde_json::Value = {
        let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
        serde_json::from_slice(&fs::read(layout.join("blobs").join(digest)).unwrap()).unwrap()
    };
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    for lie in [flip, longer, shorter] {
        let lied = layer.clone();
        let liar =
            Liar::start(&layout, move |asked, answer| if asked.path.ends_with(&lied) { lie(answer) } else { answer });
        on(&place, &format!("{}/base:v1", liar.address), &target.address);
        run(&mut place.build("recipe", &["--push"])).fails(1, &[&target.address, "cause: ", &layer[..14]]);
        target.assert_no_tag("app");
    }
    // One that cuts off each answer to the layer, but serves the rest when asked for it, is put up with.
    let cut = layer.clone();
    let liar = Liar::start(&layout, move |asked, mut answer| {
        if asked.path.ends_with(&cut) {
            let total = answer.body.len();
            if let Some(range) = asked.headers.get("range") {
                let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                answer = Answer { status: 206, body: answer.body[from..].to_vec(), ..answer };
                return answer.header("Content-Range", format!("bytes {from}-{}/{total}", total - 1));
            }
            answer.cut = total / 2;
        }
        answer
    });
    on(&place, &format!("{}/base:v1", liar.address), &target.address);
    let told = place.built("recipe", &["--push"]);
    assert_eq!(told["bytes"]["streamed"], manifest["layers"][0]["size"]);
    skopeo_copy(&target.name("app"), &format!("dir:{}", place.at("pulled")));
}

#[test]
fn credentials_stay_with_their_registry() {
    let place = Place::new();
    let target = Registry::serve(&place, "registry");
    place.small_base(&format!("oci:{}:base", place.at("layout")), "base");
    let storage = Liar::start(&place.path("layout"), |_, answer| answer);
    let elsewhere = storage.address.replace("127.0.0.1", "localhost");
    let front = Liar::start(&place.path("layout"), move |asked, answer| {
        if !asked.headers.contains_key("authorization") {
            return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"here\"");
        }
        if asked.path.contains("/blobs/") {
            return Answer::status(307).header("Location", format!("http://{elsewhere}{}", asked.path));
        }
        answer
    });
    on(&place, &format!("{}/base:v1", front.address), &target.address);
    let said = run(&mut place.build("recipe", &["--push"])).fails(1, &[&front.address, "cause: ", "401", "hint: "]);
    assert!(!said.contains("Basic"), "{said}");
    target.assert_no_tag("app");

    // user:s3cret
    let auth = json!({"auths": {front.address.clone(): {"auth": "dXNlcjpzM2NyZXQ="}}});
    let file = place.write("auth.json", auth.to_string());
    run(&mut place.build("recipe", &["--push", "--authfile", file.to_str().unwrap()])).ok();
    assert!(front.asked().iter().any(|asked| asked.headers.contains_key("authorization")));
    assert!(!storage.asked().is_empty());
    for asked in storage.asked() {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
    }
}
