//! The filter of system calls (runtime-spec, config-linux.md, "Seccomp"): resolves docker's format of profiles, which
//! has conditional rules, to the rules of one container.

mod own;
pub(super) mod profile;

use std::collections::BTreeSet;

use serde_json::{Value, json};

pub use profile::ProfileError;
use profile::{Conditions, Rule, SeccompProfile};

use super::capability::Capability;
use super::emitted::Emitted;
use super::error::SpecError;
use super::host::Host;
use super::request::{ContainerRequest, Seccomp};

/// `linux.seccomp`, or `None` without a filter: the user's profile, or else the host's, or else ociforge's own.
pub(crate) fn filter(
    request: &ContainerRequest,
    host: &Host,
    architecture: &str,
    capabilities: &[Capability],
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, SpecError> {
    let conditions = Conditions {
        architecture: host.architecture.clone().unwrap_or_else(|| architecture.to_owned()),
        capabilities: capabilities.iter().map(|capability| capability.name()).collect(),
        kernel: host.kernel,
    };
    let profile = match &request.seccomp {
        Seccomp::Profile { name, text } => {
            SeccompProfile::parse(text).map_err(|source| SpecError::Seccomp { name: name.clone(), source })?
        }
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if request.privileged => return Ok(None),
        Seccomp::Default => match host.seccomp.as_deref().map(SeccompProfile::parse) {
            None => own::profile(),
            Some(Ok(profile)) => profile,
            Some(Err(error)) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                warnings.push(format!("this machine's seccomp profile is not used: {error}{cause}"));
                own::profile()
            }
        },
    };
    Ok(Some(resolve(&profile, &conditions)))
}

/// The rules of `profile` that are active under `conditions`.
///
/// Of several rules for a name, those after the first one without arguments are dropped: libseccomp ignores them, but
/// some runtimes refuse them.
fn resolve(profile: &SeccompProfile, conditions: &Conditions) -> Value {
    let mut settled = BTreeSet::new();
    let mut syscalls = Vec::new();
    for rule in profile.rules.iter().filter(|rule| rule.holds(conditions)) {
        let names: Vec<&String> = rule.names.iter().filter(|name| !settled.contains(name.as_str())).collect();
        if names.is_empty() {
            continue;
        }
        syscalls.push(syscall(rule, &names));
        if rule.args.is_empty() {
            settled.extend(rule.names.iter().map(String::as_str));
        }
    }
    let mut filter = json!({"defaultAction": profile.default_action, "syscalls": syscalls});
    if let Some(errno) = profile.default_errno {
        filter["defaultErrnoRet"] = json!(errno);
    }
    let architectures = profile.architectures(&conditions.architecture);
    if !architectures.is_empty() {
        filter["architectures"] = json!(architectures);
    }
    if !profile.flags.is_empty() {
        filter["flags"] = json!(profile.flags);
    }
    filter
}

/// The system calls of the kernel's keyrings (keyrings(7)), which have no namespace.
const KEYS: [&str; 3] = ["add_key", "keyctl", "request_key"];
const EPERM: u32 = 1;

impl Emitted {
    /// Makes the filter refuse the kernel's keyrings, as docker's profile does: all processes of a user share them.
    /// Without a filter, none is created.
    pub fn refuse_keys(&mut self) {
        if let Some(rules) = self.json.pointer_mut("/linux/seccomp/syscalls").and_then(Value::as_array_mut) {
            // The first rule of a name without conditions counts.
            rules.insert(0, json!({"names": KEYS, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}));
        }
    }
}

fn syscall(rule: &Rule, names: &[&String]) -> Value {
    let mut syscall = json!({"names": names, "action": rule.action});
    if let Some(errno) = rule.errno {
        syscall["errnoRet"] = json!(errno);
    }
    if !rule.args.is_empty() {
        syscall["args"] = json!(rule.args);
    }
    syscall
}

#[cfg(test)]
mod tests;
