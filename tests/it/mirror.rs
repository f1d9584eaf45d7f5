//! Many images at once, with skopeo and docker-registry beside them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ociforge::store::Layout;
use ociforge::store::layout::REF_NAME;
use ociforge_manifests::{Descriptor, media_type};
use serde_json::{Value, json};

use crate::support::{Place, Registry, digest_of, files, is_root, json_of, run, skopeo, tool};

/// A layout in `name` with images that share a layer, by the full names under which they are mirrored:
/// `nvcr.io/team/a:1`, `a:2`, `a:10`, `ghcr.io/team/b:1`, and `ghcr.io/team/multi:1`, an index of two platforms with a
/// referrer and a signature as cosign makes them.
fn images(place: &Place, name: &str) -> Layout {
    let layout = Layout::create(place.path(name)).unwrap();
    let common = blob(&layout, media_type::LAYER_TAR, &noise(1, 3 << 20));
    let mut entries = Vec::new();
    for (n, name) in
        ["nvcr.io/team/a:1", "nvcr.io/team/a:2", "nvcr.io/team/a:10", "ghcr.io/team/b:1"].iter().enumerate()
    {
        let own = blob(&layout, media_type::LAYER_TAR, &noise(10 + n as u64, 1 << 20));
        entries.push((manifest(&layout, "amd64", &[&common, &own], None), *name));
    }
    let mut manifests = Vec::new();
    for (n, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
        let own = blob(&layout, media_type::LAYER_TAR, &noise(20 + n as u64, 1 << 20));
        let mut entry = json!(manifest(&layout, architecture, &[&common, &own], None));
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests}).to_string();
    let index = blob(&layout, media_type::INDEX, index.as_bytes());
    let sbom = blob(&layout, "application/spdx+json", b"{\"sbom\":1}");
    let referrer = manifest(&layout, "amd64", &[&sbom], Some(&index));
    let signed = blob(&layout, "application/vnd.dev.cosign.simplesigning.v1+json", b"{\"signed\":1}");
    let signature = manifest(&layout, "amd64", &[&signed], None);
    let signature_name = format!("ghcr.io/team/multi:sha256-{}.sig", index.digest.hex());
    entries.extend([(index, "ghcr.io/team/multi:1"), (signature, &signature_name)]);
    layout
        .edit_index(|list| {
            for (mut entry, name) in entries {
                entry.annotations.insert(REF_NAME.into(), name.into());
                list.push(entry);
            }
            list.push(referrer);
        })
        .unwrap();
    layout
}

fn blob(layout: &Layout, kind: &str, content: &[u8]) -> Descriptor {
    layout.put(content).unwrap();
    Descriptor::of(kind, content)
}

