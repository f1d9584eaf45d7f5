//! What becomes of steps: their layers, the cache, and failures.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use serde_json::Value;

use super::*;
use crate::support::process::start;
use crate::support::{Mounted, Proxy, Registry, digests, tool, wait_until};

#[test]
fn the_layer_is_what_changed() {
    let builds = Builds::as_root();
    let below = Tar::new().dir("srv").dir("srv/gone").file("srv/gone/x", "").dir("srv/other").file("srv/other/old", "");
    let below = below
        .file("srv/file", "old")
        .dir("srv/moved")
        .file("srv/moved/x", "moved")
        .dir("srv/same")
        .file("srv/same/x", "");
    let base = Layered::busybox().layer(Packing::Gzip, below.file("srv/removed", "")).write(&builds.place, "base");
    let script =
        "set -e; cd /srv; rm -r gone removed other; mkdir other; echo new > other/new; busybox mv moved renamed
        mkdir -p a/b; echo content > a/b/file; chown 33:34 a/b/file; busybox chmod 4750 a/b/file; ln a/b/file hard
        busybox mkfifo -m 640 fifo; ln -s ../x link; chown -h 7:8 link; busybox chmod 1777 a; chown 5 a
        busybox truncate -s 5000000 sparse; echo x >> sparse; touch -d @1000 early; touch -d @4000000000 late
        echo new > file; touch same/x; mkdir temporary; rm -r temporary";
    builds.recipe_on(&base, &format!("[[layer]]\nrun = '''{script}'''\n"));
    let mut command = builds.command(&[]);
    run(command.env("SOURCE_DATE_EPOCH", "1600000000")).ok();
    let root = crate::support::unpack(&builds.place, &builds.image());
    let srv = root.join("srv");
    let mut names: Vec<_> =
        fs::read_dir(&srv).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.join(" "), "a early fifo file hard late link other renamed same sparse");
    let facts = |name: &str| {
        let facts = fs::symlink_metadata(srv.join(name)).unwrap();
        (facts.mode(), facts.uid(), facts.gid(), facts.mtime())
    };
    let now = 1_600_000_000;
    for (name, expected) in [
        ("a", (0o41777, 5, 0, now)),
        ("a/b", (0o40755, 0, 0, now)),
        ("a/b/file", (0o104_750, 33, 34, now)),
        ("early", (0o100_644, 0, 0, 1000)),
        ("late", (0o100_644, 0, 0, now)),
        ("fifo", (0o10640, 0, 0, now)),
        ("link", (0o120_777, 7, 8, now)),
        ("renamed/x", (0o100_644, 0, 0, now)),
        ("sparse", (0o100_644, 0, 0, now)),
    ] {
        assert_eq!(facts(name), expected, "{name}");
    }
    let metadata = |name: &str| fs::metadata(srv.join(name)).unwrap();
    assert_eq!((metadata("hard").ino(), metadata("hard").nlink()), (metadata("a/b/file").ino(), 2));
    assert!(metadata("fifo").file_type().is_fifo() && metadata("sparse").len() == 5_000_002);
    assert_eq!(fs::read_dir(srv.join("other")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(srv.join("renamed/x")).unwrap(), "moved");
    assert_eq!(fs::read_to_string(srv.join("file")).unwrap(), "new\n");
}

#[test]
fn a_step_sees_what_the_one_before_left_whenever_that_was() {
    let builds = Builds::as_root();
    builds.recipe(&three_steps("echo draft > /d/e/new"));
    assert_seen(&builds.said(&[]));
    builds.recipe(&three_steps("rm /d/e/new"));
    // As if the roots had been pruned.
    fs::remove_dir_all(builds.place.path("store/roots")).unwrap();
    let twice = builds.built(&[]);
    assert_eq!(twice.iter().map(|layer| layer.cached).collect::<Vec<_>>(), [true, true, false]);
    let again = builds.built(&["--no-cache"]);
    assert_eq!(digests(&again), digests(&twice));
    let other = Builds::as_root();
    other.recipe(&three_steps("rm /d/e/new"));
    assert_eq!(digests(&other.built(&[])), digests(&twice));
    assert!(twice[2].cached != other.built(&[])[2].cached);
}

#[test]
fn where_no_overlay_can_be_the_layers_are_the_same() {
    let builds = Builds::as_root();
    builds.recipe(&three_steps("rm /d/e/new"));
    let usual = builds.built(&[]);
    let mounted = Mounted::overlay(&builds.place, "copies");
    // fuse-overlayfs could.
    let copied = builds.build_with_path("/nowhere", &["--store", &mounted.0]);
    assert!(
        copied
            .stderr
            .contains("warning: ociforge copies the image instead of mounting it, which takes time and disk space: "),
        "{}",
        copied.stderr
    );
    assert_seen(&said(&copied.stderr));
    copied.ok();
    assert_eq!(digests(&builds.layers()), digests(&usual));
    let chroot = builds.built(&["--no-cache", "--isolation", "chroot"]);
    assert_eq!(digests(&chroot), digests(&usual));
}

