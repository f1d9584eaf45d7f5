//! `bundle`: an image becomes a directory that runtimes run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use super::spec::validate;
use super::support::process::{forever, send, start};
use super::support::{
    Answer, DEBIAN, Layered, Liar, Mounted, Packing, Place, Ran, Registry, Tar, User, assert_same, files, json_of, run,
    skopeo, skopeo_copy, tool, tree, unpack,
};

fn bundle(place: &Place, arguments: &[&str]) -> Ran {
    run(&mut place.ociforge([&["bundle", "--progress", "none"], arguments].concat()))
}

/// Runs a bundle by runc, which must be fine with it.
fn runc(place: &Place, bundle: &str) -> Ran {
    let id = format!("it-{}-{}", std::process::id(), bundle.replace('/', "-"));
    run(&mut place.wrapped("runc", ["--root", &place.at("runc"), "run", "--bundle", bundle, &id]))
}

/// Layers with something of everything: whiteouts, opaque directories, types that change, links, owners, times,
/// attributes; each layer packed in another way.
fn various() -> Layered {
    let long = "a-name-as-long-as-few-are".repeat(3);
    let lowest = Tar::new()
        .dir("")
        .mode(0o755)
        .dir("tmp")
        .mode(0o1777)
        .dir("gone")
        .file("gone/a", "a")
        .file("gone/b", "b")
        .dir("opaque")
        .file("opaque/hidden", "x")
        .dir("opaque/deep")
        .file("opaque/deep/hidden", "x")
        .file("single", "removed")
        .file("becomes-directory", "x")
        .dir("becomes-file")
        .file("becomes-file/x", "x")
        .file("kept", "below")
        .owner(5, 6)
        .mode(0o4750)
        .mtime(1_000_000_000)
        .hard("kept-too", "kept")
        .link("dangling", "/nowhere/at/all")
        .link("absolute", "/etc/passwd")
        .fifo("fifo")
        .device("null", 1, 3)
        .file("attributed", "x")
        .xattr("user.some", b"value\0with")
        .xattr("security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .file(&long, "long")
        .dir("closed")
        .mode(0o000)
        .owner(7, 8)
        .mtime(1_100_000_000)
        .file("closed/in", "x");
    let middle = Tar::new()
        .file("gone/.wh.a", "")
        .file(".wh.single", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "y")
        .dir("becomes-directory")
        .file("becomes-directory/inside", "z")
        .file("becomes-file", "now a file")
        .file("tmp/x", "x")
        .dir("closed")
        .mode(0o711)
        .owner(7, 8)
        .mtime(1_200_000_000);
    let upper = Tar::new()
        .dir("later")
        .file("later/first", "one file")
        .owner(1000, 100)
        .hard("later/second", "later/first")
        .file("kept", "above")
        .file(".wh.gone", "")
        .dir("gone")
        .mode(0o700)
        .file("gone/anew", "n")
        .mtime(42)
        .dir("opaque")
        .mtime(43)
        .file("opaque/newer", "n");
    Layered::new().layer(Packing::Gzip, lowest).layer(Packing::Zstd, middle).layer(Packing::Plain, upper)
}

#[test]
fn a_bundle_has_the_files_that_umoci_unpacks() {
    let place = Place::new();
    // umoci reads no zstd, and skopeo makes gzip of all.
    let image = various().write(&place, "various");
    let gzip = format!("oci:{}:x", place.at("gzip"));
    skopeo(&["copy", "--quiet", "--dest-compress-format", "gzip", "--dest-compress", &image, &gzip]);
    let theirs = tree(&unpack(&place, &gzip));
    assert_eq!(bundle(&place, &[&image, "ours"]).ok(), format!("{}\n", place.at("ours")));
    let ours = tree(&place.path("ours/rootfs"));
    assert!(ours.contains_key(Path::new("opaque/new")) && !ours.contains_key(Path::new("opaque/hidden")));
    assert_same(&ours, &theirs);
    // Made again, into a directory that is there and empty, it is the same to the byte.
    fs::create_dir(place.path("again")).unwrap();
    bundle(&place, &[&gzip, "again"]).ok();
    assert_same(&tree(&place.path("again/rootfs")), &ours);
    let config = |name| fs::read_to_string(place.path(format!("{name}/config.json"))).unwrap();
    assert_eq!(config("ours"), config("again").replace("/again/", "/ours/"));
    assert_eq!(fs::read_dir(place.path("ours")).unwrap().count(), 2);
    assert_eq!(place.path("ours").metadata().unwrap().mode() & 0o777, 0o700, "setuid programs");
}

#[test]
fn a_bundle_of_an_image_from_anywhere_runs() {
    let place = Place::new();
    let (serve, docker) = (Registry::serve(&place, "serve"), Registry::docker(&place, "docker"));
    // umoci gives directories that no layer names the time of day.
    let named = Tar::new().dir("").dir("srv").file("srv/x", "x");
    let image = Layered::busybox().layer(Packing::Gzip, named).write(&place, "image");
    // One with Docker's media types, as docker pushes them.
    let schema2 = docker.name("schema2:v1");
    skopeo(&["copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false", &image, &schema2]);
    let (pushed, archive) = (serve.name("image:v1"), format!("oci-archive:{}:x", place.at("image.tar")));
    skopeo_copy(&image, &pushed);
    skopeo_copy(&image, &archive);
    let theirs = tree(&unpack(&place, &image));
    for (n, image) in [schema2.as_str(), &pushed, &archive, &image].into_iter().enumerate() {
        let directory = format!("deep/{n}");
        bundle(&place, &["-e", "X=1", "-w", "/tmp", image, &directory, "--", "sh", "-c", "echo $X; pwd; exit 7"]).ok();
        validate(&place.at(&format!("{directory}/config.json")));
        assert_same(&tree(&place.path(format!("{directory}/rootfs"))), &theirs);
        let ran = runc(&place, &place.at(&directory));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "1\n/tmp\n"), "{image} {}", ran.stderr);
    }
}

