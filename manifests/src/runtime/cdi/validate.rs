//! Validation of the values of a document, as in CDI's own library; in addition texts must not have a NUL, which no
//! runtime accepts. CDI's JSON schema checks little more than types.

use std::collections::BTreeSet;

use super::document::{CdiDevice, CdiDocument, CdiMount, ContainerEdits, DeviceNode, Hook, IntelRdt, NetDevice};
use super::fault::CdiFault;
use super::name::{is_device, is_kind};

/// The hooks of a runtime (runtime-spec, "POSIX-platform Hooks").
pub(super) const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The permissions of a node that is present but not usable.
pub(super) const NO_PERMISSIONS: &str = "none";

type Validation = Result<(), CdiFault>;

fn fault(what: &'static str, text: &str, why: &'static str) -> CdiFault {
    CdiFault::Value { what, text: text.chars().take(200).collect(), why }
}

fn demand(fine: bool, what: &'static str, text: &str, why: &'static str) -> Validation {
    if fine { Ok(()) } else { Err(fault(what, text, why)) }
}

pub(super) fn check(document: &CdiDocument) -> Validation {
    demand(is_kind(&document.kind), "its kind", &document.kind, "is not VENDOR/CLASS")?;
    edits(&document.container_edits)?;
    if document.devices.is_empty() {
        return Err(CdiFault::NoDevices);
    }
    let mut names = BTreeSet::new();
    for device in &document.devices {
        check_device(device)?;
        if !names.insert(&device.name) {
            return Err(CdiFault::Twice(device.name.clone()));
        }
    }
    Ok(())
}

fn check_device(device: &CdiDevice) -> Validation {
    demand(is_device(&device.name), "the device's name", &device.name, "has characters that are not allowed")?;
    if device.container_edits.is_empty() {
        return Err(CdiFault::NoEdits(device.name.clone()));
    }
    edits(&device.container_edits)
}

fn edits(edits: &ContainerEdits) -> Validation {
    edits.env.iter().try_for_each(|entry| env(entry))?;
    edits.device_nodes.iter().try_for_each(node)?;
    net_devices(&edits.net_devices)?;
    edits.hooks.iter().try_for_each(hook)?;
    edits.mounts.iter().try_for_each(mount)?;
    edits.intel_rdt.iter().try_for_each(intel_rdt)
}

fn env(entry: &str) -> Validation {
    let named = entry.split_once('=').is_some_and(|(key, _)| !key.is_empty());
    demand(named, "the variable", entry, "is not KEY=VALUE")?;
    without_nul("the variable", entry)
}

fn without_nul(what: &'static str, text: &str) -> Validation {
    demand(!text.contains('\0'), what, text, "has a NUL")
}

/// Checks a required text.
fn filled(what: &'static str, text: &str) -> Validation {
    demand(!text.is_empty(), what, text, "is empty")?;
    without_nul(what, text)
}

fn node(node: &DeviceNode) -> Validation {
    filled("the device node's path", &node.path)?;
    without_nul("the device node's hostPath", node.host_path())?;
    let kind = node.kind.as_deref().unwrap_or_default();
    demand(matches!(kind, "" | "b" | "c" | "u" | "p"), "the device node's type", kind, "is not b, c, u or p")?;
    let permissions = node.permissions.as_deref().unwrap_or_default();
    let known = permissions == NO_PERMISSIONS || permissions.bytes().all(|b| b"rwm".contains(&b));
    demand(known, "the device node's permissions", permissions, "are not of r, w and m")
}

fn net_devices(devices: &[NetDevice]) -> Validation {
    let (mut outside, mut inside) = (BTreeSet::new(), BTreeSet::new());
    for device in devices {
        for (name, seen) in [(&device.host_interface_name, &mut outside), (&device.name, &mut inside)] {
            filled("the network device's name", name)?;
            demand(seen.insert(name), "the network device", name, "is there twice")?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook) -> Validation {
    demand(HOOKS.contains(&hook.hook_name.as_str()), "the hook", &hook.hook_name, "is none of the runtime's")?;
    filled("the hook's path", &hook.path)?;
    hook.args.iter().try_for_each(|argument| without_nul("the hook's argument", argument))?;
    hook.env.iter().try_for_each(|entry| env(entry))
}

fn mount(mount: &CdiMount) -> Validation {
    filled("the mount's hostPath", &mount.host_path)?;
    filled("the mount's containerPath", &mount.container_path)?;
    let texts = mount.kind.iter().chain(&mount.options);
    texts.into_iter().try_for_each(|text| without_nul("the mount's", text))
}

/// Checks that the class is a directory of resctrl, or its root.
fn intel_rdt(rdt: &IntelRdt) -> Validation {
    let id = rdt.clos_id.as_str();
    let is_name = id.len() < 4096 && id != "." && id != ".." && !id.contains(['/', '\n']);
    demand(id == "/" || is_name, "intelRdt's closID", id, "is not the name of a directory")?;
    let texts =
        [&rdt.clos_id, &rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().chain(rdt.schemata.iter().flatten());
    texts.into_iter().try_for_each(|text| without_nul("intelRdt's", text))
}
