//! Which way devices get into a container: NVIDIA's hook or CDI, never both for NVIDIA's.
//!
//! `--nvidia auto` takes CDI where a file describes NVIDIA's GPUs, or where the request names a CDI device of theirs, and
//! the hook otherwise. Devices of other vendors always come by CDI.

use super::cdi::{Edits, Name};
use super::env::Env;
use super::error::SpecError;
use super::gpus::{Driver, GpuRequest, Gpus};
use super::hook;
use super::modes::Nvidia;
use super::request::Request;
use super::requirements;
use super::spec::Host;

/// What NVIDIA's tools call the kind of their GPUs.
pub const GPU_KIND: &str = "nvidia.com/gpu";

/// Names the GPUs that the hook makes visible.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Names the parts of the driver that it mounts.
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// What a request for devices adds to a spec.
#[derive(Debug, Default)]
pub(crate) struct Injection {
    /// The spec's `hooks`.
    pub(crate) hooks: Option<serde_json::Value>,
    /// CDI's edits, which come last.
    pub(crate) edits: Option<Edits>,
}

/// The way for NVIDIA's GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    None,
    Hook,
    Cdi,
}

/// Finds what the request for devices adds, and puts into `env` what the hook reads there.
pub(crate) fn inject(
    request: &Request,
    gpus: Option<&GpuRequest>,
    host: &Host,
    env: &mut Env,
    warnings: &mut Vec<String>,
) -> Result<Injection, SpecError> {
    let gpus = gpus.filter(|gpus| gpus.gpus != Gpus::Count(0));
    let devices: Vec<Name> = request.devices.iter().map(|text| Name::read(text)).collect::<Result<_, _>>()?;
    let (theirs, mut names): (Vec<_>, Vec<_>) = devices.into_iter().partition(Name::is_nvidia);
    let way = choose(request.nvidia, gpus, &theirs, host)?;
    match way {
        Way::None => tell_what_has_no_effect(request, gpus, &theirs, warnings),
        Way::Hook => names_for_hook(request, gpus, env, warnings)?,
        Way::Cdi => {
            names.extend(names_for_cdi(request, gpus, theirs, env, warnings)?);
            if names.iter().any(Name::is_nvidia) && env.get(VISIBLE).is_some() {
                // So that a runtime of NVIDIA's does not inject a second time; their own files say it, too.
                env.set(VISIBLE, "void");
            }
        }
    }
    if names.iter().any(Name::is_nvidia) || (way == Way::Hook && is_visible(env)) {
        let newer = requirements::check(env.iter(), host.driver.as_ref())?;
        warnings.extend(newer.map(|newer| newer.to_string()));
    }
    if way == Way::Hook && request.nvidia == Nvidia::Auto {
        // CDI would have come first, but for these.
        warnings.extend(host.cdi.left_out().iter().map(ToString::to_string));
    }
    let hooks = (way == Way::Hook).then(|| hook::hooks(host, env, warnings)).transpose()?;
    if names.is_empty() {
        return Ok(Injection { hooks, edits: None });
    }
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let edits = host.cdi.resolve(names.iter().map(String::as_str))?;
    warnings.extend(host.cdi.left_out().iter().map(ToString::to_string));
    Ok(Injection { hooks, edits: Some(edits) })
}

fn choose(nvidia: Nvidia, gpus: Option<&GpuRequest>, theirs: &[Name], host: &Host) -> Result<Way, SpecError> {
    let by_driver = gpus.is_some_and(|gpus| gpus.driver == Some(Driver::Cdi));
    let by_name = gpus.and_then(|gpus| match &gpus.gpus {
        Gpus::Devices(devices) => devices.iter().find(|name| name.contains('=')),
        _ => None,
    });
    match nvidia {
        Nvidia::None => Ok(Way::None),
        Nvidia::Cdi => Ok(Way::Cdi),
        Nvidia::Hook => match (theirs.first(), by_name, by_driver) {
            (Some(name), ..) => Err(SpecError::Mixed(format!("--device {name}"))),
            (_, Some(name), _) => Err(SpecError::CdiName(name.clone())),
            (.., true) => Err(SpecError::Mixed("--gpus driver=cdi".into())),
            _ => Ok(Way::Hook),
        },
        Nvidia::Auto if !theirs.is_empty() || by_name.is_some() || by_driver => Ok(Way::Cdi),
        Nvidia::Auto if gpus.is_none() => Ok(Way::None),
        Nvidia::Auto if host.cdi.kinds().contains(GPU_KIND) => Ok(Way::Cdi),
        Nvidia::Auto => Ok(Way::Hook),
    }
}

