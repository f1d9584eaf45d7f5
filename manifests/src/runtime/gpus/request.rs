//! A GPU request and its text form.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::csv::quote;
use super::driver::{Driver, DriverCapability};
use crate::runtime::values::as_text;

/// The wrong form of `utility` in some examples of NVIDIA's documents.
pub(super) const SLIP: &str = "utilities";

/// The GPUs that the container gets, and their capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuRequest {
    /// The GPUs.
    pub gpus: GpuSelection,
    /// The driver capabilities, in the order of the request, each once; empty for the image's default.
    pub capabilities: Vec<DriverCapability>,
    /// The driver, if the request names one.
    pub driver: Option<Driver>,
    /// Driver options; NVIDIA's driver has none.
    pub options: BTreeMap<String, String>,
    /// Whether the request had `utilities` in place of `utility`.
    pub slip: bool,
}

/// A selection of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSelection {
    /// All GPUs.
    All,
    /// The first ones by index; 0 for none.
    Count(u32),
    /// GPUs by index, UUID, MIG name or CDI name, each once. Never empty.
    Devices(Vec<String>),
}

impl GpuRequest {
    /// The warning for a request in `place`, such as `--gpus`: a sentence without a full stop.
    #[must_use]
    pub fn warning(&self, place: &str) -> Option<String> {
        self.slip.then(|| format!("`{SLIP}` in {place} is taken for `{}`", DriverCapability::Utility.name()))
    }
}

impl fmt::Display for GpuRequest {
    /// The request in docker's syntax.
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
