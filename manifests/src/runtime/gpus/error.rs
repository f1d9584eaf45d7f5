//! Invalid GPU requests.

use super::driver::{Driver, DriverCapability, suggestion};
use crate::nearest::nearest;

/// The valid keys of a request.
const KEYS: [&str; 5] = ["capabilities", "count", "device", "driver", "options"];

/// An invalid value of `--gpus`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a GPU request: {fault}")]
pub struct GpuError {
    /// The whole value.
    pub text: String,
    /// The fault.
    pub fault: GpuFault,
}

/// The fault of a GPU request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuFault {
    /// An empty request or field.
    #[error("a field is empty")]
    Empty,
    /// Quotes without a pair, or in a wrong place.
    #[error("a quote is out of place")]
    Quote,
    /// A repeated key.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// An unknown key.
    #[error("`{0}` is not a key")]
    Key(String),
    /// Neither `all` nor an integer.
    #[error("`{0}` is not a number of GPUs")]
    Count(String),
    /// More GPUs than the limit.
    #[error("{0} GPUs are more than any machine has")]
    TooMany(i64),
    /// Both a count and devices.
    #[error("it has both a number of GPUs and devices by name")]
    CountAndDevices,
    /// An invalid device name.
    #[error("`{0}` is not a device")]
    Device(String),
    /// An unknown capability.
    #[error("`{0}` is not a capability of the driver")]
    Capability(String),
    /// An unknown driver.
    #[error("`{0}` is not a driver")]
    Driver(String),
}

impl GpuError {
    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match &self.fault {
            GpuFault::Capability(word) => DriverCapability::suggestion(word),
            GpuFault::Key(word) => suggestion(word, &KEYS, "keys"),
            GpuFault::Driver(word) => suggestion(word, &Driver::NAMES, "drivers"),
            GpuFault::Count(word) if word.eq_ignore_ascii_case("all") => "did you mean all?".into(),
            GpuFault::Count(word) if word.contains('-') => format!("for a GPU by its name write device={word}"),
            GpuFault::Count(word) => match nearest(word, &DriverCapability::NAMES[1..]) {
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
