//! Requirements of NVIDIA's hook, entrypoint and libraries for the image config.

use super::code::LintCode;
use super::finding::Finding;
use crate::config::ExecutionParameters;
use crate::runtime::gpus::DriverCapability;
use crate::runtime::requirements::{REQUIRE_CUDA, requires_nothing, unreadable_version};

const LIBRARIES: &str = "LD_LIBRARY_PATH";
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// The entrypoint of NVIDIA's images: it checks the driver and activates the compatibility libraries.
const ENTRYPOINT: &str = "/opt/nvidia/nvidia_entrypoint.sh";

/// The value of `key`, if it is not empty.
fn filled<'a>(process: &'a ExecutionParameters, key: &str) -> Option<&'a str> {
    process.env_value(key).filter(|value| !value.is_empty())
}

pub(super) fn cuda_version(image: &ExecutionParameters) -> Option<Finding> {
    let version = unreadable_version(|key| image.env_value(key))?;
    Some(Finding {
        code: LintCode::CudaVersion,
        message: format!(
            "CUDA_VERSION is {version}, with four parts, and {REQUIRE_CUDA} is not set: NVIDIA's hook fails on such an \
             image"
        ),
        hint: format!("set {REQUIRE_CUDA} = \"cuda>=9.0\" under [config.env]"),
    })
}

pub(super) fn requirement(base: Option<&ExecutionParameters>, image: &ExecutionParameters) -> Option<Finding> {
    filled(base?, REQUIRE_CUDA)?;
    let kept = filled(image, REQUIRE_CUDA).is_some() || requires_nothing(|key| image.env_value(key));
    // The more severe warning about the same variable includes this one.
    (!kept && cuda_version(image).is_none()).then(|| Finding {
        code: LintCode::NvidiaRequire,
        message: format!("the image does not have the base's {REQUIRE_CUDA}: nothing checks the version of the driver"),
        hint: format!("leave {REQUIRE_CUDA} as the base has it"),
    })
}

pub(super) fn compat(base: Option<&ExecutionParameters>, image: &ExecutionParameters) -> Option<Finding> {
    let entries = |process: &ExecutionParameters| -> Vec<String> {
        let path = process.env_value(LIBRARIES).unwrap_or_default();
        path.split(':').filter(|entry| is_compat(entry)).map(str::to_owned).collect()
    };
    let had = entries(base?);
    let first = had.first().filter(|_| entries(image).is_empty())?;
    Some(Finding {
        code: LintCode::CudaCompat,
        message: format!(
            "the base has {first} in {LIBRARIES} and the image does not: on an older driver CUDA will not start"
        ),
        hint: format!("put {first} back into {LIBRARIES}"),
    })
}

/// `/usr/local/cuda/compat`, `/usr/local/cuda-12.2/compat/lib`, …
fn is_compat(entry: &str) -> bool {
    let mut components = entry.split('/').skip_while(|component| !component.starts_with("cuda"));
    components.any(|component| component == "compat")
}

pub(super) fn entrypoint(base: Option<&ExecutionParameters>, image: &ExecutionParameters) -> Option<Finding> {
    // A program before it may start it.
    let has = |process: &ExecutionParameters| process.entrypoint.iter().any(|word| word == ENTRYPOINT);
    (has(base?) && !has(image)).then(|| Finding {
        code: LintCode::NvidiaEntrypoint,
        message: format!("the base's entrypoint {ENTRYPOINT} was replaced: it checks the driver and sets up CUDA"),
        hint: "give the program as `cmd` instead, or begin the entrypoint with NVIDIA's".into(),
    })
}

pub(super) fn devices(image: &ExecutionParameters) -> Option<Finding> {
    let value = filled(image, VISIBLE).filter(|value| !["all", "none", "void"].contains(value))?;
    Some(Finding {
        code: LintCode::NvidiaDevices,
        message: format!("{VISIBLE} is {value}: the image is bound to particular GPUs, which other machines lack"),
        hint: format!("set {VISIBLE} = \"all\", and choose with --gpus where the container is started"),
    })
}

pub(super) fn capabilities(image: &ExecutionParameters) -> Option<Finding> {
    let first = DriverCapability::first_unknown(filled(image, CAPABILITIES)?)?;
    Some(Finding {
        code: LintCode::NvidiaCapabilities,
        message: format!("{CAPABILITIES} has {first}, which NVIDIA's hook does not know: it fails on such an image"),
        hint: DriverCapability::suggestion(first),
    })
}
