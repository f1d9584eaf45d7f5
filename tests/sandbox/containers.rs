//! Containers run by real runtimes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use ociforge::run::runtime::Runtime;
use rustix::process::{Pid, Signal, kill_process};

use super::Case;
use super::bundle::Bundle;
use super::identity::{EVERYBODY, Machine, Played, Who};
use super::waiting::wait_until;

pub(crate) const CASES: &[Case] = &[
    ("containers::exit_codes_and_output_come_through", exit_codes_and_output_come_through),
    ("containers::what_cannot_start_is_an_error_with_a_cause", what_cannot_start),
    ("containers::stdin_is_empty_unless_interactive", stdin_is_empty_unless_interactive),
    ("containers::signals_are_passed_on", signals_are_passed_on),
    ("containers::a_killed_process_leaves_no_container", a_killed_process_leaves_no_container),
    ("containers::control_c_comes_once", control_c_comes_once),
    ("containers::a_terminal_is_a_terminal", a_terminal_is_a_terminal),
    ("containers::a_terminal_without_input_reads_nothing", a_terminal_without_input_reads_nothing),
    ("containers::signals_are_passed_on_beside_a_terminal", signals_are_passed_on_beside_a_terminal),
    ("containers::without_a_terminal_there_is_none", without_a_terminal_there_is_none),
    ("containers::a_killed_runtime_is_an_error", a_killed_runtime_is_an_error),
    ("containers::runtimes_describe_themselves", runtimes_describe_themselves),
];

const RUNTIMES: [&str; 2] = ["runc", "crun"];

fn combinations() -> impl Iterator<Item = (Who, &'static str)> {
    EVERYBODY.into_iter().flat_map(|who| RUNTIMES.map(|runtime| (who, runtime)))
}

fn words<'a>(runtime: &'a str, bundle: &'a (String, String), flags: &'a str) -> [&'a str; 5] {
    ["run", runtime, &bundle.0, &bundle.1, flags]
}

fn play(machine: &Machine, who: Who, runtime: &str, arguments: &[&str]) -> Played {
    let bundle = Bundle::new(machine, who, false, arguments);
    let played = machine.play(who, &words(runtime, &(bundle.path(), bundle.state()), "-"));
    assert_eq!(bundle.left(), [] as [std::path::PathBuf; 0], "{who:?} {runtime}");
    played
}

