//! Documents that are no usual image: indexes that do not say all, what is listed and unknown, what programs disagree
//! about, artifacts, and images in Docker's forms. skopeo and the registries have a say where they can.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ociforge::store::Layout;
use ociforge::store::layout::REF_NAME;
use ociforge_manifests::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use crate::support::{Place, Registry, digest_of, json_of, put, run, skopeo};

/// An image of one layer, in which there is a file with the name of its architecture.
fn image(layout: &Layout, architecture: &str) -> Descriptor {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    tar.append_data(&mut header, architecture, &b""[..]).unwrap();
    let layer = blob(layout, media_type::LAYER_TAR, &tar.into_inner().unwrap());
    let rootfs = json!({"type": "layers", "diff_ids": [layer.digest]});
    let config =
        json!({"architecture": architecture, "os": "linux", "config": {"Cmd": [architecture]}, "rootfs": rootfs});
    manifest(layout, &put(layout, media_type::CONFIG, &config), &[&layer], &json!({}))
}

fn manifest(layout: &Layout, config: &Descriptor, layers: &[&Descriptor], more: &Value) -> Descriptor {
    let mut json = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers});
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    put(layout, json["mediaType"].as_str().unwrap(), &json)
}

fn index(layout: &Layout, entries: &[&Descriptor]) -> Descriptor {
    put(layout, media_type::INDEX, &json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries}))
}

fn blob(layout: &Layout, kind: &str, content: &[u8]) -> Descriptor {
    layout.put(content).unwrap();
    Descriptor::of(kind, content)
}

/// Has the layout list the document under a name.
fn name(layout: &Layout, document: &Descriptor, name: &str) {
    let mut entry = document.clone();
    entry.annotations.insert(REF_NAME.into(), name.into());
    layout.edit_index(|entries| entries.push(entry)).unwrap();
}

/// The digest of the config that `inspect` shows.
fn config_of(place: &Place, image: &str, platform: &str) -> String {
    digest_of(run(&mut place.ociforge(["inspect", image, "--config", "--platform", platform])).ok().as_bytes())
}

fn copy(place: &Place, from: &str, to: &str) -> String {
    let printed = run(&mut place.ociforge(["copy", "--progress", "none", from, to])).ok();
    printed.trim().rsplit_once('@').unwrap().1.to_owned()
}

#[test]
fn an_index_that_names_no_platforms_is_read_by_its_configs() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let [amd, arm] = ["amd64", "arm64"].map(|architecture| image(&layout, architecture));
    let sbom = blob(&layout, "text/plain", b"sbom");
    let artifact = manifest(&layout, &blob(&layout, "application/vnd.oci.empty.v1+json", b"{}"), &[&sbom], &json!({}));
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
    let unknown = blob(&layout, "application/vnd.example.custom+json", b"{\"k\":1}");
    let long = blob(&layout, "application/xml", &vec![b'x'; 20 << 20]);
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
    let brought = manifest(&layout, &inline(&config), &[&inline(&layer)], &json!({}));
    let listed = index(&layout, &[&inline(&brought)]);
    let mut wrong = inline(&config);
    wrong.other.insert("data".into(), STANDARD.encode(b"{}").into());
    let damaged = manifest(&layout, &wrong, &[&inline(&layer)], &json!({}));
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
            name(layout, &blob(layout, kind, text.as_bytes()), tag);
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

