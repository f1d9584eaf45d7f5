//! A GPU request, and how it is written.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::csv::quote;
use super::driver::{Driver, DriverCapability};
use crate::runtime::values::as_text;

/// What NVIDIA's documents write for `utility` in some of their examples.
pub(super) const SLIP: &str = "utilities";

/// What of the host's GPUs the container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuRequest {
    /// Which GPUs.
    pub gpus: GpuSelection,
    /// What may be done with them, in the order of the request, each once; empty for what the image says.
    pub capabilities: Vec<DriverCapability>,
    /// The driver, if one was named.
    pub driver: Option<Driver>,
    /// Options for the driver, of which NVIDIA's has none.
    pub options: BTreeMap<String, String>,
    /// Whether it was written `utilities`, which stands for `utility`.
    pub slip: bool,
}

/// Which GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSelection {
    /// Every one.
    All,
    /// The first ones by index; 0 asks for nothing at all.
    Count(u32),
    /// These, by index, UUID, MIG name or CDI name, each once. Never empty.
    Devices(Vec<String>),
}

impl GpuRequest {
    /// What to tell whoever wrote it in `place`, such as `--gpus`: a sentence without a full stop.
    #[must_use]
    pub fn warning(&self, place: &str) -> Option<String> {
        self.slip.then(|| format!("`{SLIP}` in {place} is taken for `{}`", DriverCapability::Utility.name()))
    }
}

impl fmt::Display for GpuRequest {
    /// The request as docker would take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = vec![match &self.gpus {
            GpuSelection::All => "all".to_owned(),
            GpuSelection::Count(count) => count.to_string(),
            GpuSelection::Devices(devices) => format!("device={}", devices.join(",")),
        }];
        if !self.capabilities.is_empty() {
            let names: Vec<_> = self.capabilities.iter().map(|capability| capability.name()).collect();
            fields.push(format!("capabilities={}", names.join(",")));
        }
        fields.extend(self.driver.map(|driver| format!("driver={}", driver.name())));
        if !self.options.is_empty() {
            let pairs: Vec<_> = self.options.iter().map(|(key, value)| quote(&format!("{key}={value}"))).collect();
            fields.push(format!("options={}", pairs.join(",")));
        }
        f.write_str(&fields.iter().map(|field| quote(field)).collect::<Vec<_>>().join(","))
    }
}

as_text!(GpuRequest);
