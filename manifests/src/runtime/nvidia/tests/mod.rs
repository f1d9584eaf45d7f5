//! Which way devices take, for every way to ask for them.

mod host;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::Config;
use crate::document::Document;
use crate::runtime::cdi::{CdiFile, CdiRegistry};
use crate::runtime::{ContainerRequest, Host, Nvidia, runtime_spec};

/// A file whose devices each set a variable of their name.
fn file(path: &str, kind: &str, names: &[&str], edits: Value) -> CdiFile {
    let devices: Vec<_> =
        names.iter().map(|name| json!({"name": name, "containerEdits": {"env": [format!("CDI_{name}=1")]}})).collect();
    let document = json!({"cdiVersion": "0.5.0", "kind": kind, "devices": devices, "containerEdits": edits});
    CdiFile { path: path.into(), priority: 0, content: Ok(document.to_string().into_bytes()) }
}

/// Files of AMD's and, if `nvidia`, of NVIDIA's, and one that is skipped.
fn registry(nvidia: bool) -> CdiRegistry {
    let mut files = vec![
        file("/etc/cdi/amd.json", "amd.com/gpu", &["amd0"], json!({})),
        CdiFile { path: "/etc/cdi/old.yml".into(), priority: 0, content: Ok(Vec::new()) },
    ];
    if nvidia {
        let void = json!({"env": ["NVIDIA_VISIBLE_DEVICES=void"]});
        files.push(file("/etc/cdi/nvidia.json", "nvidia.com/gpu", &["0", "1", "GPU-a", "all", "0:1"], void));
    }
    CdiRegistry::load(files)
}

/// A call, such as `--nvidia cdi --gpus all --device a/b=c -e A=1`, where the image has the variables after `|`, and the
/// words `file` and `hook` say what the host has. The answer: the hook, NVIDIA's variables, what CDI did; then warnings.
fn ask(call: &str) -> (String, Vec<String>) {
    let (flags, rest) = call.split_once('|').unwrap_or((call, ""));
    let mut request = ContainerRequest::default();
    let mut host = Host { root: "/rootfs".into(), cdi: registry(false), ..Host::default() };
    let mut words = flags.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "file" => host.cdi = registry(true),
            "hook" => host.nvidia_hook = Some("/hook".into()),
            "--nvidia" => request.nvidia = words.next().unwrap().parse::<Nvidia>().unwrap(),
            "--gpus" => {
                let gpus = Some(words.next().unwrap().parse().unwrap());
                request.earlier_gpus.extend(std::mem::replace(&mut request.settings.gpus, gpus));
            }
            "--device" => request.devices.push(words.next().unwrap().to_owned()),
            "-e" => request.env.push(words.next().unwrap().parse().unwrap()),
            "--driver" => host.driver = Some(words.next().unwrap().parse().unwrap()),
            word => panic!("{word}"),
        }
    }
    let image: Vec<_> = rest.split_whitespace().collect();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []},
                        "config": {"Cmd": ["sh"], "Env": image}});
    let config: Config = (*Document::<Config>::from_json(config).unwrap()).clone();
    match runtime_spec(&config, &BTreeMap::new(), &request, &host) {
        Ok(emitted) => {
            let env: Vec<String> = serde_json::from_value(emitted.json["process"]["env"].clone()).unwrap();
            let value =
                |key: &str| env.iter().find_map(|entry| entry.strip_prefix(&format!("{key}=")).map(str::to_owned));
            let mut parts = Vec::new();
            parts.extend(emitted.json.pointer("/hooks/prestart").map(|_| "hook".to_owned()));
            parts.extend(value("NVIDIA_VISIBLE_DEVICES"));
            parts.extend(value("NVIDIA_DRIVER_CAPABILITIES").map(|text| format!("[{text}]")));
            parts.extend(
                env.iter()
                    .filter_map(|entry| entry.strip_suffix("=1"))
                    .filter(|key| key.starts_with("CDI_"))
                    .map(str::to_owned),
            );
            (parts.join(" "), emitted.warnings)
        }
        Err(error) => {
            assert!(error.hint().is_some(), "{error}");
            (error.to_string(), Vec::new())
        }
    }
}