#[test]
fn artifacts_and_old_manifests_are_called_what_they_are() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let chart = blob(&layout, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    let helm = blob(&layout, "application/vnd.cncf.helm.config.v1+json", b"{\"name\":\"chart\"}");
    let empty = blob(&layout, "application/vnd.oci.empty.v1+json", b"{}");
    let signed = blob(&layout, "application/vnd.dev.cosign.simplesigning.v1+json", b"{}");
    let config = put(
        &layout,
        media_type::CONFIG,
        &json!({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [signed.digest]}}),
    );
    for (tag, document, kind) in [
        ("helm", manifest(&layout, &helm, &[&chart], &json!({})), "application/vnd.cncf.helm.config.v1+json"),
        (
            "typed",
            manifest(&layout, &empty, &[&chart], &json!({"artifactType": "application/vnd.example.x"})),
            "application/vnd.example.x",
        ),
        (
            "cosign",
            manifest(&layout, &config, &[&signed], &json!({})),
            "application/vnd.dev.cosign.simplesigning.v1+json",
        ),
    ] {
        name(&layout, &document, tag);
        let from = format!("oci:layout:{tag}");
        let said = format!("is not an image but an artifact of the type {kind}");
        for command in
            [&["spec"][..], &["bundle"], &["doctor"], &["inspect", "--config"], &["inspect", "--layers"], &["copy"]]
        {
            let mut words = command.to_vec();
            words.push(&from);
            words.extend(match command[0] {
                "copy" => Some("docker-archive:x.tar:a:b"),
                "bundle" => Some("bundle"),
                _ => None,
            });
            run(&mut place.ociforge(words)).fails(1, &[&said, "hint: `ociforge inspect "]);
        }
        run(&mut place.ociforge(["run", &from])).fails(125, &[&said]);
        place.write("recipe/ociforge.toml", format!("base = 'oci:../layout:{tag}'\n[[layer]]\ndirectories = ['/a']\n"));
        run(&mut place.build("recipe", &[])).fails(1, &[&said]);
        let shown = run(&mut place.ociforge(["inspect", &from])).ok();
        assert!(
            shown.contains(&format!("artifact     {kind} (not an image)")) && shown.contains("blob         sha256:"),
            "{shown}"
        );
        let shown: Value =
            serde_json::from_str(&run(&mut place.ociforge(["inspect", &from, "--format", "json"])).ok()).unwrap();
        assert_eq!((&shown["artifactType"], &shown["digest"]), (&json!(kind), &json!(document.digest)));
        assert_eq!(copy(&place, &from, &format!("oci:copied:{tag}")), document.digest.to_string());
    }

    for (tag, more) in [("one", ""), ("signed", ",\"signatures\":[{\"header\":{}}]")] {
        let text = format!("{{\"schemaVersion\":1,\"name\":\"a\",\"tag\":\"b\",\"fsLayers\":[],\"history\":[]{more}}}");
        let kind = if more.is_empty() { "json" } else { "prettyjws" };
        for kind in [format!("application/vnd.docker.distribution.manifest.v1+{kind}"), media_type::MANIFEST.into()] {
            layout.edit_index(|entries| entries.retain(|entry| entry.annotations[REF_NAME] != tag)).unwrap();
            name(&layout, &blob(&layout, &kind, text.as_bytes()), tag);
            let from = format!("oci:layout:{tag}");
            let said = if more.is_empty() {
                "it is a manifest of Docker's schema 1"
            } else {
                "it is a signed manifest of Docker's schema 1"
            };
            for command in ["inspect", "spec", "doctor"] {
                run(&mut place.ociforge([command, &from]))
                    .fails(1, &[said, "hint: push the image again with a current tool"]);
            }
            run(&mut place.ociforge(["copy", &from, "oci:copied:old"])).fails(1, &[said]);
        }
    }
}

/// An image for two platforms in Docker's form, in `dockers:x`.
fn dockers(place: &Place) -> (Layout, Descriptor) {
    let layout = Layout::create(place.path("dockers")).unwrap();
    let entries = ["amd64", "arm64"].map(|architecture| {
        let oci = json_of(layout.blob_path(&image(&layout, architecture).digest));
        let of = |value: &Value, kind: &str| Descriptor {
            media_type: kind.into(),
            ..serde_json::from_value(value.clone()).unwrap()
        };
        let config = of(&oci["config"], media_type::DOCKER_CONFIG);
        let layer = of(&oci["layers"][0], "application/vnd.docker.image.rootfs.diff.tar");
        let mut entry = manifest(&layout, &config, &[&layer], &json!({"mediaType": media_type::DOCKER_MANIFEST}));
        entry.platform = Some(format!("linux/{architecture}").parse().unwrap());
        entry
    });
    let list = json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_LIST, "manifests": entries});
    let list = put(&layout, media_type::DOCKER_LIST, &list);
    name(&layout, &list, "x");
    (layout, list)
}

