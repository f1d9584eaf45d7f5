//! Texts that are no GPU request.

use super::driver::{Driver, DriverCapability, suggestion};
use crate::nearest::nearest;

/// The keys that a request may have.
const KEYS: [&str; 5] = ["capabilities", "count", "device", "driver", "options"];

/// A value of `--gpus` that cannot be granted as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a GPU request: {fault}")]
pub struct GpuError {
    /// The whole value.
    pub text: String,
    /// The fault.
    pub fault: GpuFault,
}

/// What is wrong with a GPU request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuFault {
    /// Nothing at all, or an empty field.
    #[error("a field is empty")]
    Empty,
    /// Quotes that do not pair, or stand where they cannot.
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