fn exit_codes_and_output_come_through(machine: &Machine) {
    for (who, runtime) in combinations() {
        for code in [0, 1, 7, 125, 255] {
            let played = play(machine, who, runtime, &["sh", "-c", &format!("id -u; echo e >&2; exit {code}")]);
            let seen = (played.code, played.out.as_str(), played.err.as_str());
            assert_eq!(seen, (Some(code), "0\n", "e\n"), "{who:?} {runtime}");
        }
        // Its first process is not killed by a signal from inside, but a child is.
        let played = play(machine, who, runtime, &["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]);
        assert_eq!(played.code, Some(137), "{who:?} {runtime}");
    }
}

fn what_cannot_start(machine: &Machine) {
    for (who, runtime) in combinations() {
        for (program, code, cause) in [("nope", 127, "not found"), ("/none", 127, ""), ("/etc/noprogram", 126, "")] {
            let played = play(machine, who, runtime, &[program]);
            assert_eq!(played.code, Some(code), "{who:?} {runtime} {played:?}");
            let error = format!("error: {runtime} cannot start the container\n  cause: ");
            assert!(played.err.contains(&error) && played.err.contains(cause), "{who:?} {runtime} {played:?}");
        }
    }
    let bundle = Bundle::new(machine, Who::Root, false, &["sh"]);
    std::fs::remove_dir_all(format!("{}/rootfs", bundle.path())).unwrap();
    let played = machine.play(Who::Root, &words("runc", &(bundle.path(), bundle.state()), "-"));
    assert_eq!(played.code, Some(125), "{played:?}");
    let played = machine.play(Who::Root, &words("no-such-runtime", &(bundle.path(), bundle.state()), "-"));
    assert!(played.err.contains("error: cannot find the runtime no-such-runtime\n  hint: "), "{played:?}");
}

fn stdin_is_empty_unless_interactive(machine: &Machine) {
    for (flags, expected) in [("-", ""), ("i", "input\n")] {
        let bundle = Bundle::new(machine, Who::Root, false, &["cat"]);
        let mut child = Running::start(machine, Who::Root, "runc", &bundle, flags);
        // Without a reader it may be closed already.
        let _ = child.stdin.take().unwrap().write_all(b"input\n");
        assert_eq!(child.rest(), (Some(0), expected.to_owned()), "{flags:?}");
    }
}

/// A scenario with a container that says `ready`.
struct Running {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(machine: &Machine, who: Who, runtime: &str, bundle: &Bundle, flags: &str) -> Self {
        Self::spawn(&mut machine.command(who, &words(runtime, &(bundle.path(), bundle.state()), flags)))
    }

    /// The same on a terminal of its own, whose keys are `stdin`.
    fn on_terminal(machine: &Machine, who: Who, runtime: &str, bundle: &Bundle, flags: &str) -> Self {
        let words = machine.words(who, &words(runtime, &(bundle.path(), bundle.state()), flags));
        // `exec`, so that script's child is the process under test.
        let command = format!("exec {}", words.join(" "));
        Self::spawn(Command::new("script").args(["-q", "-e", "-c", &command, "/dev/null"]))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// Reads until a line ends with `word`.
    fn wait_for(&mut self, word: &str) -> String {
        let mut read = String::new();
        while !read.trim_end().ends_with(word) {
            assert_ne!(self.stdout.read_line(&mut read).unwrap(), 0, "no {word} in {read:?}");
        }
        read
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// The rest of the output, up to the end of all that can write it, and the exit code.
    fn rest(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

const TRAPS: &str = "for s in TERM HUP INT QUIT USR1 USR2; do trap \"echo $s; exit 9\" $s; done; echo ready; \
                     while :; do sleep 0.05; done";

fn signals_are_passed_on(machine: &Machine) {
    let signals = [
        ("TERM", Signal::TERM),
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
    ];
    for (who, runtime) in combinations() {
        for (name, signal) in signals {
            let bundle = Bundle::new(machine, who, false, &["sh", "-c", TRAPS]);
            let mut running = Running::start(machine, who, runtime, &bundle, "-");
            running.wait_for("ready");
            send(running.child.id(), signal);
            assert_eq!(running.rest(), (Some(9), format!("{name}\n")), "{who:?} {runtime}");
            assert_eq!(bundle.left(), [] as [std::path::PathBuf; 0]);
        }
    }
}

fn a_killed_process_leaves_no_container(machine: &Machine) {
    for (who, runtime) in combinations() {
        let bundle =
            Bundle::new(machine, who, false, &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]);
        let mut running = Running::start(machine, who, runtime, &bundle, "-");
        running.wait_for("ready");
        send(running.child.id(), Signal::KILL);
        // The output ends only when the container has ended, too.
        assert_eq!(running.rest(), (None, String::new()), "{who:?} {runtime}");
        wait_until("the runtime's state is gone", || std::fs::read_dir(bundle.state()).unwrap().count() == 0);
    }
}

fn control_c_comes_once(machine: &Machine) {
    let script = "trap 'echo INT' INT; trap 'echo TERM; exit 9' TERM; echo ready; while :; do sleep 99 & wait $!; done";
    for (who, runtime) in combinations() {
        let bundle = Bundle::new(machine, who, false, &["sh", "-c", script]);
        let mut running = Running::on_terminal(machine, who, runtime, &bundle, "i");
        running.wait_for("ready");
        // Two signals that come at once may be one to the shell, but not each time. What is too many is left over.
        for _ in 0..20 {
            running.type_in(b"\x03");
            running.wait_for("INT");
        }
        send(scenario_of(running.child.id()), Signal::TERM);
        let (code, rest) = running.rest();
        assert_eq!((code, rest.trim_end()), (Some(9), "TERM"), "{who:?} {runtime}");
    }
}

/// The process under test, the only child of script(1).
fn scenario_of(script: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn a_terminal_is_a_terminal(machine: &Machine) {
    let script = "tty; echo ready; read line; echo \"<$line>\"; trap 'echo INT; exit 3' INT; echo again; while :; do \
        sleep 0.05; done";
    for (who, runtime) in combinations() {
        let bundle = Bundle::new(machine, who, true, &["sh", "-c", script]);
        let mut running = Running::on_terminal(machine, who, runtime, &bundle, "it");
        assert!(running.wait_for("ready").contains("/dev/pts/0"), "{who:?} {runtime}");
        running.type_in(b"a line\r");
        assert!(running.wait_for("again").contains("<a line>"), "{who:?} {runtime}");
        running.type_in(b"\x03");
        let (code, rest) = running.rest();
        assert!(code == Some(3) && rest.contains("INT"), "{who:?} {runtime} {code:?} {rest:?}");
    }
}

fn a_terminal_without_input_reads_nothing(machine: &Machine) {
    let script = "trap 'echo INT; exit 3' INT; tty; stty size; echo ready; read line; echo \"got <$line>\"";
    for (who, runtime) in combinations() {
        let bundle = Bundle::new(machine, who, true, &["sh", "-c", script]);
        let mut running = Running::on_terminal(machine, who, runtime, &bundle, "t");
        assert!(running.wait_for("ready").contains("/dev/pts/0"), "{who:?} {runtime}");
        // A line that came through would come before the signal.
        running.type_in(b"a line\r");
        running.type_in(b"\x03");
        let (code, rest) = running.rest();
        assert!(
            code == Some(3) && rest.contains("INT") && !rest.contains("got"),
            "{who:?} {runtime} {code:?} {rest:?}"
        );
        assert_eq!(bundle.left(), [] as [std::path::PathBuf; 0]);
    }
}

/// A signal that is sent to this process is for the container, and not for a runtime that takes it for ^C.
fn signals_are_passed_on_beside_a_terminal(machine: &Machine) {
    for flags in ["it", "t"] {
        for (who, runtime) in combinations() {
            for (name, signal) in [("INT", Signal::INT), ("TERM", Signal::TERM), ("USR1", Signal::USR1)] {
                let bundle = Bundle::new(machine, who, true, &["sh", "-c", TRAPS]);
                let mut running = Running::on_terminal(machine, who, runtime, &bundle, flags);
                running.wait_for("ready");
                send(scenario_of(running.child.id()), signal);
                let (code, rest) = running.rest();
                assert!(code == Some(9) && rest.contains(name), "{flags} {who:?} {runtime} {name} {code:?} {rest:?}");
            }
        }
    }
}

fn without_a_terminal_there_is_none(machine: &Machine) {
    for (flags, error) in [("it", "error: the input device is not a terminal"), ("t", "error: there is no terminal")] {
        let bundle = Bundle::new(machine, Who::Root, true, &["tty"]);
        let words = machine.words(Who::Root, &words("runc", &(bundle.path(), bundle.state()), flags));
        // In a session without a terminal.
        let output = Command::new("setsid").arg("--wait").args(words).stdin(Stdio::null()).output().unwrap();
        let played = Played::of(&output);
        assert!(played.err.contains(error) && played.err.contains("hint: leave out -t"), "{played:?}");
    }
}

fn a_killed_runtime_is_an_error(machine: &Machine) {
    for (who, runtime) in combinations() {
        let bundle = Bundle::new(machine, who, false, &["sh", "-c", "echo ready; while :; do sleep 1; done"]);
        let mut command = machine.command(who, &words(runtime, &(bundle.path(), bundle.state()), "-"));
        let mut running = Running::spawn(command.stderr(Stdio::piped()));
        running.wait_for("ready");
        send(runtime_of(running.child.id(), runtime), Signal::KILL);
        let (code, _) = running.rest();
        let mut errors = String::new();
        running.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(code == Some(125) && errors.contains("was ended by signal 9"), "{who:?} {runtime} {code:?} {errors}");
        assert_eq!(bundle.left(), [] as [std::path::PathBuf; 0], "{who:?} {runtime}");
    }
}

/// The runtime that a process under test has started.
fn runtime_of(scenario: u32, name: &str) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{scenario}/task/{scenario}/children")).unwrap();
    let is_runtime =
        |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name));
    children.split_whitespace().find(is_runtime).unwrap().parse().unwrap()
}

fn runtimes_describe_themselves(_: &Machine) {
    let path = std::env::var_os("PATH");
    for name in RUNTIMES {
        let runtime = Runtime::find(Some(name), path.as_deref()).unwrap();
        let description = runtime.describe().unwrap();
        assert!(description.version.starts_with('1') && description.spec.unwrap().starts_with("1."), "{name}");
        if let Some(features) = description.features {
            assert!(features.hooks.contains(&"prestart".into()) && features.linux.cgroup.v1, "{name} {features:?}");
        } else {
            assert_ne!(name, "runc");
        }
    }
    assert_eq!(Runtime::all(path.as_deref()).iter().map(Runtime::name).take(2).collect::<Vec<_>>(), RUNTIMES);
}
