//! `spec` called by somebody without privileges, who runs it under runc.
//!
//! Debian: uidmap

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::support::{OCIFORGE, Place, run, tool, unpack};

/// An account of this test's own, with ranges of ids, removed at the end.
struct User {
    name: String,
    id: u32,
    range: u32,
}

impl User {
    fn new() -> Self {
        let name = format!("oci-it-{}", std::process::id());
        tool("useradd", &["--no-create-home", "--user-group", &name]);
        let number = |text: &str| text.trim().parse::<u32>().unwrap();
        let ranges = fs::read_to_string("/etc/subuid").unwrap();
        let range = ranges.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        let range = number(range.split(':').next().unwrap());
        let id = number(&tool("id", &["-u", &name]));
        Self { name, id, range }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

/// A tmpfs with locked flags.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.0]).output();
    }
}

#[test]
fn a_user_runs_what_was_built() {
    let user = User::new();
    let place = Place::new();
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    // The build's directory may be closed to others.
    fs::copy(OCIFORGE, place.path("ociforge")).unwrap();
    fs::create_dir(place.path("data")).unwrap();
    tool("mount", &["-t", "tmpfs", "-o", "nosuid,nodev,mode=755", "none", &place.at("data")]);
    let mounted = Mounted(place.at("data"));
    place.write("data/file", "seen\n");
    place.write("recipe/passwd", "root:x:0:0::/root:/bin/sh\nme:x:5:6::/home/me:/bin/sh\n");
    place.write(
        "recipe/ociforge.toml",
        "base = 'scratch'\n[config]\ncmd = ['/bin/sh']\n[[layer]]\ndirectories = ['/bin', '/etc', '/tmp']\nmode = '0755'\n\
         [[layer]]\ncopy = { from = 'busybox', to = '/bin/sh' }\n[[layer]]\ncopy = { from = 'passwd', to = '/etc/passwd' }\n",
    );
    fs::copy("/usr/bin/busybox", place.path("recipe/busybox")).unwrap();
    let image = format!("oci:{}:x", place.at("image"));
    run(&mut place.build("recipe", &["-o", &image, "-t", "x.invalid/x"])).ok();
    let root = unpack(&place, &image);
    let bundle = root.parent().unwrap();
    let owner = format!("{0}:{0}", user.id);
    tool("chown", &["-R", &owner, bundle.to_str().unwrap(), &place.at("image")]);
    let as_user = |words: &[&str]| {
        let ids = [format!("--reuid={}", user.id), format!("--regid={}", user.id), "--clear-groups".to_owned()];
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        run(&mut place.wrapped("setpriv", [&ids, words].concat()))
    };
    let spec = |words: &[&str]| {
        let program = place.at("ociforge");
        let call = [program.as_str(), "spec", "--progress", "none", "--rootfs", root.to_str().unwrap()];
        as_user(&[&call, words].concat())
    };
    let volume = format!("{}:/data:ro", mounted.0);
    let script = "id -u; echo $HOME; cat /data/file; exit 7";
    let text = spec(&["-u", "me", "-v", &volume, "--ulimit", "nofile=100", &image, "--", "sh", "-c", script]).ok();
    let json: Value = serde_json::from_str(&text).unwrap();
    let map = json!([{"containerID": 0, "hostID": user.id, "size": 1},
                     {"containerID": 1, "hostID": user.range, "size": 65536}]);
    assert_eq!(json["linux"]["uidMappings"], map);
    fs::write(bundle.join("config.json"), text).unwrap();
    let (id, state) = (format!("rootless-{}", std::process::id()), bundle.join("state"));
    let runc = ["runc", "--root", state.to_str().unwrap(), "run", "--bundle", bundle.to_str().unwrap(), &id];
    let ran = as_user(&runc);
    assert_eq!((ran.stdout.as_str(), ran.code), ("5\n/home/me\nseen\n", Some(7)), "{}", ran.stderr);

    // Asked for the other form, it has no user namespace.
    let text = spec(&["--rootless=false", &image]).ok();
    assert!(!text.contains("uidMappings") && text.contains("sysfs"));
    spec(&["-u", "you", &image]).fails(1, &["no user `you`", "number with --user"]);
    spec(&["-u", "70000", &image]).fails(1, &["user namespace has no user 70000", "subuids"]);
}
