//! The rootless form: removes what a container of an unprivileged user in a user namespace cannot have.
//!
//! It converts the finished spec, so that the other parts need not handle this case.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::defaults::PING_SYSCTL;
use super::emitted::Emitted;
use super::error::SpecError;
use super::host::Host;
use super::id_mappings::IdMappings;

/// Mount flags that a user namespace cannot remove from an outer mount (mount_namespaces(7)).
pub const LOCKED: [&str; 4] = ["nosuid", "nodev", "noexec", "ro"];

/// Converts the spec of a rootful container to that of a rootless one.
pub(crate) fn convert(
    spec: &mut Value,
    named_user: bool,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), SpecError> {
    // Without mappings, only the existence of the namespace is known.
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

/// Refuses an unmapped user or group, and drops supplementary groups that cannot be set: with a warning if the user was
/// `named`; for a numeric user the account's groups are implicit.
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
    // A runc that creates the namespace refuses supplementary groups, even mapped ones.
    let possible = inside && mappings.has_groups();
    let fits = |gid: &Value| {
        let gid = gid.as_u64().and_then(|gid| u32::try_from(gid).ok());
        possible && gid.is_some_and(|gid| mappings.has_group(gid))
    };
    let Some(groups) = user.get_mut("additionalGids").and_then(Value::as_array_mut) else { return Ok(()) };
    let (kept, lost): (Vec<Value>, Vec<Value>) = groups.drain(..).partition(fits);
    // The primary group is set in any case.
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

/// Replaces the mounts that the kernel refuses, and removes unmapped owners.
fn mounts(spec: &mut Value, mappings: Option<&IdMappings>) {
    let namespaces = spec["linux"]["namespaces"].as_array();
    let own_queues = namespaces.is_some_and(|all| all.iter().any(|namespace| namespace["type"] == "ipc"));
    let Some(mounts) = spec["mounts"].as_array_mut() else { return };
    // Message queues can be mounted by the owner of their namespace.
    mounts.retain(|mount| own_queues || mount["type"] != "mqueue");
    for mount in mounts {
        if mount["type"] == "sysfs" {
            // Only the owner of a network namespace can mount sysfs, which shows it; a bind mount of the host's is
            // always possible.
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

/// Keeps the limits of delegated cgroup controllers. Devices are never delegated.
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
    /// The sources of bind mounts, each once, sorted: the input of [`Emitted::keep_locked`].
    #[must_use]
    pub fn bind_sources(&self) -> BTreeSet<String> {
        let mounts = self.json["mounts"].as_array().into_iter().flatten();
        mounts.filter(|mount| is_bind(mount)).filter_map(|mount| mount["source"].as_str()).map(str::to_owned).collect()
    }

    /// Adds to each bind mount the flags of [`LOCKED`] that its source's mount has (`flags`, by source): to set a flag,
    /// a runtime remounts it, and in a user namespace the kernel refuses a remount that loses one of these.
    pub fn keep_locked(&mut self, flags: &BTreeMap<String, Vec<&'static str>>) {
        let Some(mounts) = self.json["mounts"].as_array_mut() else { return };
        for mount in mounts.iter_mut().filter(|mount| is_bind(mount)) {
            let Some(locked) = mount["source"].as_str().and_then(|source| flags.get(source)) else { continue };
            let Some(options) = mount["options"].as_array_mut() else { continue };
            // The opposite option would also be refused.
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
