//! The capabilities of the NVIDIA driver, and the provider of GPUs.

use crate::nearest::nearest;

/// A part of NVIDIA's driver (`NVIDIA_DRIVER_CAPABILITIES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverCapability {
    /// All capabilities.
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

impl DriverCapability {
    /// NVIDIA's names.
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

    /// NVIDIA's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|index| Self::VALUES[index])
    }

    /// The first unknown word in `NVIDIA_DRIVER_CAPABILITIES`. If `all` is among them, NVIDIA's hook ignores the
    /// others.
    pub(crate) fn first_unknown(list: &str) -> Option<&str> {
        let words = || list.split(',').map(str::trim).filter(|word| !word.is_empty());
        let all = words().any(|word| word == Self::All.name());
        words().find(|word| !all && Self::named(word).is_none())
    }

    /// The hint for an unknown word.
    pub(crate) fn suggestion(word: &str) -> String {
        suggestion(word, &Self::NAMES, "capabilities")
    }
}

/// The provider of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// NVIDIA's toolkit.
    Nvidia,
    /// A CDI specification.
    Cdi,
}

impl Driver {
    pub(super) const NAMES: [&str; 2] = ["nvidia", "cdi"];
    pub(super) const VALUES: [Self; 2] = [Self::Nvidia, Self::Cdi];

    /// The name.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The hint for `word`, which is not one of the `known` ones.
pub(super) fn suggestion(word: &str, known: &[&str], what: &str) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the {what} are {}", known.join(", ")),
    }
}
