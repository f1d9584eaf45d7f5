//! Checks before a mirror, its dry run, its list and its report.

use super::*;
use crate::support::{Mounted, is_root, json_of};

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
    let small = Mounted::tmpfs(&place, "small", "size=2m");
    let from = format!("oci:{}", place.at("source"));
    let errors = ["oci:small/layout", "oci-archive:small/a.tar"].map(|to| {
        let ran = run(&mut mirror(&place, &["--from", &from, "--to", to]));
        (ran, fs::read_dir(place.path("small")).unwrap().count())
    });
    drop(small);
    for (ran, left) in errors {
        ran.fails(
            1,
            &["there is not enough space", "the images need 9.4 MB, and 2.1 MB are free", "nothing was written"],
        );
        assert_eq!(left, 0);
    }
}
