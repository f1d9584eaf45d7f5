//! NVIDIA's prestart hook, which reads the devices to inject from the process's environment.

use serde_json::{Value, json};

use super::defaults::PATH;
use super::env::Env;
use super::error::SpecError;
use super::host::Host;
use super::requirements;

/// The name of NVIDIA's hook, which is also its first argument.
pub const HOOK_NAME: &str = "nvidia-container-runtime-hook";

/// The path in Debian's and NVIDIA's packages.
const HOOK_PATH: &str = "/usr/bin/nvidia-container-runtime-hook";

/// The `hooks` of a spec whose process has this environment.
pub(crate) fn hooks(host: &Host, env: &Env, warnings: &mut Vec<String>) -> Result<Value, SpecError> {
    if requirements::unreadable_version(|key| env.get(key)).is_some() {
        warnings.push(
            "CUDA_VERSION has four parts and NVIDIA_REQUIRE_CUDA is not set: NVIDIA's hook fails on such an image; set \
             NVIDIA_REQUIRE_CUDA=cuda>=9.0"
                .into(),
        );
    }
    let path = match host.nvidia_hook.as_deref() {
        Some(path) => path,
        None if host.runs_here => return Err(SpecError::NoToolkit(host.cdi.left_out().first().cloned())),
        None => {
            warnings.push(format!("{HOOK_NAME} was not found; install nvidia-container-toolkit where the spec is run"));
            HOOK_PATH
        }
    };
    // The hook resolves root.path relative to its own working directory, and only runc starts it in the bundle.
    if !host.root.starts_with('/') {
        warnings.push(format!(
            "NVIDIA's hook finds the relative root `{}` only under runc; --rootfs names an absolute one",
            host.root
        ));
    }
    // Some runtimes give a hook without `env` an empty environment, and this one searches programs on PATH.
    Ok(json!({"prestart": [{"path": path, "args": [HOOK_NAME, "prestart"], "env": [format!("PATH={PATH}")]}]}))
}
