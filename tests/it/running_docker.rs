//! `run`: what docker does, down to the small things.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::support::{Builds, Layered, OCIFORGE, Packing, Place, Ran, Tar, run};

/// Busybox, and volumes of the image's.
fn image(place: &Place) -> String {
    Layered::busybox()
        .layer(Packing::Gzip, Tar::new().dir("srv").mode(0o2775).owner(0, 8))
        .config(json!({"Cmd": ["sh"], "Volumes": {"/srv": {}, "/vol/missing": {}}, "Env": ["PATH=/bin"]}))
        .write(place, "image")
}

/// `ociforge run` with these flags of a shell that runs `script`.
fn shell(place: &Place, flags: &str, script: &str) -> Ran {
    let image = format!("oci:{}:x", place.at("image"));
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let command = ["run", "--rm", "--progress", "none"];
    run(&mut place.ociforge([&command[..], &flags, &[&image, "--", "sh", "-c", script]].concat()))
}

#[test]
fn flags_may_be_empty_repeated_or_booleans() {
    let place = Place::new();
    image(&place);
    place.write("data/file", "");
    let data = place.at("data");
    for (flags, script, printed) in [
        ("--rm=true --read-only=false -i=1 --privileged=F", "touch /x && echo written", "written\n"),
        ("--read-only=t -t=false --tty=0", "touch /x 2>/dev/null || echo refused", "refused\n"),
        ("--read-only --read-only=false", "touch /x && echo written", "written\n"),
        ("-w /tmp -w /srv", "pwd", "/srv\n"),
        ("--workdir= --hostname= --cpuset-cpus=", "pwd", "/\n"),
        ("--ulimit nofile=100:200 --ulimit core=0 --ulimit nofile=300:400", "ulimit -n; ulimit -Hn", "300\n400\n"),
        ("--tmpfs /m:size=1m --tmpfs /m:size=2m", "df -k /m | tail -n 1 | grep -c ' 2048 '", "1\n"),
    ] {
        let ran = shell(&place, flags, script);
        assert_eq!((ran.stdout.as_str(), ran.code), (printed, Some(0)), "{flags} {}", ran.stderr);
    }
    for options in ["", ":z", ":Z", ":cached", ":delegated", ":consistent", ":z,rw", ":rslave,cached,z"] {
        let volume = format!("-v {data}:/m{options}");
        assert_eq!(shell(&place, &volume, "ls /m; touch /m/x && rm /m/x && echo written").ok(), "file\nwritten\n");
    }
    for options in [":ro,z", ":Z,ro", ":cached,ro", ":ro,delegated,z"] {
        let volume = format!("-v {data}:/m{options} -v {data}:/m{options}");
        assert_eq!(shell(&place, &volume, "ls /m; touch /m/x 2>/dev/null || echo refused").ok(), "file\nrefused\n");
    }
    for (flags, said) in [
        ("--rm=yes", "invalid value 'yes' for '--rm[=<BOOL>]': write true or false"),
        ("--read-only=", "invalid value '' for '--read-only[=<BOOL>]'"),
        (&format!("-v {data}:/m -v {data}:/m:ro"), "two volumes have the destination /m"),
        (&format!("-v {data}:/m:z,Z"), "`Z` is one option too many"),
        ("-m 64m --memory-swap 32m", "--memory-swap 32m is below --memory 64m"),
        ("--memory-swap 64m", "--memory-swap 64m is given without --memory"),
    ] {
        let outcome = shell(&place, flags, "true");
        if said.starts_with("invalid value") { outcome.refused(said) } else { drop(outcome.fails(2, &[said])) }
    }
    assert_eq!(fs::read_dir(place.path("store/containers")).unwrap().count(), 0);
}

#[test]
fn the_primary_group_is_among_the_groups() {
    let place = Place::new();
    image(&place);
    for (user, groups) in
        [("me", "1000 44 105"), ("1000", "1000 44 105"), ("0", "0 105"), ("root:root", "0"), ("5:6", "6"), ("7", "0")]
    {
        let ran = shell(&place, &format!("-u {user}"), "grep Groups: /proc/self/status");
        let mut groups: Vec<u32> = groups.split(' ').map(|group| group.parse().unwrap()).collect();
        groups.sort_unstable();
        let mut found: Vec<u32> = ran.ok().split_whitespace().skip(1).map(|group| group.parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, groups, "{user}");
    }
}

