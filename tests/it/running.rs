//! `run`: an image becomes a container, which is this process as far as anybody can tell.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use rustix::process::Signal;
use serde_json::json;

use super::support::process::{has_ended, send};
use super::support::{DEBIAN, Layered, Mounted, OCIFORGE, Packing, Place, Ran, Tar, run, tool, wait_until};

/// A store in which the Debian base is unpacked once for all tests.
pub(crate) static UNPACKED: LazyLock<String> = LazyLock::new(|| {
    let store = concat!(env!("CARGO_TARGET_TMPDIR"), "/unpacked");
    fs::remove_dir_all(store).ok();
    store.to_owned()
});

/// `ociforge run` with that store.
fn debian(place: &Place, flags: &[&str], command: &[&str]) -> Ran {
    let call = ["run", "--progress", "none", "--store", &UNPACKED, "--rm"];
    run(&mut place.ociforge([&call, flags, &[&DEBIAN.image, "--"], command].concat()))
}

/// `ociforge run --rm` with the place's own.
fn start(place: &Place, arguments: &[&str]) -> Command {
    place.ociforge([&["run", "--progress", "none", "--rm"], arguments].concat())
}

fn containers(place: &Place) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(place.path("store/containers")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A command that said `ready`.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Self { stdout: BufReader::new(child.stdout.take().unwrap()), child };
        let mut line = String::new();
        while line.trim_end() != "ready" {
            line.clear();
            assert_ne!(running.stdout.read_line(&mut line).unwrap(), 0, "it never gets ready");
        }
        running
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// The processes that a process has started.
    fn children(process: &str) -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
        let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// All it prints until nothing can print any more, and the exit code.
    pub(crate) fn rest(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn flags_do_in_the_container_what_dockers_do() {
    let place = Place::new();
    place.write("data/file", "seen\n");
    let data = format!("{}:/data:ro", place.at("data"));
    let names = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    let (ipc, net) = (names("ipc"), names("net"));
    let limits = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE)[0])";
    for (flags, command, printed) in [
        (&["-e", "A=1"][..], &["python3", "-c", "import os; print(os.environ['A'], os.getpid())"][..], "1 1\n"),
        (&["-w", "/usr/share"], &["pwd"], "/usr/share\n"),
        (&["-u", "nobody"], &["sh", "-c", "id -un; id -gn"], "nobody\nnogroup\n"),
        (&["-u", "1234:5"], &["sh", "-c", "id -u; id -g"], "1234\n5\n"),
        (&["-v", &data], &["sh", "-c", "cat /data/file; touch /data/x 2>/dev/null || echo no"], "seen\nno\n"),
        (&["--read-only"], &["sh", "-c", "touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo yes"], "no\nyes\n"),
        (&["--hostname", "me"], &["sh", "-c", "hostname; cat /etc/hostname; grep -c me /etc/hosts"], "me\nme\n1\n"),
        (&["--shm-size", "12m"], &["sh", "-c", "df --output=size -k /dev/shm | tail -1 | tr -d ' '"], "12288\n"),
        (&["--ulimit", "nofile=100:200", "--ulimit", "core=0"], &["python3", "-c", limits], "(100, 200) 0\n"),
        (&["--entrypoint", "/usr/bin/echo"], &["said"], "said\n"),
        (&["--cpuset-cpus", "0"], &["nproc"], "1\n"),
        (&["--tmpfs", "/scratch:size=1m"], &["sh", "-c", "stat -f -c %T /scratch"], "tmpfs\n"),
        (&["--ipc=host"], &["readlink", "/proc/self/ns/ipc"], &format!("{ipc}\n")),
        (&["--net=host"], &["readlink", "/proc/self/ns/net"], &format!("{net}\n")),
        (&["--net=none"], &["sh", "-c", "ls /sys/class/net"], "lo\n"),
        (
            &[],
            &["sh", "-c", "ls -d /dev/fd /dev/null /proc/1/comm; cat /proc/1/comm"],
            "/dev/fd\n/dev/null\n/proc/1/comm\nsh\n",
        ),
    ] {
        let ran = debian(&place, flags, command);
        assert_eq!((ran.stdout.as_str(), ran.code), (printed, Some(0)), "{flags:?} {}", ran.stderr);
    }
    // Those of tests that run at the same time are locked, but for a moment at their beginning.
    let is_left =
        |entry: &fs::DirEntry| fs::File::open(entry.path().join(".lock")).is_ok_and(|lock| lock.try_lock().is_ok());
    wait_until("no container is left", || {
        !fs::read_dir(format!("{}/containers", *UNPACKED)).unwrap().flatten().any(|entry| is_left(&entry))
    });
}

