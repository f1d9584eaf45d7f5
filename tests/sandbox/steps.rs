//! Steps: one process by a runtime spec, without a runtime.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ociforge::cancel::Cancel;
use ociforge::error::Failure;
use ociforge::run::host::{Overrides, facts, keep_locked};
use ociforge_manifests::runtime::{ContainerRequest, Host, Network, RuntimeSettings, runtime_spec};
use ociforge_manifests::{Config, Document};
use ociforge_sandbox::step::{SandboxStep, SandboxStepError, run};
use ociforge_sandbox::{Confinement, IdMapping, Isolation, enter, enter_as};
use serde_json::{Value, json};

use super::Case;
use super::identity::{EVERYBODY, Machine, Played, Who};
use super::waiting::wait_until;

pub(crate) const CASES: &[Case] = &[
    ("steps::exit_codes_signals_and_output_come_through", exit_codes),
    ("steps::what_cannot_start_is_an_error", what_cannot_start),
    ("steps::user_groups_and_environment_are_the_specs", user_and_environment),
    ("steps::the_network_is_none_or_the_hosts", network),
    ("steps::only_its_own_processes_and_devices_are_seen", what_is_seen),
    ("steps::capabilities_are_dockers", capabilities),
    ("steps::the_filter_of_system_calls_holds", filter),
    ("steps::keys_of_the_caller_are_not_seen", keys),
    ("steps::limits_are_lowered_to_what_is_allowed", limits),
    ("steps::nothing_outlives_a_step", nothing_outlives),
    ("steps::nothing_outlives_a_killed_caller", killed_caller),
    ("steps::a_word_ends_a_fork_bomb", fork_bomb),
    ("steps::links_lead_no_mount_out_of_the_root", links),
    ("steps::mounts_are_the_specs", mounts),
    ("steps::a_root_is_enough", chroot),
    ("steps::what_cannot_be_mounted_is_the_containers", masked),
    ("steps::root_of_a_container_needs_no_namespaces", in_a_container),
];

/// A root filesystem with busybox, and what is to be done in it.
struct Root {
    directory: tempfile::TempDir,
    who: Who,
}

const PROGRAMS: [&str; 33] = [
    "sh", "sleep", "cat", "id", "grep", "ls", "env", "hostname", "ip", "nc", "ps", "kill", "mkdir", "mount", "touch",
    "readlink", "setsid", "true", "stat", "head", "wc", "echo", "test", "tr", "dd", "umount", "rm", "ln", "chown",
    "su", "seq", "sort", "cut",
];

