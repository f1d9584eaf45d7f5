//! `ociforge copy` between all kinds of places, with skopeo as the second opinion.

use std::fs;

use ociforge::content::Target;
use ociforge::store::{Layout, layout::REF_NAME};
use ociforge_manifests::{Descriptor, Digest, media_type};
use serde_json::{Value, json};

use crate::support::{Place, Registry, json_of, run, skopeo, skopeo_copy, skopeo_raw};

/// An index of two platforms at `oci:two:latest`.
fn two_platforms(place: &Place) -> String {
    let recipe = "base = 'scratch'\nplatforms = ['linux/amd64', 'linux/arm64']\n\
                  [[layer]]\ncopy = {from = 'a', to = '/a'}\n[[layer]]\ncopy = {from = 'b', to = '/b'}\n";
    place.write("two/ociforge.toml", recipe);
    place.write("two/a", vec![7; 100_000]);
    place.write("two/b", "b");
    run(&mut place.build("two", &["-o", "oci:two-layout:latest"])).ok().trim().to_owned()
}

/// Copies, and gives what it prints.
fn copied(place: &Place, arguments: &[&str]) -> String {
    run(&mut place.ociforge([&["copy", "--progress", "none"], arguments].concat())).ok().trim().to_owned()
}

fn digest_at(name: &str) -> String {
    Digest::of(&raw(name)).to_string()
}

fn raw(name: &str) -> Vec<u8> {
    skopeo_raw(name).into_bytes()
}

/// Puts an artifact into a layout that refers to `subject`.
fn artifact(layout: &Layout, content: &[u8], subject: Option<&Descriptor>) -> (Descriptor, Vec<u8>) {
    let (empty, blob) = (layout.put(b"{}").unwrap(), layout.put(content).unwrap());
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "artifactType": "application/vnd.example.sbom",
        "config": Descriptor::new("application/vnd.oci.empty.v1+json", empty, 2),
        "layers": [Descriptor::new("text/plain", blob, content.len() as u64)],
        "annotations": {"org.opencontainers.image.ref.name": "not-a-name"},
    });
    if let Some(subject) = subject {
        manifest["subject"] = json!(subject);
    }
    let bytes = serde_json::to_vec(&manifest).unwrap();
    (Descriptor::of(media_type::MANIFEST, &bytes), bytes)
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn digests_are_the_same_everywhere() {
    let place = Place::new();
    let digest = two_platforms(&place);
    let (docker, serve) = (Registry::docker(&place, "docker"), Registry::serve(&place, "served"));
    let one = docker.address.clone() + "/ml/train:v1";
    assert_eq!(copied(&place, &["oci:two-layout", &one]), format!("{one}@{digest}"));
    let steps = [
        serve.name("a/b:c"),
        "oci:next:there".into(),
        "oci-archive:archive.tar:x".into(),
        docker.name("again:v2"),
        serve.name("ml/train@") + &digest,
        "oci-archive:plain.tar".into(),
        "oci:last".into(),
    ];
    let mut from = one;
    for to in steps {
        assert!(copied(&place, &[&from, &to]).ends_with(&format!("@{digest}")), "{from} {to}");
        from = to;
    }
    for (name, tag) in [("next", "there"), ("last", "latest")] {
        assert_eq!(digest_at(&format!("oci:{}:{tag}", place.at(name))), digest);
    }
    assert_eq!(digest_at(&docker.name("again:v2")), digest);
    // skopeo reads every blob.
    skopeo_copy(&format!("oci-archive:{}:x", place.at("archive.tar")), &format!("oci:{}:y", place.at("other")));
    assert_eq!(digest_at(&format!("oci:{}:y", place.at("other"))), digest);
}

