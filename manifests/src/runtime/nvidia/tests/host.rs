//! What the host where the container runs says to the way that devices take.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::Config;
use crate::document::Document;
use crate::runtime::cdi::{CdiFile, CdiRegistry, DeviceFacts, DeviceNodeKind};
use crate::runtime::{ContainerRequest, Host, Nvidia, SpecError, Toolkit, runtime_spec};

/// A host that runs the container itself, with the driver 550.54.15, NVIDIA's hook, and a CDI file for that driver, all of
/// which is there.
fn host() -> Host {
    let mount = |path: &str| json!({"hostPath": path, "containerPath": path});
    let gpus = ["0", "1", "all"]
        .map(|name| json!({"name": name, "containerEdits": {"deviceNodes": [{"path": format!("/dev/nvidia{name}")}]}}));
    let document = json!({
        "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": gpus,
        "containerEdits": {
            "mounts": [mount("/usr/lib/libcuda.so.550.54.15"), mount("/usr/bin/nvidia-smi")],
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}],
        },
    });
    let content = Ok(document.to_string().into_bytes());
    let cdi = CdiRegistry::load(vec![CdiFile { path: "/etc/cdi/nvidia.yaml".into(), priority: 0, content }]);
    let node = DeviceFacts { kind: DeviceNodeKind::Char, major: 195, minor: 0, mode: 0o666 };
    Host {
        root: "/rootfs".into(),
        runs_here: true,
        nvidia_hook: Some("/hook".into()),
        driver: "550.54.15".parse().ok(),
        devices: ["0", "1", "all"].map(|name| (format!("/dev/nvidia{name}"), node)).into(),
        cdi,
        ..Host::default()
    }
}

/// The spec's hooks and what is told, or the error with its hint.
fn ask(host: &Host, request: &ContainerRequest, env: &[&str]) -> Result<(Value, Vec<String>), (String, String)> {
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []},
                        "config": {"Cmd": ["sh"], "Env": env}});
    let config: Config = (*Document::<Config>::from_json(config).unwrap()).clone();
    match runtime_spec(&config, &BTreeMap::new(), request, host) {
        Ok(emitted) => Ok((emitted.json["hooks"].clone(), emitted.warnings)),
        Err(error) => Err((error.to_string(), error.hint().unwrap())),
    }
}

fn gpus(text: &str, nvidia: Nvidia) -> ContainerRequest {
    let mut request = ContainerRequest { nvidia, ..ContainerRequest::default() };
    request.settings.gpus = Some(text.parse().unwrap());
    request
}

fn absent(host: &mut Host, path: &str, why: &str) {
    host.absent.insert(path.into(), why.into());
}

#[test]
fn a_cdi_file_that_does_not_fit_is_told_before_a_runtime_fails_on_it() {
    const FILE: &str = "the CDI file /etc/cdi/nvidia.yaml does not fit this machine: ";
    type Change = fn(&mut Host);
    let cases: [(Change, String); 4] = [
        (
            |host| absent(host, "/usr/lib/libcuda.so.550.54.15", "is not there"),
            format!("{FILE}the file /usr/lib/libcuda.so.550.54.15 is not there"),
        ),
        (
            |host| {
                absent(host, "/usr/bin/nvidia-cdi-hook", "can't be executed");
                host.driver = "560.35.03".parse().ok();
            },
            format!(
                "{FILE}the hook /usr/bin/nvidia-cdi-hook can't be executed; it is for driver 550.54.15, and 560.35.03 \
                    is loaded"
            ),
        ),
        (
            |host| {
                ["/usr/lib/libcuda.so.550.54.15", "/usr/bin/nvidia-smi", "/usr/bin/nvidia-cdi-hook"]
                    .into_iter()
                    .for_each(|path| absent(host, path, "is not there"));
            },
            format!(
                "{FILE}the file /usr/lib/libcuda.so.550.54.15 is not there, and neither are 2 others that it names"
            ),
        ),
        (
            |host| host.devices.retain(|path, _| path != "/dev/nvidiaall"),
            "the CDI device needs the device node \"/dev/nvidiaall\", which is not there".into(),
        ),
    ];
    for (change, expected) in cases {
        let mut host = host();
        change(&mut host);
        let (error, hint) = ask(&host, &gpus("all", Nvidia::Cdi), &[]).unwrap_err();
        assert_eq!(error, expected);
        for command in
            ["systemctl restart nvidia-cdi-refresh.service", "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"]
        {
            assert!(hint.contains(command), "{hint}");
        }
        // NVIDIA's hook does it, unless that is broken, too, or not wanted.
        let (hooks, warnings) = ask(&host, &gpus("all", Nvidia::Auto), &[]).unwrap();
        assert_eq!(hooks["prestart"][0]["path"], "/hook");
        assert_eq!(warnings, [format!("NVIDIA's hook is used because CDI cannot serve the request: {expected}")]);
        host.toolkit.mode = "cdi".into();
        let (error, _) = ask(&host, &gpus("all", Nvidia::Auto), &[]).unwrap_err();
        assert!(error.starts_with(&format!("{expected}, and NVIDIA's hook does not work because")), "{error}");
        host.nvidia_hook = None;
        assert_eq!(ask(&host, &gpus("all", Nvidia::Auto), &[]).unwrap_err().0, expected);
        // A spec may be for another machine, whose files nobody knows here; nodes are looked up for it.
        host.runs_here = false;
        assert_eq!(ask(&host, &gpus("all", Nvidia::Cdi), &[]).is_ok(), expected.contains("CDI file"), "{expected}");
    }
    // What others need does not matter to a device.
    let mut other = host();
    other.devices.remove("/dev/nvidia1");
    assert!(ask(&other, &gpus("device=0", Nvidia::Cdi), &[]).is_ok());
}

