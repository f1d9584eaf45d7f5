//! Creation of the spec: from image config, request and host facts to `config.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::capability::Capability;
use super::defaults::NETWORK_SYSCTLS;
use super::emitted::Emitted;
use super::env::Env;
use super::error::SpecError;
use super::host::Host;
use super::image_volumes::image_volumes;
use super::modes::{Ipc, Network};
use super::path::clean;
use super::request::{ContainerRequest, RuntimeSettings};
use super::{annotations, capabilities, cdi, defaults, mounts, nvidia, resources, rootless, seccomp, user};
use crate::config::Config;

/// The oldest version of the runtime spec with all used features, so that older runtimes accept it.
const VERSION: &str = "1.0.2";

/// Creates the runtime spec of the image with this config and these annotations of its manifest.
///
/// The request overrides the image's settings, and these override docker's defaults.
///
/// # Errors
/// When image and request are not a valid container; each case is a variant of [`SpecError`].
pub fn runtime_spec(
    config: &Config,
    annotations: &BTreeMap<String, String>,
    request: &ContainerRequest,
    host: &Host,
) -> Result<Emitted, SpecError> {
    refuse(config, request)?;
    let mut warnings = Vec::new();
    let image = RuntimeSettings::from_annotations(annotations)?;
    warn_of_image_requests(&image, &request.settings, &mut warnings);
    let settings = request.settings.or(image);
    let mut env = environment(config, request, &mut warnings);
    let injection = nvidia::inject(request, settings.gpus.as_ref(), host, &mut env, &mut warnings)?;
    let granted = host.capabilities.filter(|_| !request.rootless);
    let capabilities = capabilities::resolve(request, granted, &mut warnings);
    let volumes = image_volumes(config, &mut warnings);
    let mut json = json!({
        "ociVersion": VERSION,
        "process": process(config, request, &capabilities, env, host, &mut warnings)?,
        "root": {"path": host.root, "readonly": request.read_only},
        "mounts": mounts::mounts(request, &settings, &volumes, host, &mut warnings)?,
        "linux": linux(request, &settings, host, &mut warnings),
        "annotations": annotations::of_image(config, &mut warnings),
    });
    let rlimits = resources::rlimits(request, &settings, host, &mut warnings);
    if !rlimits.is_empty() {
        json["process"]["rlimits"] = json!(rlimits);
    }
    let architecture = &config.platform.architecture;
    if let Some(filter) = seccomp::filter(request, host, architecture, &capabilities, &mut warnings)? {
        json["linux"]["seccomp"] = filter;
    }
    if let Some(hostname) = &request.hostname {
        json["hostname"] = json!(hostname.as_str());
    }
    if let Some(hooks) = injection.hooks {
        json["hooks"] = hooks;
    }
    if let Some(edits) = injection.edits {
        let volumes = request.volumes.iter().map(|volume| volume.destination.as_str()).collect();
        let container = cdi::TargetContainer { devices: &host.devices, rootless: request.rootless, volumes };
        cdi::apply(&edits, &mut json, &container, &mut warnings)?;
    }
    if json.get("hooks").is_some() {
        for (key, value) in &host.hook_annotations {
            json["annotations"][key] = json!(value);
        }
    }
    // Last, because it removes parts that the other steps add.
    if request.rootless {
        let named = user::is_name(user_of(config, request));
        rootless::convert(&mut json, named, host, &mut warnings)?;
    }
    Ok(Emitted { json, warnings })
}

/// Refuses faults that no later step detects.
fn refuse(config: &Config, request: &ContainerRequest) -> Result<(), SpecError> {
    if config.platform.os != "linux" {
        return Err(SpecError::System(config.platform.os.clone()));
    }
    resources::check_memory(request)
}

fn warn_of_image_requests(image: &RuntimeSettings, flags: &RuntimeSettings, warnings: &mut Vec<String>) {
    let mut shared = Vec::new();
    if image.ipc == Some(Ipc::Host) && flags.ipc.is_none() {
        shared.push("--ipc host");
    }
    if image.network == Some(Network::Host) && flags.network.is_none() {
        shared.push("--network host");
    }
    if !shared.is_empty() {
        warnings.push(format!("the image itself asks for {}", shared.join(" and ")));
    }
}

