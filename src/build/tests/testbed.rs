//! An isolated runner for tests: this machine's own system directories, read-only, in namespaces of their own.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::python::{IsolatedCommand, IsolatedError, IsolatedRunner, OUT};

/// The Python that is expected on the machine.
pub(super) const PYTHON: &str = "/usr/bin/python3";

/// Makes a root in `$1` of the machine's system directories and the directories that follow as `from to`, and runs in
/// it what comes after `--`.
const ENTER: &str = r#"
set -e
root=$1; shift
mount -t tmpfs tmpfs "$root"
for name in usr etc dev; do mkdir "$root/$name"; mount --rbind "/$name" "$root/$name"; done
for name in bin lib lib64; do ln -s "usr/$name" "$root/$name"; done
mkdir -m 1777 "$root/tmp"
while [ "$1" != -- ]; do mkdir -p "$root$2"; mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot "$root" "$@"
"#;

/// Runs jobs, and counts them.
#[derive(Default)]
pub(super) struct Testbed {
    pub(super) labels: Mutex<Vec<String>>,
    /// `PATH` instead of the usual one.
    pub(super) path: Option<&'static str>,
}

#[async_trait]
impl IsolatedRunner for Testbed {
    async fn run(&self, job: IsolatedCommand) -> Result<(), IsolatedError> {
        self.labels.lock().unwrap().push(job.label.clone());
        tokio::task::block_in_place(|| run(&job, self.path.unwrap_or("/usr/bin:/bin")))
    }
}

fn run(job: &IsolatedCommand, path: &str) -> Result<(), IsolatedError> {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--"]);
    command.args(["/bin/sh", "-c", ENTER, "sh"]).arg(root.path());
    for (from, to) in &job.binds {
        command.arg(from).arg(to);
    }
    command.arg(&job.out).arg(OUT).args(["--", "/usr/bin/env", "-i"]).arg(format!("PATH={path}"));
    command.args(job.env.iter().map(|(name, value)| format!("{name}={value}"))).args(&job.command);
    let output = command.current_dir(Path::new("/")).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    let last_lines = lines[lines.len().saturating_sub(30)..].to_vec();
    Err(IsolatedError::Failed { code: output.status.code(), last_lines })
}
