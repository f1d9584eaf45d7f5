//! Selection of the way to inject devices: NVIDIA's hook or CDI, never both for NVIDIA's devices.
//!
//! `--nvidia auto` uses CDI if a file describes NVIDIA's GPUs or the request names one of their CDI devices. It uses
//! the hook otherwise, or if the files cannot serve the request and nothing else requires CDI, as in docker. Devices of
//! other vendors always use CDI.

use self::checks::{check_hook, check_requirements, driver_warning, fall_back, resolve};
use super::cdi::{CdiError, Edits, GPU_KIND, Name};
use super::env::Env;
use super::error::SpecError;
use super::gpus::{Driver, GpuRequest, GpuSelection};
use super::hook;
use super::host::Host;
use super::modes::Nvidia;
use super::request::ContainerRequest;
use super::requirements;

mod checks;

/// Selects the GPUs that the hook makes visible.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Selects the parts of the driver that the hook mounts.
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// The additions of a device request to a spec.
#[derive(Debug, Default)]
pub(crate) struct Injection {
    /// The spec's `hooks`.
    pub(crate) hooks: Option<serde_json::Value>,
    /// The edits of CDI, which are applied last.
    pub(crate) edits: Option<Edits>,
}

/// The way to inject NVIDIA's GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InjectionMethod {
    None,
    Hook,
    Cdi,
}

/// The additions for the device request; sets the variables of the hook in `env`. `gpus` is the last request for GPUs;
/// earlier ones are in [`ContainerRequest::earlier_gpus`].
pub(crate) fn inject(
    request: &ContainerRequest,
    gpus: Option<&GpuRequest>,
    host: &Host,
    env: &mut Env,
    warnings: &mut Vec<String>,
) -> Result<Injection, SpecError> {
    let all = request.earlier_gpus.iter().chain(gpus);
    let wanted: Vec<&GpuRequest> = all.filter(|gpus| gpus.gpus != GpuSelection::Count(0)).collect();
    let devices: Vec<Name> = request.devices.iter().map(|text| Name::read(text)).collect::<Result<_, _>>()?;
    let plan = if wanted.is_empty() && gpus.is_some() && !devices.iter().any(Name::is_nvidia) {
        refuse_all(env);
        InjectionPlan { way: InjectionMethod::None, names: devices, edits: None }
    } else {
        plan(request, &wanted, devices, host, env, warnings)?
    };
    let InjectionPlan { way, names, edits } = plan;
    match way {
        InjectionMethod::None => tell_what_has_no_effect(request, &wanted, gpus.is_some(), warnings),
        InjectionMethod::Hook => set_for_hook(request, &wanted, env, warnings)?,
        InjectionMethod::Cdi => {
            warn_of_cdi(request, &wanted, warnings);
            if (!wanted.is_empty() || names.iter().any(Name::is_nvidia)) && env.get(VISIBLE).is_some() {
                // Prevents a second injection by a runtime of NVIDIA; their own files set this, too.
                env.set(VISIBLE, "void");
            }
        }
    }
    let hooked = way == InjectionMethod::Hook && is_visible(env);
    if hooked || names.iter().any(Name::is_nvidia) {
        check_requirements(env, host, warnings)?;
    }
    if hooked {
        check_hook(request, host, warnings)?;
    }
    if way == InjectionMethod::Hook && request.nvidia == Nvidia::Auto {
        // These files prevented the use of CDI.
        warnings.extend(host.cdi.left_out().iter().map(ToString::to_string));
    }
    let hooks = (way == InjectionMethod::Hook).then(|| hook::hooks(host, env, warnings)).transpose()?;
    if names.is_empty() {
        return Ok(Injection { hooks, edits: None });
    }
    let edits = edits.map_or_else(|| resolve(&names, request, host), Ok)?;
    if way != InjectionMethod::Hook || request.nvidia != Nvidia::Auto {
        warnings.extend(host.cdi.left_out().iter().map(ToString::to_string));
    }
    warnings.extend(driver_warning(&edits, request, host));
    Ok(Injection { hooks, edits: Some(edits) })
}

/// The way to inject devices, the names of the CDI devices, and their edits if the selection required them.
struct InjectionPlan {
    way: InjectionMethod,
    names: Vec<Name>,
    edits: Option<Edits>,
}

