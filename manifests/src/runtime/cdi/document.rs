//! The content of a CDI file (SPEC.md, "CDI JSON Specification"). Unknown fields are errors, as the specification
//! requires; missing fields are empty, and [`validate`](super::validate) checks which are required.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CdiDocument {
    pub(crate) cdi_version: String,
    /// `VENDOR/CLASS`.
    pub(crate) kind: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) devices: Vec<CdiDevice>,
    /// The edits for every device of the file, besides its own.
    pub(crate) container_edits: ContainerEdits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CdiDevice {
    pub(crate) name: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) container_edits: ContainerEdits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ContainerEdits {
    /// `KEY=VALUE`.
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<DeviceNode>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<CdiMount>,
    pub(crate) intel_rdt: Option<IntelRdt>,
    pub(crate) additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceNode {
    /// In the container.
    pub(crate) path: String,
    /// On the host; `path` if it is missing.
    pub(crate) host_path: Option<String>,
    /// `b`, `c`, `u` or `p`, as in mknod(1).
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    pub(crate) file_mode: Option<u32>,
    /// A combination of `r`, `w` and `m`, or the word `none`.
    pub(crate) permissions: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

impl DeviceNode {
    pub(crate) fn host_path(&self) -> &str {
        self.host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&self.path)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NetDevice {
    pub(crate) host_interface_name: String,
    /// In the container.
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hook {
    pub(crate) hook_name: String,
    pub(crate) path: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    /// Seconds; no limit unless positive.
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CdiMount {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    pub(crate) options: Vec<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
}

impl CdiMount {
    /// Whether it is a bind mount of the host, as every mount without a type.
    pub(crate) fn is_bind(&self) -> bool {
        matches!(self.kind.as_deref(), None | Some("" | "none" | "bind")) || self.has_bind_option()
    }

    pub(crate) fn has_bind_option(&self) -> bool {
        self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(crate) clos_id: String,
    #[serde(rename = "l3CacheSchema")]
    pub(crate) l3_cache_schema: String,
    pub(crate) mem_bw_schema: String,
    pub(crate) schemata: Option<Vec<String>>,
    pub(crate) enable_monitoring: bool,
}

impl ContainerEdits {
    pub(crate) fn is_empty(&self) -> bool {
        self.env.is_empty()
            && self.device_nodes.is_empty()
            && self.net_devices.is_empty()
            && self.hooks.is_empty()
            && self.mounts.is_empty()
            && self.intel_rdt.is_none()
            && self.additional_gids.is_empty()
    }

    /// Appends the edits of `other`.
    pub(crate) fn append(&mut self, other: &Self) {
        self.env.extend_from_slice(&other.env);
        self.device_nodes.extend_from_slice(&other.device_nodes);
        self.net_devices.extend_from_slice(&other.net_devices);
        self.hooks.extend_from_slice(&other.hooks);
        self.mounts.extend_from_slice(&other.mounts);
        self.intel_rdt = other.intel_rdt.clone().or(self.intel_rdt.take());
        self.additional_gids.extend_from_slice(&other.additional_gids);
    }
}

impl CdiDocument {
    /// The edits of the file and of each of its devices.
    pub(crate) fn all_edits(&self) -> impl Iterator<Item = &ContainerEdits> {
        std::iter::once(&self.container_edits).chain(self.devices.iter().map(|device| &device.container_edits))
    }
}
