//! The spec itself: image config, request and host facts in, `config.json` out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cpuset::CpuSet;
use super::defaults;
use super::env::Env;
use super::modes::{Ipc, Network};
use super::request::{ANNOTATION, Request, Settings};
use super::ulimit::Ulimit;
use super::user::{self, UserError, Users};
use super::volume::clean;
use super::{mounts, nvidia};
use crate::config::Config;
use crate::document::canonical;

/// The oldest version of the runtime spec that has everything used here, so that older runtimes take it, too.
const VERSION: &str = "1.0.2";

/// Annotations that runc and crun take for orders, which an image may not give to the host.
const COMMANDS: [&str; 2] = ["org.systemd.property.", "run.oci."];

/// What lies outside the image and the request: facts about the host, and about the unpacked root filesystem.
#[derive(Debug, Clone)]
pub struct Host {
    /// `root.path`: absolute, or relative to the bundle.
    pub root: String,
    /// The accounts of the root filesystem, if it is there to look into.
    pub users: Option<Users>,
    /// The caller's working directory, from which relative sources of volumes count.
    pub directory: Option<String>,
    /// Where NVIDIA's hook is, if it was found.
    pub nvidia_hook: Option<String>,
    /// Whether cgroups are version 2 alone.
    pub cgroup_v2: bool,
    /// The CPUs that there are, if that is known.
    pub cpus: Option<CpuSet>,
    /// Files that a container on the host's network shares, read-only, such as `/etc/resolv.conf`.
    pub network_files: Vec<String>,
}

impl Default for Host {
    /// A host of which nothing is known, with the root filesystem at `rootfs` in the bundle.
    fn default() -> Self {
        Self {
            root: "rootfs".into(),
            users: None,
            directory: None,
            nvidia_hook: None,
            cgroup_v2: true,
            cpus: None,
            network_files: Vec::new(),
        }
    }
}

/// A runtime spec, and what the user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// The spec.
    pub json: Value,
    /// Sentences without a full stop, in the order in which they came up.
    pub warnings: Vec<String>,
}

impl Emitted {
    /// The bytes of `config.json`: the same for the same input.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        canonical(&self.json)
    }
}