/// Docker's variables, then the image's, then the user's; each key keeps its first position.
fn environment(config: &Config, request: &ContainerRequest, warnings: &mut Vec<String>) -> Env {
    let mut env = Env::default();
    env.set("PATH", defaults::PATH);
    if let Some(hostname) = &request.hostname {
        env.set("HOSTNAME", hostname.as_str());
    }
    if request.tty {
        env.set("TERM", "xterm");
    }
    for entry in &config.config.env {
        match entry.split_once('=') {
            Some((key, value)) if !key.is_empty() => env.set(key, value),
            _ => warnings.push("the image has an environment entry that is not KEY=VALUE; it is skipped".into()),
        }
    }
    for entry in &request.env {
        match &entry.value {
            Some(value) => env.set(&entry.key, value),
            None => env.unset(&entry.key),
        }
    }
    env
}

fn process(
    config: &Config,
    request: &ContainerRequest,
    capabilities: &[Capability],
    mut env: Env,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Value, SpecError> {
    let user = user::resolve(user_of(config, request), host.users.as_ref())?;
    // As in docker. If the accounts are unknown, the runtime does it.
    if let (None, Some(users)) = (env.get("HOME"), &host.users) {
        env.set("HOME", users.home(user.uid).unwrap_or("/"));
    }
    let (args, env) = (args(config, request)?, env.entries());
    let cwd = workdir(config, request, warnings)?;
    let nul = |texts: &[String]| texts.iter().any(|text| text.contains('\0'));
    for (what, texts) in [("command", &args), ("environment", &env), ("working directory", &vec![cwd.clone()])] {
        if nul(texts) {
            return Err(SpecError::Nul(what));
        }
    }
    let capabilities: Vec<_> = capabilities.iter().map(|capability| capability.name()).collect();
    let mut process = json!({
        "terminal": request.tty,
        "user": user.json(),
        "args": args,
        "env": env,
        "cwd": cwd,
        "capabilities": {"bounding": capabilities, "permitted": capabilities, "effective": capabilities},
    });
    if request.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    Ok(process)
}

fn user_of<'a>(config: &'a Config, request: &'a ContainerRequest) -> &'a str {
    request.user.as_deref().unwrap_or(&config.config.user)
}

/// The working directory. That of an image may be relative, but that of a flag may not.
fn workdir(config: &Config, request: &ContainerRequest, warnings: &mut Vec<String>) -> Result<String, SpecError> {
    let path = request.workdir.as_ref().unwrap_or(&config.config.working_dir);
    if !path.starts_with('/') && request.workdir.is_some() {
        return Err(SpecError::Workdir(path.clone()));
    }
    if !path.starts_with('/') && !path.is_empty() {
        warnings.push(format!("the image's working directory `{path}` is relative; it is taken from the root"));
    }
    Ok(clean(path))
}

/// Entrypoint and command. The user's entrypoint removes the image's command, as in docker.
fn args(config: &Config, request: &ContainerRequest) -> Result<Vec<String>, SpecError> {
    let image = &config.config;
    let command = match (&request.entrypoint, request.command.is_empty()) {
        (None, true) => &image.cmd,
        _ => &request.command,
    };
    let args = [request.entrypoint.as_ref().unwrap_or(&image.entrypoint).as_slice(), command].concat();
    if args.is_empty() { Err(SpecError::NoCommand) } else { Ok(args) }
}

fn linux(request: &ContainerRequest, settings: &RuntimeSettings, host: &Host, warnings: &mut Vec<String>) -> Value {
    let mut namespaces = vec!["mount", "uts", "pid"];
    if settings.network != Some(Network::Host) {
        namespaces.push("network");
    }
    if settings.ipc != Some(Ipc::Host) {
        namespaces.push("ipc");
    }
    if host.cgroup_v2 {
        namespaces.push("cgroup");
    }
    let mut linux = json!({
        "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
        "resources": resources::resources(request, settings, host, warnings),
    });
    if settings.network != Some(Network::Host) {
        let there = |(name, _): &&(&str, &str)| host.sysctls.contains(*name);
        let sysctls: BTreeMap<_, _> = NETWORK_SYSCTLS.iter().filter(there).copied().collect();
        linux["sysctl"] = json!(sysctls);
    }
    if !request.privileged && !request.unmasked {
        linux["maskedPaths"] = json!(defaults::MASKED);
        linux["readonlyPaths"] = json!(defaults::READ_ONLY);
    }
    linux
}
