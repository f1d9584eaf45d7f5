//! `gc`, beside servers that go on.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::{forever, send};
use crate::support::{
    Answer, Layered, Liar, OCIFORGE, Packing, Place, Registry, Tar, curl_status, files, run, skopeo, skopeo_copy,
    wait_until,
};

fn image(place: &Place, name: &str) -> String {
    let image = Layered::of_file(name);
    image.layer(Packing::Plain, Tar::new().file("common", "in all")).write(place, name)
}

/// Makes all files of the layout `served` two hours old.
fn age(place: &Place) {
    let time = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    for file in files(&place.path("served/blobs")) {
        fs::File::open(file).unwrap().set_modified(time).unwrap();
    }
}

fn gc(place: &Place, options: &[&str]) -> Value {
    let words = [&["gc", "served", "--format", "json"], options].concat();
    serde_json::from_str(&run(&mut place.ociforge(words)).ok()).unwrap()
}

fn removed(place: &Place, options: &[&str]) -> (u64, u64) {
    let json = gc(place, options);
    (json["manifests"].as_u64().unwrap(), json["blobs"].as_u64().unwrap())
}

#[test]
fn what_lost_its_tag_goes_when_asked_to() {
    let place = Place::new();
    let registry = Registry::serve(&place, "served");
    let (one, two) = (image(&place, "one"), image(&place, "two"));
    skopeo_copy(&one, &registry.name("a:t"));
    skopeo_copy(&two, &registry.name("a:t"));
    skopeo_copy(&two, &registry.name("b:t"));
    age(&place);
    assert_eq!(removed(&place, &[]), (0, 0));
    assert_eq!(removed(&place, &["--untagged", "--keep-for", "3h"]), (0, 0));
    assert_eq!(removed(&place, &["--untagged", "--dry-run"]), (1, 3));
    let text = run(&mut place.ociforge(["gc", "served", "--untagged"])).ok();
    assert!(text.starts_with("removed 1 untagged manifest, 3 blobs and 0 unfinished files ("), "{text}");
    assert!(text.contains("\n4 blobs stay ("), "{text}");
    // The server notices: what is gone is pushed again, what is not is there.
    skopeo_copy(&registry.name("a:t"), &format!("dir:{}", place.at("pulled")));
    skopeo_copy(&one, &registry.name("a:u"));
    skopeo_copy(&registry.name("a:u"), &format!("dir:{}", place.at("pulled too")));
}

#[test]
fn what_a_client_was_told_of_stays() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "served");
    let image = image(&place, "one");
    skopeo_copy(&image, &registry.name("a:t"));
    skopeo(&["delete", "--tls-verify=false", &registry.name("a:t")]);
    age(&place);
    let blobs: Vec<String> = files(&place.path("served/blobs/sha256"))
        .iter()
        .map(|path| format!("sha256:{}", path.file_name().unwrap().to_str().unwrap()))
        .collect();
    let (head, mount) = (&blobs[0], &blobs[1]);
    let url = format!("http://{}/v2/b/blobs", registry.address);
    assert_eq!(curl_status(&["--head", &format!("{url}/{head}")]), "200");
    assert_eq!(curl_status(&["-X", "POST", &format!("{url}/uploads/?mount={mount}&from=a")]), "201");
    let json = gc(&place, &["--untagged"]);
    assert_eq!((&json["blobs"], &json["youngBlobs"]), (&(blobs.len() - 2).into(), &2.into()));
    assert_eq!(curl_status(&[&format!("{url}/{head}")]), "200");
    assert_eq!(curl_status(&[&format!("{url}/{mount}")]), "200");
    assert_eq!(curl_status(&[&format!("{url}/{}", blobs[2])]), "404");
    skopeo_copy(&image, &registry.name("a:t"));
    registry.stop();
}

