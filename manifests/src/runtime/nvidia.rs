//! GPUs by NVIDIA's prestart hook, which reads what to inject from the process's environment.

use serde_json::{Value, json};

use super::defaults::PATH;
use super::env::Env;
use super::gpus::{Driver, GpuRequest, Gpus};
use super::modes::Nvidia;
use super::request::Request;
use super::spec::{Host, SpecError};

/// The name of NVIDIA's hook, which is its first argument, too.
pub const HOOK_NAME: &str = "nvidia-container-runtime-hook";

/// Where Debian's and NVIDIA's packages have it.
const HOOK_PATH: &str = "/usr/bin/nvidia-container-runtime-hook";

/// Names the GPUs that the hook makes visible.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Names the parts of the driver that it mounts.
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// Puts the request for GPUs into `env`. Returns the `hooks` of the spec, if there are any.
pub(crate) fn inject(
    request: &Request,
    gpus: Option<&GpuRequest>,
    host: &Host,
    env: &mut Env,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, SpecError> {
    let gpus = gpus.filter(|gpus| gpus.gpus != Gpus::Count(0));
    match (request.nvidia, gpus) {
        (Nvidia::Cdi, Some(_)) => return Err(SpecError::NotYet("--nvidia cdi")),
        (Nvidia::None, Some(gpus)) => {
            warnings.push(format!("--gpus {gpus} has no effect with --nvidia none"));
            return Ok(None);
        }
        (Nvidia::Auto | Nvidia::Hook, Some(gpus)) => ask(request, gpus, env, warnings)?,
        // The hook alone does what the image's environment asks for, as NVIDIA's own runtime does.
        (Nvidia::Hook, None) => {}
        (_, None) => {
            if request.env.iter().any(|entry| entry.key == VISIBLE) {
                warnings.push(format!("{VISIBLE} alone has no effect; use --gpus, or --nvidia hook beside it"));
            }
            return Ok(None);
        }
    }
    if is_legacy_with_four_parts(env) {
        warnings.push(
            "CUDA_VERSION has four parts and NVIDIA_REQUIRE_CUDA is not set: NVIDIA's hook fails on such an image; set \
             NVIDIA_REQUIRE_CUDA=cuda>=9.0"
                .into(),
        );
    }
    let path = host.nvidia_hook.as_deref().unwrap_or_else(|| {
        warnings.push(format!("{HOOK_NAME} was not found; install nvidia-container-toolkit where the spec is run"));
        HOOK_PATH
    });
    // The hook resolves root.path against its own working directory, and only runc starts it in the bundle.
    if !host.root.starts_with('/') {
        warnings.push(format!("root.path `{}` is relative, which NVIDIA's hook stands only under runc", host.root));
    }
    // Some runtimes give a hook without `env` an empty environment, and this one looks for programs on PATH.
    Ok(Some(json!({
        "prestart": [{"path": path, "args": [HOOK_NAME, "prestart"], "env": [format!("PATH={PATH}")]}]
    })))
}

/// Sets the variables that the hook reads.
fn ask(request: &Request, gpus: &GpuRequest, env: &mut Env, warnings: &mut Vec<String>) -> Result<(), SpecError> {
    if gpus.driver == Some(Driver::Cdi) {
        return Err(SpecError::NotYet("--gpus driver=cdi"));
    }
    if !gpus.options.is_empty() {
        warnings.push("the options of --gpus have no effect: NVIDIA's driver has none".into());
    }
    let visible = match &gpus.gpus {
        Gpus::All => "all".to_owned(),
        Gpus::Count(count) => (0..*count).map(|index| index.to_string()).collect::<Vec<_>>().join(","),
        Gpus::Devices(devices) => {
            if let Some(name) = devices.iter().find(|name| name.contains('=')) {
                return Err(SpecError::CdiName(name.clone()));
            }
            devices.join(",")
        }
    };
    let names: Vec<_> = gpus.capabilities.iter().map(|capability| capability.name()).collect();
    let capabilities = if names.contains(&"all") { "all".to_owned() } else { names.join(",") };
    let wanted = [(VISIBLE, visible), (CAPABILITIES, capabilities)];
    for (key, value) in wanted.into_iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(entry) = request.env.iter().find(|entry| entry.key == key && entry.value.as_ref() != Some(&value)) {
            warnings.push(format!("--gpus sets {}, whatever --env says of it", entry.key));
        }
        env.set(key, value);
    }
    Ok(())
}

/// Whether the hook takes the image for one of the first generation and then stumbles over its version.
fn is_legacy_with_four_parts(env: &Env) -> bool {
    let four = env.get("CUDA_VERSION").is_some_and(|version| version.split('.').count() > 3);
    four && env.get("NVIDIA_REQUIRE_CUDA").is_none_or(str::is_empty)
}
