//! Steps that mean harm, or no sense: the layer is what a layer can be, or there is an error and nothing is left.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use super::support::{
    DEBIAN, Layered, OCIFORGE, Packing, Place, Ran, Tar, User, is_root, run, tool, tree, unpack, wait_until,
};

/// Who builds, and in what isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    Ranges,
    OneId,
    Chroot,
}

impl Who {
    /// An account of the scene's own, where it is not root who builds.
    fn account(self) -> Option<User> {
        match self {
            Self::Ranges => Some(User::with_ranges()),
            Self::OneId => Some(User::with_one_id()),
            Self::Root | Self::Chroot => None,
        }
    }
}

const ALL: [Who; 4] = [Who::Root, Who::Ranges, Who::OneId, Who::Chroot];

/// A store and recipes of somebody, and something outside that must stay as it is.
struct Scene {
    place: Place,
    who: Who,
    user: Option<User>,
    base: String,
}

impl Scene {
    /// On busybox.
    fn new(who: Who) -> Self {
        Self::on(who, Layered::busybox().config(json!({"Env": ["PATH=/bin"]})))
    }

    fn on(who: Who, image: Layered) -> Self {
        let place = Place::new();
        let base = image.write(&place, "image");
        Self { place, who, user: who.account(), base }
    }

    /// On Debian, for what only a Python can do.
    fn debian(who: Who) -> Self {
        Self { place: Place::new(), who, user: who.account(), base: DEBIAN.image.clone() }
    }

    fn command(&self, steps: &[&str], mounts: &str, arguments: &[&str]) -> Command {
        let layer = |step: &&str| format!("[[layer]]\nrun = '''{step}'''\n{mounts}\n");
        let layers: String = steps.iter().map(layer).collect();
        self.place.write("recipe/ociforge.toml", format!("base = '{}'\n{layers}", self.base));
        let image = format!("oci:{}:x", self.place.at("built"));
        let isolation = match self.who {
            Who::Root => "root",
            Who::Ranges => "subuid",
            Who::OneId => "one-uid",
            Who::Chroot => "chroot",
        };
        let words = ["build", "recipe", "--progress", "none", "-o", &image, "--isolation", isolation];
        let words = [&words, arguments].concat();
        match self.who {
            Who::Root => self.place.ociforge(words),
            // What has root's rights and sees the machine's processes sees only its own here.
            Who::Chroot => self.place.wrapped(
                "unshare",
                [&["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", OCIFORGE], &words[..]].concat(),
            ),
            Who::Ranges | Who::OneId => self.as_user(self.user.as_ref().unwrap(), &words),
        }
    }

    fn as_user(&self, user: &User, words: &[&str]) -> Command {
        user.move_in(&self.place);
        user.ociforge(&self.place, words)
    }

    /// Builds, and looks whether anything is left that should not be.
    fn play(&self, steps: &[&str], mounts: &str) -> Ran {
        let ran = run(&mut self.command(steps, mounts, &[]));
        assert!(!ran.stderr.contains("panicked"), "{:?}: {}", self.who, ran.stderr);
        self.place.assert_clean();
        let left: Vec<_> = fs::read_dir(self.place.path("store/steps")).into_iter().flatten().collect();
        assert!(left.is_empty(), "{:?}: {left:?}", self.who);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.place.at("")), "{mounts}");
        ran
    }

    /// The same for steps that must succeed: what the last layer has, by tar.
    fn layer(&self, steps: &[&str], mounts: &str) -> String {
        self.play(steps, mounts).ok();
        let layout = self.place.path("built");
        let json = |digest: &str| super::support::json_of(layout.join("blobs").join(digest.replace(':', "/")));
        let index = super::support::json_of(layout.join("index.json"));
        let manifest = json(index["manifests"][0]["digest"].as_str().unwrap());
        let layer = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
        let blob = layout.join("blobs").join(layer.replace(':', "/"));
        tool("tar", &["-tvf", blob.to_str().unwrap(), "--full-time", "--xattrs", "--xattrs-include=*", "-z"])
    }
}

/// The processes whose command line has `word` in it.
fn running(word: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.map(|words| String::from_utf8_lossy(&words).into_owned()).filter(|words| words.contains(word)).collect()
}