#[test]
fn every_way_to_ask() {
    let mixed = |what: &str| format!("{what} needs CDI, and --nvidia hook needs NVIDIA's hook");
    let unresolvable = |names: &str| format!("unresolvable CDI devices {names}");
    let no_hook = |name: &str| format!("`{name}` is the name of a CDI device, which NVIDIA's hook does not know");
    for (call, expected) in [
        // nobody asks
        ("hook file", String::new()),
        ("hook file | NVIDIA_VISIBLE_DEVICES=all", "all".into()),
        // none at all, whatever the image asks for
        ("hook file --gpus 0 | NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        ("hook file --gpus none | NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        ("hook file --gpus count=0 --nvidia hook | NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        ("hook file --gpus 0 --nvidia cdi | NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        ("hook file --gpus 0 --nvidia none | NVIDIA_VISIBLE_DEVICES=0,1", "void".into()),
        ("hook file --gpus 0 --nvidia hook -e NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        ("hook file --gpus 0 --nvidia hook | CUDA_VERSION=8.0.61", "void".into()),
        ("hook file --gpus 0 --nvidia hook | NVIDIA_VISIBLE_DEVICES=none", "none".into()),
        ("hook file --gpus 0 --nvidia hook", String::new()),
        ("hook file --gpus 0 --device nvidia.com/gpu=1 | NVIDIA_VISIBLE_DEVICES=all", "void CDI_1".into()),
        ("hook file --gpus 0 --device amd.com/gpu=amd0 | NVIDIA_VISIBLE_DEVICES=all", "void CDI_amd0".into()),
        ("hook --gpus device=none | NVIDIA_VISIBLE_DEVICES=all", "hook none".into()),
        ("file --gpus device=none | NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        // several requests: CDI gives them all, the hook heeds the last
        ("file --gpus device=1 --gpus device=0,1", "void CDI_1 CDI_0".into()),
        ("file --gpus device=1 --gpus 0", "void CDI_1".into()),
        ("hook --gpus device=1 --gpus device=0", "hook 0".into()),
        ("hook --gpus 0 --gpus device=1", "hook 1".into()),
        ("hook --gpus device=1 --gpus none", "hook 1".into()),
        ("hook --gpus all,capabilities=video --gpus 1", "hook 0 [video]".into()),
        ("hook --gpus all,capabilities=video --gpus 1,capabilities=compute", "hook 0 [compute]".into()),
        ("hook --gpus 0 --gpus none | NVIDIA_VISIBLE_DEVICES=all", "void".into()),
        ("hook file --gpus 1 --gpus device=nvidia.com/gpu=1", "void CDI_0 CDI_1".into()),
        // the hook where CDI cannot
        ("hook file --gpus device=GPU-b", "hook GPU-b".into()),
        ("hook file --gpus 3", "hook 0,1,2".into()),
        ("hook file --gpus device=MIG-GPU-a/10/0", "hook MIG-GPU-a/10/0".into()),
        ("hook file --gpus 1 --gpus 3", "hook 0,1,2".into()),
        ("hook file --gpus 3 --device amd.com/gpu=amd0", "hook 0,1,2 CDI_amd0".into()),
        ("hook file --gpus 3 | NVIDIA_VISIBLE_DEVICES=all", "hook 0,1,2".into()),
        ("--nvidia cdi hook file --gpus 3", unresolvable("nvidia.com/gpu=2")),
        ("hook file --gpus driver=cdi,count=3", unresolvable("nvidia.com/gpu=2")),
        ("hook file --gpus device=nvidia.com/gpu=2", unresolvable("nvidia.com/gpu=2")),
        ("hook file --gpus 1 --device nvidia.com/gpu=2", unresolvable("nvidia.com/gpu=2")),
        // auto: the file, else the hook
        ("hook file --gpus all", "void CDI_all".into()),
        ("hook --gpus all", "hook all".into()),
        ("--gpus all", "hook all".into()),
        ("file --gpus 2", "void CDI_0 CDI_1".into()),
        ("file --gpus 1", "void CDI_0".into()),
        ("file --gpus 3", unresolvable("nvidia.com/gpu=2")),
        ("file --gpus device=1,0", "void CDI_1 CDI_0".into()),
        ("file --gpus device=0:1", "void CDI_0:1".into()),
        ("file --gpus device=GPU-a", "void CDI_GPU-a".into()),
        ("file --gpus device=GPU-b,7", unresolvable("nvidia.com/gpu=GPU-b, nvidia.com/gpu=7")),
        ("file --gpus all,capabilities=utility", "void CDI_all".into()),
        ("file --gpus driver=nvidia,count=all", "void CDI_all".into()),
        ("file --gpus driver=cdi,count=all", "void CDI_all".into()),
        ("hook --gpus device=1,GPU-b", "hook 1,GPU-b".into()),
        ("hook --gpus all,capabilities=utility,video", "hook all [utility,video]".into()),
        ("hook --gpus driver=cdi,count=all", unresolvable("nvidia.com/gpu=all")),
        // the image's own choice gives way
        ("file --gpus 1 | NVIDIA_VISIBLE_DEVICES=all", "void CDI_0".into()),
        ("hook --gpus 1 | NVIDIA_VISIBLE_DEVICES=all", "hook 0".into()),
        // names of CDI choose CDI
        ("hook file --gpus device=nvidia.com/gpu=0", "void CDI_0".into()),
        ("hook file --gpus device=nvidia.com/gpu=0,1", "void CDI_0 CDI_1".into()),
        ("hook --gpus device=nvidia.com/gpu=0", unresolvable("nvidia.com/gpu=0")),
        ("hook file --device nvidia.com/gpu=0", "void CDI_0".into()),
        (
            "hook file --device nvidia.com/gpu=0 --device nvidia.com/gpu=0 --device nvidia.com/gpu=1",
            "void CDI_0 CDI_1".into(),
        ),
        ("hook file --device nvidia.com/gpu=0 --gpus device=1", "void CDI_0 CDI_1".into()),
        ("hook file --device nvidia.com/gpu=1 | NVIDIA_VISIBLE_DEVICES=all", "void CDI_1".into()),
        // other vendors, beside any way
        ("--device amd.com/gpu=amd0", "CDI_amd0".into()),
        ("--device amd.com/gpu=amd0 | NVIDIA_VISIBLE_DEVICES=all", "all CDI_amd0".into()),
        ("hook --device amd.com/gpu=amd0 --gpus 1", "hook 0 CDI_amd0".into()),
        ("file --device amd.com/gpu=amd0 --gpus 1", "void CDI_amd0 CDI_0".into()),
        // in the order of the request
        ("file --device nvidia.com/gpu=1 --device amd.com/gpu=amd0", "void CDI_1 CDI_amd0".into()),
        ("file --device amd.com/gpu=amd0 --device nvidia.com/gpu=1", "void CDI_amd0 CDI_1".into()),
        ("file --device nvidia.com/gpu=1 --device amd.com/gpu=amd0 --gpus 1", "void CDI_1 CDI_amd0 CDI_0".into()),
        ("--nvidia hook hook --device amd.com/gpu=amd0 --gpus 1", "hook 0 CDI_amd0".into()),
        ("--nvidia none --device amd.com/gpu=amd0", "CDI_amd0".into()),
        ("--device amd.com/gpu=1", unresolvable("amd.com/gpu=1")),
        ("--device evilnvidia.com/gpu=1", unresolvable("evilnvidia.com/gpu=1")),
        ("--device /dev/nvidia0", "\"/dev/nvidia0\" is not the name of a CDI device".into()),
        ("--device gpu=0", "\"gpu=0\" is not the name of a CDI device".into()),
        ("file --gpus device=x/y", "\"nvidia.com/gpu=x/y\" is not the name of a CDI device".into()),
        // the hook, and nothing else
        ("--nvidia hook hook file --gpus all", "hook all".into()),
        ("--nvidia hook file --gpus all", "hook all".into()),
        ("--nvidia hook hook file --gpus device=nvidia.com/gpu=0", no_hook("nvidia.com/gpu=0")),
        ("--nvidia hook hook file --gpus driver=cdi", mixed("--gpus driver=cdi")),
        ("--nvidia hook hook file --gpus all --device nvidia.com/gpu=0", mixed("--device nvidia.com/gpu=0")),
        ("--nvidia hook hook file --device nvidia.com/gpu=0", mixed("--device nvidia.com/gpu=0")),
        ("--nvidia hook hook --device runtime.nvidia.com/gpu=0", mixed("--device runtime.nvidia.com/gpu=0")),
        // the hook does what the environment says, as NVIDIA's runtime does
        ("--nvidia hook hook", "hook".into()),
        ("--nvidia hook hook -e NVIDIA_VISIBLE_DEVICES=0,1", "hook 0,1".into()),
        (
            "--nvidia hook hook | NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,video",
            "hook all [compute,video]".into(),
        ),
        ("--nvidia hook hook -e NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0", no_hook("nvidia.com/gpu=0")),
        ("--nvidia hook hook -e NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0 --gpus 1", "hook 0".into()),
        // and so does CDI when it is chosen
        ("--nvidia cdi file", String::new()),
        ("--nvidia cdi file -e NVIDIA_VISIBLE_DEVICES=0,1", "void CDI_0 CDI_1".into()),
        ("--nvidia cdi file -e NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=1", "void CDI_1".into()),
        ("--nvidia cdi file | NVIDIA_VISIBLE_DEVICES=all", "void CDI_all".into()),
        ("--nvidia cdi file | NVIDIA_VISIBLE_DEVICES=void", "void".into()),
        ("--nvidia cdi file | NVIDIA_VISIBLE_DEVICES=none", "none".into()),
        ("--nvidia cdi file | NVIDIA_VISIBLE_DEVICES=", String::new()),
        ("--nvidia cdi file | CUDA_VERSION=8.0.61", "void CDI_all".into()),
        ("--nvidia cdi file -e NVIDIA_VISIBLE_DEVICES=void | CUDA_VERSION=8.0.61", "void".into()),
        ("--nvidia cdi file | CUDA_VERSION=12.3 NVIDIA_REQUIRE_CUDA=cuda>=9.0", String::new()),
        ("--nvidia cdi file --device nvidia.com/gpu=1 | NVIDIA_VISIBLE_DEVICES=all", "void CDI_1".into()),
        ("--nvidia cdi hook --gpus all", unresolvable("nvidia.com/gpu=all")),
        ("--nvidia cdi file --gpus driver=cdi", "void CDI_0".into()),
        ("--nvidia cdi file --gpus driver=nvidia", "void CDI_0".into()),
        // auto leaves the environment alone
        ("hook file -e NVIDIA_VISIBLE_DEVICES=0", "0".into()),
        // none
        ("--nvidia none hook file --gpus all | NVIDIA_VISIBLE_DEVICES=all", "all".into()),
        ("--nvidia none hook file --device nvidia.com/gpu=0", String::new()),
    ] {
        let (found, _) = ask(call);
        // An empty value is a part, too.
        assert_eq!(found.trim(), expected, "{call}");
    }
}

#[test]
fn what_the_user_is_told() {
    let left_out = "the CDI file /etc/cdi/old.yml is skipped: only .json and .yaml are read; rename it";
    let alone = "NVIDIA_VISIBLE_DEVICES alone has no effect; use --gpus, or --nvidia hook or cdi beside it";
    let missing = "nvidia-container-runtime-hook was not found; install nvidia-container-toolkit where the spec is run";
    for (call, expected) in [
        ("hook file", &[][..]),
        ("hook --gpus all", &[left_out]),
        ("--gpus all", &[left_out, missing]),
        ("file --gpus all", &[left_out]),
        ("hook file --gpus all --nvidia hook", &[]),
        (
            "file --gpus all,capabilities=utility,compute",
            &["the capabilities of --gpus have no effect with CDI, which gives the whole driver", left_out],
        ),
        (
            "file --gpus all -e NVIDIA_VISIBLE_DEVICES=1",
            &["--gpus chooses the GPUs, and overrides NVIDIA_VISIBLE_DEVICES of --env", left_out],
        ),
        (
            "hook --gpus all -e NVIDIA_VISIBLE_DEVICES=1",
            &["--gpus sets NVIDIA_VISIBLE_DEVICES, and overrides --env", left_out],
        ),
        ("hook --gpus all,options=a=b", &["the options of --gpus have no effect: NVIDIA's driver has none", left_out]),
        ("hook -e NVIDIA_VISIBLE_DEVICES=1", &[alone]),
        ("hook -e NVIDIA_VISIBLE_DEVICES=1 --gpus 0", &[]),
        ("hook --gpus 1 --gpus 2", &["NVIDIA's hook uses only the last of several --gpus", left_out]),
        (
            "hook file --gpus 3",
            &[
                "NVIDIA's hook is used because CDI cannot serve the request: unresolvable CDI devices nvidia.com/gpu=2",
                left_out,
            ],
        ),
        ("hook --gpus 1 --device amd.com/gpu=amd0", &[left_out]),
        ("file -e NVIDIA_VISIBLE_DEVICES=1", &[alone]),
        ("hook | NVIDIA_VISIBLE_DEVICES=all", &[]),
        ("hook -e NVIDIA_VISIBLE_DEVICES=1 --nvidia none", &[]),
        ("--nvidia none --gpus 2", &["--gpus 2 has no effect with --nvidia none"]),
        ("--nvidia none --device nvidia.com/gpu=0", &["--device nvidia.com/gpu=0 has no effect with --nvidia none"]),
    ] {
        assert_eq!(ask(call).1, expected, "{call}");
    }
}

#[test]
fn both_ways_are_checked_against_the_driver() {
    let needs = "| NVIDIA_VISIBLE_DEVICES=all NVIDIA_REQUIRE_CUDA=cuda>=12.4";
    for (call, refused) in [
        ("--driver 535.104.05 hook --gpus all", true),
        ("--driver 535.104.05 file --gpus all", true),
        ("--driver 535.104.05 file --device nvidia.com/gpu=0", true),
        ("--driver 535.104.05 --nvidia hook hook", true),
        ("--driver 535.104.05 --nvidia cdi file", true),
        ("--driver 535.104.05 file --gpus all -e NVIDIA_DISABLE_REQUIRE=1", false),
        ("--driver 550.54.14 file --gpus all", false),
        ("hook --gpus all", false),
        // without a GPU it does not matter
        ("--driver 535.104.05 hook file", false),
        ("--driver 535.104.05 hook file --gpus 0", false),
        ("--driver 535.104.05 hook file --gpus all --nvidia none", false),
        ("--driver 535.104.05 --device amd.com/gpu=amd0", false),
        ("--driver 535.104.05 --nvidia hook hook -e NVIDIA_VISIBLE_DEVICES=void", false),
    ] {
        let (found, _) = ask(&format!("{call} {needs}"));
        assert_eq!(found.starts_with("the image needs `cuda>=12.4`"), refused, "{call}: {found}");
    }
    for way in ["hook", "file"] {
        let (found, _) = ask(&format!("{way} --gpus all | NVIDIA_DRIVER_CAPABILITIES=compute,utilities"));
        assert!(found.starts_with("unsupported capabilities: \"utilities\""), "{found}");
        let (_, warnings) = ask(&format!(
            "{way} --driver 535.104.05 --gpus all | CUDA_VERSION=12.3.2.001 NVIDIA_REQUIRE_CUDA=cuda>=9.0"
        ));
        assert!(warnings[0].starts_with("the image's CUDA 12.3 is newer than CUDA 12.2"), "{warnings:?}");
    }
}

#[test]
fn a_version_that_the_hook_fails_on_is_told_where_it_reads_it() {
    for (image, told) in [
        ("CUDA_VERSION=11.8.0.065", true),
        ("CUDA_VERSION=11.8.0.065 NVIDIA_REQUIRE_CUDA=", true),
        ("CUDA_VERSION=11.8.0.065 NVIDIA_DISABLE_REQUIRE=on", true),
        ("CUDA_VERSION=11.8.0.065 NVIDIA_DISABLE_REQUIRE=1", false),
        ("CUDA_VERSION=11.8.0.065 NVIDIA_REQUIRE_CUDA=cuda>=9.0", false),
        ("CUDA_VERSION=11.8.0", false),
    ] {
        let (_, warnings) = ask(&format!("--nvidia hook hook --gpus all | {image}"));
        let has = warnings.iter().any(|text| text.starts_with("CUDA_VERSION has four parts"));
        assert_eq!(has, told, "{image}: {warnings:?}");
    }
}

#[test]
fn the_documents_slip_is_told_whichever_way_is_taken() {
    for way in ["--nvidia hook hook", "--nvidia cdi file"] {
        let (_, warnings) = ask(&format!("{way} --gpus all,capabilities=compute,utilities |"));
        assert_eq!(warnings[0], "`utilities` in --gpus is taken for `utility`", "{way}");
    }
}