#[test]
fn a_whole_system_in_a_bundle() {
    let place = Place::new();
    let docker = Registry::docker(&place, "docker");
    let image = docker.name("debian:v1");
    skopeo(&["copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false", &DEBIAN.image, &image]);
    let script = "import ssl, sqlite3, sys; print(ssl.OPENSSL_VERSION[:7]); sys.exit(7)";
    bundle(&place, &[&image, "b", "--", "python3", "-c", script]).ok();
    assert_same(&tree(&place.path("b/rootfs")), &tree(&unpack(&place, &DEBIAN.image)));
    let ran = runc(&place, &place.at("b"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "OpenSSL\n"), "{}", ran.stderr);
}

#[test]
fn users_without_privileges_make_bundles_and_run_them() {
    for (user, ranges) in [(User::with_ranges(), true), (User::with_one_id(), false)] {
        let place = Place::new();
        let image = Layered::busybox()
            .layer(Packing::Gzip, Tar::new().dir("srv").owner(33, 34).mode(0o700).file("srv/x", "seen").owner(33, 34))
            .write(&place, "image");
        user.move_in(&place);
        let script = "id -u; cat /srv/x; echo; touch /new && exit 3";
        let made = run(&mut user.ociforge(&place, &["bundle", &image, "b", "--", "sh", "-c", script]));
        // With one id only, the owners can't be kept, and that is told.
        let (owner, warned) = if ranges { (user.range() + 32, false) } else { (user.id, true) };
        assert_eq!(made.stderr.contains("belong to your user instead"), warned, "{}", made.stderr);
        assert_eq!(made.ok(), format!("{}\n", place.at("b")));
        assert_eq!(place.path("b/rootfs/srv").metadata().unwrap().uid(), owner);
        validate(&place.at("b/config.json"));
        let (id, state) = (format!("bb-{}", user.id), place.at("runc"));
        let ran = run(&mut user.command(&place, &["runc", "--root", &state, "run", "--bundle", "b", &id]));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "0\nseen\n"), "{}", ran.stderr);
        assert_eq!(place.path("b/rootfs/new").metadata().unwrap().uid(), user.id);
        // What belongs to ids of the range is removed from within.
        run(&mut user.ociforge(&place, &["unshare", "rm", "-rf", &place.at("b")])).ok();
        assert!(!place.path("b").exists());
        assert_eq!(left(&place), [] as [String; 0]);
    }
}

