//! Rootless specs in the hands of runc, started by somebody without privileges.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

use ociforge_manifests::runtime::{ContainerRequest, IdMap, IdMappings, UserDatabase};
use serde_json::json;

use crate::bundle::{Bundle, User, call, settings, shell};

/// What is mounted for a test, unmounted at its end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn map(container: u32, host: u32, size: u32) -> IdMap {
    IdMap { container, host, size }
}

/// A bundle of `user`'s, who maps himself alone or his range, too.
fn bundle(name: &str, user: &Rc<User>, with_range: bool) -> Bundle {
    let mut bundle = Bundle::new(name);
    let range = with_range.then(|| map(1, user.range, 65_536));
    let maps: Vec<_> = [map(0, user.id, 1)].into_iter().chain(range).collect();
    bundle.host.mappings = Some(IdMappings { uids: maps.clone(), gids: maps });
    bundle.give_to(user);
    bundle
}

fn rootless() -> ContainerRequest {
    ContainerRequest { rootless: true, ..ContainerRequest::default() }
}

#[test]
fn a_user_without_a_range_runs_containers() {
    let user = User::new("one");
    let bundle = bundle("rootless-one", &user, false);
    let script = "id -u; id -g; cat /proc/self/uid_map; ls -d /sys/kernel; grep -c . /sys/class/net/lo/mtu; \
                  grep ' /dev/shm ' /proc/mounts; cat /proc/self/setgroups; touch /written && echo written; \
                  grep -E 'Seccomp:|CapEff' /proc/self/status";
    let request = ContainerRequest { settings: settings(json!({"shm-size": "1m"})), ..rootless() };
    let text = bundle.prints(shell(script), &request);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{text}");
    assert_eq!(lines[2].split_ascii_whitespace().collect::<Vec<_>>(), ["0", &user.id.to_string(), "1"]);
    assert_eq!(lines[3..5], ["/sys/kernel", "1"], "{text}");
    assert!(lines[5].starts_with("shm /dev/shm tmpfs") && lines[5].contains("size=1024k"), "{text}");
    assert_eq!(lines[6..], ["deny", "written", "CapEff:\t00000000a80425fb", "Seccomp:\t2"], "{text}");
    assert_eq!(bundle.run(shell("exit 42"), &rootless()).status.code(), Some(42));
    // Root's /sys can't be written to, nor can the cgroups.
    let script = "for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do [ -e $d/cgroup.procs ] && break; done; \
                  busybox mkdir $d/x 2>/dev/null || echo no; mount -o remount,rw /sys 2>/dev/null || echo no; \
                  ls $d | grep -c .";
    let text = bundle.prints(shell(script), &rootless());
    assert!(text.starts_with("no\nno\n") && !text.ends_with("\n0\n"), "{text}");
}

#[test]
fn a_user_with_a_range_has_others_in_the_container() {
    let user = User::new("range");
    let mut bundle = bundle("rootless-range", &user, true);
    bundle.host.users = Some(UserDatabase {
        passwd: "me:x:1000:100::/:/bin/sh\n".into(),
        group: "video:x:44:me\nusers:x:100:\n".into(),
    });
    let request = ContainerRequest { user: Some("me".into()), ..rootless() };
    assert_eq!(bundle.prints(shell("echo $(id -u) $(id -g) $(id -G) $HOME"), &request), "1000 100 100 /\n");
    let request = ContainerRequest { user: Some("65536:65536".into()), ..rootless() };
    assert_eq!(bundle.prints(shell("id -u"), &request), "65536\n");
    // The terminal's group is mapped, and root of the container may give files away.
    let script = "grep ' /dev/pts ' /proc/mounts; touch /tmp/f; busybox chown 7:8 /tmp/f; ls -n /tmp/f";
    let text = bundle.prints(shell(script), &rootless());
    let expected = user.range + 4;
    assert!(text.contains(&format!("gid={expected}")) || text.contains("gid=5"), "{text}");
    assert!(text.contains(" 7 ") && text.contains(" 8 "), "{text}");
}

