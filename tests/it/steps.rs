//! Steps that run something: what they see, and what becomes of what they do.
//!
//! Debian: umoci busybox-static

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::{Builds, Layered, Packing, Ran, Tar, digests, files, run, said, tool, wait_until};

/// Prints what is in the root filesystem, but for what is mounted and directories' sizes.
pub(crate) const LIST: &str = "cd / && find . -xdev ! -path './etc/host*' ! -path ./proc ! -path ./sys ! -path ./dev \
     -exec stat -c '%n %f %u:%g %t,%T' {} + && \
     find . -xdev -type f ! -path './etc/host*' -exec stat -c '%n %s %h' {} + && cat /etc/passwd";

#[test]
fn a_step_sees_the_image_the_recipe_and_nothing_of_the_caller() {
    let builds = Builds::as_root();
    let config = json!({"Env": ["PATH=/bin", "OF_BASE=1"], "WorkingDir": "/tmp", "User": "me"});
    let home = Tar::new().dir("home").dir("home/me").owner(1000, 1000);
    let base = Layered::busybox().layer(Packing::Gzip, home).config(config).write(&builds.place, "base");
    let step = |layer: &str| {
        builds
            .recipe_on(&base, &format!("[config]\nuser = 'nobody'\n[config.env]\nOF_RECIPE = '2'\n[[layer]]\n{layer}"));
        let ran = run(builds.command(&[]).env("OF_CALLER", "3").env("LD_PRELOAD", ""));
        let said = said(&ran.stderr);
        ran.ok();
        said
    };
    let mut env: Vec<_> = step("run = ['env']\nenv = { OF_STEP = 'x y' }").lines().map(str::to_owned).collect();
    env.sort();
    assert_eq!(env, ["HOME=/home/me", "HOSTNAME=ociforge", "OF_BASE=1", "OF_RECIPE=2", "OF_STEP=x y", "PATH=/bin"]);
    for (layer, expected) in [
        ("run = 'id -u; id -g; pwd'", "1000\n1000\n/tmp\n"),
        (
            "run = 'id -u; pwd; stat -c %u:%g:%a /new /new/dir'\nuser = 'root'\nworkdir = '/new/dir'",
            "0\n/new/dir\n0:0:755\n0:0:755\n",
        ),
        ("run = 'id -u; id -g; id -G; echo $HOME'\nuser = 'nobody'", "65534\n65534\n65534\n/\n"),
        ("run = 'id -u; id -g; id -G; echo $HOME'\nuser = '7:8'", "7\n8\n8\n/\n"),
        ("run = ['echo', '$HOME', 'a  b']", "$HOME a  b\n"),
        ("run = 'echo \"$0 $#\" a  b'", "/bin/sh 0 a b\n"),
        ("run = '''\necho one\necho two\n'''", "one\ntwo\n"),
        ("run = ['sh', '-c', 'echo $0 $1', 'x', 'y']", "x y\n"),
        ("run = 'hostname; cat /etc/hostname; grep -c ociforge /etc/hosts'", "ociforge\nociforge\n1\n"),
        ("run = 'ls /sys/class/net; test -e /etc/resolv.conf || echo none'", "lo\nnone\n"),
        ("run = 'cat; echo no stdin'", "no stdin\n"),
        ("run = 'exec 3<>/dev/ptmx && echo a terminal'", "a terminal\n"),
        ("run = 'umask; cat /proc/1/comm; echo $$'", "0022\nsh\n1\n"),
        ("run = 'mkdir /dev/shm/x && echo x > /dev/null && ls /proc/self/fd | wc -l'", "4\n"),
    ] {
        assert_eq!(step(layer), expected, "{layer}");
    }
    let namespace = fs::read_link("/proc/self/ns/net").unwrap();
    let hosts = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let shown = step("run = 'readlink /proc/self/ns/net; cat /etc/resolv.conf'\nnetwork = 'host'");
    assert_eq!(shown, format!("{}\n{}", namespace.display(), hosts.trim_end_matches('\n').to_owned() + "\n"));
}

#[test]
fn an_image_can_be_run_where_it_was_built_although_its_base_is_elsewhere() {
    let builds = Builds::as_root();
    builds.recipe("[[layer]]\ndirectories = ['/made']");
    let place = &builds.place;
    // Not in the place to which `-o` copies all of it, but by the name that the store knows.
    run(&mut place.ociforge(["build", "r", "-t", "example.com/built:x"])).ok();
    let bundle = place.at("bundle");
    run(&mut place.ociforge(["bundle", "example.com/built:x", &bundle, "--", "true"])).ok();
    assert!(place.path("bundle/rootfs/made").is_dir() && place.path("bundle/rootfs/bin/busybox").exists());
}

