//! The process of a step: its start, end, user and environment, and what it leaves running.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::*;
use crate::waiting::wait_until;

pub(super) fn exit_codes(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        for code in [0, 1, 7, 125, 255] {
            let played = root.sh(machine, &format!("cat; echo out; echo err >&2; echo out; exit {code}"));
            let ended = format!("ended=Exited({code})");
            assert!(played.out == "out\nerr\nout\n" && played.err.contains(&ended), "{who:?} {played:?}");
        }
        // The first process of a namespace is not killed from inside, but from outside.
        let played = root.play(machine, json!({"command": ["sh", "-c", "ulimit -t 1; while :; do :; done"]}));
        assert!(played.err.contains("ended=Killed(9)"), "{who:?} {played:?}");
        let played = root.sh(machine, "dd if=/dev/zero bs=1000000 count=20 2>/dev/null");
        assert_eq!(played.out.len(), 20_000_000, "{who:?} {}", played.err);
    }
}

pub(super) fn what_cannot_start(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        for (program, code, said) in [
            ("nope", 127, "error: cannot find the program nope\n  hint: "),
            ("/none", 127, "No such file"),
            ("/etc/lost", 127, "the interpreter in its first line"),
            ("/etc/noprogram", 126, "Permission denied"),
            ("/etc/script", 126, "Exec format error"),
            ("/etc", 126, "Permission denied"),
            ("", 127, "hint"),
        ] {
            let played = root.play(machine, json!({"command": [program]}));
            assert!(played.code == Some(code) && played.err.contains(said), "{who:?} {program} {played:?}");
        }
        let missing = json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["rbind"]});
        let played = root.play(machine, json!({"command": ["true"], "mounts": [missing]}));
        assert!(played.code == Some(125) && played.err.contains("error: cannot mount /no/such at /x\n"), "{played:?}");
        fs::rename(root.path(), root.directory.path().join("moved")).unwrap();
        let played = root.sh(machine, "true");
        assert!(played.code == Some(125) && played.err.contains("error: cannot mount "), "{played:?}");
    }
}

pub(super) fn user_and_environment(machine: &Machine) {
    for who in EVERYBODY {
        let root = Root::new(machine, who);
        let mut command = root.command(machine, json!({"command": ["env"]}));
        let played = Played::of(&command.env("SECRET", "x").output().unwrap());
        let mut lines: Vec<&str> = played.out.lines().collect();
        lines.sort_unstable();
        let names: Vec<&str> = lines.iter().map(|line| line.split('=').next().unwrap()).collect();
        assert_eq!(names, ["FROM_IMAGE", "HOSTNAME", "PATH"], "{who:?} {played:?}");
        let script = "id -u; id -g; id -G; umask; hostname; pwd; cat /proc/self/oom_score_adj; echo $$; ls \
            /proc/self/fd | wc -l";
        let edits = json!({"/process/user/additionalGids": [7, 8], "/process/oomScoreAdj": 500});
        let job =
            json!({"command": ["sh", "-c", script], "user": "1000:1001", "workdir": "/place/here", "edits": edits});
        let mut command = root.command(machine, job);
        // A descriptor that somebody left open.
        let words: Vec<_> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
        command = Command::new("sh");
        command.args(["-c", "exec 9</etc/passwd \"$@\"", "sh"]).args(words);
        let played = Played::of(&command.output().unwrap());
        if who == Who::OneId {
            assert!(
                played.code == Some(101) || played.err.contains("this user namespace has no group 1001"),
                "{played:?}"
            );
            continue;
        }
        assert_eq!(played.out, "1000\n1001\n1001 7 8\n0022\nstep\n/place/here\n500\n1\n4\n", "{who:?} {}", played.err);
        assert!(root.path().join("place/here").is_dir() && !played.err.contains("place/here"), "{played:?}");
    }
}

/// How many processes have this word on their command line.
fn processes_with(word: &str) -> usize {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.filter(|line| String::from_utf8_lossy(line).split('\0').any(|argument| argument == word)).count()
}

pub(super) fn nothing_outlives(machine: &Machine) {
    for who in EVERYBODY {
        for chroot in [false, true] {
            let root = Root::with_null(machine, who);
            let word = format!("7{}", std::process::id() * 10 + who as u32);
            // Until all are there; without /proc nobody can tell.
            let script = format!(
                "for i in 1 2 3; do setsid sh -c 'sleep {word} & echo > /up$0; sleep {word}' $i & done
                 until test -e /up1 -a -e /up2 -a -e /up3; do sleep 0.01; done; exit 3"
            );
            let played = root.play(machine, json!({"command": ["sh", "-c", script], "chroot": chroot}));
            assert!(played.err.contains("ended=Exited(3)"), "{who:?} {played:?}");
            assert_eq!(processes_with(&word), 0, "{who:?} {chroot}");
        }
    }
}

pub(super) fn killed_caller(machine: &Machine) {
    for who in EVERYBODY {
        for chroot in [false, true] {
            let root = Root::with_null(machine, who);
            let word = format!("8{}", std::process::id() * 10 + who as u32);
            let script = format!("setsid sleep {word} & echo ready; exec sleep {word}");
            let mut command = root.command(machine, json!({"command": ["sh", "-c", script], "chroot": chroot}));
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut line = String::new();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut line).unwrap();
            wait_until("both are there", || processes_with(&word) >= 2);
            child.kill().unwrap();
            child.wait().unwrap();
            output.read_to_string(&mut line).unwrap();
            wait_until("both are gone", || processes_with(&word) == 0);
        }
    }
}

pub(super) fn fork_bomb(machine: &Machine) {
    for who in EVERYBODY {
        for chroot in [false, true] {
            let root = Root::with_null(machine, who);
            let word = format!("9{}", std::process::id() * 10 + who as u32);
            // Each of sixty has a child that takes its place, for ever.
            let bomb = "b() { sleep 0.01; b & exit; }";
            let script = format!("{bomb}; for i in $(seq 60); do b & done; sleep {word}");
            let job = json!({"command": ["sh", "-c", script, &word], "chroot": chroot, "cancel": 700});
            let played = root.play(machine, job);
            assert!(played.code == Some(130) && played.err.contains("the step was interrupted"), "{who:?} {played:?}");
            assert_eq!(processes_with(&word), 0, "{who:?} {chroot}");
        }
    }
}
