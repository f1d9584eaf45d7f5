//! Images that mean harm, or no sense: nothing outside of the bundle is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use super::support::{Layered, Packing, Place, Ran, Tar, run, tree};

/// A bundle `b` of the layers on top of busybox, and the same run; beside both lies what must stay as it is.
fn play(layers: Vec<Tar>, config: Value) -> (Place, Ran, Ran) {
    let place = Place::new();
    let layered = Layered::busybox().config(config);
    let image = layers.into_iter().fold(layered, |image, tar| image.layer(Packing::Gzip, tar)).write(&place, "image");
    place.write("out/side/canary", "untouched");
    place.write("out/side/deep/canary", "untouched");
    let before = tree(&place.path("out/side"));
    let bundled = run(&mut place.ociforge(["bundle", "--progress", "none", &image, "out/b", "--", "true"]));
    let ran = run(&mut place.ociforge(["run", "--progress", "none", "--rm", &image, "--", "true"]));
    assert_eq!(tree(&place.path("out/side")), before, "{} {}", bundled.stderr, ran.stderr);
    let beside: Vec<_> = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(beside.iter().all(|name| name == "side" || name == "b"), "{beside:?}");
    assert_eq!(bundled.code == Some(0), place.path("out/b").exists());
    let containers = fs::read_dir(place.path("store/containers")).map_or(0, Iterator::count);
    assert_eq!(containers, 0, "{}", ran.stderr);
    (place, bundled, ran)
}

#[test]
fn layers_do_not_get_out() {
    let away = "../../side";
    for (name, layers, fails) in [
        ("an absolute name", vec![Tar::new().file("/side/canary", "x").file("//etc/x", "x")], false),
        ("a name with ..", vec![Tar::new().file(&format!("{away}/canary"), "x")], true),
        ("a name with .. inside", vec![Tar::new().dir("a").file("a/../../../side/canary", "x")], true),
        ("a link out above a file", vec![Tar::new().link("l", away).file("l/canary", "x")], false),
        ("a link out of a layer below", vec![Tar::new().link("l", away), Tar::new().file("l/canary", "x")], false),
        ("an absolute link", vec![Tar::new().link("l", "/"), Tar::new().file("l/etc/x", "x")], false),
        (
            "a link through proc",
            vec![Tar::new().link("l", "/proc/self/cwd"), Tar::new().file("l/out/side/canary", "x")],
            false,
        ),
        ("a hard link out", vec![Tar::new().hard("h", &format!("{away}/canary"))], true),
        ("a hard link to an absolute name", vec![Tar::new().hard("h", "/etc/shadow")], true),
        ("a hard link through a link", vec![Tar::new().link("l", away).hard("h", "l/canary").file("h", "x")], true),
        (
            "a hard link to a link out",
            vec![Tar::new().link("l", "../../side/canary").hard("h", "l").file("h", "x")],
            false,
        ),
        (
            "a directory becomes a link",
            vec![Tar::new().dir("d").file("d/f", "x"), Tar::new().link("d", away), Tar::new().file("d/canary", "x")],
            false,
        ),
        (
            "a directory becomes a link to the root",
            vec![Tar::new().dir("d"), Tar::new().link("d", "/").file("d/etc/x", "x")],
            false,
        ),
        (
            "a whiteout through a link",
            vec![Tar::new().link("l", away), Tar::new().file("l/.wh.canary", "").file("l/.wh..wh..opq", "")],
            false,
        ),
        ("a whiteout of ..", vec![Tar::new().dir("a").file("a/.wh...", "")], true),
        ("a whiteout of .", vec![Tar::new().dir("a").file("a/.wh..", "")], true),
        ("a link in the place of the root", vec![Tar::new().link(".", away)], true),
        ("a file in the place of the root", vec![Tar::new().file("./", "x")], false),
        ("a device above a file", vec![Tar::new().device("dev/sda", 8, 0).file("dev/sda/x", "x")], true),
        ("a loop of links", vec![Tar::new().link("a", "b").link("b", "a"), Tar::new().file("a/x", "x")], true),
        ("a name that is empty", vec![Tar::new().file("", "x")], true),
        (
            "attributes of overlayfs",
            vec![Tar::new().dir("bin").xattr("trusted.overlay.opaque", b"y").xattr("user.overlay.redirect", b"/side")],
            false,
        ),
    ] {
        let (place, bundled, ran) = play(layers, json!({"Env": ["PATH=/bin"]}));
        for ran in [&bundled, &ran] {
            assert_eq!(ran.code.unwrap() != 0, fails, "{name}: {}", ran.stderr);
            assert!(!fails || ran.stderr.contains("sha256:"), "{name}: {}", ran.stderr);
            assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
        }
        assert!(!place.path("etc/x").exists());
    }
}