#[test]
fn a_file_for_another_driver_is_told() {
    for (loaded, remedy) in [
        ("560.35.03", "create the CDI file again: `systemctl restart"),
        // The new one is installed, the old one is loaded.
        ("545.23.08", "restart the machine, or load the driver again, to use the installed driver"),
    ] {
        let driver = loaded.parse().ok();
        let (_, warnings) = ask(&Host { driver, ..host() }, &gpus("all", Nvidia::Auto), &[]).unwrap();
        let told = format!(
            "the CDI file /etc/cdi/nvidia.yaml does not fit this machine: it is for driver 550.54.15, and {loaded} is \
                loaded: CUDA will fail; {remedy}"
        );
        assert!(warnings.len() == 1 && warnings[0].starts_with(&told), "{warnings:?}");
    }
    assert_eq!(ask(&host(), &gpus("all", Nvidia::Auto), &[]).unwrap().1, [] as [&str; 0]);
}

#[test]
fn a_hook_that_gives_no_gpus_is_told() {
    type Change = fn(&mut Toolkit);
    let cases: [(Change, &str, &str); 4] = [
        (|toolkit| toolkit.mode = "jit-cdi".into(), "does not work because", "nvidia-container-runtime.mode=auto"),
        (|toolkit| toolkit.heeds_environment = false, "ignores the request because", "when-unprivileged=true"),
        (|toolkit| toolkit.jetson = true, "does not work on a Jetson", "nvidia-ctk cdi generate"),
        (|toolkit| toolkit.broken = Some("x".into()), "fails because it cannot read /etc/nvidia", "repair /etc/nvidia"),
    ];
    for (change, reason, remedy) in cases {
        let mut host = Host { cdi: CdiRegistry::default(), ..host() };
        change(&mut host.toolkit);
        for request in
            [gpus("all", Nvidia::Auto), ContainerRequest { nvidia: Nvidia::Hook, ..ContainerRequest::default() }]
        {
            let (error, hint) = ask(&host, &request, &["NVIDIA_VISIBLE_DEVICES=all"]).unwrap_err();
            assert!(error.starts_with(&format!("NVIDIA's hook {reason}")) && hint.contains(remedy), "{error} {hint}");
            assert!(error.ends_with(", so the container gets no GPUs"), "{error}");
        }
        // Where no GPU is asked for it does not matter, nor in a spec for elsewhere.
        assert!(ask(&host, &ContainerRequest { nvidia: Nvidia::Hook, ..ContainerRequest::default() }, &[]).is_ok());
        host.runs_here = false;
        assert!(ask(&host, &gpus("all", Nvidia::Auto), &[]).is_ok());
    }
    // Privileged containers are heard.
    let mut host = Host { cdi: CdiRegistry::default(), ..host() };
    host.toolkit.heeds_environment = false;
    for request in [
        ContainerRequest { privileged: true, ..gpus("all", Nvidia::Auto) },
        ContainerRequest { cap_add: vec!["SYS_ADMIN".parse().unwrap()], ..gpus("all", Nvidia::Auto) },
    ] {
        assert!(ask(&host, &request, &[]).is_ok());
    }
    // Of the others the hook itself has the last word.
    host.toolkit = Toolkit { has_cli: false, ..Toolkit::default() };
    let (_, warnings) = ask(&host, &gpus("all", Nvidia::Auto), &[]).unwrap();
    assert!(warnings[0].starts_with("NVIDIA's hook finds no nvidia-container-cli; install"), "{warnings:?}");
}

#[test]
fn the_config_turns_the_requirements_off() {
    let mut host = host();
    let env = ["NVIDIA_REQUIRE_CUDA=cuda>=99"];
    assert!(ask(&host, &gpus("all", Nvidia::Auto), &env).unwrap_err().0.starts_with("the image needs `cuda>=99`"));
    host.toolkit.disables_require = true;
    let (_, warnings) = ask(&host, &gpus("all", Nvidia::Auto), &env).unwrap();
    assert!(warnings[0].starts_with("the image needs `cuda>=99`"), "{warnings:?}");
    assert!(warnings[0].ends_with("the container starts because the toolkit's config has disable-require = true"));
    let words = ["NVIDIA_DRIVER_CAPABILITIES=nonsense"];
    assert!(ask(&host, &gpus("all", Nvidia::Auto), &words).is_err());
}

#[test]
fn a_spec_with_hooks_has_the_annotations_for_them() {
    let annotations = BTreeMap::from([("run.oci.hooks.stderr".to_owned(), "/bundle/hook-stderr".to_owned())]);
    let host = Host { hook_annotations: annotations, ..host() };
    let config: Config = (*Document::<Config>::from_json(json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"diff_ids": []}, "config": {"Cmd": ["sh"]}}))
    .unwrap())
    .clone();
    let annotation = |request: &ContainerRequest| -> Result<Value, SpecError> {
        Ok(runtime_spec(&config, &BTreeMap::new(), request, &host)?.json["annotations"]["run.oci.hooks.stderr"].clone())
    };
    assert_eq!(annotation(&gpus("all", Nvidia::Auto)).unwrap(), "/bundle/hook-stderr");
    assert_eq!(annotation(&ContainerRequest::default()).unwrap(), Value::Null);
}
