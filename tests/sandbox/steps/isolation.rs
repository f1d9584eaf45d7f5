//! What a step may see and do.

use super::*;

/// A key that only who possesses it sees (keyrings(7)).
pub(super) fn keys(machine: &Machine) {
    let [keyctl, add_key] = if cfg!(target_arch = "x86_64") { [250, 248] } else { [219, 217] };
    let script = format!(
        "syscall({keyctl}, 1, 0) > 0 or die; my ($kind, $name, $value) = ('user', 'of-the-caller', 'secret'); \
         my $key = syscall({add_key}, $kind, $name, $value, 6, -3); $key > 0 or die; \
         syscall({keyctl}, 5, $key, 0x3f000000) == 0 or die; exec @ARGV or die"
    );
    for who in EVERYBODY {
        let root = Root::with_null(machine, who);
        let job = root.job(json!({"command": ["cat", "/proc/keys"], "edits": {"/linux/maskedPaths": []}}));
        let mut words = machine.words(who, &["step", &job]);
        let program = words.iter().position(|word| *word == machine.program().to_str().unwrap()).unwrap();
        words.splice(program..program, ["/usr/bin/perl", "-e", &script, "--"].map(str::to_owned));
        let played = |words: &[String]| Played::of(&Command::new(&words[0]).args(&words[1..]).output().unwrap());
        let seen = played(&[&words[..program + 4], &["cat".to_owned(), "/proc/keys".to_owned()]].concat());
        assert!(seen.out.contains("of-the-caller"), "{who:?} {seen:?}");
        let step = played(&words);
        assert!(step.err.contains("ended=Exited(0)") && !step.out.contains("of-the-caller"), "{who:?} {step:?}");
    }
}

pub(super) fn network(machine: &Machine) {
    let here = fs::read_dir("/sys/class/net").unwrap().count();
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        // The state of a socket that listens (tcp_states.h) is 0A. The server's input stays open: at its end nc closes its
        // side of the connection, and the client ends when it sees that, even with its own input not yet sent.
        let script = "mkfifo /open; exec 3<>/open; nc -l -p 9 <&3 &
            until grep -q ':0009 [0-9A-F:]* 0A' /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done
            echo hello | nc 127.0.0.1 9; wait; cat /proc/net/dev | wc -l; ip addr";
        let played = root.sh(machine, script);
        assert!(played.out.starts_with("hello\n3\n1: lo: <LOOPBACK,UP"), "{who:?} {played:?}");
        assert!(played.out.contains("127.0.0.1/8"), "{who:?} {played:?}");
        let played =
            root.play(machine, json!({"command": ["sh", "-c", "cat /proc/net/dev | wc -l"], "network": "host"}));
        assert_eq!(played.out, format!("{}\n", here + 2), "{who:?} {}", played.err);
    }
}

pub(super) fn what_is_seen(machine: &Machine) {
    let script = "set -e; for p in /proc/[0-9]*; do test $p = /proc/1 -o $p = /proc/$$ || echo $p; done
        touch /sys/x 2>/dev/null && echo /sys; touch /proc/sys/x 2>/dev/null && echo /proc/sys
        (echo x >/proc/sys/kernel/hostname) 2>/dev/null && echo hostname
        test ! -s /proc/kcore; test -z \"$(ls /sys/firmware)\"; test \"$(cat /proc/keys | wc -c)\" = 0
        echo x >/dev/null; test \"$(head -c 3 /dev/zero | wc -c)\" = 3; head -c 9 /dev/urandom | wc -c
        test -c /dev/full -a -c /dev/tty -a -c /dev/random; readlink /dev/fd; readlink /dev/stdin; readlink /dev/ptmx
        test -d /dev/shm; stat -c %a /dev/shm /dev/null; touch /dev/shm/x; ls /dev/pts; grep -c ' / ' /proc/self/mounts || :";
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let played = root.sh(machine, script);
        let expected = "9\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n1777\n666\nptmx\n1\n";
        assert!(played.err.contains("Exited(0)") && played.out == expected, "{who:?} {played:?}");
        assert!(
            played.err.contains("made=[\"/proc\", \"/dev\", \"/sys\"]") && !played.err.contains("note"),
            "{played:?}"
        );
        // Nothing is left on the host, and nothing in the root but the places.
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        for place in ["proc", "dev", "sys"] {
            assert_eq!(fs::read_dir(root.path().join(place)).unwrap().count(), 0, "{who:?} {place}");
        }
    }
}

pub(super) fn capabilities(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let script = "grep Cap /proc/self/status | tr -d '\\t'; mount -t tmpfs x /tmp 2>&1";
        let played = root.sh(machine, script);
        let dockers = "CapInh:0000000000000000\nCapPrm:00000000a80425fb\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nCapAmb:0000000000000000\n";
        assert!(played.out.starts_with(dockers) && played.out.contains("mount: "), "{who:?} {played:?}");
        if who != Who::OneId {
            let played = root.play(machine, json!({"command": ["grep", "Cap", "/proc/self/status"], "user": "5"}));
            let lost = dockers
                .replace("Prm:00000000a80425fb", "Prm:0000000000000000")
                .replace("Eff:00000000a80425fb", "Eff:0000000000000000");
            assert_eq!(played.out.replace('\t', ""), lost, "{who:?} {}", played.err);
        }
    }
}

pub(super) fn filter(machine: &Machine) {
    let own = json!({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18},
        {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]}});
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let expected = if who == Who::OneId { "1" } else { "0" };
        let played = root.sh(machine, "grep -e Seccomp: -e NoNew /proc/self/status");
        assert_eq!(played.out, format!("NoNewPrivs:\t{expected}\nSeccomp:\t2\n"), "{who:?} {}", played.err);
        let script =
            "mkdir /tmp/x 2>&1; test -e /tmp/x && echo made; sh -c 'kill -0 $$; kill -USR1 $$' 2>/dev/null; echo $?";
        let played = root.play(machine, json!({"command": ["sh", "-c", script], "edits": own}));
        assert_eq!(
            played.out, "mkdir: can't create directory '/tmp/x': Invalid cross-device link\n159\n",
            "{who:?} {}",
            played.err
        );
        let strange = json!({"/linux/seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}});
        let played = root.play(machine, json!({"command": ["true"], "edits": strange}));
        assert!(played.code == Some(125) && played.err.contains("cause: `SCMP_ACT_NOTIFY`"), "{played:?}");
    }
}

pub(super) fn limits(machine: &Machine) {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 2_000_000_000_u64}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let job = json!({"command": ["sh", "-c", "ulimit -n; ulimit -c"], "edits": {"/process/rlimits": limits}});
        let played = root.play(machine, job);
        assert_eq!(played.out, "100\n0\n", "{who:?} {}", played.err);
        assert!(
            played.err.contains("note=the limit nofile is ") && played.err.contains("instead of 2000000000"),
            "{played:?}"
        );
    }
}
