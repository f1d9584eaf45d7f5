//! The form of the environment.

use super::code::LintCode;
use super::finding::Finding;
use crate::config::ExecutionParameters;

pub(super) fn without_value(image: &ExecutionParameters) -> Option<Finding> {
    // The entry is not shown: it may be the second part of a secret that was split.
    let place = image.env.iter().position(|entry| !entry.contains('='))?;
    Some(Finding {
        code: LintCode::EnvEntry,
        message: format!("entry {} of the environment has no `=`, and NVIDIA's hook fails on such an image", place + 1),
        hint: "set the intended variable under [config.env]; an entry of the base needs a corrected base".into(),
    })
}
