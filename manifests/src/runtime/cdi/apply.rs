//! Application of edits to a runtime spec, in the order of CDI's library: variables, device nodes, network devices,
//! mounts, hooks, Intel's resource control, groups.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::{CdiMount, ContainerEdits, DeviceNode, Hook, IntelRdt};
use super::edits::Edits;
use super::error::CdiError;
use super::validate::NO_PERMISSIONS;
use crate::runtime::defaults::PATH;
use crate::runtime::path::clean;

/// The fault of a path that does not exist.
const NOT_THERE: &str = "is not there";

/// The version of the runtime spec that introduced network devices and full support of resource control.
const VERSION_OF_NET_DEVICES: &str = "1.3.0";

/// The type of a path on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceNodeKind {
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A named pipe.
    Fifo,
    /// Not a device, for instance a symbolic link.
    Other,
}

impl DeviceNodeKind {
    /// The runtime spec's letter; mknod(1)'s `u` equals `c`, but runc does not support it.
    fn letter(self) -> Option<&'static str> {
        match self {
            Self::Block => Some("b"),
            Self::Char => Some("c"),
            Self::Fifo => Some("p"),
            Self::Other => None,
        }
    }

    fn stated(kind: Option<&str>) -> Option<Self> {
        match kind {
            Some("b") => Some(Self::Block),
            Some("c" | "u") => Some(Self::Char),
            Some("p") => Some(Self::Fifo),
            _ => None,
        }
    }
}

/// The metadata of a path on the host from lstat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The type.
    pub kind: DeviceNodeKind,
    /// Major number of the device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The container that the edits are for.
#[derive(Debug)]
pub(crate) struct TargetContainer<'a> {
    /// The host's device nodes by path; all other paths are missing.
    pub(crate) devices: &'a BTreeMap<String, DeviceFacts>,
    /// Whether it runs in a user namespace.
    pub(crate) rootless: bool,
    /// The destinations of the user's volumes.
    pub(crate) volumes: Vec<&'a str>,
}

/// Applies the edits to the spec `json`.
///
/// # Errors
/// When a device node is missing on the host, and the file does not state its type and numbers.
pub(crate) fn apply(
    edits: &Edits,
    json: &mut Value,
    container: &TargetContainer<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), CdiError> {
    let edits = &edits.edits;
    edits.env.iter().for_each(|entry| set_variable(&mut json["process"]["env"], entry));
    for node in &edits.device_nodes {
        add_node(node, json, container)?;
    }
    let rdt = edits.intel_rdt.as_ref();
    if !edits.net_devices.is_empty() || rdt.is_some_and(|rdt| rdt.schemata.is_some() || rdt.enable_monitoring) {
        json["ociVersion"] = json!(VERSION_OF_NET_DEVICES);
        warnings.push(format!(
            "the CDI device needs a runtime that knows version {VERSION_OF_NET_DEVICES} of the runtime spec"
        ));
    }
    for device in &edits.net_devices {
        json["linux"]["netDevices"][&device.host_interface_name] = json!({"name": device.name});
    }
    warn_of_hidden(edits, container, warnings);
    edits.mounts.iter().for_each(|mount| set_mount(&mut json["mounts"], mount_json(mount)));
    if !edits.mounts.is_empty() {
        sort_mounts(&mut json["mounts"]);
    }
    edits.hooks.iter().for_each(|hook| push(&mut json["hooks"][&hook.hook_name], hook_json(hook)));
    if let Some(rdt) = rdt {
        json["linux"]["intelRdt"] = rdt_json(rdt);
    }
    for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
        let gids = &mut json["process"]["user"]["additionalGids"];
        if !gids.as_array().is_some_and(|have| have.contains(&json!(gid))) {
            push(gids, json!(gid));
        }
    }
    Ok(())
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        none => *none = json!([item]),
    }
}

/// Removes the entries with `key` equal to `value`.
fn remove(list: &mut Value, key: &str, value: &str) {
    if let Value::Array(items) = list {
        items.retain(|item| item[key] != value);
    }
}

fn set_variable(env: &mut Value, entry: &str) {
    let key = |entry: &str| entry.split_once('=').map(|(key, _)| key.to_owned());
    let entries = env.as_array_mut().into_iter().flatten();
    match entries.into_iter().find(|have| have.as_str().and_then(key) == key(entry)) {
        Some(have) => *have = json!(entry),
        None => push(env, json!(entry)),
    }
}

/// Adds a node that the runtime creates, with permission to use it. A user namespace cannot create nodes: there it is a
/// bind mount of the host's node. runc itself would bind the host's node at the container's path instead of `hostPath`.
fn add_node(node: &DeviceNode, json: &mut Value, container: &TargetContainer<'_>) -> Result<(), CdiError> {
    let path = clean(&node.path);
    let missing = |why| CdiError::Node { path: node.host_path().to_owned(), why };
    usable(node, container.devices, container.rootless).map_err(missing)?;
    let host = container.devices.get(node.host_path());
    if container.rootless {
        let bind =
            json!({"destination": path, "type": "bind", "source": node.host_path(), "options": ["bind", "rprivate"]});
        set_mount(&mut json["mounts"], bind);
        return Ok(());
    }
    let (kind, numbers) = identity(node, host).map_err(missing)?;
    let mut device = json!({"path": path, "type": kind});
    if let Some((major, minor)) = numbers {
        device["major"] = json!(major);
        device["minor"] = json!(minor);
    }
    if let Some(mode) = node.file_mode.or(host.filter(|host| host.kind != DeviceNodeKind::Other).map(|host| host.mode))
    {
        device["fileMode"] = json!(mode & 0o777);
    }
    let user = &json["process"]["user"];
    let of_user = |key: &str| user[key].as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id > 0);
    for (key, id) in [("uid", node.uid.or(of_user("uid"))), ("gid", node.gid.or(of_user("gid")))] {
        if let Some(id) = id {
            device[key] = json!(id);
        }
    }
    let linux = &mut json["linux"];
    remove(&mut linux["devices"], "path", &path);
    push(&mut linux["devices"], device);
    let access = node.permissions.as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    if let (Some((major, minor)), true) = (numbers, access != NO_PERMISSIONS) {
        let rule = json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
        push(&mut linux["resources"]["devices"], rule);
    }
    Ok(())
}