fn manifest(layout: &Layout, architecture: &str, layers: &[&Descriptor], subject: Option<&Descriptor>) -> Descriptor {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
    let config =
        json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = blob(layout, media_type::CONFIG, config.to_string().as_bytes());
    let mut manifest =
        json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers});
    if let Some(subject) = subject {
        manifest["subject"] = json!({"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size});
        manifest["artifactType"] = "application/spdx+json".into();
    }
    blob(layout, media_type::MANIFEST, manifest.to_string().as_bytes())
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// `ociforge mirror`
fn mirror(place: &Place, arguments: &[&str]) -> Command {
    place.ociforge([&["mirror", "--progress", "none"], arguments].concat())
}

/// Mirrors, and gives the report.
#[track_caller]
fn mirrored(place: &Place, arguments: &[&str]) -> Value {
    let text = run(&mut mirror(place, &[&["--format", "json"], arguments].concat())).ok();
    serde_json::from_str(&text).unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    report["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect()
}

/// The digest of what `docker://NAME` gives, by skopeo's word.
fn remote_digest(name: &str) -> String {
    digest_of(skopeo(&["inspect", "--raw", "--tls-verify=false", name]).as_bytes())
}

/// The names and digests of a layout's index, and its blobs by name.
fn content(layout: &Path) -> (Vec<(String, String)>, Vec<String>) {
    let layout_index = Layout::open(layout).unwrap().index().unwrap();
    let named =
        |entry: &Descriptor| (entry.annotations.get(REF_NAME).cloned().unwrap_or_default(), entry.digest.to_string());
    let mut entries: Vec<_> = layout_index.manifests.iter().map(named).collect();
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut blobs: Vec<_> = files(&layout.join("blobs")).iter().map(name).collect();
    entries.sort();
    blobs.sort();
    (entries, blobs)
}

#[test]
fn images_go_from_a_layout_to_a_registry_to_a_layout_and_back() {
    let place = Place::new();
    let source = images(&place, "source");
    let mut registry = Registry::docker(&place, "registry");
    let to = registry.name("team");
    let report = mirrored(&place, &["--from", &format!("oci:{}", place.at("source")), "--to", &to]);
    assert_eq!(names(&report).len(), 5, "{report:#}");
    let expected: u64 = (3 << 20) + 6 * (1 << 20);
    let moved = report["bytes"]["moved"].as_u64().unwrap();
    assert!((expected..expected + 10_000).contains(&moved), "each blob moves once: {report:#}");
    assert!(report["images"].as_array().unwrap().iter().all(|image| image["verified"] == true));
    let multi = source.find(Some("ghcr.io/team/multi:1")).unwrap().digest;
    assert_eq!(remote_digest(&registry.name("team/team/multi:1")), multi.to_string());
    let signature = source.find(Some(&format!("ghcr.io/team/multi:sha256-{}.sig", multi.hex()))).unwrap().digest;
    assert_eq!(
        remote_digest(&registry.name(&format!("team/team/multi:sha256-{}.sig", multi.hex()))),
        signature.to_string()
    );

    // Again: nothing is written.
    registry.requests();
    let again = mirrored(&place, &["--from", &format!("oci:{}", place.at("source")), "--to", &to]);
    assert!(again["images"].as_array().unwrap().iter().all(|image| image["status"] == "present"), "{again:#}");
    assert_eq!(again["bytes"]["moved"], 0);
    let requests = registry.requests();
    assert!(requests.iter().all(|request| !request.starts_with("POST ")), "{requests:#?}");
    let heads: Vec<_> =
        requests.iter().filter(|request| request.starts_with("HEAD ") && request.contains("/blobs/")).collect();
    let once: std::collections::BTreeSet<_> = heads.iter().collect();
    assert_eq!(heads.len(), once.len(), "a blob was asked for twice: {heads:#?}");

    // And into a layout, which then holds what the first one did.
    let names = ["nvcr.io/team/a:*", "ghcr.io/team/b:1", "ghcr.io/team/multi:1"];
    let out = format!("oci:{}", place.at("back"));
    let report = mirrored(&place, &[&names[..], &["--from", &to, "--to", &out]].concat());
    assert_eq!(report["images"].as_array().unwrap().len(), 5);
    let (from, back) = (content(source.root()), content(&place.path("back")));
    assert_eq!(back.1, from.1);
    let named =
        |entries: &[(String, String)]| entries.iter().filter(|(name, _)| !name.is_empty()).cloned().collect::<Vec<_>>();
    assert_eq!(named(&back.0), named(&from.0));
    let text = run(&mut mirror(&place, &[&names[..], &["--from", &to, "--to", &out]].concat())).ok();
    assert!(text.contains("there already: 0 B moved") && text.contains("manifests verified"), "{text}");
}

#[test]
fn what_was_killed_is_gone_on_with() {
    let place = Place::new();
    images(&place, "source");
    let from = format!("oci:{}", place.at("source"));
    let registry = Registry::serve(&place, "registry");
    let [whole, archive] = ["oci:whole", "oci-archive:whole.tar"];
    for to in [whole, archive] {
        mirrored(&place, &["--from", &from, "--to", to]);
    }
    for (to, repeated) in [("oci:DIR", "DIR"), ("oci-archive:FILE.tar", "FILE.tar"), ("docker", "docker")] {
        for part in 1..7 {
            let name = format!("{}-{part}", repeated.split('.').next().unwrap().to_lowercase());
            let to = match to {
                "docker" => registry.name(&name),
                other => other.replace("DIR", &name).replace("FILE", &name),
            };
            let begun = Instant::now();
            run(&mut mirror(&place, &["--from", &from, "--to", &to, "--dry-run"])).ok();
            let start = begun.elapsed();
            let mut child = mirror(&place, &["--from", &from, "--to", &to])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(start / 2 + Duration::from_millis(40) * part);
            child.kill().unwrap();
            child.wait().unwrap();
            let report = mirrored(&place, &["--from", &from, "--to", &to]);
            assert!(report["images"].as_array().unwrap().iter().all(|image| image["verified"] == true), "{report:#}");
            if to.starts_with("oci:") {
                let (ours, theirs) = (content(&place.path(&name)), content(&place.path("whole")));
                assert_eq!(ours.0, theirs.0);
                let blobs =
                    |all: Vec<String>| all.into_iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
                assert_eq!(blobs(ours.1), theirs.1);
            } else if to.starts_with("oci-archive:") {
                let file = place.path(format!("{name}.tar"));
                assert!(fs::read(file).unwrap() == fs::read(place.path("whole.tar")).unwrap(), "{name}");
                assert!(!place.path(format!("{name}.tar.partial")).exists());
            } else {
                assert_eq!(report["images"].as_array().unwrap().len(), 5);
            }
        }
    }
}

#[test]
fn an_archive_crosses_a_gap_and_the_next_is_a_delta() {
    let place = Place::new();
    let source = images(&place, "source");
    let from = format!("oci:{}", place.at("source"));
    let first = ["nvcr.io/team/a:1", "ghcr.io/team/multi:1"];
    mirrored(&place, &[&first[..], &["--from", &from, "--to", "oci-archive:first.tar"]].concat());
    // skopeo reads it, by the full name.
    let name = format!("oci-archive:{}:nvcr.io/team/a:1", place.at("first.tar"));
    let digest = source.find(Some("nvcr.io/team/a:1")).unwrap().digest.to_string();
    assert_eq!(digest_of(skopeo(&["inspect", "--raw", &name]).as_bytes()), digest);

    let second = ["nvcr.io/team/a:*", "ghcr.io/team/multi:1"];
    let delta = ["--from", &from, "--to", "oci-archive:delta.tar", "--since", "first.tar"];
    let report = mirrored(&place, &[&second[..], &delta].concat());
    let [size, before] = ["delta.tar", "first.tar"].map(|name| fs::metadata(place.path(name)).unwrap().len());
    assert!((2 << 20..(2 << 20) + 100_000).contains(&size) && before > 5 << 20, "{size} {before} {report:#}");
    // The third is a delta of a delta, and has nothing of the first either.
    let again = ["--from", &from, "--to", "oci-archive:third.tar", "--since", "oci-archive:delta.tar"];
    mirrored(&place, &[&["ghcr.io/team/b:1"], &again[..]].concat());
    let size = fs::metadata(place.path("third.tar")).unwrap().len();
    assert!((1 << 20..(1 << 20) + 100_000).contains(&size), "{size}");

    // Without the first the delta is refused before anything is written.
    let mut registry = Registry::docker(&place, "registry");
    let to = registry.name("p");
    let file = format!("oci-archive:{}", place.at("delta.tar"));
    let error = run(&mut mirror(&place, &["--from", &file, "--to", &to]));
    error.fails(
        1,
        &[
            "neither in oci-archive:",
            "nor at the target: ",
            "hint: the archive is a delta: mirror first.tar (its index is sha256:",
        ],
    );
    assert!(registry.requests().iter().all(|request| request.starts_with("HEAD ") || request.starts_with("GET ")));
    for archive in ["first.tar", "delta.tar", "third.tar"] {
        mirrored(&place, &["--from", &format!("oci-archive:{}", place.at(archive)), "--to", &to]);
    }
    for image in ["a:1", "a:2", "a:10", "multi:1", "b:1"] {
        let host = if image.starts_with('a') { "nvcr.io" } else { "ghcr.io" };
        let digest = source.find(Some(&format!("{host}/team/{image}"))).unwrap().digest.to_string();
        assert_eq!(remote_digest(&registry.name(&format!("p/team/{image}"))), digest, "{image}");
    }
    // The same into a directory.
    for archive in ["first.tar", "delta.tar", "third.tar"] {
        mirrored(&place, &["--from", &format!("oci-archive:{}", place.at(archive)), "--to", "oci:landed"]);
    }
    let (ours, theirs) = (content(&place.path("landed")), content(source.root()));
    assert_eq!(ours.1, theirs.1);

    // A damaged archive is an error, and the rest is done.
    let mut bytes = fs::read(place.path("first.tar")).unwrap();
    let at = bytes.len() / 2;
    bytes[at..at + 10].fill(b'x');
    place.write("damaged.tar", &bytes);
    let ran = run(&mut mirror(&place, &["--from", "oci-archive:damaged.tar", "--to", "oci:partly"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("could not be mirrored") && ran.stderr.contains("the content was changed or damaged"));
}

#[test]
fn shares_are_all_together_and_disjoint() {
    let place = Place::new();
    let source = images(&place, "source");
    let from = format!("oci:{}", place.at("source"));
    let registry = Registry::serve(&place, "registry");
    let mut seen = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let report = mirrored(&place, &["--from", &from, "--to", &registry.name("p"), "--shard", shard]);
        assert_eq!(report["shard"], shard);
        seen.extend(names(&report).into_iter().map(str::to_owned));
    }
    seen.sort();
    let all = ["ghcr.io/team/b:1", "ghcr.io/team/multi:1", "nvcr.io/team/a:1", "nvcr.io/team/a:10", "nvcr.io/team/a:2"];
    assert_eq!(seen, all);
    for name in all {
        let digest = source.find(Some(name)).unwrap().digest.to_string();
        let (_, rest) = name.split_once('/').unwrap();
        assert_eq!(remote_digest(&registry.name(&format!("p/{rest}"))), digest);
    }
    // Shares of a list that others have more of stay as they are; one may be empty.
    for shard in ["1/3", "2/3", "3/3"] {
        let dry = ["--from", &from, "--to", "oci:x", "--shard", shard, "--dry-run", "nvcr.io/team/a:1"];
        let report = mirrored(&place, &dry);
        assert!(names(&report).is_empty() || names(&report) == ["nvcr.io/team/a:1"]);
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::new();
    images(&place, "source");
    let from = format!("oci:{}", place.at("source"));
    let mut registry = Registry::docker(&place, "registry");
    for to in ["oci:new", "oci-archive:new.tar", &registry.name("p")] {
        let report = mirrored(&place, &["--from", &from, "--to", to, "--dry-run"]);
        assert_eq!(report["dryRun"], true);
        assert_eq!(report["images"][0]["status"], "planned");
        let all: u64 = (3 << 20) + 6 * (1 << 20);
        let moved = report["bytes"]["moved"].as_u64().unwrap();
        assert!((all..all + 10_000).contains(&moved), "{report:#}");
    }
    let left: Vec<_> = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("new")), "{left:?}");
    assert!(registry.requests().iter().all(|request| request.starts_with("HEAD ") || request.starts_with("GET ")));
    let text = run(&mut mirror(&place, &["--from", &from, "--to", "oci:new", "--dry-run"])).ok();
    assert!(text.contains("nvcr.io/team/a:1 → new:nvcr.io/team/a:1@sha256:"), "{text}");
    assert!(text.contains(" to be copied: 4.2 MB moved, 0 B mounted, 0 B present\n") && !text.contains("verified"));
}

#[test]
fn what_is_missing_or_in_the_way_is_told_before_anything_moves() {
    let place = Place::new();
    let source = images(&place, "source");
    let from = format!("oci:{}", place.at("source"));
    let failed = |arguments: &[&str], parts: &[&str]| {
        let error =
            run(&mut mirror(&place, &[&["--from", &from, "--to", "oci:new"], arguments].concat())).fails(1, parts);
        assert!(!place.path("new").exists());
        error
    };
    let names = ["nvcr.io/team/a:3", "nvcr.io/team/c:1", "nvcr.io/team/a:1", "ghcr.io/team/b:2*"];
    let parts = [
        "error: cannot mirror 3 images",
        "cause: ghcr.io/team/b: no tag matches `2*`",
        "cause: nvcr.io/team/a:3: cannot read the manifest of nvcr.io/team/a:3: not found",
        "cause: nvcr.io/team/c:1: ",
    ];
    failed(&names, &parts);
    let other = ["nvcr.io/team/a:1", "ghcr.io/team/multi:1", "--platform", "linux/arm64"];
    let part = "cause: nvcr.io/team/a:1: cannot copy the image for linux/arm64: the image is for linux/amd64, not for \
        linux/arm64";
    failed(&other, &["error: cannot mirror 1 image", part]);

    // Two hosts have an image of one name, with other content.
    source
        .edit_index(|list| {
            let mut other =
                list.iter().find(|entry| entry.annotations[REF_NAME] == "nvcr.io/team/a:2").unwrap().clone();
            other.annotations.insert(REF_NAME.into(), "ghcr.io/team/a:1".into());
            list.insert(0, other);
        })
        .unwrap();
    let mut registry = Registry::docker(&place, "registry");
    let to = format!("{}/p", registry.name("").trim_end_matches('/'));
    let ran = run(&mut mirror(&place, &["--from", &from, "--to", &to]));
    ran.fails(1, &["nvcr.io/team/a:1: ghcr.io/team/a:1 is another image with the same destination", "hint: give one"]);
    assert!(registry.requests().iter().all(|request| request.starts_with("HEAD ") || request.starts_with("GET ")));
    mirrored(&place, &["--from", &from, "--to", "oci:both"]);

    let wrong = |arguments: &[&str], part: &str| run(&mut mirror(&place, arguments)).refused(part);
    wrong(&["--to", "oci:x"], "there is nothing to mirror");
    wrong(&["a"], "the mirror has no destination");
    wrong(&["a", "--to", "oci:x", "--shard", "0/3"], "expected I/N with I from 1 to N");
    wrong(&["a", "--to", "x"], "expected docker://HOST[/PREFIX], oci:DIR or oci-archive:FILE");
    wrong(&["a", "--to", "oci:x", "--since", "y.tar"], "--since needs --to oci-archive:FILE");
    wrong(&["--from", "oci:x", "--to", "oci:x"], "--from oci:x and --to oci:x are the same");
}

#[test]
fn what_is_read_is_not_written() {
    let place = Place::new();
    images(&place, "source");
    mirrored(&place, &["--from", "oci:source", "--to", "oci-archive:first.tar"]);
    let before = fs::read(place.path("first.tar")).unwrap();
    std::os::unix::fs::symlink("first.tar", place.path("soft.tar")).unwrap();
    fs::hard_link(place.path("first.tar"), place.path("hard.tar")).unwrap();
    let same = |arguments: &[&str], message: &str| {
        let hint = "hint: write to another place";
        run(&mut mirror(&place, arguments)).fails(2, &[message, "cause: mirror would overwrite the archive", hint]);
    };
    for to in ["first.tar", "./first.tar", "source/../first.tar", "soft.tar", "hard.tar"] {
        let to = format!("oci-archive:{to}");
        same(&["--from", "oci:source", "--to", &to, "--since", "first.tar"], "--since oci-archive:first.tar and --to");
        same(&["--from", "oci-archive:first.tar", "--to", &to], "--from oci-archive:first.tar and --to");
        same(&["--from", "oci-archive:soft.tar", "--to", &to], "are the same");
    }
    same(&["--from", "oci:source", "--to", "oci:./source/."], "--from oci:source and --to oci:./source");
    same(&["--from", "oci:missing", "--to", "oci:source/../missing"], "are the same");
    assert!(fs::read(place.path("first.tar")).unwrap() == before && !place.path("first.tar.partial").exists());
}

#[test]
fn a_list_says_what_is_mirrored() {
    let place = Place::new();
    let source = images(&place, "source");
    let to = format!("oci-archive:{}", place.at("list.tar"));
    let list = "platforms = ['linux/amd64']\n[[image]]\nname = 'nvcr.io/team/a'\ntags = ['*']\nexclude = \
        ['1']\nlatest = 1\n\
                [[image]]\nname = 'ghcr.io/team/multi:1'\n";
    place.write("mirror.toml", format!("to = '{to}'\n{list}"));
    let from = format!("oci:{}", place.at("source"));
    let report = mirrored(&place, &["-f", "mirror.toml", "--from", &from, "--report", "report.json"]);
    assert_eq!(names(&report), ["nvcr.io/team/a:10", "ghcr.io/team/multi:1"]);
    let written: Value = serde_json::from_slice(&fs::read(place.path("report.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    // Of an index its only platform is taken.
    let index: Value = {
        let entry = source.find(Some("ghcr.io/team/multi:1")).unwrap();
        serde_json::from_slice(&fs::read(source.blob_path(&entry.digest)).unwrap()).unwrap()
    };
    assert_eq!(report["images"][1]["digest"], index["manifests"][0]["digest"]);

    // An image that has no tag keeps its digest for a name.
    let digest = source.find(Some("ghcr.io/team/b:1")).unwrap().digest;
    let name = format!("ghcr.io/team/b@{digest}");
    mirrored(&place, &["--from", &from, "--to", "oci:untagged", &name]);
    let registry = Registry::docker(&place, "registry");
    let report = mirrored(&place, &["--from", "oci:untagged", "--to", &registry.name("p")]);
    assert_eq!(names(&report), [&name]);
    assert_eq!(remote_digest(&registry.name(&format!("p/team/b@{digest}"))), digest.to_string());

    // Names that say no registry are told of.
    Layout::open(place.path("untagged"))
        .unwrap()
        .edit_index(|list| list[0].annotations.extend([(REF_NAME.to_owned(), "b:1".to_owned())]))
        .unwrap();
    let mut command = place.ociforge(["mirror", "--from", "oci:untagged", "--to", "oci:new", "--progress", "plain"]);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains(
            "the entry `b:1` is skipped: its name is not a full image \
            name"
        ) && ran.stderr.contains("nothing to mirror")
    );
    assert!(
        ran.stderr.contains("cause: the entries of oci:untagged have no host in their names\n")
            && ran.stderr.contains("hint: copy them one by one with `ociforge copy oci:untagged:b:1 …`")
    );
    place.write("mirror.toml", "[[image]]\nname = 'a'\ntag = ['x']\n");
    run(&mut mirror(&place, &["-f", "mirror.toml"]))
        .fails(1, &["mirror.toml:3:1: unknown key `tag` in [[image]]", "did you mean `tags`?"]);
}

#[test]
fn a_report_is_written_whatever_happens() {
    let place = Place::new();
    images(&place, "source");
    let base = ["--from", "oci:source", "--to", "oci:new", "nvcr.io/team/a:1"];
    let with = |more: &[&str]| run(&mut mirror(&place, &[&base[..], more].concat()));
    with(&["--report", "missing/report.json"]).fails(1, &["cannot write the report missing/report.json", "No such"]);
    with(&["nvcr.io/team/a:3", "--report", "report.json"]).fails(1, &["cannot mirror 1 image"]);
    assert!(!place.path("new").exists());
    let report = json_of(place.path("report.json"));
    assert_eq!(report["error"]["message"], "cannot mirror 1 image");
    let image = &report["images"][0];
    assert_eq!((&image["name"], &image["status"]), (&json!("nvcr.io/team/a:3"), &json!("failed")), "{report:#}");
    assert_eq!((&image["place"], &image["digest"]), (&Value::Null, &Value::Null));
    assert!(image["error"]["message"].as_str().unwrap().contains("a:3"), "{report:#}");
    with(&["--report", "source"]).fails(2, &["the report cannot be source", "cause: it would replace oci:source"]);

    // The result is told although there is no room for the report.
    let ran = with(&["--report", "/dev/full"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.starts_with("nvcr.io/team/a:1 → new:nvcr.io/team/a:1@sha256:"), "{}", ran.stdout);
    assert!(ran.stderr.contains("error: cannot write the report /dev/full"), "{}", ran.stderr);
    with(&["--report", "report.json"]).ok();
    let report = json_of(place.path("report.json"));
    assert_eq!((&report["error"], &report["images"][0]["status"]), (&Value::Null, &json!("present")));
}

#[test]
fn room_is_looked_for_first() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    images(&place, "source");
    fs::create_dir(place.path("small")).unwrap();
    tool("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs", &place.at("small")]);
    let from = format!("oci:{}", place.at("source"));
    let errors = ["oci:small/layout", "oci-archive:small/a.tar"].map(|to| {
        let ran = run(&mut mirror(&place, &["--from", &from, "--to", to]));
        (ran, fs::read_dir(place.path("small")).unwrap().count())
    });
    tool("umount", &[&place.at("small")]);
    for (ran, left) in errors {
        ran.fails(
            1,
            &["there is not enough space", "the images need 9.4 MB, and 2.1 MB are free", "nothing was written"],
        );
        assert_eq!(left, 0);
    }
}
