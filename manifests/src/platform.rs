//! Platforms (image-spec, image-index.md, "platform").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An operating system, an architecture in Go's spelling, and an optional variant: `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// All other fields (`os.version`, `os.features`), unchanged.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform (expected os/architecture or os/architecture/variant, such as linux/amd64)")]
pub struct PlatformError(pub String);

impl Platform {
    /// Whether an image for `self` serves a request for `wanted`: os and architecture are equal, and so are the
    /// variants if both have one. `arm64` without a variant equals `arm64/v8`, as in containerd.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        let variant = |p: &Self| match (&p.variant, p.architecture.as_str()) {
            (None, "arm64") => Some("v8".to_owned()),
            (variant, _) => variant.clone(),
        };
        let variants = match (variant(self), variant(wanted)) {
            (Some(have), Some(want)) => have == want,
            _ => true,
        };
        self.os == wanted.os && self.architecture == wanted.architecture && variants
    }
}

impl Platform {
    /// The platform in an image config; `None` if it has none.
    #[must_use]
    pub fn of_config(config: &[u8]) -> Option<Self> {
        let config: Value = serde_json::from_slice(config).ok()?;
        let said = |key: &str| config[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (os, architecture) = (said("os")?, said("architecture")?);
        Some(Self { os, architecture, variant: said("variant"), other: Map::new() })
    }
}

impl Default for Platform {
    /// `linux/amd64`.
    fn default() -> Self {
        Self { os: "linux".into(), architecture: "amd64".into(), variant: None, other: Map::new() }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && parts.iter().all(|p| word(p)) => Ok(Self {
                os: (*os).into(),
                architecture: (*architecture).into(),
                variant: rest.first().map(|v| (*v).into()),
                other: Map::new(),
            }),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_agree_where_both_name_one() {
        let p = |s: &str| s.parse::<Platform>().unwrap();
        assert!(p("linux/arm64/v8").serves(&p("linux/arm64")));
        assert!(!p("linux/arm/v6").serves(&p("linux/arm/v7")));
        assert!(!p("linux/amd64").serves(&p("linux/arm64")));
        assert!(p("linux/amd64").serves(&Platform::default()));
        for bad in ["linux", "linux/", "a/b/c/d", "linux/am d64", ""] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
