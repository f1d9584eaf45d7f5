//! The names of the warnings. They never change, because recipes contain them.

use std::fmt;
use std::str::FromStr;

use crate::nearest::nearest;

/// The name of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintCode {
    /// `CUDA_VERSION` has four parts and `NVIDIA_REQUIRE_CUDA` is missing: NVIDIA's hook fails on such an image.
    CudaVersion,
    /// The image lacks the base's `NVIDIA_REQUIRE_CUDA`, so no runtime checks the driver.
    NvidiaRequire,
    /// The image's `LD_LIBRARY_PATH` lacks the base's directory of CUDA's compatibility libraries.
    CudaCompat,
    /// NVIDIA's entrypoint was replaced.
    NvidiaEntrypoint,
    /// `NVIDIA_VISIBLE_DEVICES` names specific GPUs.
    NvidiaDevices,
    /// `NVIDIA_DRIVER_CAPABILITIES` has an unknown word: NVIDIA's hook fails on such an image.
    NvidiaCapabilities,
    /// onnxruntime-gpu is built for another CUDA or cuDNN than the image's.
    OnnxruntimeCuda,
    /// onnxruntime and onnxruntime-gpu are both installed, into the same directory.
    OnnxruntimeTwice,
    /// An entry of the environment has no `=`: NVIDIA's hook fails on such an image.
    EnvEntry,
    /// A variable looks like a secret.
    SecretEnv,
    /// The image has more layers than docker accepts.
    LayerCount,
}

impl LintCode {
    /// All codes, in the order of reports.
    pub const ALL: [Self; 11] = [
        Self::CudaVersion,
        Self::NvidiaRequire,
        Self::CudaCompat,
        Self::NvidiaEntrypoint,
        Self::NvidiaDevices,
        Self::NvidiaCapabilities,
        Self::OnnxruntimeCuda,
        Self::OnnxruntimeTwice,
        Self::EnvEntry,
        Self::SecretEnv,
        Self::LayerCount,
    ];

    const NAMES: [&str; 11] = [
        "cuda-version",
        "nvidia-require",
        "cuda-compat",
        "nvidia-entrypoint",
        "nvidia-devices",
        "nvidia-capabilities",
        "onnxruntime-cuda",
        "onnxruntime-twice",
        "env-entry",
        "secret-env",
        "layer-count",
    ];

    /// The name in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for LintCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An unknown name of a warning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the code of a warning")]
pub struct UnknownCode(pub String);

impl UnknownCode {
    /// The probable code, or else all codes.
    #[must_use]
    pub fn hint(&self) -> String {
        match nearest(&self.0.replace('_', "-"), &LintCode::NAMES) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the codes are {}", LintCode::NAMES.join(", ")),
        }
    }
}

impl FromStr for LintCode {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let place = Self::NAMES.iter().position(|name| *name == text);
        place.map(|place| Self::ALL[place]).ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (place, code) in LintCode::ALL.into_iter().enumerate() {
            assert_eq!((code.name().parse(), code as usize), (Ok(code), place));
        }
        let hint = |text: &str| text.parse::<LintCode>().unwrap_err().hint();
        assert_eq!(hint("secret_env"), "did you mean `secret-env`?");
        assert_eq!(hint("cuda-compatibility"), "did you mean `cuda-compat`?");
        assert!(hint("zzz").starts_with("the codes are cuda-version, nvidia-require"));
    }
}
