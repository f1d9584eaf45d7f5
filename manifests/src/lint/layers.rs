//! The number of layers.

use super::code::LintCode;
use super::finding::Finding;

/// The maximum of docker with overlay2 ("max depth exceeded").
const MOST: usize = 125;

/// The warning about more layers than docker accepts.
#[must_use]
pub fn layer_count(layers: usize) -> Option<Finding> {
    (layers > MOST).then(|| Finding {
        code: LintCode::LayerCount,
        message: format!("the image has {layers} layers, and docker takes at most {MOST}"),
        hint: format!("join small ones with [build] max-layers = {MOST}, or by one copy of a directory"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_takes_125_layers() {
        assert_eq!(layer_count(125), None);
        assert!(layer_count(126).unwrap().message.starts_with("the image has 126 layers"));
    }
}