#[test]
fn a_step_runs_once_where_the_base_has_to_be_read_late() {
    let builds = Builds::as_root();
    builds.recipe("[[layer]]\nrun = 'echo ran'\n[[layer]]\ncopy = { from = 'files', to = '/home/app/files' }");
    builds.place.write("r/files/one", "1");
    let _socket = std::os::unix::net::UnixListener::bind(builds.place.path("r/files/socket")).unwrap();
    let ran = builds.build(&["--no-cache"]);
    assert!(ran.stderr.contains("reading the base's layers to find /home/app"), "{}", ran.stderr);
    assert_eq!((said(&ran.stderr).as_str(), ran.stderr.matches("leaves out sockets").count()), ("ran\n", 1));
    ran.ok();
}

#[test]
fn what_a_step_is_to_see_is_looked_for_before_anything_runs() {
    let builds = Builds::as_root();
    builds.recipe("[[layer]]\nrun = 'echo first'\n[[layer]]\nrun = 'true'\nmounts = [{ bind = 'none', to = '/x' }]");
    let said = builds.build(&[]).fails(1, &["none", "relative to the recipe's directory"]);
    assert!(!said.contains("] first"), "{said}");
    builds.recipe("[[layer]]\nrun = 'echo Temporary failure resolving x; exit 1'");
    builds.build(&[]).fails(1, &["network = \"host\""]);
}