#[test]
fn configs_that_make_no_sense() {
    for (name, layer, config, said) in [
        ("a volume at the root", Tar::new(), json!({"Volumes": {"/": {}}}), ""),
        ("a volume above the root", Tar::new(), json!({"Volumes": {"..": {}, "/../../side": {}}}), ""),
        ("a volume through a link out", Tar::new().link("l", "../../side"), json!({"Volumes": {"/l/deep": {}}}), ""),
        ("a volume at a link to /etc", Tar::new().link("l", "/etc"), json!({"Volumes": {"/l": {}}}), ""),
        ("a volume at a file", Tar::new().file("f", ""), json!({"Volumes": {"/f": {}}}), "volume /f"),
        ("a volume in a loop", Tar::new().link("l", "l"), json!({"Volumes": {"/l/x": {}}}), "/l/x"),
        ("a user who is not there", Tar::new(), json!({"User": "stranger"}), "no user `stranger`"),
        ("a group that is not there", Tar::new(), json!({"User": "me:strangers"}), "strangers"),
        ("accounts in a pipe", Tar::new().fifo("etc/passwd"), json!({"User": "me"}), "etc/passwd"),
        ("accounts outside", Tar::new().link("etc/passwd", "../../../../side/canary"), json!({"User": "me"}), "me"),
        ("accounts in a directory", Tar::new().dir("etc/passwd"), json!({"User": "me"}), "etc/passwd"),
        ("huge accounts", Tar::new().file("etc/passwd", vec![b'#'; 9 << 20]), json!({"User": "me"}), "etc/passwd"),
        ("variables without a value", Tar::new(), json!({"Env": ["NOVALUE", "=x", "PATH=/bin", "A=1", "A=2"]}), ""),
        ("a field is empty", Tar::new(), Value::Null, ""),
        ("a relative directory", Tar::new(), json!({"WorkingDir": "../../side"}), ""),
        ("a directory that is a file", Tar::new().file("f", ""), json!({"WorkingDir": "/f"}), "/f"),
        ("a mode of nobody", Tar::new(), json!({"User": "65536000000"}), "65536000000"),
    ] {
        let (_place, bundled, ran) = play(vec![layer], config);
        for ran in [&bundled, &ran] {
            assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
        }
        match said {
            "" => assert_eq!((bundled.code, ran.code), (Some(0), Some(0)), "{name}: {} {}", bundled.stderr, ran.stderr),
            said => {
                bundled.fails(1, &[said]);
                ran.fails(125, &[said]);
            }
        }
    }
}

#[test]
fn device_nodes_are_made_by_root_and_left_out_otherwise() {
    let place = Place::new();
    let image = Layered::busybox().layer(Packing::Gzip, Tar::new().device("dev/mine", 1, 3)).write(&place, "image");
    run(&mut place.ociforge(["bundle", &image, "b"])).ok();
    let (device, null) = (place.path("b/rootfs/dev/mine"), "/dev/null");
    assert_eq!(fs::symlink_metadata(device).unwrap().rdev(), fs::metadata(null).unwrap().rdev());
    let user = super::support::User::with_one_id();
    user.move_in(&place);
    let ran = run(&mut user.ociforge(&place, &["bundle", &image, "c"]));
    assert!(ran.stderr.contains("1 device nodes are skipped"), "{}", ran.stderr);
    ran.ok();
    assert!(!place.path("c/rootfs/dev/mine").exists());
}