#[test]
fn a_network_of_its_own_is_open_to_everybody() {
    let place = Place::new();
    image(&place);
    let script = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range";
    let here = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
    for runtime in ["runc", "crun"] {
        let own = shell(&place, &format!("--runtime {runtime}"), script).ok();
        assert_eq!(own.split_whitespace().collect::<Vec<_>>(), ["0", "0", "2147483647"], "{runtime}");
        let hosts = shell(&place, &format!("--net host --runtime {runtime}"), script).ok();
        assert_eq!(hosts, here("ip_unprivileged_port_start") + &here("ping_group_range"), "{runtime}");
    }
}

#[test]
fn files_of_the_network_are_the_containers_own() {
    let place = Place::new();
    image(&place);
    let (hosts, servers) = (fs::read_to_string("/etc/hosts").unwrap(), fs::read_to_string("/etc/resolv.conf").unwrap());
    let write = "for f in hosts hostname resolv.conf; do (echo '# x' >> /etc/$f) 2>/dev/null && echo $f; done; true";
    for network in ["none", "host"] {
        let seen = shell(&place, &format!("--net {network}"), "cat /etc/resolv.conf").ok();
        assert_eq!(seen.trim_end(), servers.trim_end(), "{network}");
        let written = shell(&place, &format!("--net {network}"), write).ok();
        assert_eq!(written, "hosts\nhostname\nresolv.conf\n", "{network}");
        assert_eq!(shell(&place, &format!("--net {network} --read-only"), write).ok(), "", "{network}");
    }
    assert_eq!(shell(&place, "--net host", "cat /etc/hosts").ok().trim_end(), hosts.trim_end());
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), hosts);
    assert_eq!(fs::read_to_string("/etc/resolv.conf").unwrap(), servers);
    // A volume is as its options say.
    place.write("mine", "mine\n");
    let volume = format!("--read-only -v {}:/etc/hosts", place.at("mine"));
    assert_eq!(shell(&place, &volume, "echo more >> /etc/hosts; cat /etc/hosts").ok(), "mine\nmore\n");
    // A bundle is for any time and machine: it has what is there when it is run.
    let image = format!("oci:{}:x", place.at("image"));
    run(&mut place.ociforge(["bundle", "--progress", "none", "--net", "host", &image, "b"])).ok();
    let config = fs::read_to_string(place.path("b/config.json")).unwrap();
    assert!(config.contains("\"source\":\"/etc/resolv.conf\"") && !place.path("b/resolv.conf").exists(), "{config}");
}

#[test]
fn a_tmpfs_is_not_what_the_image_lacks() {
    let place = Place::new();
    image(&place);
    for (flags, place_of, mode) in [
        ("--tmpfs /vol/missing", "/vol/missing", "1777"),
        ("--tmpfs /vol/missing/", "/vol/missing", "1777"),
        ("--tmpfs /vol/missing:mode=700", "/vol/missing", "700"),
        ("--read-only --tmpfs /vol/missing", "/vol/missing", "1777"),
        ("--tmpfs /new", "/new", "1777"),
        ("--tmpfs /srv", "/srv", "2775"),
        ("", "/vol/missing", "755"),
    ] {
        let mode_of = shell(&place, flags, &format!("stat -c %a {place_of}")).ok();
        assert_eq!(mode_of.trim_end(), mode, "{flags}");
    }
    let ran = shell(&place, "--tmpfs /vol", "test ! -e /vol/missing && stat -c %a /vol");
    assert!(ran.stderr.contains("the image's volume /vol/missing is skipped"), "{}", ran.stderr);
    assert_eq!(ran.ok(), "1777\n");
}