/// Checks that the host's nodes, `devices`, are suitable for a container's node. The error is the fault of the host's
/// node.
pub(super) fn usable(
    node: &DeviceNode,
    devices: &BTreeMap<String, DeviceFacts>,
    rootless: bool,
) -> Result<(), &'static str> {
    let host = devices.get(node.host_path());
    if rootless { host.map(|_| ()).ok_or(NOT_THERE) } else { identity(node, host).map(|_| ()) }
}

/// The type of a device, and its major and minor number if it has them.
type DeviceIdentity = (&'static str, Option<(i64, i64)>);

/// The type and numbers of a node: those in the file, or else the host's. The error is the fault of the host's node.
fn identity(node: &DeviceNode, host: Option<&DeviceFacts>) -> Result<DeviceIdentity, &'static str> {
    let stated = DeviceNodeKind::stated(node.kind.as_deref());
    let numbers = node.major.filter(|major| *major != 0).map(|major| (major, node.minor.unwrap_or(0)));
    match (stated.and_then(DeviceNodeKind::letter), numbers) {
        (Some(kind), _) if stated == Some(DeviceNodeKind::Fifo) => return Ok((kind, None)),
        (Some(kind), Some(numbers)) => return Ok((kind, Some(numbers))),
        _ => {}
    }
    let host = host.ok_or(NOT_THERE)?;
    let kind = host.kind.letter().ok_or("is not a device node")?;
    if stated.is_some_and(|stated| stated != host.kind) {
        return Err("is of another type than the CDI file says");
    }
    let numbers = numbers.unwrap_or((host.major.into(), host.minor.into()));
    Ok((kind, Some(numbers).filter(|_| host.kind != DeviceNodeKind::Fifo)))
}

/// The JSON of a mount. A mount without a type and without `bind` is a bind mount, and runtimes require the option.
fn mount_json(mount: &CdiMount) -> Value {
    let mut options = mount.options.clone();
    let mut json = json!({"destination": clean(&mount.container_path), "source": mount.host_path});
    if mount.is_bind() {
        json["type"] = json!("bind");
        if !mount.has_bind_option() {
            options.insert(0, "rbind".into());
        }
    } else {
        json["type"] = json!(mount.kind);
    }
    json["options"] = json!(options);
    json
}

/// Appends a mount, and removes those with the same destination.
fn set_mount(mounts: &mut Value, mount: Value) {
    if let Some(destination) = mount["destination"].as_str() {
        remove(mounts, "destination", destination);
    }
    push(mounts, mount);
}

/// Sorts outer mounts first; otherwise the order stays.
fn sort_mounts(mounts: &mut Value) {
    let depth = |mount: &Value| mount["destination"].as_str().map(|place| clean(place).matches('/').count());
    if let Value::Array(mounts) = mounts {
        mounts.sort_by_key(depth);
    }
}

/// The JSON of a hook. Some runtimes give a hook without variables an empty environment, in which it finds no program.
fn hook_json(hook: &Hook) -> Value {
    let mut env = hook.env.clone();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(format!("PATH={PATH}"));
    }
    let mut json = json!({"path": hook.path, "env": env});
    if !hook.args.is_empty() {
        json["args"] = json!(hook.args);
    }
    // CDI allows any number, the runtime spec only positive ones.
    if let Some(timeout) = hook.timeout.filter(|timeout| *timeout > 0) {
        json["timeout"] = json!(timeout);
    }
    json
}

fn rdt_json(rdt: &IntelRdt) -> Value {
    let mut json = json!({});
    for (key, text) in
        [("closID", &rdt.clos_id), ("l3CacheSchema", &rdt.l3_cache_schema), ("memBwSchema", &rdt.mem_bw_schema)]
    {
        if !text.is_empty() {
            json[key] = json!(text);
        }
    }
    if let Some(schemata) = &rdt.schemata {
        json["schemata"] = json!(schemata);
    }
    if rdt.enable_monitoring {
        json["enableMonitoring"] = json!(true);
    }
    json
}

/// Warns about conflicts of volumes and edits.
fn warn_of_hidden(edits: &ContainerEdits, container: &TargetContainer<'_>, warnings: &mut Vec<String>) {
    let inside = |place: &str, outer: &str| place.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let mounts: Vec<_> = edits.mounts.iter().map(|mount| clean(&mount.container_path)).collect();
    let nodes: Vec<_> = edits.device_nodes.iter().map(|node| clean(&node.path)).collect();
    for volume in &container.volumes {
        if mounts.iter().any(|place| place == volume) {
            warnings.push(format!("the CDI device's mount takes the place of the volume at {volume}"));
        } else if let Some(place) = mounts.iter().find(|place| inside(volume, place)) {
            warnings.push(format!("the volume at {volume} hides a part of the CDI device's mount at {place}"));
        } else if let Some(node) = nodes.iter().find(|node| node == volume || inside(node, volume)) {
            warnings.push(format!("the volume at {volume} may hide the CDI device's node {node}"));
        }
    }
}
