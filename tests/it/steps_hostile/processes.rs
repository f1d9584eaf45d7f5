//! Processes that stay or fork, output of any kind, and builds at once.

use super::*;
use crate::support::process::start;
use crate::support::wait_until;

/// The processes whose command line has `word` in it.
fn running(word: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.map(|words| String::from_utf8_lossy(&words).into_owned()).filter(|words| words.contains(word)).collect()
}

#[test]
fn what_a_step_leaves_running_is_gone() {
    for who in ALL {
        let scene = Scene::new(who);
        let token = format!("4{}", 1000 + who as u32 + std::process::id());
        // In the background, in a session of its own, without a parent, deaf, and all holding the output open.
        let script = format!(
            "sleep {token} & setsid sleep {token} & (sleep {token} &) ; (trap '' HUP; sleep {token}) & \
             (trap '' TERM INT HUP; sleep {token}) & sh -c 'setsid sh -c \"sleep {token} &\" &'; touch /done"
        );
        // It does not wait for them: they take longer than a test may.
        let layer = scene.layer(&[&script], "");
        assert!(layer.contains(" done\n"), "{who:?}: {layer}");
        assert_eq!(running(&token), [""; 0], "{who:?}");
        scene.play(&[&format!("{script}; exit 7")], "").fails(7, &["exit code 7"]);
        assert_eq!(running(&token), [""; 0], "{who:?}");
    }
}

#[test]
fn a_step_that_forks_for_ever_is_stopped() {
    for who in [Who::Root, Who::OneId, Who::Chroot] {
        let scene = Scene::new(who);
        let token = format!("fork{}{}", who as u32, std::process::id());
        // As many as the machine surely stands, each of which is replaced when it ends.
        let script = format!(
            "# {token}\ngrow() {{ while :; do [ $1 -gt 0 ] && grow $(($1 - 1)) & [ $1 -gt 0 ] && grow $(($1 - 1)) & \
                wait; done; }}\n\
             grow 6"
        );
        let child = start(&mut scene.command(&[&script], "", &[]));
        wait_until("it forks", || running(&token).len() >= 60);
        // The program itself in its namespace.
        let pid =
            if who == Who::Chroot { tool("pgrep", &["-P", &child.id().to_string()]) } else { child.id().to_string() };
        tool("kill", &["-INT", pid.trim()]);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{who:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(running(&token), [""; 0], "{who:?}");
        scene.place.assert_clean();
    }
}

#[test]
fn output_of_any_kind() {
    for who in ALL {
        let scene = Scene::new(who);
        let said = scene.play(&["printf 'no end \\033[31mred\\033[0m\\033]0;title\\007 \\377'; exit 3"], "");
        let said = said.fails(3, &["exit code 3", "no end red"]);
        assert!(!said.contains(['\x1b', '\x07']), "{said:?}");
        scene.play(&["exec >&- 2>&- <&-; touch /x"], "").ok();
        scene.play(&["rm /bin/sh; exit 4"], "").fails(4, &["exit code 4"]);
        let missing: &[&str] = &["cannot find the program /bin/sh"];
        scene.play(&["rm /bin/sh", "true"], "").fails(127, missing);
    }
}

#[test]
fn output_takes_no_memory() {
    let scene = Scene::new(Who::Root);
    for script in ["yes | head -c 60000000", "head -c 60000000 /dev/zero"] {
        let command = scene.command(&[script], "", &[]);
        let words: Vec<_> =
            [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_str().unwrap()).collect();
        let words = [&["-f", "%M", "-o", "memory"], &words[..]].concat();
        run(&mut scene.place.wrapped("/usr/bin/time", words)).ok();
        let most: u64 = fs::read_to_string(scene.place.path("memory")).unwrap().trim().parse().unwrap();
        eprintln!("{script}: {most} KiB");
        assert!(most < 80_000, "{most} KiB");
    }
}

#[test]
fn two_builds_at_once() {
    for who in [Who::Root, Who::OneId, Who::Chroot] {
        let scene = Scene::new(who);
        let mounts = "mounts = [{ cache = '/c' }]";
        let script = [
            "n=0; while [ $n -lt 30 ]; do echo $n > /file$n; n=$((n + 1)); done; sleep 1; touch /c/x",
            "sleep 0.3; touch /y",
        ];
        let mut command = scene.command(&script, mounts, &["--no-cache"]);
        let builds = [start(&mut command), start(&mut command), start(&mut command)];
        let digests = builds.map(|child| Ran::of(format!("{who:?}"), child.wait_with_output().unwrap()).ok());
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        assert_eq!(scene.play(&script, mounts).ok(), digests[0]);
    }
}
