//! `spec` called by somebody without privileges, who runs it under runc.
//!
//! Debian: uidmap

use std::fs;

use serde_json::{Value, json};

use super::support::{Mounted, Place, User, run, unpack};

#[test]
fn a_user_runs_what_was_built() {
    let user = User::with_ranges();
    let place = Place::new();
    // Its flags are locked.
    let mounted = Mounted::tmpfs(&place, "data", "nosuid,nodev,mode=755");
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
    user.move_in(&place);
    let spec = |words: &[&str]| {
        let rootfs = root.to_str().unwrap();
        let call = ["spec", "--progress", "none", "--rootfs", rootfs];
        run(&mut user.ociforge(&place, &[&call, words].concat()))
    };
    let volume = format!("{}:/data:ro", mounted.0);
    let script = "id -u; echo $HOME; cat /data/file; exit 7";
    let text = spec(&["-u", "me", "-v", &volume, "--ulimit", "nofile=100", &image, "--", "sh", "-c", script]).ok();
    let json: Value = serde_json::from_str(&text).unwrap();
    let map = json!([{"containerID": 0, "hostID": user.id, "size": 1},
                     {"containerID": 1, "hostID": user.range(), "size": 65536}]);
    assert_eq!(json["linux"]["uidMappings"], map);
    fs::write(bundle.join("config.json"), text).unwrap();
    let (id, state) = (format!("rootless-{}", std::process::id()), bundle.join("state"));
    let runc = ["runc", "--root", state.to_str().unwrap(), "run", "--bundle", bundle.to_str().unwrap(), &id];
    let ran = run(&mut user.command(&place, &runc));
    assert_eq!((ran.stdout.as_str(), ran.code), ("5\n/home/me\nseen\n", Some(7)), "{}", ran.stderr);

    // Asked for the other form, it has no user namespace.
    let text = spec(&["--rootless=false", &image]).ok();
    assert!(!text.contains("uidMappings") && text.contains("sysfs"));
    spec(&["-u", "you", &image]).fails(1, &["no user `you`", "number with --user"]);
    spec(&["-u", "70000", &image]).fails(1, &["user namespace has no user 70000", "ociforge doctor"]);
}
