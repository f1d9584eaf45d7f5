//! What steps see: variables, users, mounts, caches and secrets.

use std::process::Command;

use super::*;
use crate::support::process::start;

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
                start(&mut command)
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
