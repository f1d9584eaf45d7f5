//! Names, modes, depths, attributes and deletions.

use super::*;
use crate::support::is_root;

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