#[test]
fn locked_flags_of_a_source_do_not_stop_a_volume() {
    let user = User::new("locked");
    let bundle = bundle("rootless-locked", &user, false);
    let source = bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    let path = source.to_str().unwrap().to_owned();
    call("mount", &["-t", "tmpfs", "-o", "nosuid,nodev,noexec,mode=777", "none", &path]);
    let _mounted = Mounted(source.clone());
    fs::write(source.join("file"), "seen\n").unwrap();
    let script = "cat /data/file; touch /data/x 2>/dev/null && echo writable; grep ' /data ' /proc/mounts";
    for (volume, writable) in [(format!("{path}:/data:ro"), false), (format!("{path}:/data"), true)] {
        let request = ContainerRequest { volumes: vec![volume.parse().unwrap()], ..rootless() };
        let text = bundle.run(shell(script), &request);
        let (text, error) = (String::from_utf8(text.stdout).unwrap(), String::from_utf8(text.stderr).unwrap());
        assert!(text.starts_with("seen\n") && text.contains("nosuid,nodev,noexec"), "{text}{error}");
        assert_eq!(text.contains("writable"), writable, "{text}");
    }
    // The flags are what makes it work: without them the kernel refuses.
    let request = ContainerRequest { volumes: vec![format!("{path}:/data:ro").parse().unwrap()], ..rootless() };
    let words = bundle.command(shell(script), &request);
    let config = bundle.directory.join("config.json");
    let bare = fs::read_to_string(&config).unwrap().replace(r#","nosuid","nodev","noexec"]"#, "]");
    fs::write(&config, bare).unwrap();
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn what_a_user_cannot_have_is_left_out_and_the_container_runs() {
    let user = User::new("limits");
    let mut bundle = bundle("rootless-limits", &user, false);
    bundle.host.network_files = [("/etc/hosts".into(), "/etc/hosts".into())].into();
    bundle.host.limits = [("nofile".into(), 1000)].into();
    let request = ContainerRequest {
        settings: settings(json!({
            "ipc": "host", "network": "host", "cpuset-cpus": "0", "ulimits": ["nofile=100:1048576000"],
        })),
        memory: Some("64m".parse().unwrap()),
        pids_limit: Some("100".parse().unwrap()),
        tmpfs: vec!["/scratch:uid=7,size=64k".parse().unwrap()],
        hostname: None,
        ..rootless()
    };
    let emitted = bundle.emit(shell("true"), &request);
    assert_eq!(emitted.warnings.len(), 4, "{:?}", emitted.warnings);
    let script = "ulimit -Hn; readlink /proc/self/ns/net; grep -c scratch /proc/mounts; cat /etc/hosts | grep -c .";
    let text = bundle.prints(shell(script), &request);
    let net = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(text.starts_with(&format!("1000\n{}\n1\n", net.display())), "{text}");
    let privileged = ContainerRequest { privileged: true, ..rootless() };
    let text = bundle.prints(shell("grep CapEff /proc/self/status; ls /sys | grep -c ."), &privileged);
    assert!(text.starts_with("CapEff:\t000001ffffffffff\n"), "{text}");
    // A controller that is said to be delegated is used, and runc says no where it isn't.
    bundle.host.delegated = BTreeSet::from(["pids".to_owned()]);
    assert!(!bundle.run(shell("true"), &request).status.success());
}

#[test]
fn inside_of_a_user_namespace_no_other_is_made() {
    let user = User::new("inside");
    for known in [true, false] {
        let mut bundle = bundle("rootless-inside", &user, true);
        if known {
            bundle.host.inside_user_namespace = true;
        } else {
            bundle.host.mappings = None;
        }
        let words = bundle.command(shell("id -u; cat /proc/self/uid_map; exit 3"), &rootless());
        // The namespace is made first, as the caller's, and runc is root of it.
        let at = words.iter().position(|word| word == "runc").unwrap();
        let namespace = ["unshare", "--user", "--map-root-user", "--map-auto", "--"];
        let words: Vec<_> = words[..at].iter().map(String::as_str).chain(namespace).collect::<Vec<_>>();
        let runc = bundle.command(shell("id -u; cat /proc/self/uid_map; exit 3"), &rootless())[at..].to_vec();
        let output = Command::new(words[0]).args(&words[1..]).args(runc).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(3), "{known}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let first = text.lines().nth(1).unwrap().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(first, format!("0 {} 1", user.id), "{text}");
    }
}

#[test]
fn cgroups_of_version_2_alone() {
    // In a mount namespace of its own, where the kernel's other hierarchies are out of sight.
    let script = "umount --lazy --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let user = User::new("v2");
    let inner =
        "grep ' /sys/fs/cgroup ' /proc/mounts; cat /proc/self/cgroup | grep ^0:; echo $(readlink /proc/self/ns/cgroup)";
    let host = fs::read_link("/proc/self/ns/cgroup").unwrap().display().to_string();
    for rootless in [true, false] {
        let mut bundle = if rootless { bundle("v2-user", &user, true) } else { Bundle::new("v2-root") };
        bundle.host.cgroup_v2 = true;
        let request = ContainerRequest { rootless, ..ContainerRequest::default() };
        let words = bundle.command(shell(inner), &request);
        let output = Command::new("unshare").args(["--mount", "sh", "-c", script, "sh"]).args(words).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = text.lines().collect();
        // The last mount is what is seen: read-only, whatever it is.
        let seen = lines.iter().rfind(|line| line.contains(" /sys/fs/cgroup ")).unwrap();
        assert!(seen.contains(" ro,"), "{text}");
        assert!(!text.contains(&host) && text.contains("cgroup:["), "{text}");
        if !rootless {
            assert!(seen.contains(" cgroup2 ") && lines.contains(&"0::/"), "{text}");
        }
    }
}
