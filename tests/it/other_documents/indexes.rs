//! Indexes and descriptors.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

#[test]
fn an_index_that_names_no_platforms_is_read_by_its_configs() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let [amd, arm] = ["amd64", "arm64"].map(|architecture| image(&layout, architecture));
    let sbom = put_blob(&layout, "text/plain", b"sbom");
    let artifact =
        put_manifest(&layout, &put_blob(&layout, "application/vnd.oci.empty.v1+json", b"{}"), &[&sbom], &json!({}));
    let nested = index(&layout, &[&arm]);
    let mut said = nested.clone();
    said.platform = Some("linux/arm64".parse().unwrap());
    let missing = Descriptor::of(media_type::MANIFEST, b"not there");
    name(&layout, &index(&layout, &[&artifact, &missing, &amd, &arm]), "plain");
    name(&layout, &index(&layout, &[&amd, &nested]), "nested");
    name(&layout, &index(&layout, &[&index(&layout, &[&nested]), &amd]), "deep");
    name(&layout, &index(&layout, &[&said, &amd]), "said");
    let expected = |manifest: &Descriptor| {
        json_of(layout.blob_path(&manifest.digest))["config"]["digest"].as_str().unwrap().to_owned()
    };
    let serve =
        Registry::serve_with(&place, "layout", std::process::Command::new(crate::support::OCIFORGE), &["--read-only"]);
    for tag in ["plain", "nested", "deep", "said"] {
        for from in [format!("oci:layout:{tag}"), serve.name(&format!("x:{tag}"))] {
            assert_eq!(config_of(&place, &from, "linux/amd64"), expected(&amd), "{from}");
            assert_eq!(config_of(&place, &from, "linux/arm64"), expected(&arm), "{from}");
        }
        let from = format!("oci:layout:{tag}");
        let none = run(&mut place.ociforge(["inspect", &from, "--platform", "linux/s390x"]));
        none.fails(1, &["has no image for linux/s390x", "linux/amd64", "linux/arm64"]);
        // The only platform is a manifest; of several the index is kept, with what leads to them.
        let copied =
            run(&mut place.ociforge(["copy", &from, &format!("oci:arm:{tag}"), "--platform", "linux/arm64"])).ok();
        assert!(copied.trim().ends_with(&format!("@{}", arm.digest)), "{copied}");
        run(&mut place.ociforge(["copy", &from, &format!("oci:both:{tag}"), "--platform", "linux/arm64,linux/amd64"]))
            .ok();
        for (platform, manifest) in [("linux/amd64", &amd), ("linux/arm64", &arm)] {
            assert_eq!(config_of(&place, &format!("oci:both:{tag}"), platform), expected(manifest));
        }
        // As a base, too.
        place.write("recipe/ociforge.toml", format!("base = 'oci:../layout:{tag}'\n[[layer]]\ndirectories = ['/a']\n"));
        run(&mut place.build("recipe", &["--platform", "linux/arm64", "-o", &format!("oci:built:{tag}")])).ok();
        let built = run(&mut place.ociforge(["inspect", &format!("oci:built:{tag}"), "--config"])).ok();
        assert_eq!(serde_json::from_str::<Value>(&built).unwrap()["config"]["Cmd"], json!(["arm64"]));
    }
    assert!(!place.path("both/blobs/sha256").join(sbom.digest.hex()).exists());
}

