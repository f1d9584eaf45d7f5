//! What the container may use: cgroups (runtime-spec, config-linux.md, "Control groups") and resource limits.

use serde_json::{Value, json};

use super::capabilities::Capability;
use super::cpuset::CpuSet;
use super::request::{Request, Settings};
use super::spec::Host;
use super::{defaults, memory};

/// `linux.resources`.
pub(crate) fn resources(request: &Request, settings: &Settings, host: &Host, warnings: &mut Vec<String>) -> Value {
    let mut resources = json!({"devices": defaults::device_rules(request.privileged)});
    if let Some(cpus) = &settings.cpuset_cpus {
        resources["cpu"] = json!({"cpus": here(cpus, host, warnings).to_string()});
    }
    if let Some(memory) = memory::limits(request, host, warnings) {
        resources["memory"] = memory;
    }
    if let Some(limit) = request.pids_limit.and_then(|limit| limit.0) {
        resources["pids"] = json!({"limit": limit});
    }
    resources
}

/// The CPUs that the container gets of those that are asked for. A container that runs now gets those that there are.
fn here(cpus: &CpuSet, host: &Host, warnings: &mut Vec<String>) -> CpuSet {
    let Some(have) = host.cpus.as_ref().filter(|have| !cpus.is_subset(have)) else { return cpus.clone() };
    match cpus.intersection(have).filter(|_| host.runs_here) {
        Some(common) => {
            warnings
                .push(format!("this machine has the CPUs {have}; of --cpuset-cpus {cpus} the container gets {common}"));
            common
        }
        None => {
            warnings.push(format!("this machine has the CPUs {have}; a runtime refuses --cpuset-cpus {cpus} on it"));
            cpus.clone()
        }
    }
}

/// `process.rlimits`, none above what the runtime may set here. Of several for one resource the last counts.
pub(crate) fn rlimits(request: &Request, settings: &Settings, host: &Host, warnings: &mut Vec<String>) -> Vec<Value> {
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