#[test]
fn what_a_step_leaves_running_is_gone() {
    for who in ALL {
        let scene = Scene::new(who);
        let token = format!("4{}", 1000 + who as u32 + std::process::id());
        // In the background, in a session of its own, without a parent, deaf, and all holding the output open.
        let script = format!(
            "sleep {token} & setsid sleep {token} & (sleep {token} &) ; (trap '' HUP; sleep {token}) & \
             (trap '' TERM INT HUP; sleep {token}) & sh -c 'setsid sh -c \"sleep {token} &\" &'; touch /done"
        );
        // It does not wait for them: they take longer than a test may.
        let layer = scene.layer(&[&script], "");
        assert!(layer.contains(" done\n"), "{who:?}: {layer}");
        assert_eq!(running(&token), [""; 0], "{who:?}");
        scene.play(&[&format!("{script}; exit 7")], "").fails(7, &["exit code 7"]);
        assert_eq!(running(&token), [""; 0], "{who:?}");
    }
}

#[test]
fn a_step_that_forks_for_ever_is_stopped() {
    for who in [Who::Root, Who::OneId, Who::Chroot] {
        let scene = Scene::new(who);
        let token = format!("fork{}{}", who as u32, std::process::id());
        // As many as the machine surely stands, each of which is replaced when it ends.
        let script = format!(
            "# {token}\ngrow() {{ while :; do [ $1 -gt 0 ] && grow $(($1 - 1)) & [ $1 -gt 0 ] && grow $(($1 - 1)) & \
                wait; done; }}\n\
             grow 6"
        );
        let child = scene.command(&[&script], "", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("it forks", || running(&token).len() >= 60);
        // The program itself in its namespace.
        let pid =
            if who == Who::Chroot { tool("pgrep", &["-P", &child.id().to_string()]) } else { child.id().to_string() };
        tool("kill", &["-INT", pid.trim()]);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{who:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(running(&token), [""; 0], "{who:?}");
        scene.place.assert_clean();
    }
}

#[test]
fn names_modes_and_kinds() {
    let long = "n".repeat(255);
    let script = format!(
        "mkdir -p /m/a; echo x > /m/a/f; touch /m/{long}; touch \"$(printf '/m/\\377\\376')\" \"$(printf \
            '/m/a\\nb')\"; \
         mkfifo /m/fifo; chmod 0 /m/a/f /m/a; mkdir /m/none; chmod 0 /m/none; chmod 0 /m; \
         dd if=/dev/zero of=/sparse bs=1 count=1 seek=40M; mkdir /links; echo l > /links/0; \
         n=0; while [ $n -lt 3000 ]; do ln /links/0 /links/$((n = n + 1)); done"
    );
    let layers = ALL.map(|who| Scene::new(who).layer(&[&script], ""));
    let [root, others @ ..] = &layers;
    for (other, who) in others.iter().zip(&ALL[1..]) {
        assert_eq!(root, other, "{who:?}");
    }
    for part in
        [&format!(" m/{long}\n"), "\nd--------- ", "\n---------- ", " m/\\377\\376\n", " m/a\\nb\n", "\nprw-r--r-- "]
    {
        assert!(root.contains(part), "no {part} in {}", &root[..2000]);
    }
    assert_eq!(root.matches(" link to links/0\n").count(), 3000);
}

const HINT: &str = "hint: remove or rename it";

#[test]
fn what_no_layer_can_have() {
    for who in [Who::Root, Who::Chroot] {
        let scene = Scene::new(who);
        scene.play(&["touch /.wh.x"], "").fails(1, &["/.wh.x", HINT]);
        scene.play(&["mkdir /d; touch /d/.wh..wh..opq"], "").fails(1, &[".wh..wh..opq", HINT]);
        scene.play(&["touch /fine"], "").ok();
    }
}

#[test]
fn directories_deeper_than_a_path_is_long() {
    let scene = Scene::debian(Who::Root);
    let deep = "python3 -c '\nimport os\nfor n in range(1200): os.mkdir(\"d\" * 200); os.chdir(\"d\" * 200)'";
    let command = scene.command(&[&deep.replace('\'', "\"").replace("\"d\"", "chr(100)")], "", &[]);
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_str().unwrap());
    // Deeper than there are descriptors, too.
    let words: Vec<&str> = ["-c", "ulimit -S -n 512; exec \"$@\"", "sh"].into_iter().chain(words).collect();
    run(&mut scene.place.wrapped("sh", words)).fails(1, &["too long or too deep", HINT]);
    assert_eq!(fs::read_dir(scene.place.path("store/steps")).unwrap().count(), 0);
}

#[test]
fn a_step_that_deletes_everything() {
    for who in ALL {
        let scene = Scene::new(who);
        scene.place.write("recipe/src/file", "mine");
        let mounts = "mounts = [{ bind = 'src', to = '/src' }, { bind = 'src', to = '/w', write = true }, \
                      { cache = '/cache/c' }, { tmpfs = '/memory/m' }]";
        let out = scene.place.at("out");
        fs::create_dir_all(format!("{out}/c/deep")).unwrap();
        fs::create_dir_all(format!("{out}/m/deep")).unwrap();
        scene.play(&["echo kept > /cache/c/file"], mounts).ok();
        scene.play(&["rm -rf /* 2>&-; echo gone"], mounts).ok();
        // Links out in the place of mount points.
        let links = format!("rm -rf /cache /memory 2>&-; ln -s {out} /cache; ln -s {out} /memory; cd /; true");
        scene.play(&[&links, "true"], mounts).ok();
        assert_eq!(fs::read_to_string(scene.place.path("recipe/src/file")).unwrap(), "mine");
        assert!(scene.place.path("out/c/deep").is_dir() && scene.place.path("out/m/deep").is_dir(), "{who:?}");
        // The cache may be empty, but it is there.
        scene.play(&["echo again >> /cache/c/file", "grep again /cache/c/file"], mounts).ok();
    }
}

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
fn output_of_any_kind() {
    for who in ALL {
        let scene = Scene::new(who);
        let said = scene.play(&["printf 'no end \\033[31mred\\033[0m\\033]0;title\\007 \\377'; exit 3"], "");
        let said = said.fails(3, &["exit code 3", "no end red"]);
        assert!(!said.contains(['\x1b', '\x07']), "{said:?}");
        scene.play(&["exec >&- 2>&- <&-; touch /x"], "").ok();
        scene.play(&["rm /bin/sh; exit 4"], "").fails(4, &["exit code 4"]);
        let missing: &[&str] = &["cannot find the program /bin/sh"];
        scene.play(&["rm /bin/sh", "true"], "").fails(127, missing);
    }
}

#[test]
fn output_takes_no_memory() {
    let scene = Scene::new(Who::Root);
    for script in ["yes | head -c 60000000", "head -c 60000000 /dev/zero"] {
        let command = scene.command(&[script], "", &[]);
        let words: Vec<_> =
            [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_str().unwrap()).collect();
        let words = [&["-f", "%M", "-o", "memory"], &words[..]].concat();
        run(&mut scene.place.wrapped("/usr/bin/time", words)).ok();
        let most: u64 = fs::read_to_string(scene.place.path("memory")).unwrap().trim().parse().unwrap();
        eprintln!("{script}: {most} KiB");
        assert!(most < 80_000, "{most} KiB");
    }
}

/// Attributes that mean something to overlayfs and to ociforge.
const FORGERY: &str = r#"python3 - <<'END'
import os
os.makedirs("/low/dir/sub"); open("/low/dir/file", "w").close()
for name, value in [("overlay.opaque", b"y"), ("overlay.redirect", b"/etc"), ("overlay.metacopy", b""),
                    ("overlay.whiteout", b"y"), ("ociforge.owner", b"7:7"), ("ociforge.owner", b"nonsense"),
                    ("fuseoverlayfs.opaque", b"y"), ("mine", b"1")]:
    for space in ["user.", "trusted."]:
        for path in ["/usr/share/doc", "/etc/passwd", "/low/dir", "/low/dir/file"]:
            try: os.setxattr(path, space + name, value)
            except OSError: pass
END"#;

#[test]
fn forged_attributes_mean_nothing() {
    let mut seen = Vec::new();
    for who in [Who::Root, Who::OneId] {
        let scene = Scene::debian(who);
        let then = "ls /usr/share/doc | head -3 > /seen; stat -c '%u %F' /etc/passwd /low/dir/file >> /seen; \
                    python3 -c 'import os; print(os.listxattr(\"/usr/share/doc\"))' >> /seen; \
                    rm -r /usr/share/doc/adduser /low/dir/sub";
        let layer = scene.layer(&[FORGERY, then], "");
        assert!(
            layer.contains(" usr/share/doc/.wh.adduser\n") && layer.contains(" low/dir/.wh.sub\n"),
            "{who:?}: {layer}"
        );
        seen.push(layer);
        if who != Who::Root {
            continue;
        }
        // The same on top of the first layer as it is unpacked.
        fs::remove_dir_all(scene.place.path("store/roots")).unwrap();
        let again = scene.layer(&[FORGERY, &format!("{then} ")], "");
        assert_eq!(seen.last(), Some(&again), "{who:?}");
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
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
            let roots = super::support::files(&scene.place.path("store/roots"));
            let left = roots.iter().any(|path| path.ends_with("canary") || path.ends_with("sda/x"));
            assert!(!left, "{who:?} {name}: {roots:?}");
        }
    }
}