/// Why there is no spec.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// An image for another operating system.
    #[error("the image is for {0}, and its runtime spec can only be made for linux")]
    System(String),
    /// The image's defaults can't be read.
    #[error("the image's annotation {ANNOTATION} can't be read")]
    Annotation(#[source] serde_json::Error),
    /// No entrypoint and no command.
    #[error("the image has no command, and none was given")]
    NoCommand,
    /// The user can't be resolved.
    #[error(transparent)]
    User(#[from] UserError),
    /// A working directory that is not absolute.
    #[error("the working directory `{0}` is not an absolute path")]
    Workdir(String),
    /// Two volumes at one place.
    #[error("two volumes go to {0}")]
    SamePlace(String),
    /// A volume with a relative source, and no directory to count from.
    #[error("the volume's source `{0}` is relative")]
    RelativeSource(String),
    /// A NUL byte where the kernel takes none.
    #[error("the {0} has a NUL in it")]
    Nul(&'static str),
    /// A CDI device for a hook that knows none.
    #[error("`{0}` is the name of a CDI device, which NVIDIA's hook does not know")]
    CdiName(String),
    /// Something that this version can't do.
    #[error("{0} is not supported yet")]
    NotYet(&'static str),
}

impl SpecError {
    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::User(error) => error.hint(),
            Self::System(_) => Some("choose a linux platform with --platform".into()),
            Self::Annotation(_) => Some("a newer ociforge may have made the image; update, or rebuild it".into()),
            Self::NoCommand => Some("give the command after `--`, such as `-- bash`".into()),
            Self::Workdir(path) => Some(format!("write it from the root: {}", clean(path))),
            Self::SamePlace(_) => Some("leave one of them out".into()),
            Self::RelativeSource(_) => Some("write it from the root".into()),
            Self::CdiName(_) => Some("name the GPU by index or UUID".into()),
            Self::NotYet("--nvidia cdi" | "--gpus driver=cdi" | "--device") => {
                Some("use --gpus with --nvidia hook".into())
            }
            Self::NotYet(_) | Self::Nul(_) => None,
        }
    }
}

/// Makes the runtime spec of the image with this config and these annotations of its manifest.
///
/// The request wins over the settings that the image carries, and these over docker's defaults.
///
/// # Errors
/// When image and request together make no container; each case is a variant of [`SpecError`].
pub fn runtime_spec(
    config: &Config,
    annotations: &BTreeMap<String, String>,
    request: &Request,
    host: &Host,
) -> Result<Emitted, SpecError> {
    refuse(config, request)?;
    let mut warnings = Vec::new();
    let image = Settings::from_annotations(annotations)?;
    tell_what_the_image_asks_for(&image, &request.settings, &mut warnings);
    let settings = request.settings.or(image);
    let mut env = environment(config, request, &mut warnings);
    let hooks = nvidia::inject(request, settings.gpus.as_ref(), host, &mut env, &mut warnings)?;
    let mut json = json!({
        "ociVersion": VERSION,
        "process": process(config, request, &settings, &env, host)?,
        "root": {"path": host.root, "readonly": request.read_only},
        "mounts": mounts::mounts(request, &settings, host, &mut warnings)?,
        "linux": linux(&settings, host, &mut warnings),
        "annotations": image_annotations(config, &mut warnings),
    });
    if let Some(hostname) = &request.hostname {
        json["hostname"] = json!(hostname.as_str());
    }
    if let Some(hooks) = hooks {
        json["hooks"] = hooks;
    }
    Ok(Emitted { json, warnings })
}

/// Refuses what no later step would notice.
fn refuse(config: &Config, request: &Request) -> Result<(), SpecError> {
    if config.platform.os != "linux" {
        return Err(SpecError::System(config.platform.os.clone()));
    }
    if !request.devices.is_empty() {
        return Err(SpecError::NotYet("--device"));
    }
    if request.rootless {
        return Err(SpecError::NotYet("--rootless"));
    }
    Ok(())
}

fn tell_what_the_image_asks_for(image: &Settings, flags: &Settings, warnings: &mut Vec<String>) {
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

/// Docker's variables, then the image's, then the user's; one entry a key, in the place where it came first.
fn environment(config: &Config, request: &Request, warnings: &mut Vec<String>) -> Env {
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
            _ => warnings.push("the image has an environment entry that is not KEY=VALUE; it is left out".into()),
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
    request: &Request,
    settings: &Settings,
    env: &Env,
    host: &Host,
) -> Result<Value, SpecError> {
    let args = args(config, request)?;
    let env = env.entries();
    let cwd = match &request.workdir {
        Some(path) if !path.starts_with('/') => return Err(SpecError::Workdir(path.clone())),
        Some(path) => clean(path),
        None => clean(&config.config.working_dir),
    };
    let nul = |texts: &[String]| texts.iter().any(|text| text.contains('\0'));
    for (what, texts) in [("command", &args), ("environment", &env), ("working directory", &vec![cwd.clone()])] {
        if nul(texts) {
            return Err(SpecError::Nul(what));
        }
    }
    let user = request.user.as_deref().unwrap_or(&config.config.user);
    let capabilities = json!(defaults::CAPABILITIES);
    let mut process = json!({
        "terminal": request.tty,
        "user": user::resolve(user, host.users.as_ref())?.json(),
        "args": args,
        "env": env,
        "cwd": cwd,
        "capabilities": {"bounding": capabilities, "permitted": capabilities, "effective": capabilities},
    });
    if !settings.ulimits.is_empty() {
        process["rlimits"] = settings.ulimits.iter().map(Ulimit::rlimit).collect();
    }
    Ok(process)
}

/// Entrypoint and command. An entrypoint from the user takes the image's command away, as in docker.
fn args(config: &Config, request: &Request) -> Result<Vec<String>, SpecError> {
    let image = &config.config;
    let command = match (&request.entrypoint, request.command.is_empty()) {
        (None, true) => &image.cmd,
        _ => &request.command,
    };
    let args = [request.entrypoint.as_ref().unwrap_or(&image.entrypoint).as_slice(), command].concat();
    if args.is_empty() { Err(SpecError::NoCommand) } else { Ok(args) }
}

fn linux(settings: &Settings, host: &Host, warnings: &mut Vec<String>) -> Value {
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
    let mut resources = json!({"devices": defaults::device_rules()});
    if let Some(cpus) = &settings.cpuset_cpus {
        resources["cpu"] = json!({"cpus": cpus.to_string()});
        if let Some(have) = host.cpus.as_ref().filter(|have| !cpus.is_subset(have)) {
            warnings.push(format!("this machine has the CPUs {have}; a runtime refuses --cpuset-cpus {cpus} on it"));
        }
    }
    json!({
        "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
        "resources": resources,
        "maskedPaths": defaults::MASKED,
        "readonlyPaths": defaults::READ_ONLY,
    })
}

/// The annotations that an image config converts to (image-spec, conversion.md); labels win over the fields.
fn image_annotations(config: &Config, warnings: &mut Vec<String>) -> Map<String, Value> {
    let platform = &config.platform;
    let other = |key: &str| platform.other.get(key).and_then(Value::as_str).map(str::to_owned);
    let features = platform.other.get("os.features").and_then(Value::as_array);
    let features = features.map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
    let ports: Vec<_> = config.config.exposed_ports.keys().map(String::as_str).collect();
    let fields = [
        ("os", Some(platform.os.clone())),
        ("architecture", Some(platform.architecture.clone())),
        ("variant", platform.variant.clone()),
        ("os.version", other("os.version")),
        ("os.features", features),
        ("author", config.author.clone()),
        ("created", config.created.clone()),
        ("stopSignal", config.config.stop_signal.clone()),
        ("exposedPorts", Some(ports.join(","))),
    ];
    let mut annotations = Map::new();
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.insert(format!("org.opencontainers.image.{name}"), json!(value));
        }
    }
    for (key, value) in &config.config.labels {
        if COMMANDS.iter().any(|prefix| key.starts_with(prefix)) {
            warnings.push(format!("the image's label {key} is left out: runtimes would obey it"));
        } else {
            annotations.insert(key.clone(), json!(value));
        }
    }
    annotations
}