#[test]
fn a_copy_of_what_is_there_moves_nothing() {
    let place = Place::new();
    two_platforms(&place);
    let mut docker = Registry::docker(&place, "docker");
    let to = docker.name("x:y");
    copied(&place, &["oci:two-layout", &to]);
    docker.requests();
    let report: Value =
        serde_json::from_str(&copied(&place, &["oci:two-layout", &to, "--format", "json", "--no-referrers"])).unwrap();
    assert_eq!((&report["blobs"]["uploaded"], &report["blobs"]["streamed"]), (&json!(0), &json!(0)));
    assert_eq!(report["manifests"].as_array().unwrap().len(), 3);
    let requests = docker.requests();
    assert!(
        requests
            .iter()
            .all(|line| line.starts_with("HEAD") || line.starts_with("GET") || line.contains("/manifests/y")),
        "{requests:?}"
    );
}

#[test]
fn platforms_are_chosen() {
    let place = Place::new();
    let whole = two_platforms(&place);
    let arm = copied(&place, &["oci:two-layout", "oci:arm", "--platform", "linux/arm64"]);
    assert_ne!(arm, format!("oci:arm@{whole}"));
    let index: Value = serde_json::from_slice(&raw(&format!("oci:{}:latest", place.at("two-layout")))).unwrap();
    let entry =
        index["manifests"].as_array().unwrap().iter().find(|m| m["platform"]["architecture"] == "arm64").unwrap();
    assert_eq!(arm, format!("oci:arm@{}", entry["digest"].as_str().unwrap()));
    let both = copied(&place, &["oci:two-layout", "oci:both", "--platform", "linux/arm64,linux/amd64"]);
    assert_eq!(both, format!("oci:both@{whole}"));
    let fail = run(&mut place.ociforge(["copy", "oci:two-layout", "oci:none", "--platform", "linux/s390x"]));
    fail.fails(1, &["the index has no image for linux/s390x", "linux/amd64, linux/arm64"]);
    // An image that is the only one has to be for it, too.
    copied(&place, &["oci:arm", "oci:again", "--platform", "linux/arm64"]);
    let fail = run(&mut place.ociforge(["copy", "oci:arm", "oci-archive:none.tar", "--platform", "linux/amd64"]));
    fail.fails(1, &["the image is for linux/arm64, not for linux/amd64"]);
    assert!(!place.path("none.tar").exists());
    let (sbom, bytes) = artifact(&Layout::open(place.path("arm")).unwrap(), b"of no platform", None);
    block(Layout::open(place.path("arm")).unwrap().tag(&sbom, &bytes, "sbom")).unwrap();
    copied(&place, &["oci:arm:sbom", "oci:again:sbom", "--platform", "linux/amd64"]);
}