impl Root {
    fn new(machine: &Machine, who: Who) -> Self {
        let directory = machine.directory(who);
        let root = directory.path().join("root");
        for name in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in PROGRAMS {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("etc/noprogram"), "").unwrap();
        fs::write(root.join("etc/script"), "echo no interpreter\n").unwrap();
        fs::write(root.join("etc/lost"), "#!/nowhere\n").unwrap();
        for name in ["etc/script", "etc/lost"] {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine.give(who, directory.path());
        Self { directory, who }
    }

    /// The same for a user whom the kernel lets make no devices.
    fn with_null(machine: &Machine, who: Who) -> Self {
        let root = Self::new(machine, who);
        fs::create_dir(root.path().join("dev")).unwrap();
        if who != Who::Root {
            fs::write(root.path().join("dev/null"), "").unwrap();
        }
        machine.give(who, root.directory.path());
        root
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    /// The file that has `job`.
    fn job(&self, mut job: Value) -> String {
        job["root"] = json!(self.path());
        let file = self.directory.path().join("job.json");
        fs::write(&file, job.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// The scenario with `job`.
    fn command(&self, machine: &Machine, job: Value) -> Command {
        machine.command(self.who, &["step", &self.job(job)])
    }

    fn play(&self, machine: &Machine, job: Value) -> Played {
        Played::of(&self.command(machine, job).output().unwrap())
    }

    fn sh(&self, machine: &Machine, script: &str) -> Played {
        self.play(machine, json!({"command": ["sh", "-c", script]}))
    }
}

/// Runs the step of a job, which is JSON, as the process under test.
pub(crate) fn play(job: &str) -> ExitCode {
    let job: Value = serde_json::from_slice(&fs::read(job).unwrap()).unwrap();
    let entered = if job["entered"] == "nothing" { enter_as(Isolation::Chroot) } else { enter() };
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => {
            eprintln!("error: {}", Failure::from(error));
            return ExitCode::from(99);
        }
    };
    let spec = spec(&job, &entered);
    let confinement = if job["chroot"] == true { Confinement::Chroot } else { Confinement::Namespaces };
    let cancel = Cancel::default();
    if let Some(after) = job["cancel"].as_u64() {
        let cancel = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after));
            cancel.cancel();
        });
    }
    let mut output = |bytes: &[u8]| std::io::Write::write_all(&mut std::io::stdout(), bytes).unwrap();
    let step = SandboxStep { spec: &spec, confinement, owners: None };
    let times = job["times"].as_u64().unwrap_or(1);
    let begun = Instant::now();
    for _ in 1..times {
        run(&entered, &step, &mut output, cancel.flag()).unwrap();
    }
    let result = run(&entered, &step, &mut output, cancel.flag());
    if times > 1 {
        println!("{:.2} ms each", begun.elapsed().as_secs_f64() * 1000.0 / times as f64);
    }
    match result {
        Ok(outcome) => {
            eprintln!("ended={:?}\nmade={:?}", outcome.ended, outcome.made);
            outcome.notes.iter().for_each(|note| eprintln!("note={note}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = error.exit_code();
            let cancelled = matches!(error, SandboxStepError::Cancelled);
            eprintln!("error: {}", Failure::from(error));
            ExitCode::from(if cancelled { 130 } else { code })
        }
    }
}

fn spec(job: &Value, entered: &ociforge_sandbox::Entered) -> Value {
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []},
        "config": {"Cmd": job["command"], "Env": ["FROM_IMAGE=1"]}});
    let config = Document::<Config>::from_json(config).unwrap();
    let network = (job["network"] == "host").then_some(Network::Host);
    let request = ContainerRequest {
        settings: RuntimeSettings { network, ..RuntimeSettings::default() },
        user: job["user"].as_str().map(str::to_owned),
        workdir: job["workdir"].as_str().map(str::to_owned),
        hostname: Some("step".parse().unwrap()),
        rootless: entered.rootless(),
        ..ContainerRequest::default()
    };
    let root = job["root"].as_str().unwrap().to_owned();
    let facts = facts(Overrides { rootless: entered.rootless(), ..Overrides::default() });
    let host = Host { root, runs_here: true, inside_user_namespace: entered.ids() != IdMapping::All, ..facts };
    let mut emitted = runtime_spec(&config, &std::collections::BTreeMap::new(), &request, &host).unwrap();
    keep_locked(&mut emitted);
    let mut spec = emitted.json;
    for mount in job["mounts"].as_array().into_iter().flatten() {
        spec["mounts"].as_array_mut().unwrap().push(mount.clone());
    }
    for (pointer, value) in job["edits"].as_object().into_iter().flatten() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    spec
}

fn exit_codes(machine: &Machine) {
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

fn what_cannot_start(machine: &Machine) {
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

fn user_and_environment(machine: &Machine) {
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

/// A key that only who possesses it sees (keyrings(7)).
fn keys(machine: &Machine) {
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

fn network(machine: &Machine) {
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

fn what_is_seen(machine: &Machine) {
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

fn capabilities(machine: &Machine) {
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

fn filter(machine: &Machine) {
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

fn limits(machine: &Machine) {
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

/// How many processes have this word on their command line.
fn processes_with(word: &str) -> usize {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.filter(|line| String::from_utf8_lossy(line).split('\0').any(|argument| argument == word)).count()
}

fn nothing_outlives(machine: &Machine) {
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

fn killed_caller(machine: &Machine) {
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

fn fork_bomb(machine: &Machine) {
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

fn links(machine: &Machine) {
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

fn mounts(machine: &Machine) {
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

fn chroot(machine: &Machine) {
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
fn masked(machine: &Machine) {
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
fn in_a_container(machine: &Machine) {
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
