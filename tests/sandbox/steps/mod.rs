//! Steps: one process by a runtime spec, without a runtime.

mod isolation;
mod mounts;
mod processes;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode};
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

pub(crate) const CASES: &[Case] = &[
    ("steps::exit_codes_signals_and_output_come_through", processes::exit_codes),
    ("steps::what_cannot_start_is_an_error", processes::what_cannot_start),
    ("steps::user_groups_and_environment_are_the_specs", processes::user_and_environment),
    ("steps::the_network_is_none_or_the_hosts", isolation::network),
    ("steps::only_its_own_processes_and_devices_are_seen", isolation::what_is_seen),
    ("steps::capabilities_are_dockers", isolation::capabilities),
    ("steps::the_filter_of_system_calls_holds", isolation::filter),
    ("steps::keys_of_the_caller_are_not_seen", isolation::keys),
    ("steps::limits_are_lowered_to_what_is_allowed", isolation::limits),
    ("steps::nothing_outlives_a_step", processes::nothing_outlives),
    ("steps::nothing_outlives_a_killed_caller", processes::killed_caller),
    ("steps::a_word_ends_a_fork_bomb", processes::fork_bomb),
    ("steps::links_lead_no_mount_out_of_the_root", mounts::links),
    ("steps::mounts_are_the_specs", mounts::mounts),
    ("steps::a_root_is_enough", mounts::chroot),
    ("steps::what_cannot_be_mounted_is_the_containers", mounts::masked),
    ("steps::root_of_a_container_needs_no_namespaces", mounts::in_a_container),
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
