//! Ways out of the root filesystem.

use super::*;
use crate::support::{tree, unpack};

#[test]
fn mount_points_do_not_lead_out() {
    for who in ALL {
        for point in ["etc", "proc", "sys", "dev", "tmp", "src"] {
            for target in ["/", "../../../../../../..", "/no/where"] {
                let image = Layered::busybox().layer(Packing::Gzip, Tar::new().link(point, target));
                let image = image.config(json!({"Env": ["PATH=/bin"]}));
                if target != "/" && who != Who::Root || who == Who::Chroot && !["etc", "src"].contains(&point) {
                    continue;
                }
                let scene = Scene::on(who, image);
                scene.place.write("recipe/src/file", "mine");
                let mounts = "mounts = [{ bind = 'src', to = '/src' }]";
                let before = tree(&scene.place.path("recipe"));
                let ran = scene.play(&["touch /x"], mounts);
                let said = &ran.stderr;
                let is_plain =
                    ran.code == Some(0) || ran.code == Some(1) && said.contains("error: ") && said.contains("cause: ");
                assert!(is_plain, "{who:?} {point} -> {target}: {:?} {said}", ran.code);
                let mut after = tree(&scene.place.path("recipe"));
                after.insert("ociforge.toml".into(), String::new());
                let mut before = before;
                before.insert("ociforge.toml".into(), String::new());
                before.remove(std::path::Path::new(""));
                after.remove(std::path::Path::new(""));
                let names = |tree: &std::collections::BTreeMap<std::path::PathBuf, String>| {
                    tree.keys().cloned().collect::<Vec<_>>()
                };
                assert_eq!(names(&after), names(&before), "{who:?} {point} -> {target}");
            }
        }
    }
}

/// What a step tries to reach, each with a word that is printed when it could.
const ESCAPES: &str = r#"
try() { word=$1; shift; if "$@" >/dev/null 2>&1; then echo "could $word"; fi; }
try write-sysctl sh -c 'echo x > /proc/sys/kernel/hostname'
try write-sysrq sh -c 'echo h > /proc/sysrq-trigger'
try write-sys sh -c 'echo 1 > /sys/kernel/profiling'
try mount mount -t tmpfs none /tmp
try umount umount /proc
try remount mount -o remount,rw /sys
try unshare unshare -m true
try write-bind sh -c 'echo x > /src/file'
try module insmod /bin/sh
try outside-root ls /proc/1/root/../../../../../../CANARY
try other-process sh -c 'ls -d /proc/[0-9]*/cwd/CANARY'
mknod /r c 1 8; try device sh -c 'head -c 9 /r | grep -q .'; rm -f /r
mknod /dev/r c 1 8; try device-in-dev sh -c 'head -c 9 /dev/r | grep -q .'; rm -f /dev/r
head -c 9 /dev/random | grep -q . || echo could not read a device that it was given
kill -9 -1
mkdir /jail; try chroot-out chroot /jail /bin/sh; rmdir /jail
ls /proc/self/fd | wc -l
exit 0
"#;

#[test]
fn a_step_does_not_get_out() {
    for who in [Who::Root, Who::Ranges, Who::OneId] {
        let scene = Scene::new(who);
        scene.place.write("recipe/src/file", "mine");
        let script = format!("({ESCAPES}) > /log 2>&1").replace("CANARY", &scene.place.at("recipe/src/file"));
        let mounts = "mounts = [{ bind = 'src', to = '/src' }]";
        scene.play(&[&script], mounts).ok();
        let root = unpack(&scene.place, &format!("oci:{}:x", scene.place.at("built")));
        let log = fs::read_to_string(root.join("log")).unwrap();
        assert!(!log.contains("could "), "{who:?}: {log}");
        // Input, output, errors, and the directory that is read.
        assert_eq!(log.lines().last(), Some("4"), "{who:?}: {log}");
        assert_eq!(fs::read_to_string(scene.place.path("recipe/src/file")).unwrap(), "mine");
    }
}

#[test]
fn hostile_bases_are_refused() {
    let away = "../../side/canary";
    for who in [Who::Root, Who::OneId, Who::Chroot] {
        for (name, layer) in [
            ("a name with ..", Tar::new().file(away, "x")),
            ("a hard link out", Tar::new().hard("h", away)),
            ("a whiteout of ..", Tar::new().dir("a").file("a/.wh...", "")),
            ("a device above a file", Tar::new().device("dev/sda", 8, 0).file("dev/sda/x", "x")),
        ] {
            let scene = Scene::on(who, Layered::busybox().layer(Packing::Gzip, layer));
            scene.play(&["touch /x"], "").fails(1, &["sha256:", "cause: "]);
            let roots = crate::support::files(&scene.place.path("store/roots"));
            let left = roots.iter().any(|path| path.ends_with("canary") || path.ends_with("sda/x"));
            assert!(!left, "{who:?} {name}: {roots:?}");
        }
    }
}