#[test]
fn mounts_are_seen_and_leave_nothing() {
    for builds in Builds::all() {
        let place = &builds.place;
        place.write("r/src/file", "of the recipe\n");
        place.write("r/src/deep/file", "deep\n");
        place.write("secret", "hush hush");
        builds.recipe(
            "[[layer]]\nrun = '''
set -e
cat /src/file /lost/deep/file /etc/one /cache/kept 2>/dev/null || true
! touch /src/x 2>/dev/null; ! echo x >> /etc/one; ! echo x >> /run/secrets/token
test ! -e /lost/new; echo x > /lost/new; rm -r /lost/deep; echo x >> /lost/file
echo kept >> /cache/kept; echo x > /t/x; df -k /t | tail -1 | grep -c 1024
stat -c '%a %u:%g' /run/secrets/token /etc/two; cat /run/secrets/token /etc/two | wc -c
touch /made
'''
mounts = [
    { bind = 'src', to = '/src' }, { bind = 'src', to = '/lost', write = true }, { bind = 'src/file', to = '/etc/one' },
    { cache = '/cache' }, { tmpfs = '/t', size = '1m' }, { secret = 'token' },
    { secret = 'token', to = '/etc/two', mode = '0640', owner = '1000:44' },
]\n",
        );
        let flags = ["--secret", &format!("id=token,src={}", place.at("secret")), "--no-cache"];
        let first = "of the recipe\ndeep\nof the recipe\n";
        let rest = "1\n400 0:0\n640 1000:44\n18\n";
        let refused = "/bin/sh: can't create /etc/one: Read-only file system\n/bin/sh: can't create \
            /run/secrets/token: Read-only file system\n";
        assert_eq!(builds.said(&flags), format!("{first}{refused}{rest}"));
        assert_eq!(builds.said(&flags), format!("{first}kept\n{refused}{rest}"));
        assert_eq!(builds.paths(&builds.built(&flags)[0]), ["made"]);
        assert_eq!(files(&place.path("r/src")).len(), 2, "what is bound is as it was");
        assert_eq!(fs::read_to_string(place.path("r/src/file")).unwrap(), "of the recipe\n");
        place.assert_clean();
        assert_eq!(fs::read_dir(place.path("store/steps")).unwrap().count(), 0);
    }
}

#[test]
fn caches_are_locked_or_shared() {
    let builds = Builds::as_root();
    let both = |sharing: &str, script: &str| {
        let started: Vec<_> = ["a", "b"]
            .map(|name| {
                let mount = format!("{{ cache = '/c', id = '{sharing}', sharing = '{sharing}' }}");
                builds.recipe(&format!("[[layer]]\nrun = \"me={name}; {script}\"\nmounts = [{mount}]\n"));
                let recipe = builds.place.at(&format!("{name}.toml"));
                fs::rename(builds.place.path("r/ociforge.toml"), &recipe).unwrap();
                let mut command = builds.place.ociforge(["build", "--progress", "plain", "-f", &recipe, "r"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .into();
        started.into_iter().map(|child| Ran::of(sharing.into(), child.wait_with_output().unwrap())).collect::<Vec<_>>()
    };
    // The base is unpacked before they race.
    builds.recipe("[[layer]]\nrun = 'true'");
    builds.built(&[]);
    for ran in both("locked", "mkdir /c/busy && sleep 0.3 && rm -r /c/busy") {
        ran.ok();
    }
    let meet =
        "touch /c/$me; n=0; until test -e /c/a && test -e /c/b; do sleep 0.05; n=$((n+1)); test $n -lt 2400; done";
    for ran in both("shared", meet) {
        ran.ok();
    }
}

#[test]
fn secrets_are_nowhere() {
    let builds = Builds::as_root();
    let secret = "correct-horse-battery";
    let look = |flags: &[&str], code: i32, command: &str| {
        builds.recipe(&format!("[[layer]]\nrun = '{command}'\nmounts = [{{ secret = 'token' }}]\n"));
        let image = builds.image();
        let given = [&["build", "r", "-o", &image, "--secret", "id=token,env=OF_TOKEN"], flags].concat();
        let ran = run(builds.place.ociforge(given).env("OF_TOKEN", secret));
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}", ran.stderr);
        // Layers are small here and not compressed so far that it could hide.
        let grep = run(Command::new("grep").args(["-rlF", "--", secret]).arg(builds.place.path("")));
        assert_eq!((grep.code, grep.stdout.as_str()), (Some(1), ""), "{}", grep.stderr);
    };
    let sees = "test $(wc -c < /run/secrets/token) = 21 && test -z \"$OF_TOKEN\" && ls /run > /seen";
    look(&["--compression", "none", "--progress", "plain"], 0, sees);
    look(&["--compression", "none", "--progress", "json", "--no-cache"], 0, sees);
    look(&["--compression", "none", "--isolation", "chroot", "--no-cache"], 0, sees);
    look(&["--compression", "none"], 5, "test -s /run/secrets/token && exit 5");
    builds.recipe("[[layer]]\nrun = 'exit 9'\n[[layer]]\nrun = 'true'\nmounts = [{ secret = 'token' }]\n");
    builds.build(&[]).fails(2, &["token", "--secret"]);
}

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
    let root = super::support::unpack(&builds.place, &builds.image());
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

/// Steps of which each changes what the one before did.
pub(crate) fn three_steps(last: &str) -> String {
    let first = "mkdir -p /d/e /d/f; echo 1 > /d/e/x; echo 2 > /d/f/y; ln /d/f/y /d/z; chown 5:6 /d/e/x; busybox \
        chmod 2751 /d/e; echo 0 > /etc/profile";
    let second = "rm -r /d/e; mkdir /d/e; echo 3 > /d/e/new; echo more > /d/f/new; chown 7:8 /d/f; rm /etc/profile; \
        mkdir /etc/profile; touch /etc/profile/x; mkdir /d/p";
    format!(
        "[[layer]]\nrun = \"{first}; {LIST}\"\n[[layer]]\nrun = \"{LIST}; {second}; {LIST}\"\n[[layer]]\nrun = \
            \"{LIST}; {last}\"\n"
    )
}

/// The lines of a list in one order: that of directories depends on the filesystem.
pub(crate) fn sorted(list: &str) -> String {
    let mut lines: Vec<&str> = list.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// Asserts that a step began with what the one before ended with, of what [`three_steps`] say.
#[track_caller]
pub(crate) fn assert_seen(said: &str) {
    let lists: Vec<String> = said.split_inclusive("nobody:x:65534:65534::/:/bin/sh\n").map(sorted).collect();
    assert_eq!(lists.len(), 4, "{said}");
    assert!(lists[0] == lists[1] && lists[1] != lists[2] && lists[2] == lists[3], "{said}");
    assert!(lists[3].contains("./d/z ") && !lists[3].contains("./d/e/x"));
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

/// A filesystem that can hold no upper directory of an overlay.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.0]).output();
    }
}

#[test]
fn where_no_overlay_can_be_the_layers_are_the_same() {
    let builds = Builds::as_root();
    builds.recipe(&three_steps("rm /d/e/new"));
    let usual = builds.built(&[]);
    for name in ["lower", "upper", "work", "copies"] {
        fs::create_dir(builds.place.path(name)).unwrap();
    }
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| builds.place.at(name));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    tool("mount", &["-t", "overlay", "overlay", "-o", &options, &builds.place.at("copies")]);
    let mounted = Mounted(builds.place.at("copies"));
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
    let child = builds.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
