//! Whole specs.

mod annotations;
mod bad_input;
mod containers;
mod flags;
mod gpus;
mod rootless;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::document::Document;

fn image(config: Value) -> Config {
    let json = json!({
        "os": "linux", "architecture": "amd64", "created": "2024-01-02T03:04:05Z", "author": "me",
        "rootfs": {"type": "layers", "diff_ids": []}, "config": config,
    });
    (*Document::<Config>::from_json(json).unwrap()).clone()
}

/// Something in the style of NVIDIA's images.
fn pytorch() -> Config {
    image(json!({
        "Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"], "Cmd": ["bash"], "WorkingDir": "/code",
        "Env": ["PATH=/usr/local/cuda/bin:/usr/bin", "NVIDIA_VISIBLE_DEVICES=void", "CUDA_VERSION=11.8.0.065",
                "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"],
        "Labels": {"a": "b", "org.opencontainers.image.author": "you", "org.systemd.property.ExecStart": "evil"},
        "ExposedPorts": {"8888/tcp": {}, "6006/tcp": {}}, "StopSignal": "SIGINT",
    }))
}

fn host() -> Host {
    Host { root: "/bundle/rootfs".into(), nvidia_hook: Some("/opt/nvidia/hook".into()), ..Host::default() }
}

fn emit(config: &Config, request: &ContainerRequest) -> Emitted {
    runtime_spec(config, &BTreeMap::new(), request, &host()).unwrap()
}

fn settings(json: Value) -> RuntimeSettings {
    serde_json::from_value(json).unwrap()
}

/// The seed of it all: `--gpus all --shm-size=64g --ipc=host --net=host --cpuset-cpus="0-31" -it`.
fn run_line() -> ContainerRequest {
    let settings = settings(json!({
        "gpus": "all", "shm-size": "64g", "ipc": "host", "network": "host", "cpuset-cpus": "0-31",
    }));
    ContainerRequest {
        settings,
        tty: true,
        interactive: true,
        command: vec!["bash".into()],
        ..ContainerRequest::default()
    }
}

/// Files that lie at the same place in the container.
fn shared(files: &[&str]) -> BTreeMap<String, String> {
    files.iter().map(|&file| (file.to_owned(), file.to_owned())).collect()
}

fn namespaces(spec: &Value) -> Vec<&str> {
    let all = spec["linux"]["namespaces"].as_array().unwrap();
    all.iter().map(|namespace| namespace["type"].as_str().unwrap()).collect()
}

fn mount<'a>(spec: &'a Value, destination: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == destination)
}