/// Selects the way for the GPUs `wanted` and the CDI devices of the request.
fn plan(
    request: &ContainerRequest,
    wanted: &[&GpuRequest],
    mut devices: Vec<Name>,
    host: &Host,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<InjectionPlan, SpecError> {
    let theirs = devices.iter().find(|name| name.is_nvidia());
    let mut way = choose(request.nvidia, wanted, theirs, host)?;
    if way == InjectionMethod::Cdi {
        let found = names_for_cdi(wanted, &devices, env).and_then(|names| Ok((resolve(&names, request, host)?, names)));
        let may_fall_back = request.nvidia == Nvidia::Auto && cdi_reason(wanted, theirs).is_none();
        match found {
            Ok((edits, names)) => return Ok(InjectionPlan { way, names, edits: Some(edits) }),
            Err(error) if may_fall_back && host.nvidia_hook.is_some() => fall_back(&error, request, host, warnings)?,
            Err(error) => return Err(error.into()),
        }
        way = InjectionMethod::Hook;
    }
    devices.retain(|name| !name.is_nvidia());
    Ok(InjectionPlan { way, names: devices, edits: None })
}

fn choose(
    nvidia: Nvidia,
    wanted: &[&GpuRequest],
    theirs: Option<&Name>,
    host: &Host,
) -> Result<InjectionMethod, SpecError> {
    match (nvidia, cdi_reason(wanted, theirs)) {
        (Nvidia::None, _) => Ok(InjectionMethod::None),
        (Nvidia::Cdi, _) => Ok(InjectionMethod::Cdi),
        (Nvidia::Hook, Some(CdiReason::ByName(name))) => Err(SpecError::CdiName(name)),
        (Nvidia::Hook, Some(CdiReason::Otherwise(what))) => Err(SpecError::Mixed(what)),
        (Nvidia::Hook, None) => Ok(InjectionMethod::Hook),
        (Nvidia::Auto, Some(_)) => Ok(InjectionMethod::Cdi),
        (Nvidia::Auto, None) if wanted.is_empty() => Ok(InjectionMethod::None),
        (Nvidia::Auto, None) if host.cdi.kinds().contains(GPU_KIND) => Ok(InjectionMethod::Cdi),
        (Nvidia::Auto, None) => Ok(InjectionMethod::Hook),
    }
}

/// Why a request requires CDI.
enum CdiReason {
    /// A device's CDI name in `--gpus`.
    ByName(String),
    /// Another reason.
    Otherwise(String),
}

fn cdi_reason(wanted: &[&GpuRequest], theirs: Option<&Name>) -> Option<CdiReason> {
    if let Some(name) = theirs {
        return Some(CdiReason::Otherwise(format!("--device {name}")));
    }
    let by_name = wanted.iter().find_map(|gpus| match &gpus.gpus {
        GpuSelection::Devices(devices) => devices.iter().find(|name| name.contains('=')),
        _ => None,
    });
    let by_driver = wanted.iter().any(|gpus| gpus.driver == Some(Driver::Cdi));
    match by_name {
        Some(name) => Some(CdiReason::ByName(name.clone())),
        None => by_driver.then(|| CdiReason::Otherwise("--gpus driver=cdi".into())),
    }
}

/// Prevents an injection of the image's request by other programs, such as a runtime of NVIDIA.
fn refuse_all(env: &mut Env) {
    if !visible(env).is_empty() {
        env.set(VISIBLE, "void");
    }
}

fn tell_what_has_no_effect(
    request: &ContainerRequest,
    wanted: &[&GpuRequest],
    asked: bool,
    warnings: &mut Vec<String>,
) {
    for gpus in wanted {
        warnings.push(format!("--gpus {gpus} has no effect with --nvidia none"));
    }
    let theirs = request.devices.iter().filter(|text| Name::read(text).is_ok_and(|name| name.is_nvidia()));
    for name in theirs {
        warnings.push(format!("--device {name} has no effect with --nvidia none"));
    }
    let set = request.env.iter().any(|entry| entry.key == VISIBLE && entry.value.is_some());
    if request.nvidia == Nvidia::Auto && !asked && set {
        warnings.push(format!("{VISIBLE} alone has no effect; use --gpus, or --nvidia hook or cdi beside it"));
    }
}

/// Sets the variables that the hook reads. Without a request the hook uses the image's environment, like NVIDIA's own
/// runtime; the last of several requests counts, as in docker.
fn set_for_hook(
    request: &ContainerRequest,
    wanted: &[&GpuRequest],
    env: &mut Env,
    warnings: &mut Vec<String>,
) -> Result<(), SpecError> {
    let Some(gpus) = wanted.last() else {
        let name =
            env.get(VISIBLE).and_then(|visible| visible.split(',').map(str::trim).find(|name| name.contains('=')));
        return name.map_or(Ok(()), |name| Err(SpecError::CdiName(name.to_owned())));
    };
    wanted.iter().for_each(|gpus| warn_of_request(gpus, warnings));
    if wanted.len() > 1 {
        warnings.push("NVIDIA's hook uses only the last of several --gpus".into());
    }
    let capabilities = wanted.iter().rev().map(|gpus| &gpus.capabilities).find(|capabilities| !capabilities.is_empty());
    let names: Vec<_> = capabilities.into_iter().flatten().map(|capability| capability.name()).collect();
    let capabilities = if names.contains(&"all") { "all".to_owned() } else { names.join(",") };
    let wanted = [(VISIBLE, ids(gpus).join(",")), (CAPABILITIES, capabilities)];
    for (key, value) in wanted.into_iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(entry) = request.env.iter().find(|entry| entry.key == key && entry.value.as_ref() != Some(&value)) {
            warnings.push(format!("--gpus sets {}, and overrides --env", entry.key));
        }
        env.set(key, value);
    }
    Ok(())
}