#[test]
fn a_full_disk() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    Layered::busybox().config(json!({"Env": ["PATH=/bin"]})).write(&place, "image");
    let image = Layered::busybox().layer(Packing::Gzip, Tar::new().file("large", vec![7; 60 << 20]));
    image.config(json!({"Env": ["PATH=/bin"]})).write(&place, "large");
    fs::create_dir(place.path("small")).unwrap();
    let recipe = |base: &str, step: &str| {
        let text = format!("base = 'oci:{}'\n[[layer]]\nrun = '''{step}'''\n", place.at(base));
        place.write(&format!("{base}-{}/ociforge.toml", step.len()), text);
        format!("{base}-{}", step.len())
    };
    let recipes = [
        recipe("large", "true"),
        recipe("image", "dd if=/dev/zero of=/big bs=1M count=90 && true"),
        recipe("image", "head -c 30000000 /dev/urandom > /big"),
        recipe("image", "head -c 3000000 /dev/zero > /fine"),
    ];
    let script = "mount -t tmpfs -o size=48m none small || exit 99; for r; do \
                  \"$OCIFORGE\" build $r --progress none --store small/store; echo \"CODE=$?\" >&2; \
                  find small/store/steps small/store/tmp -mindepth 1; find small -name '.tmp*'; done 2>&1";
    let words = ["--mount", "sh", "-c", script, "sh"].into_iter().chain(recipes.iter().map(String::as_str));
    let said = run(place.wrapped("unshare", words).env("OCIFORGE", OCIFORGE)).ok();
    let full = "No space left on device";
    let parts: Vec<&str> = said.split("CODE=").collect();
    assert!(parts[0].contains("cannot unpack") && parts[0].contains(full) && parts[0].contains("hint: "), "{said}");
    assert!(
        parts[1].starts_with('1') && parts[1].contains(full) && parts[1].contains("hint: free some space"),
        "{said}"
    );
    assert!(
        parts[2].starts_with('1') && parts[2].contains("cannot pack") && parts[2].contains("hint: free some"),
        "{said}"
    );
    assert!(parts[3].starts_with('1') && parts[3].contains("sha256:") && parts[4] == "0\n", "{said}");
}

#[test]
fn two_builds_at_once() {
    for who in [Who::Root, Who::OneId, Who::Chroot] {
        let scene = Scene::new(who);
        let mounts = "mounts = [{ cache = '/c' }]";
        let script = [
            "n=0; while [ $n -lt 30 ]; do echo $n > /file$n; n=$((n + 1)); done; sleep 1; touch /c/x",
            "sleep 0.3; touch /y",
        ];
        let mut command = scene.command(&script, mounts, &["--no-cache"]);
        let start = |command: &mut Command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let builds = [start(&mut command), start(&mut command), start(&mut command)];
        let digests = builds.map(|child| Ran::of(format!("{who:?}"), child.wait_with_output().unwrap()).ok());
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        assert_eq!(scene.play(&script, mounts).ok(), digests[0]);
    }
}
