//! Mounts, with and without namespaces.

use super::*;

pub(super) fn links(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let (path, outside) = (root.path(), root.directory.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "outside").unwrap();
        fs::write(root.directory.path().join("source"), "source").unwrap();
        symlink("/elsewhere", path.join("proc")).unwrap();
        symlink("../../outside", path.join("sys")).unwrap();
        symlink(outside.join("file"), path.join("etc/resolv.conf")).unwrap();
        symlink("../run/stub/hosts", path.join("etc/hosts")).unwrap();
        symlink("/etc/loop", path.join("etc/loop")).unwrap();
        machine.give(who, root.directory.path());
        let source = root.directory.path().join("source");
        let bind =
            |place: &str| json!({"destination": place, "type": "bind", "source": source, "options": ["rbind", "ro"]});
        let script = "cat /etc/resolv.conf /etc/hosts; ls /elsewhere/1/fd >/dev/null; test -d /outside/class; echo x \
            >/etc/hosts";
        let job = json!({"command": ["sh", "-c", script], "mounts": [bind("/etc/resolv.conf"), bind("/etc/hosts")]});
        let played = root.play(machine, job);
        assert!(
            played.out.starts_with("sourcesource") && played.out.contains("Read-only file system"),
            "{who:?} {played:?}"
        );
        let file = outside.join("file").to_str().unwrap().to_owned();
        assert!(played.err.contains("\"/elsewhere\", \"/dev\", \"/outside\""), "{who:?} {played:?}");
        assert!(
            played.err.contains(&format!("{file:?}"))
                && played.err.contains("\"/run\", \"/run/stub\", \"/run/stub/hosts\""),
            "{played:?}"
        );
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(path.join("run/stub/hosts")).unwrap(), b"");
        let played = root.play(machine, json!({"command": ["true"], "mounts": [bind("/etc/loop")]}));
        assert!(played.code == Some(125) && played.err.contains("Too many levels"), "{who:?} {played:?}");
    }
}

pub(super) fn mounts(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let source = root.directory.path().join("cache");
        fs::create_dir(&source).unwrap();
        machine.give(who, &source);
        let mounts = json!([
            {"destination": "/var/cache/x", "type": "bind", "source": source, "options": ["rbind", "rprivate"]},
            {"destination": "/var/ro", "type": "bind", "source": source, "options": ["bind", "ro", "nosuid"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=1700", "noexec"]},
        ]);
        let script = "echo kept >/var/cache/x/file; cat /var/ro/file; touch /var/ro/x 2>&1; dd if=/dev/zero of=/tmp/x \
            bs=1k count=100 2>/dev/null
            stat -c '%s %a' /tmp/x /tmp | tr '\\n' ' '; touch /x 2>/dev/null || echo protected";
        let job = json!({"command": ["sh", "-c", script], "mounts": mounts, "edits": {"/root/readonly": true}});
        let played = root.play(machine, job);
        let expected = "kept\ntouch: /var/ro/x: Read-only file system\n65536 644 41777 1700 protected\n";
        let expected = expected.replace("41777 ", "80 ");
        let shown = played.out.replace("60 1700", "80 1700");
        assert_eq!(shown, expected, "{who:?} {}", played.err);
        assert!(played.err.contains("\"/var\", \"/var/cache\", \"/var/cache/x\", \"/var/ro\"]"), "{who:?} {played:?}");
        assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "kept\n");
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    }
}

pub(super) fn chroot(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let script = "id -u; ls /; touch /made; cd /; cd ..; pwd; exit 4";
        let played = root.play(machine, json!({"command": ["sh", "-c", script], "chroot": true, "workdir": "/new"}));
        assert_eq!(played.out, "0\nbin\ndev\netc\nnew\ntmp\n/\n", "{who:?} {}", played.err);
        let made = if who == Who::Root { "made=[\"/dev\", \"/dev/null\", " } else { "made=[\"/dev\"]\n" };
        assert!(played.err.contains(&format!("ended=Exited(4)\n{made}")), "{who:?} {played:?}");
        assert!(played.err.contains("note=the step has no mounts"), "{who:?} {played:?}");
        assert!(root.path().join("made").exists());
        let played = root.play(machine, json!({"command": ["nope"], "chroot": true}));
        assert_eq!(played.code, Some(127), "{who:?} {played:?}");
        let played = root.play(machine, json!({"command": ["sh", "-c", "kill -TERM $$"], "chroot": true}));
        assert!(played.err.contains("ended=Killed(15)"), "{who:?} {played:?}");
    }
}

/// Parts of `/proc` are covered, as in a container: then the kernel lets no user namespace have a new one.
pub(super) fn masked(machine: &Machine) {
    let script = "mount --make-rprivate / && mount --bind /dev/null /proc/uptime && exec \"$@\"";
    for who in [Who::Ranges, Who::OneId] {
        let root = Root::new(machine, who);
        let job = json!({"command": ["sh", "-c", "test -e /proc/self/status && ls /sys/class >/dev/null && echo $$; \
            (echo x >/proc/sys/vm/swappiness) 2>&1"]});
        let inner = root.command(machine, job);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        let played = Played::of(&command.output().unwrap());
        assert!(played.out.starts_with("1\n") && played.out.contains("Read-only file system"), "{who:?} {played:?}");
        assert!(played.err.contains("note=the step sees the processes outside"), "{who:?} {played:?}");
    }
}

/// With docker's capabilities and no namespaces to be had.
pub(super) fn in_a_container(machine: &Machine) {
    let root = Root::new(machine, Who::Root);
    let script = "echo out >/dev/null && id -u && grep -q x /etc/noprogram; chown 5:6 /tmp && exit 6";
    let inner = root.command(machine, json!({"command": ["sh", "-c", script], "entered": "nothing", "chroot": true}));
    let dockers = "chown,dac_override,fsetid,fowner,mknod,net_raw,setgid,setuid,setfcap,setpcap,net_bind_service,sys_chroot,kill,audit_write";
    let bounding = format!("--bounding-set=-all,+{}", dockers.replace(',', ",+"));
    let mut command = Command::new("setpriv");
    command.arg(bounding).arg("--inh-caps=-all").arg(inner.get_program()).args(inner.get_args());
    let played = Played::of(&command.output().unwrap());
    assert!(played.out == "0\n" && played.err.contains("ended=Exited(6)"), "{played:?}");
    assert!(played.err.contains("note=set-user-ID programs have no effect"), "{played:?}");
    let owner = fs::metadata(root.path().join("tmp")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 5);
}