#[test]
fn mounts_over_the_kernels_files_say_what_is_wrong() {
    let place = Place::new();
    image(&place);
    place.write("empty/file", "");
    let data = place.at("empty");
    for (flags, hint) in [
        (format!("-v {data}:/dev"), "hint: a mount at /dev or below"),
        ("--tmpfs /dev".to_owned(), "hint: a mount at /dev or below"),
        (format!("-v {data}:/dev/null"), "hint: a mount at /dev or below"),
        (format!("-v {data}:/dev --runtime crun"), "hint: a mount at /dev or below"),
        (format!("-v {data}:/proc"), "hint: a mount at /proc"),
        (format!("-v {data}:/proc/sys"), "hint: a mount at /proc"),
    ] {
        shell(&place, &flags, "true").fails(125, &["cannot start the container", hint]);
    }
    for flags in ["-v /dev:/dev", "--tmpfs /dev:dev", &format!("-v {data}:/dev/data"), &format!("-v {data}:/dev/shm")] {
        assert_eq!(shell(&place, flags, "echo x > /dev/null && echo fine").ok(), "fine\n", "{flags}");
    }
}

/// Runs `words` with signals blocked (USR1 and the last one of all) and ignored (USR2, and 32, which C libraries keep for
/// themselves).
fn with_odd_signals(place: &Place, words: &[&str]) -> Command {
    let action = if cfg!(target_arch = "x86_64") { 13 } else { 134 };
    let script = format!(
        "use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(10, 64)) or die; $SIG{{USR2}} = 'IGNORE'; \
         my $ignore = pack('Q4', 1, 0, 0, 0); syscall({action}, 32, $ignore, 0, 8) == 0 or die; exec @ARGV or die"
    );
    place.wrapped("/usr/bin/perl", [&["-e", &script, "--", OCIFORGE], words].concat())
}

