//! `[runtime]`: flags as those of `docker run`, stored in the image.

use std::fmt::Display;
use std::str::FromStr;

use ociforge_manifests::runtime::{FlagError, GpuError, RuntimeSettings};
use toml::de::DeValue;

use super::error::PlanError;
use super::fields::Value;

/// The keys of `[runtime]`.
pub(super) const KEYS: &[&str] = &["gpus", "shm-size", "ipc", "network", "cpuset-cpus", "ulimits"];

/// Reads `[runtime]`.
pub(super) fn settings(value: &Value<'_>) -> Result<RuntimeSettings, PlanError> {
    let table = value.table("[runtime]")?.only(KEYS)?;
    let ulimits = table.get("ulimits").map_or_else(|| Ok(Vec::new()), |value| value.items())?;
    Ok(RuntimeSettings {
        gpus: table.get("gpus").map(|value| typed(&value, GpuError::hint)).transpose()?,
        shm_size: table.get("shm-size").map(|value| typed(&value, FlagError::hint)).transpose()?,
        ipc: table.get("ipc").map(|value| typed(&value, FlagError::hint)).transpose()?,
        network: table.get("network").map(|value| typed(&value, FlagError::hint)).transpose()?,
        cpuset_cpus: table.get("cpuset-cpus").map(|value| typed(&value, FlagError::hint)).transpose()?,
        ulimits: ulimits.iter().map(|value| typed(value, FlagError::hint)).collect::<Result<_, _>>()?,
    })
}

/// Parses a value like the flag of the same name. Numbers need no quotes.
pub(super) fn typed<T: FromStr>(value: &Value<'_>, hint: impl Fn(&T::Err) -> Option<String>) -> Result<T, PlanError>
where
    T::Err: Display,
{
    let text = match value.raw() {
        DeValue::Integer(number) if number.radix() == 10 => number.to_string(),
        _ => value.line_of_text()?.to_owned(),
    };
    text.parse()
        .map_err(|error| value.unfit(format!("`{text}`"), format!("a value that works ({error})"), hint(&error)))
}
