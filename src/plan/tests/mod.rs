//! Recipes, good and bad.

mod errors;
mod layers;
mod recipes;
mod stages;
mod steps;

use std::path::Path;

use super::*;
use crate::error::Failure;

fn plan(text: &str) -> Plan {
    recipe::parse(Path::new("dir/ociforge.toml"), text.as_bytes()).map_err(Failure::from).unwrap()
}

/// The message, without the file's name, and the hint.
fn wrong(text: &str) -> String {
    let failure = Failure::from(recipe::parse(Path::new("f"), text.as_bytes()).unwrap_err());
    let message = failure.message.strip_prefix("f:").unwrap();
    failure.hint.map_or_else(|| message.to_owned(), |hint| format!("{message} | {hint}"))
}

const WHOLE: &str = r#"
name = "registry.example.com/ml/docsaid-training"
base = "nvcr.io/nvidia/pytorch:22.12-py3"
platforms = ["linux/amd64", "linux/arm64"]

[config]
workdir = "/code"
cmd = ["bash"]
entrypoint = []
user = "1000:1000"
expose = [6006, "53/udp", "8080/tcp"]
volumes = ["/data"]
stop-signal = "SIGINT"
labels = { "org.example.a" = "b" }
[config.env]
PYTHONDONTWRITEBYTECODE = "1"
EMPTY = ""

[python]
version = "3.8.10"
site-packages = "/usr/local/lib/python3.8/dist-packages"
executable = "/usr/bin/python3"

[[layer]]
directories = ["/app/a", "/app/b/"]
mode = "0777"
owner = "1000"

[[layer]]
pip = ["tqdm", "Pillow >= 10.0.0", "x @ https://user:secret@example.com/x.whl?token=secret"]

[[layer]]
copy = { from = "src", to = "/code/", exclude = ["**/*.pyc"], owner = "7:8", mode = 0o640 }

[[layer]]
tar = "rootfs.tar.xz"

[[layer]]
pip = { requirements = "requirements.txt" }

[[layer]]
pip = { lock = "pylock.toml" }

[[layer]]
[layer.pip]
wheels = "dist/*.whl"

[[layer]]
pip = { project = "lib", extras = ["Torch_Cuda", "all", "torch.cuda"] }
bytecode = true

[[layer]]
run = '''
set -e
make \
    -j
'''
env = { CC = "gcc", AR = "ar" }
workdir = "/src"
user = "app:1000"
network = "host"
mounts = [
    { bind = "src", to = "/src/", write = true },
    { cache = "/root/.cache/pip" },
    { cache = "/var/cache/apt", id = "apt", sharing = "shared" },
    { tmpfs = "/tmp", size = "1g" },
    { secret = "token" },
    { secret = "netrc", to = "/root/.netrc", mode = "0440", owner = "1000:1000" },
]

[[layer]]
run = ["/bin/echo", "it's", ""]

[runtime]
gpus = "all"
shm-size = "64g"
ipc = "host"
network = "host"
cpuset-cpus = "0-31"
ulimits = ["memlock=-1", "nofile=1024:4096"]

[lint]
allow = ["secret-env", "cuda-compat"]
"#;
