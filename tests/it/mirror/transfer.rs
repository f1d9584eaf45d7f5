//! Images that move: between layouts and registries, after an interruption, across a gap, and in shares.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::*;

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
    assert_eq!(digest_of(skopeo_raw(&name).as_bytes()), digest);

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