#[test]
fn a_step_is_run_again_for_what_it_can_see() {
    let builds = Builds::as_root();
    let place = &builds.place;
    place.write("r/src/file", "1");
    place.write("r/beside", "1");
    place.write("r/below", "1");
    place.write("secret", "1");
    let recipe = |layer: &str, config: &str| {
        let below = "[[layer]]\ncopy = { from = 'below', to = '/below' }\n";
        let mounts = "mounts = [{ bind = 'src', to = '/src' }, { secret = 'token' }, { cache = '/c' }]";
        builds.recipe(&format!("{config}{below}[[layer]]\n{layer}\n{mounts}\n"));
    };
    let secret = format!("id=token,src={}", place.at("secret"));
    let cached = || builds.built(&["--secret", &secret])[1].cached;
    let usual = "run = 'cat /src/file /below > /x'\nuser = 'me'\nworkdir = '/tmp'\nenv = { A = '1' }";
    let usual = usual.replace("user = 'me'", "user = 'root'");
    recipe(&usual, "");
    assert!(!cached() && cached());
    let edited = |from: &str, to: &str| usual.replace(from, to);
    for (layer, config) in [
        (edited("/x", "/y"), ""),
        (edited("A = '1'", "A = '2'"), ""),
        (edited("'root'", "'0:44'"), ""),
        (edited("'/tmp'", "'/root'"), ""),
        (usual.clone() + "\nnetwork = 'host'", ""),
        (usual.clone(), "[config.env]\nB = '1'\n"),
    ] {
        recipe(&layer, config);
        assert!(!cached() && cached(), "{layer} {config}");
    }
    recipe(&usual, "[config]\ncmd = ['/bin/ls']\nuser = 'me'\n[config.labels]\nx = 'y'\n");
    assert!(cached(), "what containers are told is nothing to a step");
    for (file, again) in [("secret", false), ("r/beside", false), ("r/src/file", true), ("r/below", true)] {
        place.write(file, "2");
        assert_eq!(!cached(), again, "{file}");
        assert!(cached(), "{file}");
    }
    fs::set_permissions(place.path("r/src/file"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!cached(), "the mode is seen");
    place.write("r/src/new", "");
    assert!(!cached() && cached());
}

#[test]
fn a_step_that_fails_leaves_nothing_and_its_exit_code() {
    let builds = Builds::as_root();
    for (command, code, parts) in [
        ("'echo some; echo more >&2; exit 3'", 3, &["cause: exit code 3\n    some\n    more\n", "line 3"][..]),
        ("\"sh -c 'kill -KILL $$'; exit $?\"", 137, &["exit code 137"]),
        ("'nope'", 127, &["exit code 127\n    /bin/sh: nope: not found"]),
        ("['nope']", 127, &["cannot find the program nope"]),
        ("['/nope']", 127, &[]),
        ("'true'\nuser = 'ghost'", 1, &["no user `ghost`", "hint: give the step's user by number, such as user = "]),
        ("['/etc/passwd']", 126, &["hint: make it executable"]),
        ("'seq 1000; exit 2'", 2, &["    999\n    1000\n"]),
    ] {
        builds.recipe(&format!("[[layer]]\nrun = {command}\n"));
        let ran = builds.build(&[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{command}: {}", ran.stderr);
        let error = &ran.stderr[ran.stderr.find("error: ").unwrap()..];
        assert!(error.starts_with("error: cannot build the layer `run "), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{command}: {error}");
        assert!(!error.contains("    500\n"), "only the last lines");
        assert!(!builds.place.path("image").exists() && files(&builds.place.path("store/layers")).is_empty());
        assert_eq!(fs::read_dir(builds.place.path("store/steps")).unwrap().count(), 0, "{command}");
        builds.place.assert_clean();
        let ran = run(&mut builds.place.ociforge(["build", "r", "--progress", "json"]));
        let events: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = events.last().unwrap();
        assert_eq!((ran.code, &last["event"]), (Some(code), &json!("error")), "{last}");
    }
}

#[test]
fn a_step_that_is_killed_is_one_that_failed() {
    let builds = Builds::as_root();
    // Nobody else sleeps that long.
    let seconds = 10_000_000 + std::process::id();
    builds.recipe(&format!("[[layer]]\nrun = ['sleep', '{seconds}']\n"));
    let child = start(&mut builds.command(&[]));
    let is_step = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == format!("sleep\0{seconds}\0").as_bytes())
    };
    let mut step = None;
    wait_until("it begins", || {
        step = fs::read_dir("/proc").unwrap().flatten().find(is_step);
        step.is_some()
    });
    tool("kill", &["-s", "KILL", step.unwrap().file_name().to_str().unwrap()]);
    let ran = Ran::of("build".into(), child.wait_with_output().unwrap());
    ran.fails(137, &["cause: killed by signal 9"]);
}

#[test]
fn the_layers_of_a_base_are_downloaded_once() {
    Builds::each(|builds| {
        let content = "0123456789abcdef".repeat(100_000);
        let base = Layered::busybox().layer(Packing::Gzip, Tar::new().dir("srv").file("srv/file", &content));
        let base = base.write(&builds.place, "base");
        let registry = Registry::docker(&builds.place, "registry");
        let proxy = Proxy::before(&registry.address);
        run(&mut builds.place.ociforge(["copy", &base, &format!("docker://{}/base:1", registry.address)])).ok();
        builds.recipe_on(&format!("{}/base:1", proxy.address), "[[layer]]\nrun = 'busybox wc -c < /srv/file'\n");
        // The files of the base are read for this, and the step runs in it.
        let built = builds.build(&["--check-base"]);
        assert_eq!(said(&built.stderr), "1600000\n", "{}", built.stderr);
        let mut blobs: Vec<_> = proxy.requests("GET /v2/base/blobs/").into_iter().map(|request| request.path).collect();
        let requests = blobs.len();
        blobs.sort();
        blobs.dedup();
        // Two layers and the config; the layers again for the output.
        assert_eq!((requests, blobs.len()), (5, 3), "{}", built.stderr);
    });
}