/// What is in the place besides what tests put there: bundles that are not whole.
fn left(place: &Place) -> Vec<String> {
    let all = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    all.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn places_that_can_not_be_used() {
    let place = Place::new();
    let image = Layered::busybox().write(&place, "image");
    place.write("full/file", "mine");
    place.write("file", "mine");
    symlink("nowhere", place.path("dangling")).unwrap();
    for (directory, code, said) in [
        ("full", 2, &["full", "the directory is not empty", "hint: "][..]),
        ("file", 2, &["file", "hint: name a directory"]),
        ("dangling", 2, &["dangling", "a dangling link", "hint: name a directory"]),
        ("file/below", 2, &["file/below"]),
        ("/", 2, &["the directory is not empty"]),
    ] {
        bundle(&place, &[&image, directory]).fails(code, said);
    }
    assert!(place.path("dangling").is_symlink() && files(&place.path("full")).len() == 1);
    // A link to a directory is that directory.
    fs::create_dir(place.path("empty")).unwrap();
    symlink("empty", place.path("link")).unwrap();
    assert_eq!(bundle(&place, &[&image, "link"]).ok(), format!("{}\n", place.at("empty")));
    assert!(place.path("link").is_symlink() && place.path("empty/config.json").is_file());
    let small = Mounted::tmpfs(&place, "small", "size=300k");
    bundle(&place, &[&image, "small/b"]).fails(1, &["sha256:", "No space left"]);
    assert_eq!(fs::read_dir(&small.0).unwrap().count(), 0);
    // An image that is not there, and flags that make no sense, leave no directories either.
    bundle(&place, &["oci:nowhere:x", "new/deep/b"]).fails(1, &["nowhere"]);
    bundle(&place, &["--gpus", "some", &image, "new/deep/b"]).fails(2, &["some"]);
    bundle(&place, &["-u", "stranger", &image, "new/deep/b"]).fails(1, &["no user `stranger`"]);
    assert!(!place.path("new").exists());
    assert_eq!(left(&place), [] as [String; 0]);

    let user = User::with_ranges();
    user.move_in(&place);
    tool("chown", &["0:0", &place.at("")]);
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    run(&mut user.ociforge(&place, &["bundle", "--progress", "none", &image, "new-one"]))
        .fails(1, &["cannot create the bundle new-one", "Permission denied"]);
}

#[test]
fn an_interrupted_bundle_is_none() {
    let place = Place::new();
    let image = Layered::busybox().write(&place, "image");
    // A registry that has the layer half sent when the signal comes, and never sends the rest.
    let (sent, came) = std::sync::mpsc::channel();
    let layout = place.path("image");
    let sent = std::sync::Mutex::new(sent);
    let liar = Liar::start(&layout, move |asked, answer| {
        if asked.path.contains("/blobs/") && answer.body.len() > 10_000 {
            sent.lock().unwrap().send(()).ok();
            forever();
        }
        answer
    });
    assert!(image.starts_with("oci:"));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 130)] {
        let name = format!("docker://{}/x:v1", liar.address);
        let mut command = place.ociforge(["bundle", &name, "b"]);
        let child = start(&mut command);
        came.recv().unwrap();
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert!(!place.path("b").exists());
        assert_eq!(left(&place), [] as [String; 0]);
    }
}

#[test]
fn layers_that_are_not_what_they_should_be() {
    let good = || Layered::busybox().layer(Packing::Gzip, Tar::new().file("x", "x".repeat(9000)));
    let not_tar = || Layered::new().tar(Packing::Plain, b"no tar at all, but long enough to be one, if it only were");
    for (image, number, said) in [
        (good().blob(|blob| blob[40] ^= 1), 1, "cause: "),
        (good().blob(|blob| blob.truncate(blob.len() / 2)), 1, "cause: "),
        (good().diff_id(&format!("sha256:{}", "0".repeat(64))), 1, "sha256:0000"),
        (not_tar(), 0, "cause: "),
        (good().tar(Packing::Gzip, &[0xff; 600]), 2, "cause: "),
        (good().layer(Packing::Gzip, Tar::new().file("x/y", "a file has nothing in it")), 2, "x"),
    ] {
        let place = Place::new();
        let digest = image.digest(number);
        let name = image.write(&place, "damaged");
        let told = bundle(&place, &[&name, "b"]).fails(1, &[&digest, said]);
        assert!(!place.path("b").exists(), "{told}");
        let store = run(&mut place.ociforge(["run", "--progress", "none", "--rm", &name, "--", "true"]));
        assert_eq!(store.code, Some(125), "{}", store.stderr);
        assert!(store.stderr.contains(&digest), "{}", store.stderr);
        let kept = fs::read_dir(place.path("store/roots/all")).unwrap().count();
        assert!(kept <= number && left(&place).is_empty(), "{told}");
    }
}

