//! Images as docker and containerd unpack and run them: each layer by itself, stacked by overlayfs.

use super::support::{Containerd, Docker, Layered, Packing, Place, Registry, Tar, Wheel, is_root, json_of, run};

/// A base with merged directories, and directories that are not root's or not of mode 0755.
fn merged() -> Layered {
    let busybox = std::fs::read("/usr/bin/busybox").unwrap();
    let mut tar = Tar::new().dir("usr").dir("usr/bin").file("usr/bin/busybox", busybox).mode(0o755);
    for name in ["sh", "cat", "stat", "ls", "readlink", "touch", "rm", "chmod", "true"] {
        tar = tar.hard(&format!("usr/bin/{name}"), "usr/bin/busybox").mode(0o755);
    }
    tar = tar.link("bin", "usr/bin").link("lib", "usr/lib").dir("usr/lib").dir("etc").dir("etc/d").mode(0o711).mtime(5);
    tar = tar.file("etc/real", "real").link("etc/alias", "real").file("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    tar = tar.dir("tmp").mode(0o1777).dir("root").mode(0o700).dir("home").dir("home/app").mode(0o700).owner(1000, 1000);
    tar = tar
        .dir("srv")
        .mode(0o2775)
        .owner(0, 8)
        .dir("run")
        .dir("var")
        .link("var/run", "/run")
        .link("var/site", "../srv");
    tar = tar.dir("opt").mode(0o750).owner(3, 4).dir("proc").dir("sys").dir("dev");
    let config = serde_json::json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/bin:/bin"]});
    Layered::new().layer(Packing::Gzip, tar).config(config)
}

/// Whatever puts something below a link or into a directory of the base.
const STEPS: &str = "
[python]
version = '3.11'
site-packages = '/lib/py'
executable = '/usr/bin/python3'
[[layer]]
copy = {from = 'hello', to = '/bin/hello'}
[[layer]]
copy = {from = 'hello', to = '/etc'}
[[layer]]
copy = {from = 'hello', to = '/etc/alias'}
[[layer]]
copy = {from = 'hello', to = '/home/app/.config/f'}
[[layer]]
copy = {from = 'tree', to = '/'}
[[layer]]
directories = ['/var/run/app', '/var/site/app', '/srv', '/tmp']
[[layer]]
tar = 'archive.tar'
[[layer]]
pip = {wheels = '*.whl'}
[[layer]]
run = 'touch /tmp/g /root/.g /home/app/g; chmod 751 /opt'
[[layer]]
run = 'rm /tmp/g /home/app/g'
";

const LOOK: &str = "stat -c '%n %a %u:%g %Y' /tmp /root /home/app /srv /opt /etc/d; for l in /bin /lib /var/run /etc/alias; do readlink $l; done; \
                    cat /bin/hello /etc/hello /etc/real /home/app/.config/f /tmp/t /etc/d/t /srv/t; \
                    ls -d /srv/app /usr/lib/x/y /usr/lib/py/m/__init__.py /opt/z /root/.g; ls /tmp /home/app";

const SEEN: &str = "/tmp 1777 0:0 1700000000\n/root 700 0:0 1700000000\n/home/app 700 1000:1000 1700000000\n\
                    /srv 2775 0:8 1700000000\n/opt 751 3:4 0\n/etc/d 711 0:0 5\nusr/bin\nusr/lib\n/run\nreal\n\
                    hellohellohellohellottt/opt/z\n/root/.g\n/srv/app\n/usr/lib/py/m/__init__.py\n/usr/lib/x/y\n\
                    /home/app:\n\n/tmp:\nt\n";

fn recipe(place: &Place, registry: &Registry) {
    merged().write(place, "base");
    let base = registry.name("base:1");
    run(&mut place.ociforge(["copy", "--progress", "none", &format!("oci:{}:x", place.at("base")), &base])).ok();
    let base = base.strip_prefix("docker://").unwrap();
    place.write("r/ociforge.toml", format!("base = '{base}'\n{STEPS}"));
    place.write("r/hello", "hello");
    for name in ["tmp/t", "etc/d/t", "srv/t"] {
        place.write(&format!("r/tree/{name}"), "t");
    }
    let tar = Tar::new().file("lib/x/y", "y").file("opt/z", "z").hard("bin/w", "lib/x/y");
    std::fs::write(place.path("r/archive.tar"), tar.bytes()).unwrap();
    Wheel::new("m", "").write(place, "r");
}

#[test]
fn layers_leave_the_base_as_it_is() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    let (docker, containerd) = (Docker::start(&place), Containerd::start(&place));
    recipe(&place, &registry);
    let build = |store: &str, arguments: &[&str]| {
        let mut command = place.build("r", &[&["--push", "-t", &registry.name("i:1")[9..]], arguments].concat());
        run(command.env("OCIFORGE_STORE", place.path(store))).ok()
    };
    let read = build("one", &[]);
    run(place.ociforge(["lock", "r", "--progress", "none"]).env("OCIFORGE_STORE", place.path("one"))).ok();
    assert_eq!(build("two", &["--locked"]), read, "a locked build knows the base's files");
    assert_eq!(build("one", &["--check-base"]), read);

    let image = format!("{}/i:1", registry.address);
    containerd.pull(&image);
    assert_eq!(docker.says(&image, &["sh", "-c", LOOK]), SEEN);
    assert_eq!(containerd.says(&image, &["sh", "-c", LOOK]), SEEN);
    let ours = run(&mut place.ociforge(["run", "--rm", "--progress", "none", &image, "--", "sh", "-c", LOOK]));
    assert_eq!(ours.ok(), SEEN);
}