#[test]
fn dockers_manifests_become_ocis_when_that_is_asked_for() {
    let place = Place::new();
    let (layout, list) = dockers(&place);
    let copied = |arguments: &[&str]| run(&mut place.ociforge([&["copy", "--progress", "plain"], arguments].concat()));
    // As they are, with a word about who does not see them.
    let ran = copied(&["oci:dockers:x", "oci:same:x"]);
    assert!(
        ran.stderr.contains("skopeo 1.9 and podman 4.3 ignore") && ran.stderr.contains("--format oci"),
        "{}",
        ran.stderr
    );
    assert!(ran.ok().contains(list.digest.as_str()));
    let registry = Registry::docker(&place, "registry");
    let ran = copied(&["oci:dockers:x", &registry.name("a:docker")]);
    assert!(!ran.stderr.contains("skopeo 1.9"), "{}", ran.stderr);
    ran.ok();

    let ran = copied(&["oci:dockers:x", "oci:oci:x", "--format", "oci"]);
    assert!(
        !ran.stderr.contains("skopeo 1.9")
            && ran.stderr.contains(&format!("its digest changes from {} to sha256:", list.digest))
    );
    let printed = ran.ok();
    let digest = printed.trim().rsplit_once('@').unwrap().1.to_owned();
    let index = json_of(place.path("oci/blobs/sha256").join(&digest[7..]));
    assert_eq!(index["mediaType"], media_type::INDEX);
    for entry in index["manifests"].as_array().unwrap() {
        let manifest = json_of(place.path("oci/blobs/sha256").join(&entry["digest"].as_str().unwrap()[7..]));
        let types = [
            &entry["mediaType"],
            &manifest["mediaType"],
            &manifest["config"]["mediaType"],
            &manifest["layers"][0]["mediaType"],
        ];
        assert_eq!(types, [media_type::MANIFEST, media_type::MANIFEST, media_type::CONFIG, media_type::LAYER_TAR]);
        assert!(entry["platform"]["architecture"].is_string());
    }
    // skopeo reads it, and each way there leads to the same.
    for architecture in ["amd64", "arm64"] {
        let image = format!("oci:{}:x", place.at("oci"));
        let config = skopeo(&[
            "inspect",
            "--config",
            "--raw",
            "--override-os=linux",
            &format!("--override-arch={architecture}"),
            &image,
        ]);
        assert!(layout.blob_size(&Digest::of(config.as_bytes())).is_some());
    }
    for (from, to) in
        [("oci:dockers:x", registry.name("a:oci")), (&registry.name("a:docker"), "oci-archive:x.tar:x".into())]
    {
        let json = copied(&[from, &to, "--format", "oci,json"]).ok();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["digest"], digest);
    }
    assert_eq!(copied(&["oci:oci:x", "oci:again:x", "--format", "oci"]).ok().trim(), format!("oci:again:x@{digest}"));
    let one = copied(&["oci:dockers:x", "oci:one:x", "--format", "oci", "--platform", "linux/arm64"]).ok();
    assert!(one.trim().ends_with(index["manifests"][1]["digest"].as_str().unwrap()), "{one}");
    copied(&["oci:dockers:x", "docker-archive:x.tar:a:b", "--format", "oci"]).fails(2, &["has no manifests", "hint: "]);
    copied(&["oci:dockers:x", "oci:y:x", "--format", "text,json"]).fails(2, &["text and json"]);
}

#[test]
fn a_short_name_that_two_registries_have_is_told() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let [amd, arm] = ["amd64", "arm64"].map(|architecture| image(&layout, architecture));
    name(&layout, &amd, "nvcr.io/team/a:1");
    name(&layout, &arm, "ghcr.io/team/a:1");
    name(&layout, &arm, "ghcr.io/team/a:2");
    let serve = Registry::serve(&place, "layout");
    let (status, body) = serve.get("/v2/team/a/manifests/1");
    let said = String::from_utf8(body).unwrap();
    assert!(status == 400 && said.contains("nvcr.io/team/a:1") && said.contains("ghcr.io/team/a:1"), "{status} {said}");
    let ran = run(&mut place.ociforge(["inspect", &serve.name("team/a:1")]));
    ran.fails(1, &["nvcr.io/team/a:1", "ghcr.io/team/a:1"]);
    for (name, digest) in [("nvcr.io/team/a", &amd.digest), ("ghcr.io/team/a", &arm.digest)] {
        assert_eq!(Digest::of(&serve.get(&format!("/v2/{name}/manifests/1")).1), *digest);
        let host = name.split('/').next().unwrap();
        assert_eq!(Digest::of(&serve.get(&format!("/v2/team/a/manifests/1?ns={host}")).1), *digest);
    }
    assert_eq!(serve.get("/v2/team/a/manifests/2").0, 200);
    let delete = |path: &str| {
        let url = format!("http://{}{path}", serve.address);
        run(std::process::Command::new("curl").args([
            "-sS",
            "--noproxy",
            "*",
            "-X",
            "DELETE",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ]))
        .ok()
    };
    assert_eq!(delete("/v2/team/a/manifests/1"), "400");
    assert_eq!(delete("/v2/ghcr.io/team/a/manifests/1"), "202");
    assert_eq!(Digest::of(&serve.get("/v2/team/a/manifests/1").1), amd.digest);
}
