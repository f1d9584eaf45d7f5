//! The names of devices, `VENDOR/CLASS=NAME`, and of their kinds, `VENDOR/CLASS`.

use super::error::CdiError;

/// NVIDIA's kind of GPUs.
pub const GPU_KIND: &str = "nvidia.com/gpu";

/// A device's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// `VENDOR/CLASS`.
    pub(crate) kind: String,
    pub(crate) device: String,
}

impl Name {
    /// Parses a full name.
    ///
    /// # Errors
    /// When a part is missing or has invalid characters.
    pub(crate) fn read(text: &str) -> Result<Self, CdiError> {
        let name = text.split_once('=').filter(|(kind, device)| is_kind(kind) && is_device(device));
        let (kind, device) = name.ok_or_else(|| CdiError::Name(text.to_owned()))?;
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }

    /// Whether it is a device of NVIDIA, independent of the file's author.
    pub(crate) fn is_nvidia(&self) -> bool {
        let vendor = self.kind.split('/').next().unwrap_or_default();
        vendor == "nvidia.com" || vendor.ends_with(".nvidia.com")
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

/// Whether both parts are letters, digits, `_`, `-` and `.`, with a letter first and a letter or digit last.
pub(super) fn is_kind(text: &str) -> bool {
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic()) && is_made_of(part, b"_-.");
    text.split_once('/').is_some_and(|(vendor, class)| part(vendor) && part(class))
}

/// The same with `:`, and an optional digit first.
pub(super) fn is_device(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_made_of(text, b"_-.:")
}

fn is_made_of(text: &str, between: &[u8]) -> bool {
    text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || between.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names() {
        for good in [
            "nvidia.com/gpu=0",
            "nvidia.com/gpu=all",
            "nvidia.com/gpu=0:1",
            "nvidia.com/gpu=GPU-3a23c669-1f69-c64e-cf85-44e9b07e7a2a",
            "runtime.nvidia.com/gpu=0",
            "a/b=c",
            "V_e-n.d0r/cl.a_s-s=n.a_m-e:0",
        ] {
            let name = Name::read(good).unwrap();
            assert_eq!(name.to_string(), good);
            assert_eq!(name.is_nvidia(), good.contains("nvidia.com/"), "{good}");
        }
        for bad in [
            "",
            "=",
            "/=",
            "gpu",
            "gpu=0",
            "nvidia.com/gpu",
            "nvidia.com/gpu=",
            "nvidia.com=0",
            "/gpu=0",
            "nvidia.com/=0",
            "0nvidia.com/gpu=0",
            "nvidia.com/0gpu=0",
            "nvidia.com./gpu=0",
            "nvidia.com/gpu-=0",
            "nvidia.com/gpu=-0",
            "nvidia.com/gpu=0:",
            "nvidia.com/gpu/x=0",
            "nvidia.com/gpu=a=b",
            "nvidia.com/gpu=a b",
            "nvidia.com/gpu=é",
            "nvidia.com/gpu=0\n",
            "/dev/nvidia0",
            "/dev/nvidia0:/dev/nvidia0:rwm",
        ] {
            assert_eq!(Name::read(bad), Err(CdiError::Name(bad.to_owned())));
        }
        assert!(!Name::read("evilnvidia.com/gpu=0").unwrap().is_nvidia());
    }
}