#[test]
fn signatures_and_other_referrers_come_along() {
    let place = Place::new();
    two_platforms(&place);
    let layout = Layout::open(place.path("two-layout")).unwrap();
    let image = layout.find(Some("latest")).unwrap();
    let image = Descriptor::new(image.media_type, image.digest, image.size);
    let (sbom, bytes) = artifact(&layout, b"what is in it", Some(&image));
    block(layout.keep(&sbom, &bytes)).unwrap();
    let (signature, bytes) = artifact(&layout, b"the sbom is right", Some(&sbom));
    block(layout.keep(&signature, &bytes)).unwrap();
    let (cosign, bytes) = artifact(&layout, b"signed", None);
    let tag = format!("sha256-{}.sig", image.digest.hex());
    block(layout.tag(&cosign, &bytes, &tag)).unwrap();

    // One registry knows the API of referrers, the other has a tag for them.
    let (serve, docker) = (Registry::serve(&place, "served"), Registry::docker(&place, "docker"));
    let report = copied(&place, &["oci:two-layout:latest", &docker.name("a/b:c"), "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["referrers"], 3);
    copied(&place, &[&docker.name("a/b:c"), "oci:between:h.example/a/b:c"]);
    copied(&place, &["oci:between:h.example/a/b:c", "oci-archive:between.tar:h.example/a/b:c"]);
    copied(&place, &["oci-archive:between.tar:h.example/a/b:c", &serve.name("a/b:c")]);
    copied(&place, &[&serve.name("a/b:c"), "oci:end"]);

    let names: Vec<_> = json_of(place.path("between/index.json"))["manifests"].as_array().unwrap().clone();
    let names: Vec<_> = names.iter().filter_map(|entry| entry["annotations"][REF_NAME].as_str()).collect();
    assert!(names.contains(&format!("h.example/a/b:{tag}").as_str()), "{names:?}");
    assert!(!names.contains(&"not-a-name"), "{names:?}");
    for (subject, referrer) in [(&image, &sbom), (&sbom, &signature)] {
        let (status, body) = serve.get(&format!("/v2/a/b/referrers/{}", subject.digest));
        let list: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &list["manifests"][0]["digest"]), (200, &json!(referrer.digest)));
        let fallback = docker.name(&format!("a/b:sha256-{}", subject.digest.hex()));
        let list: Value = serde_json::from_slice(&raw(&fallback)).unwrap();
        assert_eq!(list["manifests"][0]["digest"], json!(referrer.digest));
        assert_eq!(list["manifests"][0]["artifactType"], "application/vnd.example.sbom");
    }
    for place in [
        docker.name(&format!("a/b:{tag}")),
        serve.name(&format!("a/b:{tag}")),
        format!("oci:{}:{tag}", place.at("end")),
    ] {
        assert_eq!(digest_at(&place), cosign.digest.to_string());
    }

    copied(&place, &["oci:two-layout:latest", "oci:bare", "--no-referrers"]);
    assert_eq!(json_of(place.path("bare/index.json"))["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn what_was_built_here_is_copied_with_its_bases_layers() {
    let place = Place::new();
    let docker = Registry::docker(&place, "docker");
    place.small_base(&format!("{}/base:latest", docker.address), "the base");
    place.write(
        "child/ociforge.toml",
        format!(
            "name = 'h.example/child:v1'\nbase = '{}/base'\n[[layer]]\ncopy = {{from = 'x', to = '/x'}}\n",
            docker.address
        ),
    );
    place.write("child/x", "x");
    run(&mut place.build("child", &[])).ok();
    let digest = copied(&place, &["h.example/child:v1", "oci-archive:child.tar"]);
    skopeo_copy(&format!("oci-archive:{}", place.at("child.tar")), &format!("oci:{}:x", place.at("whole")));
    assert!(digest.ends_with(&digest_at(&format!("oci:{}:x", place.at("whole")))));
}

#[test]
fn an_archive_is_not_copied_onto_itself() {
    let place = Place::new();
    place.small_base(&format!("oci:{}:x", place.at("layout")), "small");
    copied(&place, &["oci:layout:x", "oci-archive:a.tar"]);
    copied(&place, &["oci:layout:x", "docker-archive:d.tar:h.example/a:b"]);
    fs::hard_link(place.path("a.tar"), place.path("hard.tar")).unwrap();
    std::os::unix::fs::symlink("d.tar", place.path("soft.tar")).unwrap();
    let before = ["a.tar", "d.tar"].map(|name| fs::read(place.path(name)).unwrap());
    for (from, to) in [
        ("oci-archive:a.tar", "oci-archive:./a.tar:y"),
        ("oci-archive:a.tar", "docker-archive:hard.tar:h.example/a:b"),
        ("docker-archive:soft.tar", "oci-archive:d.tar"),
        ("docker-archive:d.tar", "docker-archive:soft.tar"),
    ] {
        let ran = run(&mut place.ociforge(["copy", from, to]));
        ran.fails(
            2,
            &["are the same file", "cause: the copy would overwrite the archive", "hint: write to another file"],
        );
    }
    assert!(["a.tar", "d.tar"].map(|name| fs::read(place.path(name)).unwrap()) == before);
    copied(&place, &["oci:layout:x", "oci:layout:y"]);
}

#[test]
fn a_full_name_stays_in_a_docker_archive() {
    let place = Place::new();
    place.small_base(&format!("oci:{}:h.example/a/b:t", place.at("layout")), "small");
    copied(&place, &["oci:layout:h.example/a/b:t", "docker-archive:named.tar"]);
    copied(&place, &["oci:layout:h.example/a/b:t", "oci:plain:t"]);
    copied(&place, &["oci:plain:t", "docker-archive:bare.tar"]);
    let tags = |name: &str| skopeo(&["list-tags", &format!("docker-archive:{}", place.at(name))]);
    assert!(tags("named.tar").contains("\"h.example/a/b:t\""), "{}", tags("named.tar"));
    assert!(!tags("bare.tar").contains(":t\""), "{}", tags("bare.tar"));
}

#[test]
fn names_that_can_not_be() {
    let place = Place::new();
    place.small_base(&format!("oci:{}:x", place.at("small-layout")), "small");
    let copy = |from: &str, to: &str| run(&mut place.ociforge(["copy", from, to]));
    copy("oci:small-layout", "dir:x").fails(2, &["the transport dir: is not supported"]);
    copy("oci:small-layout:y", "oci:other").fails(1, &["the layout has no image `y`", "it has: x"]);
    copy("oci:missing", "oci:other").fails(1, &["cannot open oci:missing"]);
    copy("oci-archive:missing.tar", "oci:other").fails(1, &["missing.tar"]);
    place.write("precious/file", "");
    copy("oci:small-layout", "oci:precious").fails(1, &["not empty and not an OCI layout"]);
    let other = format!("127.0.0.1:9/x@sha256:{}", "0".repeat(64));
    copy("oci:small-layout", &other).fails(2, &["the image's digest is"]);
    assert!(!place.path("other").exists());
}

/// Indexes that never end, documents that are no documents, and blobs that lie.
#[test]
fn graphs_that_can_not_be_copied() {
    let place = Place::new();
    let layout = Layout::create(place.path("odd")).unwrap();
    let index = |children: &[Descriptor]| {
        serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": children})).unwrap()
    };
    let put = |name: &str, kind: &str, bytes: &[u8]| {
        let descriptor = Descriptor::new(kind, layout.put(bytes).unwrap(), bytes.len() as u64);
        block(layout.tag(&descriptor, bytes, name)).unwrap();
        descriptor
    };
    let mut deep = put("empty", media_type::INDEX, &index(&[]));
    for level in 0..8 {
        deep = put(&format!("deep{level}"), media_type::INDEX, &index(&[deep]));
    }
    put(
        "long",
        media_type::INDEX,
        &[b"{\"schemaVersion\":2,\"manifests\":[],\"x\":\"".as_slice(), &vec![b'x'; 17 << 20], b"\"}"].concat(),
    );
    put("html", media_type::MANIFEST, b"<html>no manifest</html>");
    let blob = Descriptor::of("text/plain", b"blob");
    let manifest = |layer: Descriptor| {
        let config = Descriptor::new("application/vnd.oci.empty.v1+json", layout.put(b"{}").unwrap(), 2);
        serde_json::to_vec(&json!({"schemaVersion": 2, "config": config, "layers": [layer]})).unwrap()
    };
    layout.put(b"blob").unwrap();
    put("size", media_type::MANIFEST, &manifest(Descriptor { size: 5, ..blob.clone() }));
    put("gone", media_type::MANIFEST, &manifest(Descriptor::of("text/plain", b"gone")));
    let odd = String::from_utf8(manifest(blob))
        .unwrap()
        .replace(&Digest::of(b"blob").to_string(), "md5:d41d8cd98f00b204e9800998ecf8427e");
    put("algorithm", media_type::MANIFEST, odd.as_bytes());
    for (name, said) in [
        ("deep7", "indexes are nested more than 4 levels deep"),
        ("long", "the document has"),
        ("html", "not a valid image manifest"),
        ("size", "the size is 4 bytes, not 5 as in the descriptor"),
        ("gone", "not found"),
        ("algorithm", "md5"),
    ] {
        let from = format!("oci:odd:{name}");
        for to in ["oci:target", "oci-archive:target.tar"] {
            run(&mut place.ociforge(["copy", "--progress", "none", from.as_str(), to])).fails(1, &[said]);
        }
        assert!(!place.path("target.tar").exists(), "{name}");
        let index = place.path("target/index.json");
        assert!(!index.exists() || json_of(&index)["manifests"] == json!([]), "{name}");
    }
    assert!(fs::read_dir(place.path("odd")).is_ok());
}

/// Flips a bit of a blob in the middle of its file.
fn flip(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A blob that is damaged at the source is the fault of the source, whatever the target is.
#[test]
fn an_error_names_a_damaged_source() {
    let place = Place::new();
    two_platforms(&place);
    for blob in crate::support::files(&place.path("two-layout/blobs/sha256")) {
        let bytes = fs::read(&blob).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            fs::write(&blob, &bytes[..bytes.len() - 9]).unwrap();
        }
    }
    let registry = Registry::serve(&place, "served");
    for target in ["oci:copied:x", "oci-archive:copied.tar", "docker-archive:docker.tar:a/b:x", &registry.name("a/b:x")]
    {
        let copy = ["copy", "--progress", "none", "--platform", "linux/amd64", "oci:two-layout:latest", target];
        run(&mut place.ociforge(copy)).fails(1, &["cannot read sha256:", " from two-layout\n"]);
    }
}

/// Whatever of an image is damaged where it is copied to is copied again, when the target is to be verified.
#[test]
fn a_damaged_target_is_mended() {
    let place = Place::new();
    two_platforms(&place);
    let from = "oci:two-layout:latest";
    let registry = Registry::serve(&place, "served");
    let targets = [("oci:copied:x".to_owned(), "copied"), (registry.name("a/b:x"), "served")];
    for (target, directory) in &targets {
        copied(&place, &[from, target]);
        let untouched = run(&mut place.ociforge(["copy", "--verify-target", from, target]));
        assert!(!untouched.stderr.contains("damaged"), "{}", untouched.stderr);
        let blobs = crate::support::files(&place.path(format!("{directory}/blobs/sha256")));
        // Two layers, and for each platform a config and a manifest, and the index.
        assert_eq!(blobs.len(), 7);
        for blob in blobs {
            let sound = fs::read(&blob).unwrap();
            let digest = format!("sha256:{}", blob.file_name().unwrap().to_str().unwrap());
            for damage in [flip as fn(&std::path::Path), |path| fs::write(path, "").unwrap()] {
                damage(&blob);
                let mended = run(&mut place.ociforge(["copy", "--verify-target", "--format", "json", from, target]));
                assert_eq!(mended.code, Some(0), "{}", mended.stderr);
                assert!(fs::read(&blob).unwrap() == sound, "{digest} at {target}");
            }
            flip(&blob);
            let mended = run(&mut place.ociforge(["copy", "--verify-target", from, target]));
            // The index that is tagged is written anew in any case, and of manifests `serve` says itself that they are gone.
            let told = mended.stderr.contains(&format!("{digest} is damaged at the target: ociforge copies it again"));
            assert!(told || mended.stdout.trim().ends_with(&digest) || *directory == "served", "{}", mended.stderr);
            assert!(fs::read(&blob).unwrap() == sound, "{digest} at {target}");
        }
        skopeo_copy(
            &target.replace("oci:", &format!("oci:{}/", place.at(""))),
            &format!("dir:{}", place.at(directory) + "-pulled"),
        );
    }
}

/// Debian's docker-registry keeps what it has, whatever is sent.
#[test]
fn a_target_that_keeps_its_damage_is_told_of() {
    let place = Place::new();
    two_platforms(&place);
    let registry = Registry::docker(&place, "registry");
    let target = registry.name("a/b:x");
    copied(&place, &["oci:two-layout:latest", &target]);
    let blobs = crate::support::files(&place.path("registry/docker/registry/v2/blobs"));
    flip(blobs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap());
    let words = ["copy", "--progress", "none", "--verify-target", "oci:two-layout:latest", &target];
    run(&mut place.ociforge(words)).fails(1, &["still damaged after a second copy", "hint: "]);
}