#[test]
fn exit_codes_are_the_containers() {
    let place = Place::new();
    let image = Layered::busybox()
        .layer(Packing::Gzip, Tar::new().file("bin/data", "not a program").file("bin/odd", "odd").mode(0o755))
        .write(&place, "image");
    for (command, code, said) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 42"], 42, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["nope"], 127, "hint: the image has no such command"),
        (&["/bin/nope"], 127, "hint: the image has no such command"),
        (&["/bin/data"], 126, "error: runc cannot start the container"),
        (&["/tmp"], 126, "error: runc cannot start the container"),
        (&["sh", "-c", "sh -c 'kill -9 $$' 2>/dev/null; exit $?"], 137, "Killed"),
    ] {
        let ran = run(&mut start(&place, &[&[image.as_str(), "--"], command].concat()));
        assert_eq!(ran.code, Some(code), "{command:?} {}", ran.stderr);
        assert!(ran.stderr.contains(said) || said == "Killed", "{command:?} {}", ran.stderr);
    }
    // Killed by a signal from outside.
    let script = ["--", "sh", "-c", "echo ready; while :; do sleep 1; done"];
    let running = Running::start(&mut start(&place, &[&[image.as_str()], &script[..]].concat()));
    let named =
        |process: &String| fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == "runc\n");
    let runc = Running::children(&running.child.id().to_string()).into_iter().find(named).unwrap();
    let [first] = Running::children(&runc).try_into().unwrap();
    tool("kill", &["-9", &first]);
    assert_eq!(running.rest().1, Some(137));

    for (flags, code, said) in [
        (&["--runtime", "none-such"][..], 2, &["cannot find the runtime none-such", "hint: install runc"][..]),
        (&["--runtime", "/nowhere/runc"], 2, &["cannot find the runtime /nowhere/runc"]),
        (&["--runtime", "/bin/false"], 125, &["false cannot start the container"]),
        (&["-t"], 2, &["there is no terminal", "hint: leave out -t"]),
        (&["-it"], 2, &["not a terminal", "hint: leave out -t"]),
        (&["-v", "/dev/null/source:/x:ro"], 125, &["cannot create the volume's source /dev/null/source"]),
        (&["-u", "nobody-at-all"], 125, &["has no user `nobody-at-all`"]),
    ] {
        let words =
            [&["--wait", env!("CARGO_BIN_EXE_ociforge"), "run", "--progress", "none"], flags, &[&image, "true"]];
        run(&mut place.wrapped("setsid", words.concat())).fails(code, said);
    }
    let garbage = place.write("garbage", "#!/bin/sh\necho '\u{1b}[31m{\"oops\"' >&2; echo '}}' ; exit 1\n");
    tool("chmod", &["+x", garbage.to_str().unwrap()]);
    let ran = run(&mut start(&place, &["--runtime", garbage.to_str().unwrap(), &image, "true"]));
    assert!(ran.code == Some(125) && ran.stderr.contains("error: garbage cannot start"), "{}", ran.stderr);
    let ran = run(&mut start(&place, &["--runtime", "crun", &image, "sh", "-c", "echo crun; exit 3"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "crun\n"), "{}", ran.stderr);
    assert!(containers(&place).iter().all(|path| !path.join(".rm").exists()));
}

#[test]
fn signals_reach_the_container() {
    let place = Place::new();
    let image = Layered::busybox().write(&place, "image");
    let script = "for s in TERM INT; do trap \"echo $s; exit 9\" $s; done; echo ready; while :; do sleep 0.05; done";
    for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT)] {
        let running = Running::start(&mut start(&place, &[&image, "--", "sh", "-c", script]));
        running.signal(signal);
        assert_eq!(running.rest(), (format!("{name}\n"), Some(9)));
        assert_eq!(containers(&place).len(), 0);
    }
    // A first process that handles none of them ignores all, but not for ever.
    let stubborn = ["--", "sh", "-c", "echo ready; exec sleep 1000"];
    let running = Running::start(&mut start(&place, &[&[image.as_str()], &stubborn[..]].concat()));
    // Signals of one kind are one as long as they wait, so they are sent until the container is killed.
    wait_until("the container is killed", || {
        running.signal(Signal::TERM);
        running.signal(Signal::INT);
        has_ended(&running.child)
    });
    assert_eq!(running.rest(), (String::new(), Some(137)));
    // Killed, it takes the container with it, and the next one cleans up.
    let running =
        Running::start(&mut start(&place, &[&image, "--", "sh", "-c", "echo ready; while :; do sleep 1; done"]));
    let left = containers(&place);
    running.signal(Signal::KILL);
    assert_eq!(running.rest(), (String::new(), None));
    assert_eq!((left.len(), &containers(&place)), (1, &left));
    let state = left[0].join("state");
    wait_until("the runtime's state is gone", || {
        !fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_some())
    });
    // What has cleaned up has to end, too, before the directory is nobody's.
    wait_until("the directory is gone", || {
        let ran = run(&mut start(&place, &[&image, "--", "ls", "/proc/self/fd"]));
        assert_eq!(ran.ok(), "0\n1\n2\n3\n", "the container has a file of ociforge's");
        containers(&place).is_empty()
    });
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&place.at("")), "{mounts}");
}