#[test]
fn what_an_index_lists_and_nobody_knows_is_copied_as_it_is() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let amd = image(&layout, "amd64");
    let unknown = put_blob(&layout, "application/vnd.example.custom+json", b"{\"k\":1}");
    let long = put_blob(&layout, "application/xml", &vec![b'x'; 20 << 20]);
    let listed = index(&layout, &[&unknown, &amd, &long]);
    name(&layout, &listed, "h.example/a:x");
    let lost = Descriptor::of("application/vnd.example.lost", b"lost");
    let incomplete = index(&layout, &[&amd, &lost]);
    name(&layout, &incomplete, "h.example/a:lost");
    let serve = Registry::serve(&place, "served");
    let steps = [serve.name("a:x"), "oci-archive:x.tar:h.example/a:x".into(), "oci:next:h.example/a:x".into()];
    let mut from = "oci:layout:h.example/a:x".to_owned();
    for to in steps {
        assert_eq!(copy(&place, &from, &to), listed.digest.to_string(), "{to}");
        from = to;
    }
    let next = Layout::open(place.path("next")).unwrap();
    for blob in [&unknown, &long] {
        assert_eq!(next.blob_size(&blob.digest), Some(blob.size));
    }
    let ran = run(&mut place.ociforge(["copy", "oci:layout:h.example/a:lost", "oci:next:lost", "--progress", "plain"]));
    assert!(
        ran.stderr
            .contains(&format!("{}, which the index lists as application/vnd.example.lost, is missing", lost.digest))
    );
    assert!(ran.ok().contains(incomplete.digest.as_str()));
    run(&mut place.ociforge(["mirror", "h.example/a:x", "--from", "oci:layout", "--to", "oci:mirrored"])).ok();
    assert_eq!(Layout::open(place.path("mirrored")).unwrap().blob_size(&unknown.digest), Some(unknown.size));

    // Beside images in the layout's own index, too.
    name(&layout, &unknown, "h.example/other:x");
    let only = Layout::create(place.path("only")).unwrap();
    let amd = image(&only, "amd64");
    only.edit_index(|entries| entries.extend([unknown.clone(), amd.clone()])).unwrap();
    assert_eq!(copy(&place, "oci:only", "oci:next:only"), amd.digest.to_string());
    let ran = run(&mut place.ociforge(["copy", "oci:layout:h.example/other:x", "oci:next:other"]));
    ran.fails(1, &["neither an image nor an index; its type is application/vnd.example.custom+json"]);
    let ran =
        run(&mut place.ociforge(["mirror", "--from", "oci:layout", "--to", "oci:mirrored", "--progress", "plain"]));
    assert!(
        ran.stderr.contains("the entry `h.example/other:x` is skipped: it is neither an image nor an index"),
        "{}",
        ran.stderr
    );
    ran.ok();
}

#[test]
fn content_that_a_descriptor_brings_along_needs_no_blob() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let inline = |descriptor: &Descriptor| {
        let mut inline = descriptor.clone();
        let content = fs::read(layout.blob_path(&descriptor.digest)).unwrap();
        inline.other.insert("data".into(), STANDARD.encode(content).into());
        inline
    };
    let plain = image(&layout, "amd64");
    let document = json_of(layout.blob_path(&plain.digest));
    let part = |value: &Value| serde_json::from_value::<Descriptor>(value.clone()).unwrap();
    let (config, layer) = (part(&document["config"]), part(&document["layers"][0]));
    let brought = put_manifest(&layout, &inline(&config), &[&inline(&layer)], &json!({}));
    let listed = index(&layout, &[&inline(&brought)]);
    let mut wrong = inline(&config);
    wrong.other.insert("data".into(), STANDARD.encode(b"{}").into());
    let damaged = put_manifest(&layout, &wrong, &[&inline(&layer)], &json!({}));
    name(&layout, &inline(&listed), "h.example/a:x");
    name(&layout, &damaged, "h.example/a:damaged");
    for gone in [&config, &layer, &brought, &listed] {
        fs::remove_file(layout.blob_path(&gone.digest)).unwrap();
    }
    assert_eq!(config_of(&place, "oci:layout:h.example/a:x", "linux/amd64"), config.digest.to_string());
    let serve = Registry::serve(&place, "served");
    for to in ["oci:copied:x", "oci-archive:x.tar", &serve.name("a:x"), "docker-archive:d.tar:a:x"] {
        run(&mut place.ociforge(["copy", "oci:layout:h.example/a:x", to])).ok();
    }
    // What is brought along is there as blobs then, and others read it.
    for image in
        [format!("oci:{}:x", place.at("copied")), format!("docker-archive:{}", place.at("d.tar")), serve.name("a:x")]
    {
        let raw = skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--override-os=linux",
            "--override-arch=amd64",
            "--config",
            "--raw",
            &image,
        ]);
        assert_eq!(digest_of(raw.as_bytes()), config.digest.to_string(), "{image}");
    }
    run(&mut place.ociforge(["mirror", "h.example/a:x", "--from", "oci:layout", "--to", "oci-archive:m.tar"])).ok();
    run(&mut place.ociforge(["bundle", "oci:layout:h.example/a:x", "bundle"])).ok();
    assert!(place.path("bundle/rootfs/amd64").exists());
    let ran = run(&mut place.ociforge(["inspect", "oci:layout:h.example/a:damaged"]));
    ran.fails(1, &["the `data` of its descriptor does not match size and digest"]);
}