fn tell_what_has_no_effect(request: &Request, gpus: Option<&GpuRequest>, theirs: &[Name], warnings: &mut Vec<String>) {
    if let Some(gpus) = gpus {
        warnings.push(format!("--gpus {gpus} has no effect with --nvidia none"));
    }
    for name in theirs {
        warnings.push(format!("--device {name} has no effect with --nvidia none"));
    }
    let set = request.env.iter().any(|entry| entry.key == VISIBLE && entry.value.is_some());
    if request.nvidia == Nvidia::Auto && gpus.is_none() && set {
        warnings.push(format!("{VISIBLE} alone has no effect; use --gpus, or --nvidia hook or cdi beside it"));
    }
}

/// Sets the variables that the hook reads. Without a request it does what the image's environment asks for, as NVIDIA's
/// own runtime does.
fn names_for_hook(
    request: &Request,
    gpus: Option<&GpuRequest>,
    env: &mut Env,
    warnings: &mut Vec<String>,
) -> Result<(), SpecError> {
    let Some(gpus) = gpus else {
        let name =
            env.get(VISIBLE).and_then(|visible| visible.split(',').map(str::trim).find(|name| name.contains('=')));
        return name.map_or(Ok(()), |name| Err(SpecError::CdiName(name.to_owned())));
    };
    tell_of_request(gpus, warnings);
    let names: Vec<_> = gpus.capabilities.iter().map(|capability| capability.name()).collect();
    let capabilities = if names.contains(&"all") { "all".to_owned() } else { names.join(",") };
    let wanted = [(VISIBLE, ids(gpus).join(",")), (CAPABILITIES, capabilities)];
    for (key, value) in wanted.into_iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(entry) = request.env.iter().find(|entry| entry.key == key && entry.value.as_ref() != Some(&value)) {
            warnings.push(format!("--gpus sets {}, whatever --env says of it", entry.key));
        }
        env.set(key, value);
    }
    Ok(())
}

/// The CDI names of the GPUs: those of the request, or else, as with NVIDIA's own runtime, those of the environment.
fn names_for_cdi(
    request: &Request,
    gpus: Option<&GpuRequest>,
    theirs: Vec<Name>,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Vec<Name>, SpecError> {
    let mut names = theirs;
    let ids = match gpus {
        Some(gpus) => {
            tell_of_request(gpus, warnings);
            if !gpus.capabilities.is_empty() {
                warnings
                    .push("the capabilities of --gpus have no effect with CDI, which gives the whole driver".into());
            }
            if request.env.iter().any(|entry| entry.key == VISIBLE) {
                warnings.push(format!("--gpus chooses the GPUs, whatever --env says of {VISIBLE}"));
            }
            ids(gpus)
        }
        None if names.is_empty() => visible(env),
        None => Vec::new(),
    };
    for id in ids {
        let name = if id.contains('=') { id } else { format!("{GPU_KIND}={id}") };
        let name = Name::read(&name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What is told of a request whichever way it goes.
fn tell_of_request(gpus: &GpuRequest, warnings: &mut Vec<String>) {
    warnings.extend(gpus.warning("--gpus"));
    if !gpus.options.is_empty() {
        warnings.push("the options of --gpus have no effect: NVIDIA's driver has none".into());
    }
}

/// The GPUs of a request as the hook and NVIDIA's CDI files name them.
fn ids(gpus: &GpuRequest) -> Vec<String> {
    match &gpus.gpus {
        Gpus::All => vec!["all".to_owned()],
        Gpus::Count(count) => (0..*count).map(|index| index.to_string()).collect(),
        Gpus::Devices(devices) => devices.clone(),
    }
}

/// The GPUs of the environment. An image of the first generation, which has a `CUDA_VERSION` and does not say what it
/// requires, means all.
fn visible(env: &Env) -> Vec<String> {
    let default = if requirements::first_generation(|key| env.get(key)).is_some() { "all" } else { "" };
    let names = env.get(VISIBLE).unwrap_or(default).split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<_> = names.map(str::to_owned).collect();
    if names.iter().any(|name| name == "void" || name == "none") { Vec::new() } else { names }
}

/// Whether the hook has anything to do.
fn is_visible(env: &Env) -> bool {
    !visible(env).is_empty() || env.get(VISIBLE) == Some("none")
}

#[cfg(test)]
mod tests;
