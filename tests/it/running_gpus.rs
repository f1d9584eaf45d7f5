//! The calls of `docker run` in documents about GPUs, made with `ociforge run`: by NVIDIA's hook, and by CDI.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::running::UNPACKED;
use super::support::{DEBIAN, Layered, Packing, Place, Ran, Tar, json_of, run, tool};

/// Puts a hook on `tools/` that notes in `seen/` what it gets.
fn hook(place: &Place) -> String {
    fs::create_dir(place.path("seen")).unwrap();
    let script = format!(
        "#!/bin/sh\ncd_at=$(pwd); cd '{}'; cat > state; echo \"$cd_at\" > cwd; echo \"$0 $*\" > args; env > env\n\
         bundle=$(sed 's/.*\"bundle\":\"//; s/\".*//' state)\ncp \"$bundle/config.json\" config.json; ls \
             \"$bundle/rootfs/\" > root\n",
        place.at("seen")
    );
    place.write_program("tools/nvidia-container-runtime-hook", script);
    format!("{}:{}", place.at("tools"), std::env::var("PATH").unwrap())
}

/// Puts a CDI file into `cdi/`: GPUs that are `/dev/null`, and hooks that note that they were called.
pub(crate) fn cdi(place: &Place) {
    let node = |name: &str| json!({"path": format!("/dev/{name}"), "hostPath": "/dev/null"});
    let gpu = |name: &str, device: &str| json!({"name": name, "containerEdits": {"deviceNodes": [node(device)]}});
    let all = json!({"name": "all", "containerEdits": {"deviceNodes": [node("nvidia0"), node("nvidia1")]}});
    let noted = |name: &str| {
        let script = format!("cat > {0}; pwd >> {0}", place.at(&format!("noted-{name}")));
        json!({"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
    };
    let file = json!({
        "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
        "devices": [gpu("0", "nvidia0"), gpu("1", "nvidia1"), gpu("2", "nvidia2"), gpu("UUID-ABCDEF", "nvidia7"), all],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void", "STAND_IN=yes"],
            "deviceNodes": [node("nvidiactl")],
            "hooks": [noted("first"), noted("second")],
        },
    });
    place.write("cdi/nvidia.json", file.to_string());
}

/// On a terminal whose input stays open until the end.
fn typed(place: &Place, path: &str, words: &[&str]) -> Ran {
    let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let command = format!("exec {} {}", env!("CARGO_BIN_EXE_ociforge"), quoted.join(" "));
    let mut script = place.wrapped("script", ["-qec", &command, "/dev/null"]);
    let mut child = script.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(open);
    Ran::of(command, output)
}

#[test]
fn the_run_line_of_a_training_image_runs() {
    let place = Place::new();
    let path = hook(&place);
    let line = "run --gpus all --shm-size=64g --ipc=host --net=host --cpuset-cpus=0-1 -it --rm";
    let line: Vec<_> =
        line.split(' ').chain(["--store", UNPACKED.as_str(), "--cdi-spec-dir", "/nowhere", &DEBIAN.image]).collect();
    let script =
        "tty; nproc; readlink /proc/self/ns/ipc; echo $NVIDIA_VISIBLE_DEVICES; python3 -c 'print(6 * 7)'; exit 4";
    let ran = typed(&place, &path, &[&line[..], &["bash", "-c", script]].concat());
    let ipc = fs::read_link("/proc/self/ns/ipc").unwrap();
    let shown = ran.stdout.replace("\r\n", "\n");
    assert!(shown.ends_with(&format!("/dev/pts/0\n2\n{}\nall\n42\n", ipc.display())), "{shown}");
    assert_eq!(ran.code, Some(4), "{shown}");
    assert!(shown.contains("--shm-size 64g has no effect with --ipc host"), "{shown}");

    // What NVIDIA's hook needs.
    let seen = |name: &str| fs::read_to_string(place.path(format!("seen/{name}"))).unwrap();
    let state: Value = serde_json::from_str(&seen("state")).unwrap();
    let bundle = state["bundle"].as_str().unwrap();
    assert!(state["pid"].as_u64().unwrap() > 1 && bundle.starts_with(&**UNPACKED), "{state}");
    assert_eq!(seen("cwd").trim(), bundle);
    assert_eq!(
        seen("args").trim().split_once(' '),
        Some((&*place.at("tools/nvidia-container-runtime-hook"), "prestart"))
    );
    assert!(seen("env").lines().any(|line| line.starts_with("PATH=/")), "{}", seen("env"));
    let config = json_of(place.path("seen/config.json"));
    assert_eq!(config["root"]["path"], format!("{bundle}/rootfs"));
    assert_eq!(config["hooks"]["prestart"][0]["args"], json!(["nvidia-container-runtime-hook", "prestart"]));
    assert!(seen("root").contains("usr"), "{}", seen("root"));
}

/// An image with NVIDIA's variables, and a program in the place of nvidia-smi.
fn cuda(place: &Place, cuda: bool) -> String {
    let shows = "#!/bin/sh\necho $NVIDIA_VISIBLE_DEVICES $NVIDIA_DRIVER_CAPABILITIES; for d in /dev/nvidia*; do echo \
        $d; done; ls /container_dir 2>/dev/null\nexit 0\n";
    let layer = Tar::new().file("bin/nvidia-smi", shows).mode(0o755);
    let mut env = vec!["PATH=/bin"];
    if cuda {
        env.extend(["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]);
        env.extend(["CUDA_VERSION=12.2.0", "NVIDIA_REQUIRE_CUDA=cuda>=12.2"]);
    }
    let image = Layered::busybox().layer(Packing::Gzip, layer).config(json!({"Cmd": ["/bin/nvidia-smi"], "Env": env}));
    image.write(place, if cuda { "cuda" } else { "plain" })
}

#[test]
fn the_examples_of_documents_run() {
    let place = Place::new();
    let path = hook(&place);
    cdi(&place);
    place.write("local_dir/in-local-dir", "");
    let (image, plain) = (cuda(&place, true), cuda(&place, false));
    let volume = "-v local_dir:container_dir";
    for (line, by_hook, by_cdi) in [
        ("--gpus all IMAGE nvidia-smi", "all compute,utility", "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl"),
        ("--gpus 2 IMAGE nvidia-smi", "0,1 compute,utility", "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl"),
        ("--gpus device=1,2 IMAGE nvidia-smi", "1,2 compute,utility", "/dev/nvidia1 /dev/nvidia2 /dev/nvidiactl"),
        ("--gpus \"device=1,2\" IMAGE nvidia-smi", "1,2 compute,utility", "/dev/nvidia1 /dev/nvidia2 /dev/nvidiactl"),
        (
            "--gpus device=UUID-ABCDEF,1 IMAGE nvidia-smi",
            "UUID-ABCDEF,1 compute,utility",
            "/dev/nvidia1 /dev/nvidia7 /dev/nvidiactl",
        ),
        (
            "--gpus all,capabilities=utility --rm PLAIN nvidia-smi",
            "all utility",
            "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl",
        ),
        (
            "--nvidia NVIDIA --rm -e NVIDIA_VISIBLE_DEVICES=all -e NVIDIA_DRIVER_CAPABILITIES=compute,video,utility \
                PLAIN nvidia-smi",
            "all compute,video,utility",
            "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl",
        ),
        (
            &format!("--gpus all -it --rm {volume} IMAGE"),
            "all compute,utility in-local-dir",
            "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl in-local-dir",
        ),
        (
            &format!("--gpus all -it --rm {volume} IMAGE nvidia-smi"),
            "all compute,utility in-local-dir",
            "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl in-local-dir",
        ),
        // nvidia-docker, which does what the environment says.
        (
            &format!("--nvidia NVIDIA -it --rm {volume} IMAGE nvidia-smi"),
            "all compute,utility in-local-dir",
            "/dev/nvidia0 /dev/nvidia1 /dev/nvidiactl in-local-dir",
        ),
    ] {
        let words = |flags: &[&'static str]| -> Vec<String> {
            let how = if flags[1] == "cdi" { "cdi" } else { "hook" };
            let line = line.replace("--nvidia NVIDIA", &format!("--nvidia {how}"));
            let line = line.replace("IMAGE", &image).replace("PLAIN", &plain).replace('"', "");
            let flags = flags.iter().map(|word| (*word).to_owned());
            ["run".to_owned()].into_iter().chain(flags).chain(line.split(' ').map(str::to_owned)).collect()
        };
        for (flags, expected) in [(&["--cdi-spec-dir", "/nowhere"][..], by_hook), (&["--cdi-spec-dir", "cdi"], by_cdi)]
        {
            for noted in ["seen/state", "noted-first", "noted-second"] {
                fs::remove_file(place.path(noted)).ok();
            }
            let words = words(flags);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ran = if line.contains("-it") {
                typed(&place, &path, &words)
            } else {
                run(place.ociforge(words).env("PATH", &path))
            };
            assert_eq!(ran.code, Some(0), "{line} {} {}", ran.stdout, ran.stderr);
            let shown = ran.stdout.replace("\r\n", "\n");
            let shown: Vec<_> = shown.lines().filter(|line| !line.contains(": ") && !line.contains('*')).collect();
            let shown = shown.join(" ");
            let hooked = flags[1] == "/nowhere";
            assert!(shown.ends_with(expected), "{line}: {shown} {}", ran.stderr);
            let called = ["seen/state", "noted-first", "noted-second"].map(|noted| place.path(noted).exists());
            assert_eq!(called, [hooked, !hooked, !hooked], "{line}");
            if !hooked {
                assert!(shown.starts_with("void") || line.contains("-it"), "{shown}");
                let noted = fs::read_to_string(place.path("noted-first")).unwrap();
                let (state, cwd) = noted.rsplit_once('}').unwrap();
                let state: Value = serde_json::from_str(&format!("{state}}}")).unwrap();
                assert_eq!(cwd.trim(), format!("{}/rootfs", state["bundle"].as_str().unwrap()), "{noted}");
            }
        }
    }
    // A hook that fails is an error that says which.
    let script = "#!/bin/sh\necho 'nvidia-container-cli: no driver' >&2; exit 1\n";
    place.write_program("tools/nvidia-container-runtime-hook", script);
    let call = ["run", "--rm", "--cdi-spec-dir", "/nowhere", "--gpus", "all", &image];
    let ran = run(place.ociforge(call).env("PATH", &path));
    assert_eq!(ran.code, Some(125), "{}", ran.stderr);
    assert!(ran.stderr.contains("nvidia-container-cli: no driver"), "{}", ran.stderr);
}

/// `--gpus 0` and `none` against an image that asks for all, on every way and for every command.
#[test]
fn none_gives_none() {
    let place = Place::new();
    let path = hook(&place);
    cdi(&place);
    let image = cuda(&place, true);
    for nvidia in ["auto", "hook", "cdi", "none"] {
        for (number, none) in ["0", "none", "count=0"].into_iter().enumerate() {
            let flags = ["--cdi-spec-dir", "cdi", "--nvidia", nvidia, "--gpus", none];
            let call = |command: &[&str]| run(place.ociforge([command, &flags, &[&image]].concat()).env("PATH", &path));
            let ran = call(&["run", "--rm", "--progress", "none"]);
            assert_eq!(ran.ok(), "void compute,utility\n/dev/nvidia*\n", "{flags:?}");
            assert!(!place.path("seen/state").exists() && !place.path("noted-first").exists(), "{flags:?}");
            let spec: Value = serde_json::from_str(&call(&["spec"]).ok()).unwrap();
            let bundle = format!("bundle-{nvidia}-{number}");
            run(place.ociforge([&["bundle"], &flags[..], &[&image, &bundle]].concat()).env("PATH", &path)).ok();
            for spec in [spec, json_of(place.path(format!("{bundle}/config.json")))] {
                assert!(spec.get("hooks").is_none() && spec["linux"].get("devices").is_none(), "{flags:?} {spec}");
                assert!(spec["process"]["env"].as_array().unwrap().contains(&json!("NVIDIA_VISIBLE_DEVICES=void")));
            }
        }
    }
}

/// Docker gives what each asks for with CDI; with the hook the last one is heard.
#[test]
fn several_requests() {
    let place = Place::new();
    let path = hook(&place);
    cdi(&place);
    let image = cuda(&place, true);
    let shown = |flags: &[&str]| {
        let ran =
            run(place.ociforge([&["run", "--rm", "--progress", "none"], flags, &[&image]].concat()).env("PATH", &path));
        ran.ok()
    };
    let twice = ["--gpus", "device=0", "--gpus", "device=2"];
    let by_cdi = shown(&[&["--cdi-spec-dir", "cdi"], &twice[..]].concat());
    assert_eq!(by_cdi, "void compute,utility\n/dev/nvidia0\n/dev/nvidia2\n/dev/nvidiactl\n");
    let by_hook = shown(&[&["--cdi-spec-dir", "/nowhere"], &twice[..]].concat());
    assert_eq!(by_hook, "2 compute,utility\n/dev/nvidia*\n");
}

/// What CDI files can't give the hook does, as in docker; what asks for CDI is told what there is.
#[test]
fn the_hook_serves_what_cdi_files_cannot() {
    let place = Place::new();
    let path = hook(&place);
    cdi(&place);
    let image = cuda(&place, true);
    let call = |flags: &[&str], path: &str| {
        let words = [&["run", "--rm", "--progress", "none", "--cdi-spec-dir", "cdi"], flags, &[&image]].concat();
        run(place.ociforge(words).env("PATH", path))
    };
    for (request, visible) in [("device=GPU-5a4b", "GPU-5a4b"), ("4", "0,1,2,3")] {
        let ran = call(&["--gpus", request], &path);
        assert!(ran.stderr.contains("NVIDIA's hook is used because CDI cannot serve the request"), "{}", ran.stderr);
        assert_eq!(ran.ok(), format!("{visible} compute,utility\n/dev/nvidia*\n"));
        assert!(fs::remove_file(place.path("seen/state")).is_ok() && !place.path("noted-first").exists());
    }
    let (there, without) = ("there are 4 GPUs, by the names 0, 1, 2, UUID-ABCDEF, all", std::env::var("PATH").unwrap());
    for (flags, path, missing, hint) in [
        (&["--gpus", "5"][..], &without, "nvidia.com/gpu=3, nvidia.com/gpu=4", there),
        (&["--nvidia", "cdi", "--gpus", "4"], &path, "nvidia.com/gpu=3", there),
        (&["--gpus", "device=nvidia.com/gpu=7"], &path, "nvidia.com/gpu=7", there),
        (&["--gpus", "device=UUID-AB"], &without, "nvidia.com/gpu=UUID-AB", "did you mean nvidia.com/gpu=UUID-ABCDEF?"),
    ] {
        call(flags, path).fails(125, &[&format!("unresolvable CDI devices {missing}"), hint]);
    }
}

#[test]
fn a_hooks_own_words_are_shown() {
    let place = Place::new();
    cdi(&place);
    let image = cuda(&place, true);
    let text = fs::read_to_string(place.path("cdi/nvidia.json")).unwrap();
    let said = r#"exec: "ldconfig": executable file not found in $PATH"#;
    let script = format!("#!/bin/sh\ncat > /dev/null; echo 'two lines:' >&2; echo '{said}' >&2; exit 3\n");
    let script = place.write_program("tools/failing", script);
    tool("cp", &["-p", script.to_str().unwrap(), &place.at("tools/nvidia-container-runtime-hook")]);
    place.write("cdi/nvidia.json", text.replace("/bin/sh", script.to_str().unwrap()));
    let path = format!("{}:{}", place.at("tools"), std::env::var("PATH").unwrap());
    for runtime in ["runc", "crun"] {
        for nvidia in ["hook", "cdi"] {
            let flags = ["run", "--rm", "--progress", "none", "--runtime", runtime, "--nvidia", nvidia, "--gpus", "1"];
            let ran = run(place.ociforge([&flags[..], &["--cdi-spec-dir", "cdi", &image]].concat()).env("PATH", &path));
            let told = ran.fails(125, &[said, "hint: a hook for the container's devices failed"]);
            assert!(!told.contains("no such command"), "{told}");
        }
    }
    // The image's command is another matter.
    let call = ["run", "--rm", "--progress", "none", "--runtime", "crun", &image, "webhook"];
    run(&mut place.ociforge(call)).fails(127, &["the image has no such command"]);
}

#[test]
fn nvidias_runtime_is_refused_with_what_to_do() {
    let place = Place::new();
    let image = cuda(&place, true);
    let runtime = place.write_program("tools/nvidia-container-runtime", "#!/bin/sh\nexec runc \"$@\"\n");
    let path = format!("{}:{}", place.at("tools"), std::env::var("PATH").unwrap());
    for name in ["nvidia", "nvidia-container-runtime", runtime.to_str().unwrap()] {
        let ran = run(place.ociforge(["run", "--rm", "--runtime", name, &image]).env("PATH", &path));
        ran.fails(2, &[name, "`create`", "--gpus all", "--nvidia hook obey NVIDIA_VISIBLE_DEVICES"]);
    }
}
