//! `[runtime]`: flags as those of `docker run`, stored in the image.

use ociforge_manifests::runtime::{FlagError, GpuError, RuntimeSettings};

use crate::tables::PlanError;
use crate::tables::fields::Value;
use crate::tables::values::typed;

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
