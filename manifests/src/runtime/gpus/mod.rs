//! `--gpus`: docker's text, and what NVIDIA's documents write without the quotes that docker wants.
//!
//! Docker reads the value as one CSV record whose fields are `KEY=VALUE` or a bare count. `device=1,2`, as the documents
//! have it, is then device 1 and a count of 2, which docker refuses. Here the bare fields after an unquoted `device=`
//! go on with the list, and so do those after `capabilities=` that are no count. What docker accepts otherwise means
//! here what it means there.

mod csv;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::csv::quote;
use super::nearest;
use super::values::as_text;

const KEYS: [&str; 5] = ["capabilities", "count", "device", "driver", "options"];

/// What of the host's GPUs the container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuRequest {
    /// Which GPUs.
    pub gpus: Gpus,
    /// What may be done with them, in the order of the request, each once; empty for what the image says.
    pub capabilities: Vec<Capability>,
    /// The driver, if one was named.
    pub driver: Option<Driver>,
    /// Options for the driver, of which NVIDIA's has none.
    pub options: BTreeMap<String, String>,
    /// Whether it was written `utilities`, which stands for `utility`.
    pub slip: bool,
}

/// What NVIDIA's documents write for `utility` in some of their examples.
const SLIP: &str = "utilities";

/// Which GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// Every one.
    All,
    /// The first ones by index; 0 asks for nothing at all.
    Count(u32),
    /// These, by index, UUID, MIG name or CDI name, each once. Never empty.
    Devices(Vec<String>),
}

/// A part of NVIDIA's driver (`NVIDIA_DRIVER_CAPABILITIES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// All that there are.
    All,
    /// 32-bit libraries.
    Compat32,
    /// CUDA and OpenCL.
    Compute,
    /// X11.
    Display,
    /// OpenGL and Vulkan.
    Graphics,
    /// NGX.
    Ngx,
    /// nvidia-smi and NVML.
    Utility,
    /// The video codec SDK.
    Video,
}

impl Capability {
    /// NVIDIA's words for them.
    pub(crate) const NAMES: [&str; 8] =
        ["all", "compat32", "compute", "display", "graphics", "ngx", "utility", "video"];
    const VALUES: [Self; 8] = [
        Self::All,
        Self::Compat32,
        Self::Compute,
        Self::Display,
        Self::Graphics,
        Self::Ngx,
        Self::Utility,
        Self::Video,
    ];

    /// NVIDIA's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|index| Self::VALUES[index])
    }

    /// The first word of `NVIDIA_DRIVER_CAPABILITIES` that none has for a name. With `all` among them NVIDIA's hook does
    /// not look at the others.
    pub(crate) fn first_unknown(list: &str) -> Option<&str> {
        let words = || list.split(',').map(str::trim).filter(|word| !word.is_empty());
        let all = words().any(|word| word == Self::All.name());
        words().find(|word| !all && Self::named(word).is_none())
    }

    /// What to write instead of a word that is none.
    pub(crate) fn suggestion(word: &str) -> String {
        suggestion(word, &Self::NAMES, "capabilities")
    }
}

/// Who provides the GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// NVIDIA's toolkit.
    Nvidia,
    /// A CDI specification.
    Cdi,
}

impl Driver {
    const NAMES: [&str; 2] = ["nvidia", "cdi"];
    const VALUES: [Self; 2] = [Self::Nvidia, Self::Cdi];

    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// A value of `--gpus` that can't be granted as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a GPU request: {fault}")]
pub struct GpuError {
    /// The whole value.
    pub text: String,
    /// What is wrong with it.
    pub fault: GpuFault,
}

/// What is wrong with a GPU request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuFault {
    /// Nothing at all, or an empty field.
    #[error("there is nothing between two commas, or nothing at all")]
    Empty,
    /// Quotes that don't pair, or stand where they can't.
    #[error("a quote is out of place")]
    Quote,
    /// A key given twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// A key that nobody knows.
    #[error("`{0}` is not a key")]
    Key(String),
    /// Neither `all` nor a whole number.
    #[error("`{0}` is not a number of GPUs")]
    Count(String),
    /// More GPUs than any machine has.
    #[error("{0} GPUs are more than any machine has")]
    TooMany(i64),
    /// Both a count and devices.
    #[error("it has both a number of GPUs and devices by name")]
    CountAndDevices,
    /// No name of a device.
    #[error("`{0}` is not a device")]
    Device(String),
    /// A capability that nobody knows.
    #[error("`{0}` is not a capability of the driver")]
    Capability(String),
    /// A driver that nobody knows.
    #[error("`{0}` is not a driver")]
    Driver(String),
}

impl GpuError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match &self.fault {
            GpuFault::Capability(word) => Capability::suggestion(word),
            GpuFault::Key(word) => suggestion(word, &KEYS, "keys"),
            GpuFault::Driver(word) => suggestion(word, &Driver::NAMES, "drivers"),
            GpuFault::Count(word) if word.eq_ignore_ascii_case("all") => "did you mean all?".into(),
            GpuFault::Count(word) if word.contains('-') => format!("for a GPU by its name write device={word}"),
            GpuFault::Count(word) => match nearest(word, &Capability::NAMES[1..]) {
                Some(near) => format!("for a capability write all,capabilities={near}"),
                None => "write all, a number, or device= and indexes or UUIDs".into(),
            },
            GpuFault::CountAndDevices => "leave one of them out: device=1,2 needs no number beside it".into(),
            GpuFault::Device(_) => "write indexes as in nvidia-smi -L, or UUIDs: device=0,2 or device=GPU-…".into(),
            GpuFault::Quote => r#"quote whole fields: 'all,"capabilities=compute,utility"', or none at all"#.into(),
            GpuFault::Empty | GpuFault::TooMany(_) | GpuFault::Twice(_) => {
                "write all, a number, or device= and a list; then, if need be, capabilities= and a list".into()
            }
        })
    }
}

fn suggestion(word: &str, known: &[&str], what: &str) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the {what} are {}", known.join(", ")),
    }
}

impl GpuRequest {
    /// What to tell whoever wrote it in `place`, such as `--gpus`: a sentence without a full stop.
    #[must_use]
    pub fn warning(&self, place: &str) -> Option<String> {
        self.slip.then(|| format!("`{SLIP}` in {place} is taken for `{}`", Capability::Utility.name()))
    }
}

impl FromStr for GpuRequest {
    type Err = GpuError;

    fn from_str(text: &str) -> Result<Self, GpuError> {
        parse::parse(text).map_err(|fault| GpuError { text: text.to_owned(), fault })
    }
}

impl fmt::Display for GpuRequest {
    /// The request as docker would take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = vec![match &self.gpus {
            Gpus::All => "all".to_owned(),
            Gpus::Count(count) => count.to_string(),
            Gpus::Devices(devices) => format!("device={}", devices.join(",")),
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

#[cfg(test)]
mod tests;
