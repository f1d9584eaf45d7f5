//! One mount of a runtime spec (runtime-spec, config.md, "Mounts").

use serde::Serialize;

/// One entry of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SpecMount {
    /// Absolute path in the container, clean.
    pub(crate) destination: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) options: Vec<String>,
}

impl SpecMount {
    pub(crate) fn new(destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        Self {
            destination: destination.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        }
    }

    /// A bind mount of a file or directory of the host.
    pub(crate) fn bind(source: &str, destination: &str, options: &[&str]) -> Self {
        Self::new(destination, "bind", source, options)
    }
}
