//! The resources of the container: cgroups (runtime-spec, config-linux.md, "Control groups") and resource limits.

use serde_json::{Value, json};

use super::capability::Capability;
use super::cpuset::CpuSet;
use super::defaults;
use super::error::SpecError;
use super::host::Host;
use super::memory::{LEAST_MEMORY, MemorySwap};
use super::request::{ContainerRequest, RuntimeSettings};

/// `linux.resources`.
pub(crate) fn resources(
    request: &ContainerRequest,
    settings: &RuntimeSettings,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Value {
    let mut resources = json!({"devices": defaults::device_rules(request.privileged)});
    if let Some(cpus) = &settings.cpuset_cpus {
        resources["cpu"] = json!({"cpus": available(cpus, host, warnings).to_string()});
    }
    if let Some(memory) = memory_limits(request, host, warnings) {
        resources["memory"] = memory;
    }
    if let Some(limit) = request.pids_limit.and_then(|limit| limit.0) {
        resources["pids"] = json!({"limit": limit});
    }
    resources
}

/// The CPUs of the request. A container that runs now gets only the available ones.
fn available(cpus: &CpuSet, host: &Host, warnings: &mut Vec<String>) -> CpuSet {
    let Some(have) = host.cpus.as_ref().filter(|have| !cpus.is_subset(have)) else { return cpus.clone() };
    match cpus.intersection(have).filter(|_| host.runs_here) {
        Some(common) => {
            warnings
                .push(format!("this machine has the CPUs {have}; the container gets {common} of --cpuset-cpus {cpus}"));
            common
        }
        None => {
            warnings.push(format!("this machine has the CPUs {have}; a runtime refuses --cpuset-cpus {cpus} on it"));
            cpus.clone()
        }
    }
}

/// `process.rlimits`, none above the caller's limit. The last of several for one resource counts.
pub(crate) fn rlimits(
    request: &ContainerRequest,
    settings: &RuntimeSettings,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Vec<Value> {
    let may_raise = host.capabilities.is_none_or(|mask| Capability::SYS_RESOURCE.is_in(mask)) && !request.rootless;
    let all = &settings.ulimits;
    let is_last = |index: usize| all[index + 1..].iter().all(|later| later.name() != all[index].name());
    let lowered = all.iter().enumerate().filter(|(index, _)| is_last(*index)).map(|(_, limit)| {
        let most = host.limits.get(limit.name()).filter(|_| !may_raise).copied().unwrap_or(u64::MAX);
        let (lowered, changed) = limit.at_most(most);
        if changed {
            warnings.push(format!("--ulimit {limit} is above what this user may set; the container gets {lowered}"));
        }
        lowered.rlimit()
    });
    lowered.collect()
}

/// Refuses limits that docker refuses.
pub(crate) fn check_memory(request: &ContainerRequest) -> Result<(), SpecError> {
    let memory = request.memory.filter(|memory| memory.0 > 0);
    match (memory, request.memory_swap) {
        (Some(memory), _) if memory < LEAST_MEMORY => Err(SpecError::Memory(memory)),
        (None, Some(MemorySwap::Limited(swap))) if swap.0 > 0 => Err(SpecError::SwapAlone(swap)),
        (Some(memory), Some(MemorySwap::Limited(swap))) if swap.0 > 0 && swap < memory => {
            Err(SpecError::SwapBelowMemory { memory, swap })
        }
        _ => Ok(()),
    }
}

/// `linux.resources.memory`, if there is a limit. Without `--memory-swap` the container can use as much swap as memory,
/// as in docker.
fn memory_limits(request: &ContainerRequest, host: &Host, warnings: &mut Vec<String>) -> Option<Value> {
    let memory = request.memory.filter(|memory| memory.0 > 0)?;
    let swap = match request.memory_swap {
        Some(MemorySwap::Unlimited) => return Some(json!({"limit": memory.0})),
        Some(MemorySwap::Limited(swap)) if swap.0 > 0 => swap.0,
        _ => memory.0.saturating_mul(2).min(i64::MAX.unsigned_abs()),
    };
    if host.runs_here && host.cannot_limit_swap {
        warnings.push(format!("--memory {memory} does not limit swap: this machine's cgroups have no limit for it"));
        return Some(json!({"limit": memory.0}));
    }
    Some(json!({"limit": memory.0, "swap": swap}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(memory: &str, swap: Option<&str>) -> ContainerRequest {
        let memory = memory.parse().ok();
        ContainerRequest { memory, memory_swap: swap.map(|text| text.parse().unwrap()), ..ContainerRequest::default() }
    }

    #[test]
    fn swap_is_limited_as_in_docker() {
        for (memory, swap, expected) in [
            ("64m", None, json!({"limit": 64 << 20, "swap": 128 << 20})),
            ("64m", Some("0"), json!({"limit": 64 << 20, "swap": 128 << 20})),
            ("64m", Some("64m"), json!({"limit": 64 << 20, "swap": 64 << 20})),
            ("64m", Some("1g"), json!({"limit": 64 << 20, "swap": 1 << 30})),
            ("64m", Some("-1"), json!({"limit": 64 << 20})),
            ("5000000000000000000", None, json!({"limit": 5_000_000_000_000_000_000_u64, "swap": i64::MAX})),
            ("0", None, Value::Null),
            ("0", Some("-1"), Value::Null),
            ("", Some("-1"), Value::Null),
            ("", Some("0"), Value::Null),
        ] {
            let request = limited(memory, swap);
            assert!(check_memory(&request).is_ok(), "{memory} {swap:?}");
            let found = memory_limits(&request, &Host::default(), &mut Vec::new()).unwrap_or_default();
            assert_eq!(found, expected, "{memory} {swap:?}");
        }
    }

    #[test]
    fn limits_that_docker_refuses() {
        let refused = |memory: &str, swap: Option<&str>| check_memory(&limited(memory, swap)).unwrap_err().to_string();
        assert!(refused("4m", None).contains("too little"));
        assert!(refused("4m", Some("-1")).contains("too little"));
        assert_eq!(refused("64m", Some("32m")), "--memory-swap 32m is below --memory 64m");
        assert_eq!(refused("64m", Some("1k")), "--memory-swap 1k is below --memory 64m");
        for memory in ["", "0"] {
            assert_eq!(refused(memory, Some("64m")), "--memory-swap 64m is given without --memory");
        }
    }

    #[test]
    fn a_kernel_without_a_limit_for_swap_is_told() {
        let host = Host { cannot_limit_swap: true, runs_here: true, ..Host::default() };
        let mut warnings = Vec::new();
        assert_eq!(memory_limits(&limited("64m", None), &host, &mut warnings), Some(json!({"limit": 64 << 20})));
        assert!(warnings[0].contains("does not limit swap"), "{warnings:?}");
        warnings.clear();
        let elsewhere = Host { runs_here: false, ..host.clone() };
        let json = memory_limits(&limited("64m", None), &elsewhere, &mut warnings).unwrap();
        assert_eq!((json["swap"].as_u64(), warnings.len()), (Some(128 << 20), 0));
        memory_limits(&limited("64m", Some("-1")), &host, &mut warnings);
        assert_eq!(warnings.len(), 0);
    }
}
