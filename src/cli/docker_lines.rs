//! The calls of `docker run` in NVIDIA's documents and in those of a training image, as they stand there.

use std::collections::BTreeMap;

use clap::Parser;
use ociforge_manifests::runtime::cdi::{CdiFile, CdiRegistry};
use ociforge_manifests::runtime::{Host, runtime_spec};
use ociforge_manifests::{Config, Document};
use serde_json::{Value, json};

use super::runtime_args::RuntimeArgs;
use crate::error::Failure;

#[derive(Debug, Parser)]
struct Call {
    image: String,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// The configs of the images that the documents name.
fn config(image: &str) -> Config {
    let env = match image {
        "debian:stretch" => json!([]),
        "nvidia/cuda" => json!([
            "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            "CUDA_VERSION=12.2.0",
            "NVIDIA_REQUIRE_CUDA=cuda>=12.2 brand=tesla,driver>=470,driver<471",
        ]),
        _ => json!([
            "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
            "CUDA_VERSION=11.8.0.065",
            "NVIDIA_REQUIRE_CUDA=cuda>=9.0",
        ]),
    };
    let json = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []},
                      "config": {"Entrypoint": ["/entry"], "Cmd": ["bash"], "Env": env}});
    (*Document::<Config>::from_json(json).unwrap()).clone()
}

/// A host with a driver and the hook, and with NVIDIA's CDI file, too, if `cdi`.
fn host(cdi: bool) -> Host {
    let names = ["0", "1", "2", "UUID-ABCDEF", "all"];
    let devices: Vec<_> =
        names.iter().map(|name| json!({"name": name, "containerEdits": {"env": [format!("GPU_{name}=1")]}})).collect();
    let file = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices,
                      "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}});
    let file = CdiFile { path: "nvidia.json".into(), priority: 0, content: Ok(file.to_string().into_bytes()) };
    Host {
        root: "/bundle/rootfs".into(),
        directory: Some("/home/me".into()),
        nvidia_hook: Some("/usr/bin/hook".into()),
        driver: Some("535.104.05".parse().unwrap()),
        cdi: if cdi { CdiRegistry::load(vec![file]) } else { CdiRegistry::default() },
        ..Host::default()
    }
}

/// The spec of a line; `nvidia-docker` is docker with NVIDIA's runtime, which uses the environment.
fn spec(line: &str, host: &Host) -> Result<(Value, Vec<String>), Failure> {
    let line = line.replace("nvidia-docker run", "docker run --nvidia hook").replace('"', "");
    let call = Call::try_parse_from(line.split_whitespace().skip(1)).unwrap();
    let request = call.runtime.into_request(|_| None)?;
    let emitted = runtime_spec(&config(&call.image), &BTreeMap::new(), &request, host)?;
    Ok((emitted.json, emitted.warnings))
}