#[test]
fn registries_that_break_off() {
    let place = Place::new();
    let image = Layered::busybox();
    let digest = image.digest(0);
    image.write(&place, "image");
    let layer = digest.clone();
    let damaged = |kind: &'static str| {
        let layer = layer.clone();
        Liar::start(&place.path("image"), move |asked, mut answer| {
            if !asked.path.ends_with(&layer) {
                return answer;
            }
            match kind {
                "cut" => answer.cut = 50_000,
                "flip" => answer.body[50_000] ^= 1,
                _ => return Answer::status(404),
            }
            answer
        })
    };
    for kind in ["cut", "flip", "gone"] {
        let liar = damaged(kind);
        bundle(&place, &[&format!("docker://{}/x:v1", liar.address), "b"]).fails(1, &[&digest[..19]]);
        assert!(!place.path("b").exists() && left(&place).is_empty(), "{kind}");
    }
}

#[test]
fn users_volumes_and_all_else_of_the_config() {
    let place = Place::new();
    let image = Layered::busybox()
        .layer(
            Packing::Gzip,
            Tar::new().dir("data").owner(1000, 1000).file("data/seed", "seeded\n").link("var", "data"),
        )
        .config(json!({
            "User": "me", "Env": ["PATH=/bin", "A=1"], "WorkingDir": "/not/there", "StopSignal": "SIGQUIT",
            "Labels": {"org.example.label": "said"}, "Volumes": {"/data": {}, "/var/inside": {}, "/fresh": {}},
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["id; pwd; cat /data/seed; echo w > /data/new; echo $HOME; ls -d /data/inside; touch /x || exit 4"],
        }))
        .write(&place, "image");
    bundle(&place, &["--read-only", &image, "b"]).ok();
    validate(&place.at("b/config.json"));
    let spec = json_of(place.path("b/config.json"));
    assert_eq!(spec["annotations"]["org.example.label"], "said");
    assert_eq!(spec["annotations"]["org.opencontainers.image.stopSignal"], "SIGQUIT");
    let ran = runc(&place, &place.at("b"));
    let expected =
        "uid=1000(me) gid=1000(me) groups=44(video),105(render),1000(me)\n/not/there\nseeded\n/home/me\n/data/inside\n";
    assert_eq!((ran.stdout.as_str(), ran.code), (expected, Some(4)), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(place.path("b/rootfs/data/new")).unwrap(), "w\n");
    // With a group, there are no others.
    bundle(&place, &["-u", "me:video", &image, "c", "--", "id -G"]).ok();
    assert_eq!(runc(&place, &place.at("c")).ok(), "44\n");
    bundle(&place, &["-u", "4321", &image, "d", "--", "id -u; id -g"]).ok();
    assert_eq!(runc(&place, &place.at("d")).ok(), "4321\n0\n");
}

#[test]
fn what_is_added_to_lib_goes_where_the_link_leads() {
    let place = Place::new();
    let merged = Tar::new().dir("usr").dir("usr/lib").mode(0o755).file("usr/lib/below", "b").link("lib", "usr/lib");
    merged_base(&place, merged);
    place.write("recipe/x", "x");
    place.write(
        "recipe/ociforge.toml",
        format!("base = 'oci:{}:x'\n[[layer]]\ncopy = {{ from = 'x', to = '/lib/deep/x' }}\n", place.at("base")),
    );
    let image = format!("oci:{}:x", place.at("image"));
    run(&mut place.build("recipe", &["-o", &image, "-t", "x.invalid/x"])).ok();
    bundle(&place, &[&image, "b"]).ok();
    let root = place.path("b/rootfs");
    assert_eq!(fs::read_link(root.join("lib")).unwrap(), Path::new("usr/lib"));
    assert!(root.join("usr/lib/deep/x").is_file() && root.join("usr/lib/below").is_file());
    // A layer from elsewhere that has entries below the link, without saying that it is a directory.
    let other = merged_base(&place, Tar::new().link("lib", "usr/lib").dir("usr").dir("usr/lib"))
        .layer(Packing::Gzip, Tar::new().file("lib/y", "y"))
        .write(&place, "other");
    bundle(&place, &[&other, "c"]).ok();
    let root = place.path("c/rootfs");
    assert!(root.join("lib").is_symlink() && root.join("usr/lib/y").is_file());
}

fn merged_base(place: &Place, tar: Tar) -> Layered {
    let bytes = tar.bytes();
    Layered::new().tar(Packing::Gzip, &bytes).write(place, "base");
    Layered::new().tar(Packing::Gzip, &bytes)
}
