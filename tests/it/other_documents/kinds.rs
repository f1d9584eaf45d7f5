//! Artifacts, old manifests and Docker's manifests, and names that two registries have.

use ociforge_manifests::Digest;

use super::*;
use crate::support::curl_status;

#[test]
fn artifacts_and_old_manifests_are_called_what_they_are() {
    let place = Place::new();
    let layout = Layout::create(place.path("layout")).unwrap();
    let chart = put_blob(&layout, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    let helm = put_blob(&layout, "application/vnd.cncf.helm.config.v1+json", b"{\"name\":\"chart\"}");
    let empty = put_blob(&layout, "application/vnd.oci.empty.v1+json", b"{}");
    let signed = put_blob(&layout, "application/vnd.dev.cosign.simplesigning.v1+json", b"{}");
    let config = put(
        &layout,
        media_type::CONFIG,
        &json!({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [signed.digest]}}),
    );
    for (tag, document, kind) in [
        ("helm", put_manifest(&layout, &helm, &[&chart], &json!({})), "application/vnd.cncf.helm.config.v1+json"),
        (
            "typed",
            put_manifest(&layout, &empty, &[&chart], &json!({"artifactType": "application/vnd.example.x"})),
            "application/vnd.example.x",
        ),
        (
            "cosign",
            put_manifest(&layout, &config, &[&signed], &json!({})),
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
            name(&layout, &put_blob(&layout, &kind, text.as_bytes()), tag);
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
        let mut entry = put_manifest(&layout, &config, &[&layer], &json!({"mediaType": media_type::DOCKER_MANIFEST}));
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
        curl_status(&["-X", "DELETE", &url])
    };
    assert_eq!(delete("/v2/team/a/manifests/1"), "400");
    assert_eq!(delete("/v2/ghcr.io/team/a/manifests/1"), "202");
    assert_eq!(Digest::of(&serve.get("/v2/team/a/manifests/1").1), amd.digest);
}