/// The CDI names of the devices and of the GPUs: those of the requests or else those of the environment, as with
/// NVIDIA's own runtime.
fn names_for_cdi(wanted: &[&GpuRequest], devices: &[Name], env: &Env) -> Result<Vec<Name>, CdiError> {
    let ids: Vec<String> = match wanted {
        [] if devices.iter().any(Name::is_nvidia) => Vec::new(),
        [] => visible(env),
        wanted => wanted.iter().flat_map(|gpus| ids(gpus)).filter(|id| id != "none").collect(),
    };
    let mut names = devices.to_vec();
    for id in ids {
        let name = if id.contains('=') { id } else { format!("{GPU_KIND}={id}") };
        let name = Name::read(&name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Warns about options without an effect in CDI.
fn warn_of_cdi(request: &ContainerRequest, wanted: &[&GpuRequest], warnings: &mut Vec<String>) {
    wanted.iter().for_each(|gpus| warn_of_request(gpus, warnings));
    if wanted.iter().any(|gpus| !gpus.capabilities.is_empty()) {
        warnings.push("the capabilities of --gpus have no effect with CDI, which gives the whole driver".into());
    }
    if !wanted.is_empty() && request.env.iter().any(|entry| entry.key == VISIBLE) {
        warnings.push(format!("--gpus chooses the GPUs, and overrides {VISIBLE} of --env"));
    }
}

/// The warnings of a request that are independent of the way.
fn warn_of_request(gpus: &GpuRequest, warnings: &mut Vec<String>) {
    warnings.extend(gpus.warning("--gpus"));
    if !gpus.options.is_empty() {
        warnings.push("the options of --gpus have no effect: NVIDIA's driver has none".into());
    }
}

/// The GPUs of a request, as named by the hook and NVIDIA's CDI files.
fn ids(gpus: &GpuRequest) -> Vec<String> {
    match &gpus.gpus {
        GpuSelection::All => vec!["all".to_owned()],
        GpuSelection::Count(count) => (0..*count).map(|index| index.to_string()).collect(),
        GpuSelection::Devices(devices) => devices.clone(),
    }
}

/// The GPUs of the environment. A first-generation image, which has a `CUDA_VERSION` and no requirement, means all.
fn visible(env: &Env) -> Vec<String> {
    let default = if requirements::first_generation(|key| env.get(key)).is_some() { "all" } else { "" };
    let names = env.get(VISIBLE).unwrap_or(default).split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<_> = names.map(str::to_owned).collect();
    if names.iter().any(|name| name == "void" || name == "none") { Vec::new() } else { names }
}

/// Whether the hook injects any GPU.
fn is_visible(env: &Env) -> bool {
    !visible(env).is_empty() || env.get(VISIBLE) == Some("none")
}

#[cfg(test)]
mod tests;
