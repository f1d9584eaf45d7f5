//! What recipes take from the directory that they are in.

use std::os::unix::net::UnixListener;

use super::support::{Builds, Place, run, tool};

#[test]
fn sockets_are_left_out_and_pipes_are_taken() {
    let builds = Builds::as_root();
    builds.place.write("r/src/file", "x");
    builds.recipe_on("scratch", "[[layer]]\ncopy = { from = 'src', to = '/x' }\n");
    let plain = builds.built(&[]);
    let sockets =
        ["a", "b", "c", "d"].map(|name| UnixListener::bind(builds.place.path(format!("r/src/{name}"))).unwrap());
    let ran = builds.build(&["--no-cache"]);
    let said = "`copy src /x` leaves out sockets, which no layer can have: r/src/a, r/src/b, r/src/c, and 1 more";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    ran.ok();
    assert_eq!(builds.layers()[0].digest, plain[0].digest);
    drop(sockets);
    tool("mkfifo", &["-m", "600", &builds.place.at("r/src/pipe")]);
    tool("mknod", &["-m", "600", &builds.place.at("r/src/null"), "c", "1", "3"]);
    let layer = &builds.built(&["--no-cache"])[0];
    let blob = builds.place.at(&format!("image/blobs/{}", layer.digest.replace(':', "/")));
    let listing = tool("tar", &["--numeric-owner", "-tvf", &blob]);
    let has = |kind: &str, name: &str| listing.lines().any(|line| line.starts_with(kind) && line.ends_with(name));
    assert!(has("prw-r--r-- 0/0", "x/pipe") && has("crw-r--r-- 0/0", "x/null"), "{listing}");

    builds.recipe_on("scratch", "[[layer]]\ncopy = { from = 'src/a', to = '/x' }\n");
    builds.build(&[]).fails(1, &["r/src/a is a socket, which cannot be copied"]);
}

#[test]
fn what_is_ignored_as_a_whole_is_an_error() {
    let builds = Builds::as_root();
    builds.place.write("r/src/file", "x");
    builds.recipe_on("scratch", "[[layer]]\ncopy = { from = 'src', to = '/x' }\n");
    for ignored in ["src\n", "*\n", "**\n", "src\n!src/none\n"] {
        builds.place.write("r/.dockerignore", ignored);
        builds.build(&[]).fails(1, &["r/src is excluded by the patterns", "hint: take it out of .dockerignore"]);
    }
    for (ignored, paths) in [("src/*\n", &["x/"][..]), ("*\n!src/file\n", &["x/", "x/file"])] {
        builds.place.write("r/.dockerignore", ignored);
        builds.built(&[]);
        assert_eq!(builds.paths(&builds.layers()[0]), paths, "{ignored}");
    }
}

#[test]
fn sparse_archives_are_whole() {
    let place = Place::new();
    place.write("in/beside", "beside");
    let name = format!("in/{}", "n".repeat(120));
    for file in [name.as_str(), "in/holes"] {
        tool("truncate", &["-s", "3M", &place.at(file)]);
        for offset in ["0", "65536", "1000000", "2999990"] {
            let words =
                [&format!("of={}", place.at(file)), "conv=notrunc", "oflag=seek_bytes", &format!("seek={offset}")];
            let shell = format!("echo island | dd {} status=none", words.join(" "));
            tool("sh", &["-c", &shell]);
        }
    }
    place.write("r/ociforge.toml", "base = 'scratch'\n[config]\ncmd = ['x']\n[[layer]]\ntar = 'in.tar'\n");
    for version in ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
        let archive = place.at("r/in.tar");
        tool("tar", &["--format=posix", "-S", version, "-C", &place.at("in"), "-cf", &archive, "."]);
        let image = format!("oci:{}:x", place.at("image"));
        run(&mut place.build("r", &["-o", &image, "--no-cache"])).ok();
        run(&mut place.ociforge(["bundle", "--progress", "none", &image, "b"])).ok();
        tool("diff", &["-r", &place.at("in"), &place.at("b/rootfs")]);
        std::fs::remove_dir_all(place.path("b")).unwrap();
    }
}