#[test]
fn the_callers_signals_stay_outside() {
    let builds = Builds::as_root();
    // A shell may ignore signals of its own accord.
    builds.recipe("[[layer]]\nrun = ['grep', '-E', 'Sig(Blk|Ign)', '/proc/self/status']\n");
    let base = format!("oci:{}:x", builds.place.at("base"));
    let shown = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    for flags in [&["--runtime", "runc"][..], &["--runtime", "crun"]] {
        let script = ["--", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
        let words = [&["run", "--rm", "--progress", "none"], flags, &[&base], &script[..]].concat();
        assert_eq!(run(&mut with_odd_signals(&builds.place, &words)).ok(), shown, "{flags:?}");
    }
    for isolation in ["root", "one-uid"] {
        let words = ["build", "r", "--no-cache", "--progress", "plain", "--isolation", isolation];
        let ran = run(&mut with_odd_signals(&builds.place, &words));
        for line in shown.lines() {
            assert!(ran.stderr.contains(&format!("] {line}\n")), "{isolation} {}", ran.stderr);
        }
        ran.ok();
    }
}

/// Links of an image, and what a working directory at them is.
const LINKS: [(&str, &str, &str); 7] = [
    ("dang", "/var/lib/nope", "/var/lib/nope"),
    ("again", "dang", "/var/lib/nope"),
    ("d/e/up", "../../up/x", "/up/x"),
    ("half", "/usr/new/deep", "/usr/new/deep"),
    ("escape", "../../../../out", "/out"),
    ("there", "usr", "/usr"),
    ("deep", "/dang/sub", "/var/lib/nope/sub"),
];

fn linked(place: &Place) {
    let tar = Tar::new()
        .dir("d")
        .dir("d/e")
        .link("loop", "pool")
        .link("pool", "loop")
        .file("file", "")
        .link("to-file", "/file");
    let tar = LINKS.iter().fold(tar, |tar, (name, target, _)| tar.link(name, target));
    Layered::busybox().layer(Packing::Gzip, tar).write(place, "image");
}

#[test]
fn a_working_directory_may_be_a_link_to_nothing() {
    let place = Place::new();
    linked(&place);
    let image = format!("oci:{}:x", place.at("image"));
    for (name, _, real) in LINKS {
        for (suffix, flags) in [("", ""), ("/more", ""), ("", "--read-only"), ("", "--runtime crun")] {
            let ran = shell(&place, &format!("-w /{name}{suffix} {flags}"), "pwd; stat -c '%a %u:%g' .");
            assert_eq!(ran.ok(), format!("{real}{suffix}\n755 0:0\n"), "{name} {flags}");
        }
        let bundle = place.at(&name.replace('/', "-"));
        run(&mut place.ociforge(["bundle", "--progress", "none", "-w", &format!("/{name}"), &image, &bundle])).ok();
        assert!(place.path(format!("{bundle}/rootfs{real}")).is_dir(), "{name}");
    }
    for (name, why) in [
        ("loop", "it leads through a loop of links"),
        ("file", "another entry has its path"),
        ("to-file", "another entry has its path"),
        ("file/sub", "Not a directory"),
    ] {
        let said = format!("cannot create the working directory /{name} in the root filesystem");
        shell(&place, &format!("-w /{name}"), "true").fails(125, &[&said, why, "hint: choose another with --workdir"]);
    }
}

#[test]
fn a_steps_working_directory_may_be_a_link_to_nothing() {
    let outcomes = Builds::each(|builds| {
        linked(&builds.place);
        let image = format!("oci:{}:x", builds.place.at("image"));
        let step = |name: &str| format!("[[layer]]\nrun = 'pwd; touch here'\nworkdir = '/{name}'\n");
        builds.recipe_on(&image, &LINKS.map(|(name, _, _)| step(name)).concat());
        let said = builds.said(&[]);
        let made = builds.layers().iter().map(|layer| builds.paths(layer).join(" ")).collect::<Vec<_>>();
        builds.recipe_on(&image, &step("loop"));
        builds.build(&[]).fails(1, &["cannot create the working directory /loop", "a loop of links"]);
        (said, made)
    });
    let expected: String = LINKS.iter().map(|(_, _, real)| format!("{real}\n")).collect();
    for (said, made) in &outcomes {
        assert_eq!(*said, expected);
        // What was made for the step is the layer's.
        assert!(made[0].contains("var/lib/nope/here"), "{made:?}");
        assert_eq!(made, &outcomes[0].1);
    }
}

/// An image whose second layer hides the first, and has a whiteout in a directory that no layer has.
fn opaque(place: &Place) {
    let layers = Layered::new().layer(Packing::Gzip, Tar::new().file("secret", "old").dir("gone").file("gone/x", ""));
    let layers = layers.layer(Packing::Gzip, Tar::new().file(".wh..wh..opq", "").file("no/where/.wh.x", ""));
    layers.with_busybox().write(place, "image");
}

const HIDDEN: &str =
    "[[layer]]\nrun = 'for f in secret gone no; do test -e /$f && echo $f; done; ls / | grep -c bin; touch /new'\n";

#[test]
fn a_layer_may_hide_all_that_is_below() {
    let outcomes = Builds::each(|builds| {
        opaque(&builds.place);
        let image = format!("oci:{}:x", builds.place.at("image"));
        builds.recipe_on(&image, HIDDEN);
        (builds.said(&[]), builds.paths(&builds.layers()[0]))
    });
    let copied = Builds::as_root();
    opaque(&copied.place);
    copied.recipe_on(&format!("oci:{}:x", copied.place.at("image")), HIDDEN);
    let copied = (copied.said(&["--isolation", "chroot"]), copied.paths(&copied.layers()[0]));
    for (said, paths) in outcomes.iter().chain([&copied]) {
        assert_eq!((said.as_str(), paths.contains(&"new".to_owned())), ("1\n", true), "{paths:?}");
    }
    let place = Place::new();
    opaque(&place);
    let script = "for f in secret no; do test -e /$f && echo $f; done; true";
    assert_eq!(shell(&place, "", script).ok(), "");
    run(&mut place.ociforge(["bundle", "--progress", "none", &format!("oci:{}:x", place.at("image")), "b"])).ok();
    assert!(!place.path("b/rootfs/secret").exists() && !place.path("b/rootfs/no").exists());
}
