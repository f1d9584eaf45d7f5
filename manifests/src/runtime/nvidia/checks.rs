//! Checks whether CDI or the hook can inject GPUs on this host, and whether the driver is sufficient.

use crate::runtime::capabilities;
use crate::runtime::capability::Capability;
use crate::runtime::cdi::{CdiError, Edits, Name};
use crate::runtime::env::Env;
use crate::runtime::error::SpecError;
use crate::runtime::host::Host;
use crate::runtime::request::ContainerRequest;
use crate::runtime::requirements;
use crate::runtime::toolkit::HookFault;

/// The edits of the devices, if they are applicable.
pub(super) fn resolve(names: &[Name], request: &ContainerRequest, host: &Host) -> Result<Edits, CdiError> {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let edits = host.cdi.resolve(names.iter().map(String::as_str))?;
    edits.check_nodes(&host.devices, request.rootless)?;
    match edits.stale(&host.devices, &host.absent, host.driver.as_ref(), request.rootless) {
        Some(stale) if !stale.lacks.is_empty() && host.runs_here => Err(CdiError::Stale(Box::new(stale))),
        _ => Ok(edits),
    }
}

/// The warning about edits for another driver.
pub(super) fn driver_warning(edits: &Edits, request: &ContainerRequest, host: &Host) -> Option<String> {
    let stale = edits.stale(&host.devices, &host.absent, host.driver.as_ref(), request.rootless)?;
    let remedy = stale.remedy();
    (host.runs_here && stale.drivers.is_some()).then(|| format!("{stale}: CUDA will fail; {remedy}"))
}

/// Warns about the fallback from CDI to the hook.
///
/// # Errors
/// When the hook is known not to work either.
pub(super) fn fall_back(
    error: &CdiError,
    request: &ContainerRequest,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), SpecError> {
    match fault_of_hook(request, host).filter(|fault| host.runs_here && fault.is_certain()) {
        Some(hook) => Err(SpecError::Neither { cdi: error.clone(), hook }),
        None => {
            warnings.push(format!("NVIDIA's hook is used because CDI cannot serve the request: {error}"));
            Ok(())
        }
    }
}

/// Checks whether NVIDIA's hook can give the container GPUs, if the container runs here.
///
/// # Errors
/// When it certainly cannot.
pub(super) fn check_hook(request: &ContainerRequest, host: &Host, warnings: &mut Vec<String>) -> Result<(), SpecError> {
    match fault_of_hook(request, host).filter(|_| host.runs_here) {
        Some(fault) if fault.is_certain() => Err(SpecError::Hook(fault)),
        fault => {
            warnings.extend(fault.map(|fault| format!("{fault}; {}", fault.hint())));
            Ok(())
        }
    }
}

fn fault_of_hook(request: &ContainerRequest, host: &Host) -> Option<HookFault> {
    let granted = host.capabilities.filter(|_| !request.rootless);
    let capabilities = capabilities::resolve(request, granted, &mut Vec::new());
    host.toolkit.fault(capabilities.contains(&Capability::SYS_ADMIN), request.rootless)
}

/// Compares the image's requirements with the driver.
pub(super) fn check_requirements(env: &Env, host: &Host, warnings: &mut Vec<String>) -> Result<(), SpecError> {
    match requirements::check(env.iter(), host.driver.as_ref()) {
        Ok(newer) => warnings.extend(newer.map(|newer| newer.to_string())),
        Err(error) if host.toolkit.disables_require && error.is_about_driver() => {
            warnings
                .push(format!("{error}; the container starts because the toolkit's config has disable-require = true"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