/// A base that is not read is assumed to be as most are, and that is said.
#[test]
fn what_is_assumed_of_the_base_is_said() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "registry");
    recipe(&place, &registry);
    let base = registry.name("base:1")[9..].to_owned();
    registry.requests();
    let layers = "[[layer]]\ncopy = {from = 'hello', to = '/usr/local/bin/hello'}\n[[layer]]\ncopy = {from = 'tree', to = '/code'}\n";
    place.write("r/ociforge.toml", format!("base = '{base}'\n{layers}"));
    let built = run(&mut place.ociforge(["build", "r", "--progress", "plain"]));
    let said = "as in Debian: /code, /usr, /usr/local, /usr/local/bin; use `ociforge lock` or --check-base";
    assert!(built.stderr.contains(said), "{}", built.stderr);
    built.ok();
    let blobs = |registry: &mut Registry| registry.requests().iter().filter(|line| line.contains("/blobs/")).count();
    assert_eq!(blobs(&mut registry), 1, "only the config is read");
    // The home of a user may be anybody's.
    place.write(
        "r/ociforge.toml",
        format!("base = '{base}'\n[[layer]]\ncopy = {{from = 'tree', to = '/home/app/x'}}\n"),
    );
    let metadata = place.at("metadata.json");
    let built = run(&mut place.ociforge(["build", "r", "--progress", "plain", "--metadata-file", &metadata]));
    assert!(built.stderr.contains("reading the base's layers to find /home/app"), "{}", built.stderr);
    assert!(!built.stderr.contains("ociforge assumes"), "{}", built.stderr);
    built.ok();
    assert_eq!(blobs(&mut registry), 2);
    assert_eq!(json_of(&metadata)["layers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_lock_is_enough_and_what_it_does_not_know_is_looked_up() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "registry");
    recipe(&place, &registry);
    let base = registry.name("base:1")[9..].to_owned();
    let layers = "[python]\nversion = '3.11'\nsite-packages = '/lib/py'\nexecutable = '/usr/bin/python3'\nlibc = 'glibc 2.36'\n\
        [[layer]]\ncopy = {from = 'd', to = '/'}\n[[layer]]\npip = {wheels = 'dist/*.whl'}\n";
    place.write("r/ociforge.toml", format!("base = '{base}'\n{layers}"));
    place.write("r/d/etc/x", "x");
    Wheel::new("deep", "").file("deep/a/b.py", "").write(&place, "r/dist");
    run(&mut place.ociforge(["lock", "r"])).ok();
    let mut build = |new: &str| {
        place.write(new, "");
        std::fs::remove_dir_all(place.path("store")).unwrap();
        registry.requests();
        let ran = run(&mut place.ociforge(["build", "r", "--locked", "--progress", "plain"]));
        (ran, registry.requests().iter().filter(|line| line.contains("/blobs/")).count())
    };
    let (ran, blobs) = build("r/d/etc/x");
    ran.ok();
    assert_eq!(blobs, 1, "only the config is read");
    let (ran, blobs) = build("r/d/opt/new");
    assert!(ran.stderr.contains("reading the base's layers to find /opt/new"), "{}", ran.stderr);
    ran.ok();
    assert_eq!(blobs, 2);
    let (ran, _) = build("r/d/etc/d");
    ran.fails(1, &["cannot place the file /etc/d: /etc/d is a directory in the base", "hint: "]);
}

#[test]
fn files_do_not_take_the_place_of_directories() {
    let place = Place::new();
    let base = merged().write(&place, "base");
    let build = |layer: &str| {
        place.write("r/ociforge.toml", format!("base = '{base}'\n{layer}"));
        run(&mut place.build("r", &[]))
    };
    std::fs::create_dir_all(place.path("r/tree/home")).unwrap();
    std::fs::write(place.path("r/tree/home/app"), "").unwrap();
    let tar = Tar::new().file("etc/d", "").bytes();
    std::fs::write(place.path("r/a.tar"), tar).unwrap();
    Wheel::new("m", "").file("d", "").write(&place, "r");
    let python = "[python]\nversion = '3.11'\nsite-packages = '/etc'\nexecutable = '/usr/bin/python3'\n";
    let onto = "cannot place the file /etc/d: /etc/d is a directory in the base";
    build("[[layer]]\ntar = 'a.tar'")
        .fails(1, &["layer `tar a.tar` (line 3 of the recipe)", onto, "name the file itself"]);
    build(&format!("{python}[[layer]]\npip = {{wheels = 'm-*.whl'}}")).fails(1, &[onto]);
    let home = "cannot place the file /home/app: /home/app is a directory in the base";
    build("[[layer]]\ncopy = {from = 'tree', to = '/'}").fails(1, &[home]);
    let file = "cannot place /etc/real/x: /etc/real is a file in the base";
    build("[[layer]]\ndirectories = ['/etc/real/x']").fails(1, &[file]);
    let program = "cannot place /usr/bin/sh/x: /usr/bin/sh is a file in the base";
    build("[[layer]]\ndirectories = ['/usr/bin/sh/x']").fails(1, &[program]);
    let own = "/made is a directory in the layer `directories /made`";
    std::fs::write(place.path("r/b.tar"), Tar::new().file("made", "").bytes()).unwrap();
    build("[[layer]]\ndirectories = ['/made']\n[[layer]]\ntar = 'b.tar'").fails(1, &[own]);
}