#[test]
fn what_is_written_stays_unless_it_is_to_go() {
    let place = Place::new();
    let image = Layered::busybox().write(&place, "image");
    let ran = run(&mut place.ociforge(["run", &image, "--", "sh", "-c", "echo kept > /root/file; rm /etc/group"]));
    let [directory] = containers(&place).try_into().unwrap();
    assert!(ran.stderr.contains(&format!("stay in {}; --rm removes them", directory.display())), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(directory.join("upper/root/file")).unwrap(), "kept\n");
    run(&mut start(&place, &[&image, "--", "sh", "-c", "test ! -e /root/file && test -e /etc/group"])).ok();
    assert_eq!(containers(&place), [directory]);
}

#[test]
fn streams_come_through() {
    let place = Place::new();
    let image = Layered::busybox().write(&place, "image");
    let piped = |flags: &[&str]| {
        let mut command = start(&place, &[flags, &[&image, "--", "sh", "-c", "cat; echo e >&2"]].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Without a reader it may be closed already.
        let _ = child.stdin.take().unwrap().write_all(b"input\n");
        let output = child.wait_with_output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(piped(&["-i"]), ["input\n", "e\n"]);
    assert_eq!(piped(&[]), ["", "e\n"]);
    let large = "dd if=/dev/zero bs=1024 count=40000 2>/dev/null";
    assert_eq!(run(&mut start(&place, &[&image, "--", "sh", "-c", large])).ok().len(), 40_960_000);
}

#[test]
fn layers_are_unpacked_once_and_there_may_be_many() {
    let place = Place::new();
    let many = (0..129).fold(Layered::busybox(), |image, n| {
        image.layer(Packing::Plain, Tar::new().file(&format!("srv/{n}"), n.to_string()).file("srv/last", n.to_string()))
    });
    let image = many.write(&place, "image");
    let script = ["--", "sh", "-c", "ls /srv | wc -l; cat /srv/last"];
    let arguments = [&["run", "--rm", "--progress", "plain", &image], &script[..]].concat();
    let mut first = [(); 2].map(|()| {
        let mut command = place.ociforge(arguments.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for child in &mut first {
        let mut told = String::new();
        child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!((told.as_str(), child.wait().unwrap().code()), ("130\n128", Some(0)), "{errors}");
    }
    let again = run(&mut place.ociforge(arguments));
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("130\n128", ""));
    assert_eq!(fs::read_dir(place.path("store/roots/all")).unwrap().count(), 130);
}

#[test]
fn a_container_sees_what_a_bundle_has() {
    let place = Place::new();
    let image = Layered::busybox()
        .layer(
            Packing::Gzip,
            Tar::new()
                .dir("gone")
                .file("gone/x", "x")
                .dir("opaque")
                .file("opaque/x", "x")
                .dir("etc/keep")
                .mode(0o710)
                .owner(3, 4),
        )
        .layer(
            Packing::Zstd,
            Tar::new()
                .file(".wh.gone", "")
                .file("opaque/.wh..wh..opq", "")
                .file("opaque/y", "y")
                .file("tmp/x", "x")
                .file("etc/keep/x", "x"),
        )
        .layer(Packing::Plain, Tar::new().file("gone/again", "x").file("etc/.wh.group", ""))
        .write(&place, "image");
    let ran = run(&mut place.ociforge(["bundle", "--progress", "none", &image, "b", "--", "true"]));
    let list = "cd $1 && find . -xdev -exec stat -c '%n %F %a %u:%g %Y %s' {} + | grep -v \
        '^./\\(proc\\|sys\\|dev\\|run\\|etc/hos[^ ]*\\|etc/resolv.conf\\) \\|^./\\(proc\\|sys\\|dev\\)/\\|^. \
        \\|^./etc '";
    ran.ok();
    let sorted = |text: String| {
        // How large a directory is depends on the filesystem.
        let line = |line: &str| {
            if line.contains(" directory ") { line.rsplit_once(' ').unwrap().0.into() } else { line.to_owned() }
        };
        text.lines().map(line).collect::<std::collections::BTreeSet<_>>()
    };
    let theirs = sorted(tool("/usr/bin/busybox", &["sh", "-c", list, "sh", &place.at("b/rootfs")]));
    let ours = sorted(run(&mut start(&place, &[&image, "--", "sh", "-c", list, "sh", "/"])).ok());
    assert_eq!(ours.symmetric_difference(&theirs).collect::<Vec<_>>(), [] as [&String; 0]);
    let has = |line: &str| ours.iter().any(|entry| entry.starts_with(line));
    for line in ["./tmp directory 1777 0:0", "./etc/keep directory 710 3:4", "./gone/again ", "./opaque/y "] {
        assert!(has(line), "{line}: {ours:#?}");
    }
    assert!(!has("./gone/x ") && !has("./opaque/x ") && !has("./etc/group "));
}

#[test]
fn images_for_other_machines() {
    let place = Place::new();
    let arm = Layered::busybox().layer(Packing::Gzip, Tar::new().file("bin/true", "\u{7f}ELF for another").mode(0o755));
    let image = arm.architecture("arm64").write(&place, "image");
    run(&mut start(&place, &[&image, "--", "true"])).fails(125, &["linux/arm64", "--platform"]);
    let ran = run(&mut start(&place, &["--platform", "linux/arm64", &image, "--", "true"]));
    // Runtimes take what they can't execute for a container that has started.
    assert!(ran.code != Some(0) && ran.stderr.starts_with("warning: the image is for linux/arm64"), "{}", ran.stderr);
    assert!(ran.stderr.contains("exec format error"), "{}", ran.stderr);
}

#[test]
fn where_no_overlay_can_be_mounted_the_image_is_copied() {
    let place = Place::new();
    let image = Layered::busybox().layer(Packing::Gzip, Tar::new().file(".wh.tmp", "")).write(&place, "image");
    // On an overlay no whiteout can be made.
    let mounted = Mounted::overlay(&place, "merged");
    let script = "ls -d /tmp 2>/dev/null; echo x > /root/new; cat /root/new; exit 3";
    let ran = run(&mut start(&place, &["--store", &mounted.0, &image, "--", "sh", "-c", script]));
    let left = fs::read_dir(place.path("merged/containers")).unwrap().count();
    drop(mounted);
    assert_eq!((ran.code, ran.stdout.as_str(), left), (Some(3), "x\n", 0), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: ociforge copies the image"), "{}", ran.stderr);
}

#[test]
fn volumes_have_what_the_image_has_there() {
    let place = Place::new();
    let image = Layered::busybox()
        .layer(Packing::Gzip, Tar::new().dir("data").owner(1000, 1000).file("data/seed", "seeded\n"))
        .config(json!({"User": "me", "Env": ["PATH=/bin"], "Volumes": {"/data": {}, "/fresh/deep": {}}}))
        .write(&place, "image");
    let script = "cat /data/seed; echo w > /data/new && echo yes; touch /x 2>/dev/null || echo no; ls -d /fresh/deep";
    let ran = run(&mut start(&place, &["--read-only", &image, "--", "sh", "-c", script]));
    assert_eq!(ran.stdout, "seeded\nyes\nno\n/fresh/deep\n", "{}", ran.stderr);
    // Whoever has a umask that keeps others out does not keep the container's users out.
    let call = format!("umask 077; exec \"$@\" {image} -- sh -c 'ls -d / /fresh/deep /data/seed'");
    let words = ["-c", &call, "sh", OCIFORGE, "run", "--progress", "none", "--rm"];
    assert_eq!(run(&mut place.wrapped("sh", words)).ok(), "/\n/data/seed\n/fresh/deep\n");
    // What the user names and does not have is made.
    let volume = format!("{}:/made", place.at("new/source"));
    run(&mut start(&place, &["-v", &volume, "-u", "0", &image, "--", "sh", "-c", "echo x > /made/file"])).ok();
    assert_eq!(fs::read_to_string(place.path("new/source/file")).unwrap(), "x\n");
    // The next container has its own.
    run(&mut start(&place, &[&image, "--", "sh", "-c", "test ! -e /data/new"])).ok();
}