#[test]
fn damage_and_foreign_directories_are_left_alone() {
    let place = Place::new();
    let image = image(&place, "served");
    age(&place);
    let layout = place.path("served");
    let index: Value = crate::support::json_of(layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest = layout.join("blobs").join(digest);
    let before = files(&layout.join("blobs")).len();
    fs::write(&manifest, "{}").unwrap();
    run(&mut place.ociforge(["gc", "served"])).fails(1, &["nothing is removed"]);
    fs::remove_file(&manifest).unwrap();
    run(&mut place.ociforge(["gc", "served"])).fails(1, &["the index lists the blob, but it is missing", "hint: "]);
    // All but the manifest.
    assert_eq!(files(&layout.join("blobs")).len(), before - 1, "{image}");
    run(&mut place.ociforge(["gc", "home"])).fails(1, &["cannot collect garbage in home", "not an OCI layout"]);
    run(&mut place.ociforge(["gc", "served", "--keep-for", "1"])).refused("30m");
}

/// Whatever becomes of a copy into a layout, garbage can be collected and the image copied right afterwards.
#[test]
fn what_was_interrupted_leaves_nothing_locked() {
    let place = Place::new();
    let image = image(&place, "one");
    let hangs = Liar::start(&place.path("one"), |asked, answer| {
        if asked.path.contains("/blobs/") {
            forever();
        }
        answer
    });
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let from = format!("docker://{}/a:x", hangs.address);
        let mut copy = place.ociforge(["copy", "--progress", "none", &from, "oci:served:x"]).spawn().unwrap();
        wait_until("it is in the middle", || place.path("served/.partial").exists());
        run(&mut place.ociforge(["gc", "served"])).fails(1, &["another process is copying an image into the layout"]);
        send(&copy, signal);
        let code = copy.wait().unwrap().code();
        assert_eq!(code, (signal != Signal::KILL).then_some(130));
        gc(&place, &[]);
        run(&mut place.ociforge(["copy", "--progress", "none", &image, "oci:served:x"])).ok();
        fs::remove_dir_all(place.path("served")).unwrap();
    }
    // One that fails.
    let refuses =
        Liar::start(
            &place.path("one"),
            |asked, answer| {
                if asked.path.contains("/blobs/") { Answer::status(404) } else { answer }
            },
        );
    let from = format!("docker://{}/a:x", refuses.address);
    run(&mut place.ociforge(["copy", "--progress", "none", &from, "oci:served:x"])).fails(1, &["404"]);
    gc(&place, &[]);
    run(&mut place.ociforge(["copy", "--progress", "none", &image, "oci:served:x"])).ok();
}

/// What a client names as a manifest and is none.
#[test]
fn what_is_listed_as_a_manifest_and_is_none_is_warned_of() {
    let place = Place::new();
    let registry = Registry::serve(&place, "served");
    skopeo_copy(&image(&place, "one"), &registry.name("a:t"));
    let url = format!("http://{}/v2/a", registry.address);
    let send = |method: &str, path: &str, kind: &str, body: &str| {
        let kind = format!("Content-Type: {kind}");
        curl_status(&["-X", method, "-H", &kind, "-d", body, &format!("{url}{path}")])
    };
    let digest = crate::support::digest_of(b"no manifest");
    let upload = format!("/blobs/uploads/?digest={digest}");
    assert_eq!(send("POST", &upload, "application/octet-stream", "no manifest"), "201");
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let listed = format!(r#"{{"mediaType": "{manifest}", "digest": "{digest}", "size": 11}}"#);
    let index = "application/vnd.oci.image.index.v1+json";
    let start = format!(r#""schemaVersion": 2, "mediaType": "{index}""#);
    let refused = send("PUT", "/manifests/i", index, &format!(r#"{{{start}, "manifests": [{listed}]}}"#));
    assert_eq!(refused, "400");
    // A subject need not be there.
    let taken = send("PUT", "/manifests/s", index, &format!(r#"{{{start}, "manifests": [], "subject": {listed}}}"#));
    assert_eq!(taken, "201");
    let garbage = format!("/blobs/uploads/?digest={}", crate::support::digest_of(b"garbage"));
    assert_eq!(send("POST", &garbage, "application/octet-stream", "garbage"), "201");
    let ran = run(&mut place.ociforge(["gc", "served", "--keep-for", "0s", "--format", "json"]));
    assert!(
        ran.stderr.contains(&format!("warning: {digest} is listed as a manifest and is not one")),
        "{}",
        ran.stderr
    );
    let json: Value = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!((&json["blobs"], &json["unreadableManifests"]), (&1.into(), &serde_json::json!([digest])));
    skopeo_copy(&registry.name("a:t"), &format!("dir:{}", place.at("pulled")));
}

#[test]
fn a_server_collects_by_itself() {
    let place = Place::new();
    let image = image(&place, "one");
    let registry = Registry::serve_with(&place, "served", Command::new(OCIFORGE), &["--gc-every", "1s"]);
    skopeo_copy(&image, &registry.name("a:t"));
    let garbage = place.write("served/blobs/sha256/aa", "");
    let garbage = {
        let named = garbage.with_file_name("ab".repeat(32));
        fs::rename(garbage, &named).unwrap();
        named
    };
    age(&place);
    wait_until("it collects", || !garbage.exists());
    skopeo_copy(&registry.name("a:t"), &format!("dir:{}", place.at("pulled")));
}