#[test]
fn what_programs_disagree_about_is_refused_by_all() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let amd = image(&layout, "amd64");
    let sound = json_of(layout.blob_path(&amd.digest)).to_string();
    let list = json!([amd]);
    let with = |more: &str| sound.replacen('{', &format!("{{{more},"), 1);
    let cases = [
        ("both", media_type::MANIFEST, with(&format!("\"manifests\":{list}"))),
        ("both-index", media_type::INDEX, with(&format!("\"manifests\":{list}"))),
        (
            "index-with-layers",
            media_type::INDEX,
            json!({"schemaVersion": 2, "manifests": list, "layers": []}).to_string(),
        ),
        ("as-index", media_type::INDEX, sound.clone()),
        (
            "as-manifest",
            media_type::MANIFEST,
            json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": list}).to_string(),
        ),
        ("type", media_type::MANIFEST, sound.replace(media_type::MANIFEST, media_type::INDEX)),
        ("twice", media_type::MANIFEST, with("\"layers\":[]")),
        ("case", media_type::MANIFEST, with(&format!("\"Manifests\":{list}"))),
        ("schema", media_type::MANIFEST, with("\"fsLayers\":[]")),
    ];
    let serve = Registry::serve(&place, "served");
    let there = Layout::open(place.path("served")).unwrap();
    image(&there, "amd64");
    for (tag, kind, text) in &cases {
        let data = place.write("document", text);
        let put = run(std::process::Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-X", "PUT", "-w", "\n%{http_code}"])
            .args([
                "-H",
                &format!("Content-Type: {kind}"),
                "--data-binary",
                &format!("@{}", data.display()),
                &format!("http://{}/v2/a/manifests/{tag}", serve.address),
            ]))
        .ok();
        assert!(put.ends_with("\n400") && put.contains("MANIFEST_INVALID"), "{tag}: {put}");
        // The same in a layout of somebody else's.
        for layout in [&layout, &there] {
            name(layout, &put_blob(layout, kind, text.as_bytes()), tag);
        }
        let (status, body) = serve.get(&format!("/v2/a/manifests/{tag}"));
        let body = String::from_utf8(body).unwrap();
        assert!(
            status == 400 && body.contains("MANIFEST_INVALID") && body.contains("ambiguous"),
            "{tag}: {status} {body}"
        );
        for command in [&["inspect"][..], &["inspect", "--raw"], &["copy"], &["spec"], &["doctor"]] {
            let from = format!("oci:layout:{tag}");
            let mut words = command.to_vec();
            words.push(&from);
            words.extend((command[0] == "copy").then_some("oci:target:x"));
            run(&mut place.ociforge(words)).fails(1, &["ambiguous", "CVE-2021-41190"]);
        }
        place.write("recipe/ociforge.toml", format!("base = 'oci:../layout:{tag}'\n[[layer]]\ndirectories = ['/a']\n"));
        run(&mut place.build("recipe", &[])).fails(1, &["ambiguous"]);
    }
    // Inside of an index, and the index of a layout itself.
    let odd = Descriptor {
        platform: Some("linux/amd64".parse().unwrap()),
        ..Descriptor::of(cases[0].1, cases[0].2.as_bytes())
    };
    name(&layout, &index(&layout, &[&odd]), "inside");
    run(&mut place.ociforge(["copy", "oci:layout:inside", "oci:target:x"])).fails(1, &["ambiguous"]);
    let listed = fs::read_to_string(place.path("layout/index.json")).unwrap();
    place.write("layout/index.json", listed.replacen('{', "{\"layers\":[],", 1));
    run(&mut place.ociforge(["inspect", "oci:layout:inside"])).fails(1, &["it is an index, but has `layers`"]);
}