/// The hook if there is one, the GPUs, and the driver capabilities.
fn gpus(spec: &Value) -> String {
    let env = spec["process"]["env"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap());
    let env = env.filter(|entry| {
        entry.starts_with("NVIDIA_VISIBLE") || entry.starts_with("NVIDIA_DRIVER") || entry.starts_with("GPU_")
    });
    let values = env.map(|entry| {
        entry.split_once('=').map_or("", |(key, value)| if key.starts_with("GPU_") { key } else { value })
    });
    let hook = spec.pointer("/hooks/prestart").map(|_| "hook");
    hook.into_iter().chain(values).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_line_gives_a_spec() {
    let relative = [
        "the volume's destination is taken from the root: /container_dir",
        "the volume `local_dir` is the directory /home/me/local_dir; there are no named volumes",
    ];
    for (line, args, with_hook, with_cdi, warnings) in [
        (
            "docker run --gpus all --shm-size=64g --ipc=host --net=host --cpuset-cpus=\"0-31\" -it --rm \
             docsaid_training_base_image bash",
            "/entry bash",
            "hook all compute,utility,video",
            "void compute,utility,video GPU_all",
            &["--shm-size 64g has no effect with --ipc host, which shares the host's /dev/shm"][..],
        ),
        (
            "docker run --gpus all -it --rm -v local_dir:container_dir nvcr.io/nvidia/pytorch:23.08-py3",
            "/entry bash",
            "hook all compute,utility,video",
            "void compute,utility,video GPU_all",
            &relative,
        ),
        (
            "nvidia-docker run -it --rm -v local_dir:container_dir nvcr.io/nvidia/pytorch:23.08-py3",
            "/entry bash",
            "hook all compute,utility,video",
            "hook all compute,utility,video",
            &relative,
        ),
        (
            "docker run --gpus all -it --rm -v local_dir:container_dir nvcr.io/nvidia/pytorch:23.08-py3 python train.py",
            "/entry python train.py",
            "hook all compute,utility,video",
            "void compute,utility,video GPU_all",
            &relative,
        ),
        (
            "nvidia-docker run -it --rm -v local_dir:container_dir nvcr.io/nvidia/pytorch:23.08-py3 nvidia-smi",
            "/entry nvidia-smi",
            "hook all compute,utility,video",
            "hook all compute,utility,video",
            &relative,
        ),
        (
            "docker run --gpus all nvidia/cuda nvidia-smi",
            "/entry nvidia-smi",
            "hook all compute,utility",
            "void compute,utility GPU_all",
            &[],
        ),
        (
            "docker run --gpus 2 nvidia/cuda nvidia-smi",
            "/entry nvidia-smi",
            "hook 0,1 compute,utility",
            "void compute,utility GPU_0 GPU_1",
            &[],
        ),
        (
            "docker run --gpus device=1,2 nvidia/cuda nvidia-smi",
            "/entry nvidia-smi",
            "hook 1,2 compute,utility",
            "void compute,utility GPU_1 GPU_2",
            &[],
        ),
        (
            "docker run --gpus device=UUID-ABCDEF,1 nvidia/cuda nvidia-smi",
            "/entry nvidia-smi",
            "hook UUID-ABCDEF,1 compute,utility",
            "void compute,utility GPU_UUID-ABCDEF GPU_1",
            &[],
        ),
        // the correct word
        (
            "docker run --gpus all,capabilities=utility nvidia/cuda nvidia-smi",
            "/entry nvidia-smi",
            "hook all utility",
            "void compute,utility GPU_all",
            &[],
        ),
        (
            "docker run --gpus all,capabilities=utility --rm debian:stretch nvidia-smi",
            "/entry nvidia-smi",
            "hook all utility",
            "GPU_all void",
            &[],
        ),
        // the form in the documents
        (
            "docker run --gpus all,capabilities=utilities nvidia/cuda nvidia-smi",
            "/entry nvidia-smi",
            "hook all utility",
            "void compute,utility GPU_all",
            &["`utilities` in --gpus is taken for `utility`"],
        ),
        (
            "docker run --gpus all,capabilities=utilities --rm debian:stretch nvidia-smi",
            "/entry nvidia-smi",
            "hook all utility",
            "GPU_all void",
            &["`utilities` in --gpus is taken for `utility`"],
        ),
        // variables as in the documents, on an image without CUDA
        (
            "nvidia-docker run --rm -e NVIDIA_VISIBLE_DEVICES=all -e NVIDIA_DRIVER_CAPABILITIES=compute,video,utility \
             debian:stretch nvidia-smi",
            "/entry nvidia-smi",
            "hook all compute,video,utility",
            "hook all compute,video,utility",
            &[],
        ),
        (
            "docker run --nvidia cdi --rm -e NVIDIA_VISIBLE_DEVICES=0 debian:stretch nvidia-smi",
            "/entry nvidia-smi",
            "unresolvable CDI devices nvidia.com/gpu=0",
            "void GPU_0",
            &[],
        ),
    ] {
        for (cdi, expected) in [(false, with_hook), (true, with_cdi)] {
            let (spec, said) = match spec(line, &host(cdi)) {
                Ok(spec) => spec,
                Err(failure) => {
                    assert_eq!(failure.message, expected, "{line}");
                    continue;
                }
            };
            let words: Vec<&str> =
                spec["process"]["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
            assert_eq!(words.join(" "), args, "{line}");
            let (mut found, mut expected): (Vec<_>, Vec<_>) =
                (gpus(&spec).split(' ').map(str::to_owned).collect(), expected.split(' ').collect());
            found.sort();
            expected.sort_unstable();
            assert_eq!(found, expected, "{line}");
            let said: Vec<_> = said.iter().filter(|text| !text.contains("capabilities of --gpus")).collect();
            assert_eq!(said, warnings.iter().collect::<Vec<_>>(), "{line}");
            assert_eq!(spec["process"]["terminal"], line.contains("-it"), "{line}");
        }
    }
}
