//! The parts of a runtime spec (config.md, config-linux.md) that a step uses.

use serde::{Deserialize, Deserializer, Serialize};

/// `config.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) process: Process,
    pub(super) root: Root,
    #[serde(default)]
    pub(super) hostname: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) mounts: Vec<Mount>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) linux: Linux,
}

/// `process`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: User,
    pub(super) args: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    #[serde(default)]
    pub(super) capabilities: Option<Capabilities>,
    #[serde(default)]
    pub(super) no_new_privileges: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub(super) oom_score_adj: Option<i32>,
}

impl std::fmt::Debug for Process {
    /// Without the arguments and the environment, which may contain secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("user", &self.user).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// `process.user`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) additional_gids: Vec<u32>,
    #[serde(default)]
    pub(super) umask: Option<u32>,
}

/// `process.capabilities`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Capabilities {
    pub(super) bounding: Vec<String>,
    pub(super) effective: Vec<String>,
    pub(super) permitted: Vec<String>,
    pub(super) inheritable: Vec<String>,
    pub(super) ambient: Vec<String>,
}

/// An entry of `process.rlimits`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rlimit {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// `root`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Root {
    pub(super) path: String,
    #[serde(default)]
    pub(super) readonly: bool,
}

/// An entry of `mounts`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Mount {
    pub(super) destination: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) options: Vec<String>,
}

/// `linux`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Linux {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) devices: Vec<Device>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) masked_paths: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) readonly_paths: Vec<String>,
}

/// An entry of `linux.namespaces`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Namespace {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// An entry of `linux.devices`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    #[serde(default)]
    pub(super) file_mode: Option<u32>,
    #[serde(default)]
    pub(super) uid: Option<u32>,
    #[serde(default)]
    pub(super) gid: Option<u32>,
}

impl Spec {
    /// Whether the step gets its own namespace of this kind.
    pub(super) fn has_own(&self, kind: &str) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}
