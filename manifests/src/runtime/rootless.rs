//! The rootless form: what a container in a user namespace, started by somebody without privileges, cannot have.
//!
//! It is made of the finished spec, so that whatever adds to the spec need not think of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::defaults::PING_SYSCTL;
use super::emitted::Emitted;
use super::error::SpecError;
use super::host::Host;
use super::id_mappings::IdMappings;

/// Mount flags that a user namespace cannot take off a mount from outside (mount_namespaces(7)).
pub const LOCKED: [&str; 4] = ["nosuid", "nodev", "noexec", "ro"];

/// Turns the spec of a rootful container into that of a rootless one.
pub(crate) fn convert(
    spec: &mut Value,
    named_user: bool,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), SpecError> {
    // Without mappings nothing is known of the namespace but that it's there.
    let mappings = host.mappings.as_ref();
    if let Some(mappings) = mappings.filter(|_| !host.inside_user_namespace) {
        if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
            namespaces.push(json!({"type": "user"}));
        }
        spec["linux"]["uidMappings"] = json!(mappings.uids);
        spec["linux"]["gidMappings"] = json!(mappings.gids);
    }
    user(&mut spec["process"]["user"], named_user, mappings, host.inside_user_namespace, warnings)?;
    mounts(spec, mappings);
    resources(&mut spec["linux"], &host.delegated, warnings);
    if let Some(sysctls) = spec["linux"].get_mut("sysctl").and_then(Value::as_object_mut) {
        sysctls.remove(PING_SYSCTL);
    }
    Ok(())
}

/// Refuses a user or group that the namespace has not, and drops further groups that it cannot have: with a warning for
/// a user that was `named`, as all numbers have the groups of their accounts.
fn user(
    user: &mut Value,
    named: bool,
    mappings: Option<&IdMappings>,
    inside: bool,
    warnings: &mut Vec<String>,
) -> Result<(), SpecError> {
    let Some(mappings) = mappings else { return Ok(()) };
    let id = |key: &str| user[key].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or_default();
    let (uid, gid) = (id("uid"), id("gid"));
    if !mappings.has_user(uid) {
        return Err(SpecError::Unmapped { what: "user", id: uid });
    }
    if !mappings.has_group(gid) {
        return Err(SpecError::Unmapped { what: "group", id: gid });
    }
    // A runc that has to make the namespace refuses further groups even where they are mapped.
    let possible = inside && mappings.has_groups();
    let fits = |gid: &Value| {
        let gid = gid.as_u64().and_then(|gid| u32::try_from(gid).ok());
        possible && gid.is_some_and(|gid| mappings.has_group(gid))
    };
    let Some(groups) = user.get_mut("additionalGids").and_then(Value::as_array_mut) else { return Ok(()) };
    let (kept, lost): (Vec<Value>, Vec<Value>) = groups.drain(..).partition(fits);
    // The primary group is the user's in any case.
    let lost: Vec<_> = lost.iter().filter(|group| **group != json!(gid)).map(Value::to_string).collect();
    if !lost.is_empty() && named {
        let reason = if possible { "they are not mapped" } else { "a rootless container has no supplementary groups" };
        warnings.push(format!("the user is not in the groups {}: {reason}", lost.join(", ")));
    }
    match (kept.is_empty(), user.as_object_mut()) {
        (true, Some(user)) => _ = user.remove("additionalGids"),
        (_, user) => user.into_iter().for_each(|user| user["additionalGids"] = json!(kept)),
    }
    Ok(())
}

/// Replaces the mounts that the kernel refuses, and takes out the owners that are not mapped.
fn mounts(spec: &mut Value, mappings: Option<&IdMappings>) {
    let namespaces = spec["linux"]["namespaces"].as_array();
    let own_queues = namespaces.is_some_and(|all| all.iter().any(|namespace| namespace["type"] == "ipc"));
    let Some(mounts) = spec["mounts"].as_array_mut() else { return };
    // Message queues can be mounted by who owns their namespace.
    mounts.retain(|mount| own_queues || mount["type"] != "mqueue");
    for mount in mounts {
        if mount["type"] == "sysfs" {
            // As sysfs shows the network, only who owns a network namespace may mount it; the host's can always be bound.
            let options = mount["options"].as_array().cloned().unwrap_or_default();
            let options = [vec![json!("rbind"), json!("rprivate")], options].concat();
            *mount = json!({"destination": mount["destination"], "type": "bind", "source": "/sys", "options": options});
        }
        let Some(options) = mount["options"].as_array_mut() else { continue };
        options.retain(|option| {
            let owner = option.as_str().and_then(|text| text.split_once('='));
            let id = owner.and_then(|(_, id)| id.parse().ok());
            match (owner, id) {
                (Some(("uid", _)), Some(id)) => mappings.is_some_and(|mappings| mappings.has_user(id)),
                (Some(("gid", _)), Some(id)) => mappings.is_some_and(|mappings| mappings.has_group(id)),
                _ => true,
            }
        });
    }
}

/// Keeps the limits whose cgroup controllers the user has been given. Devices are never among them.
fn resources(linux: &mut Value, delegated: &BTreeSet<String>, warnings: &mut Vec<String>) {
    const LIMITS: [(&str, &str, &str); 3] =
        [("cpu", "cpuset", "--cpuset-cpus"), ("memory", "memory", "--memory"), ("pids", "pids", "--pids-limit")];
    let Some(resources) = linux.get_mut("resources").and_then(Value::as_object_mut) else { return };
    resources.remove("devices");
    for (key, controller, flag) in LIMITS {
        if !delegated.contains(controller) && resources.remove(key).is_some() {
            warnings.push(format!(
                "{flag} has no effect: the cgroup controller `{controller}` is not delegated to this user"
            ));
        }
    }
    if resources.is_empty()
        && let Some(linux) = linux.as_object_mut()
    {
        linux.remove("resources");
    }
}

impl Emitted {
    /// The files and directories that are bound in, each once, sorted: what [`Emitted::keep_locked`] wants to know about.
    #[must_use]
    pub fn bind_sources(&self) -> BTreeSet<String> {
        let mounts = self.json["mounts"].as_array().into_iter().flatten();
        mounts.filter(|mount| is_bind(mount)).filter_map(|mount| mount["source"].as_str()).map(str::to_owned).collect()
    }

    /// Adds to each bind mount the flags of [`LOCKED`] that its source's mount has (`flags`, by source): to set a flag, a
    /// runtime mounts it again, and in a user namespace the kernel refuses that when one of these is lost.
    pub fn keep_locked(&mut self, flags: &BTreeMap<String, Vec<&'static str>>) {
        let Some(mounts) = self.json["mounts"].as_array_mut() else { return };
        for mount in mounts.iter_mut().filter(|mount| is_bind(mount)) {
            let Some(locked) = mount["source"].as_str().and_then(|source| flags.get(source)) else { continue };
            let Some(options) = mount["options"].as_array_mut() else { continue };
            // The opposite would be refused as well.
            options.retain(|option| {
                let opposite = |flag: &&str| flag.strip_prefix("no").unwrap_or("rw") == option;
                !locked.iter().any(opposite)
            });
            for flag in locked {
                if !options.iter().any(|option| option == flag) {
                    options.push(json!(flag));
                }
            }
        }
    }
}

fn is_bind(mount: &Value) -> bool {
    let options = mount["options"].as_array().into_iter().flatten();
    mount["type"] == "bind" || options.into_iter().any(|option| option == "bind" || option == "rbind")
}
