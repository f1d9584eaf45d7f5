//! GPUs of images and of this machine.

use super::*;

#[test]
fn gpus_in_the_environment() {
    let env = |gpus: &str, image_env: Value| {
        let request = ContainerRequest { settings: settings(json!({"gpus": gpus})), ..ContainerRequest::default() };
        let spec = emit(&image(json!({"Cmd": ["sh"], "Env": image_env})), &request).json;
        let entries: Vec<String> = serde_json::from_value(spec["process"]["env"].clone()).unwrap();
        (entries[1..].join(" "), spec.get("hooks").is_some())
    };
    for (gpus, image_env, expected) in [
        ("2", json!([]), "NVIDIA_VISIBLE_DEVICES=0,1"),
        ("device=1,2", json!(["NVIDIA_VISIBLE_DEVICES=all", "A=b"]), "NVIDIA_VISIBLE_DEVICES=1,2 A=b"),
        (
            "all,capabilities=video,utility",
            json!(["NVIDIA_DRIVER_CAPABILITIES=compute"]),
            "NVIDIA_DRIVER_CAPABILITIES=video,utility NVIDIA_VISIBLE_DEVICES=all",
        ),
        ("all,capabilities=compute,all", json!([]), "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all"),
    ] {
        assert_eq!(env(gpus, image_env), (expected.to_owned(), true), "{gpus}");
    }
    assert_eq!(env("0", json!(["NVIDIA_VISIBLE_DEVICES=all"])), ("NVIDIA_VISIBLE_DEVICES=void".to_owned(), false));
}

#[test]
fn ways_to_ask_for_gpus_that_need_a_word() {
    let ask = |gpus: Option<&str>, nvidia, env: &[&str], host: &Host| {
        let settings = RuntimeSettings { gpus: gpus.map(|text| text.parse().unwrap()), ..RuntimeSettings::default() };
        let env = env.iter().map(|text| text.parse().unwrap()).collect();
        let request = ContainerRequest { settings, nvidia, env, ..ContainerRequest::default() };
        let config = image(json!({"Cmd": ["sh"], "Env": ["CUDA_VERSION=12.3.2.001"]}));
        runtime_spec(&config, &BTreeMap::new(), &request, host).map(|emitted| {
            let hook = emitted.json.pointer("/hooks/prestart/0/path").and_then(Value::as_str).map(str::to_owned);
            (hook, emitted.warnings.join("; "))
        })
    };
    let (hook, warnings) = ask(Some("all"), Nvidia::Auto, &[], &Host::default()).unwrap();
    assert_eq!(hook.unwrap(), "/usr/bin/nvidia-container-runtime-hook");
    for part in ["four parts", "was not found", "relative root `rootfs`"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    let (hook, warnings) = ask(Some("all"), Nvidia::None, &[], &host()).unwrap();
    assert_eq!((hook, warnings.as_str()), (None, "--gpus all has no effect with --nvidia none"));
    let visible = "NVIDIA_VISIBLE_DEVICES=0";
    let (hook, warnings) = ask(None, Nvidia::Auto, &[visible], &host()).unwrap();
    assert!(hook.is_none() && warnings.contains("alone has no effect"));
    let fine = [visible, "NVIDIA_REQUIRE_CUDA=cuda>=9.0"];
    assert_eq!(ask(None, Nvidia::Hook, &fine, &host()).unwrap(), (Some("/opt/nvidia/hook".into()), String::new()));
    let (_, warnings) = ask(Some("1"), Nvidia::Hook, &["NVIDIA_VISIBLE_DEVICES=1", fine[1]], &host()).unwrap();
    assert_eq!(warnings, "--gpus sets NVIDIA_VISIBLE_DEVICES, and overrides --env");
}

#[test]
fn a_container_that_runs_now_gets_what_this_machine_has() {
    let image = image(json!({"Cmd": ["sh"]}));
    let request = |cpus: &str, gpus: Option<&str>| {
        let settings = json!({"cpuset-cpus": cpus});
        let mut settings: RuntimeSettings = serde_json::from_value(settings).unwrap();
        settings.gpus = gpus.map(|text| text.parse().unwrap());
        ContainerRequest { settings, ..ContainerRequest::default() }
    };
    let spec = |runs_here, request: &ContainerRequest| {
        let host = Host { runs_here, cpus: "0-1".parse().ok(), root: "/r".into(), ..Host::default() };
        runtime_spec(&image, &BTreeMap::new(), request, &host)
    };
    for (runs_here, asked, gets, said) in [
        (true, "0-31", "0-1", "this machine has the CPUs 0-1; the container gets 0-1 of --cpuset-cpus 0-31"),
        (true, "4-5", "4-5", "this machine has the CPUs 0-1; a runtime refuses --cpuset-cpus 4-5 on it"),
        (false, "0-31", "0-31", "this machine has the CPUs 0-1; a runtime refuses --cpuset-cpus 0-31 on it"),
    ] {
        let emitted = spec(runs_here, &request(asked, None)).unwrap();
        assert_eq!(emitted.json["linux"]["resources"]["cpu"]["cpus"], gets);
        assert_eq!(emitted.warnings, [said]);
    }
    assert!(spec(false, &request("0", Some("all"))).is_ok());
    let error = spec(true, &request("0", Some("all"))).unwrap_err();
    assert!(matches!(error, SpecError::NoToolkit(None)) && error.hint().unwrap().contains("nvidia-container-toolkit"));
}
