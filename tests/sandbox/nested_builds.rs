//! Builds whose steps run something, in containers as CI systems make them: the image is that of a build outside.

use std::process::{Command, Stdio};

use super::Case;
use super::identity::{Machine, Played, Who};
use super::nested::{DOCKER, DOCKERS, Job, KUBERNETES, Profile, says};

pub(crate) const CASES: &[Case] = &[
    ("nested_builds::the_image_is_that_of_a_build_outside", the_image_is_that_of_a_build_outside),
    ("nested_builds::what_is_missing_is_named_before_anything_is_done", what_is_missing_is_named),
];

/// Builds an image with three steps in the directory `$1` by the program `$2`, with the static busybox `$3` as its base,
/// and prints the digests of the image and its layers.
const BUILD: &str = r#"
set -e
export HOME=$1 OCIFORGE_STORE=$1/store; cd "$1"
mkdir base r; cp "$3" base/busybox; echo bound > r/bound; echo secret > secret
cat > base/ociforge.toml <<'END'
base = 'scratch'
[[layer]]
directories = ['/bin', '/etc']
[[layer]]
directories = ['/tmp']
mode = '1777'
[[layer]]
copy = { from = 'busybox', to = '/bin/busybox' }
[[layer]]
copy = { from = 'busybox', to = '/bin/sh' }
END
"$2" build base -o "oci:$1/base-image:x" --progress none > base.digest
cat > r/ociforge.toml <<END
base = "oci:$1/base-image:x"
[config.env]
PATH = "/bin"
[[layer]]
run = '''
set -e
busybox mkdir -p /d/e /d/gone; echo 1 > /d/e/x; busybox chown 33:34 /d/e/x; busybox chmod 4755 /d/e/x
busybox mkfifo /d/fifo; busybox ln -s e /d/link; busybox ln /d/e/x /d/hard; busybox chown -h 7:8 /d/link
busybox cat /etc/bound > /d/bound; busybox stat -c %a /run/secrets/token > /d/secret; echo kept > /var/cache/x/kept
echo null > /dev/null
'''
mounts = [{ bind = "bound", to = "/etc/bound" }, { secret = "token" }, { cache = "/var/cache/x" }, { tmpfs = "/scratch" }]
[[layer]]
run = "echo > /tmp/five"
user = "5:6"
[[layer]]
run = '''
set -e
test "\$(busybox stat -c %u:%g:%a /d/e/x /tmp/five)" = "33:34:4755
5:6:644"
test ! -e /run/secrets && test ! -e /var && test ! -e /scratch && test ! -e /etc/bound
busybox rm -r /d/gone /d/hard; busybox mv /d/e /d/f; echo 2 > /d/f/new; busybox chown 0:0 /d/f/x
'''
END
"$2" build r -o "oci:$1/image:x" --secret id=token,src=secret --metadata-file m.json --progress plain > digest
sed -n 's/.*"digest": "\(.*\)".*/\1/p' m.json
"#;

fn build(at: &str) -> [&str; 7] {
    ["sh", "-c", BUILD, "sh", at, "/ociforge", "/busybox"]
}

/// What docker gives to containers, but for that with which ids are mapped.
fn without_setuid() -> &'static [&'static str] {
    DOCKERS.into_iter().filter(|name| !name.ends_with("_SETUID")).collect::<Vec<_>>().leak()
}

fn outside(machine: &Machine) -> String {
    let directory = machine.directory(Who::Root);
    let mut command = Command::new("sh");
    command.args(["-c", BUILD, "sh"]).arg(directory.path()).args([env!("CARGO_BIN_EXE_ociforge"), "/bin/busybox"]);
    let played = Played::of(&command.stdin(Stdio::null()).output().unwrap());
    assert_eq!((played.code, played.out.lines().count()), (Some(0), 4), "{played:?}");
    says(&played, &["steps run in root in a mount namespace\n"]);
    played.out
}

fn the_image_is_that_of_a_build_outside(machine: &Machine) {
    let expected = outside(machine);
    let admin: &'static [&'static str] = [&DOCKERS[..], &["CAP_SYS_ADMIN"]].concat().leak();
    let privileged = Job { capabilities: admin, ..KUBERNETES };
    let unable = without_setuid();
    let copies = "warning: ociforge copies the image instead of mounting it, which takes time and disk space: ";
    let (chroot, all) =
        ("steps run in chroot: nothing else is allowed here\n", "a user namespace with 4294967294 ids\n");
    let one = "a user namespace with one id; owners are recorded\n";
    for (job, place, isolation, copied) in [
        (DOCKER, "/store", chroot, true),
        (DOCKER, "/root", chroot, true),
        (KUBERNETES, "/store", all, false),
        (KUBERNETES, "/root", all, true),
        (Job { profile: Profile::Podmans, ..KUBERNETES }, "/store", all, false),
        (privileged, "/store", "steps run in root in a mount namespace\n", false),
        (Job { user: 1000, ..KUBERNETES }, "/store", one, false),
        (Job { capabilities: unable, ..KUBERNETES }, "/store", one, false),
    ] {
        let played = job.run(machine, &build(place));
        assert_eq!((played.code, played.out.as_str()), (Some(0), expected.as_str()), "{job:?} {place} {}", played.err);
        says(&played, &[isolation]);
        assert_eq!(played.err.contains(copies), copied, "{job:?} {place} {}", played.err);
    }
}

fn what_is_missing_is_named(machine: &Machine) {
    let recipe =
        "mkdir /tmp/r; printf \"base = 'docker://127.0.0.1:1/x'\\n[[layer]]\\nrun = 'true'\\n\" > /tmp/r/ociforge.toml
                  exec /ociforge build /tmp/r --store /store";
    for (job, parts) in [
        (
            Job { capabilities: without_setuid(), ..DOCKER },
            ["a seccomp filter is in force", "hint: start the container around this with"],
        ),
        (Job { user: 1000, ..DOCKER }, ["a seccomp filter is in force", "hint: start the container around this with"]),
    ] {
        let played = job.run(machine, &["sh", "-c", recipe]);
        says(&played, &parts);
        assert!(played.code == Some(1) && !played.err.contains("127.0.0.1:1"), "{played:?}");
    }
}
