//! What the values of a document may be.
//!
//! This is stricter than CDI's schema, which has little but types, and in a few points stricter than CDI's library: paths
//! are absolute, hooks with a timeout have more than 0 seconds, and no text has a NUL in it.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{ContainerEdits, Device, DeviceNode, Document, Hook, IntelRdt, Mount, NetDevice};
use super::name::{is_annotation_key, is_device, is_kind};
use super::parse::CdiFault;
use crate::runtime::volume::clean;

/// The hooks that a runtime has (runtime-spec, "POSIX-platform Hooks").
pub(super) const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The word for a node that is there and can't be used.
pub(super) const NO_PERMISSIONS: &str = "none";

/// All annotations of one place together, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

type Checked = Result<(), CdiFault>;

fn fault(what: &'static str, text: &str, why: &'static str) -> CdiFault {
    CdiFault::Value { what, text: text.chars().take(200).collect(), why }
}

fn demand(fine: bool, what: &'static str, text: &str, why: &'static str) -> Checked {
    if fine { Ok(()) } else { Err(fault(what, text, why)) }
}

pub(super) fn check(document: &Document) -> Checked {
    demand(is_kind(&document.kind), "its kind", &document.kind, "is not VENDOR/CLASS")?;
    annotations(&document.annotations)?;
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

fn check_device(device: &Device) -> Checked {
    demand(is_device(&device.name), "the device's name", &device.name, "has characters that it can't have")?;
    annotations(&device.annotations)?;
    if device.container_edits.is_empty() {
        return Err(CdiFault::NoEdits(device.name.clone()));
    }
    edits(&device.container_edits)
}

fn annotations(annotations: &BTreeMap<String, String>) -> Checked {
    for key in annotations.keys() {
        demand(is_annotation_key(key), "the annotation", key, "is not NAME or DOMAIN/NAME")?;
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    demand(size <= MAX_ANNOTATIONS, "the size of annotations", &size.to_string(), "is more than 256 KiB")
}

fn edits(edits: &ContainerEdits) -> Checked {
    edits.env.iter().try_for_each(|entry| env(entry))?;
    edits.device_nodes.iter().try_for_each(node)?;
    net_devices(&edits.net_devices)?;
    edits.hooks.iter().try_for_each(hook)?;
    edits.mounts.iter().try_for_each(mount)?;
    edits.intel_rdt.iter().try_for_each(intel_rdt)
}

fn env(entry: &str) -> Checked {
    let named = entry.split_once('=').is_some_and(|(key, _)| !key.is_empty());
    demand(named, "the variable", entry, "is not KEY=VALUE")?;
    without_nul("the variable", entry)
}

fn without_nul(what: &'static str, text: &str) -> Checked {
    demand(!text.contains('\0'), what, text, "has a NUL in it")
}

/// A path in the container or on the host, which is not the root itself.
fn path(what: &'static str, text: &str) -> Checked {
    demand(text.starts_with('/'), what, text, "is not an absolute path")?;
    demand(clean(text) != "/", what, text, "is the root")?;
    without_nul(what, text)
}

fn node(node: &DeviceNode) -> Checked {
    path("the device node", &node.path)?;
    path("the device node's hostPath", node.host_path())?;
    let kind = node.kind.as_deref().unwrap_or_default();
    demand(matches!(kind, "" | "b" | "c" | "u" | "p"), "the device node's type", kind, "is not b, c, u or p")?;
    let permissions = node.permissions.as_deref().unwrap_or_default();
    let known = permissions == NO_PERMISSIONS || permissions.bytes().all(|b| b"rwm".contains(&b));
    demand(known, "the device node's permissions", permissions, "are not of r, w and m")?;
    for number in [node.major, node.minor].into_iter().flatten() {
        demand(u32::try_from(number).is_ok(), "the device number", &number.to_string(), "is none")?;
    }
    Ok(())
}

fn net_devices(devices: &[NetDevice]) -> Checked {
    let (mut outside, mut inside) = (BTreeSet::new(), BTreeSet::new());
    for device in devices {
        for (name, seen) in [(&device.host_interface_name, &mut outside), (&device.name, &mut inside)] {
            let fine = !name.is_empty() && name.len() < 16 && *name != "." && *name != "..";
            let fine = fine && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
            demand(fine, "the network device", name, "is not the name of an interface")?;
            demand(seen.insert(name), "the network device", name, "is there twice")?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook) -> Checked {
    demand(HOOKS.contains(&hook.hook_name.as_str()), "the hook", &hook.hook_name, "is none of the runtime's")?;
    path("the hook's path", &hook.path)?;
    hook.args.iter().try_for_each(|argument| without_nul("the hook's argument", argument))?;
    hook.env.iter().try_for_each(|entry| env(entry))?;
    demand(hook.timeout != Some(0), "the hook's timeout", "0", "is not above 0")
}

fn mount(mount: &Mount) -> Checked {
    path("the mount's containerPath", &mount.container_path)?;
    demand(!mount.host_path.is_empty(), "the mount's hostPath", "", "is empty")?;
    if mount.is_bind() {
        let source = mount.host_path.as_str();
        demand(source.starts_with('/'), "the mount's hostPath", source, "is not an absolute path")?;
    }
    let texts = std::iter::once(&mount.host_path).chain(&mount.kind).chain(&mount.options);
    texts.into_iter().try_for_each(|text| without_nul("the mount's", text))
}

/// The class is a directory of resctrl's, or its root.
fn intel_rdt(rdt: &IntelRdt) -> Checked {
    let id = rdt.clos_id.as_str();
    let is_name = id.len() < 4096 && id != "." && id != ".." && !id.contains(['/', '\n']);
    demand(id == "/" || is_name, "intelRdt's closID", id, "is not the name of a directory")?;
    let texts =
        [&rdt.clos_id, &rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().chain(rdt.schemata.iter().flatten());
    texts.into_iter().try_for_each(|text| without_nul("intelRdt's", text))
}
