//! What NVIDIA's hook, its entrypoint and its libraries need of an image's config.

use super::{Code, Finding};
use crate::config::Process;
use crate::runtime::{gpus::Capability, nearest};

const REQUIRE_CUDA: &str = "NVIDIA_REQUIRE_CUDA";
const CUDA_VERSION: &str = "CUDA_VERSION";
const LIBRARIES: &str = "LD_LIBRARY_PATH";
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";
const CAPABILITIES: &str = "NVIDIA_DRIVER_CAPABILITIES";

/// The entrypoint of NVIDIA's images: it checks the driver and switches the compatibility libraries.
const ENTRYPOINT: &str = "/opt/nvidia/nvidia_entrypoint.sh";

/// The value of `key`, where it has one that is not empty.
fn filled<'a>(process: &'a Process, key: &str) -> Option<&'a str> {
    process.env_value(key).filter(|value| !value.is_empty())
}

pub(super) fn cuda_version(image: &Process) -> Option<Finding> {
    let version = filled(image, CUDA_VERSION).filter(|version| version.split('.').count() > 3)?;
    // With a requirement of the image's own, or with none wanted, the hook does not read the version.
    let unread = filled(image, REQUIRE_CUDA).is_some() || requires_nothing(image);
    (!unread).then(|| Finding {
        code: Code::CudaVersion,
        message: format!(
            "CUDA_VERSION is {version}, with four parts, and {REQUIRE_CUDA} is not set: NVIDIA's hook fails on such an \
             image"
        ),
        hint: format!("set {REQUIRE_CUDA} = \"cuda>=9.0\" under [config.env]"),
    })
}

/// Whether the image turns the checks of the driver off, in the words that the hook takes for true.
fn requires_nothing(image: &Process) -> bool {
    let value = image.env_value("NVIDIA_DISABLE_REQUIRE");
    value.is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].contains(&value))
}

pub(super) fn requirement(base: Option<&Process>, image: &Process) -> Option<Finding> {
    filled(base?, REQUIRE_CUDA)?;
    let kept = filled(image, REQUIRE_CUDA).is_some() || requires_nothing(image);
    // The graver warning about the same variable says the same.
    (!kept && cuda_version(image).is_none()).then(|| Finding {
        code: Code::NvidiaRequire,
        message: format!("the base's {REQUIRE_CUDA} is gone: nothing checks any more whether the driver is new enough"),
        hint: format!("leave {REQUIRE_CUDA} as the base has it"),
    })
}

pub(super) fn compat(base: Option<&Process>, image: &Process) -> Option<Finding> {
    let entries = |process: &Process| -> Vec<String> {
        let path = process.env_value(LIBRARIES).unwrap_or_default();
        path.split(':').filter(|entry| is_compat(entry)).map(str::to_owned).collect()
    };
    let had = entries(base?);
    let first = had.first().filter(|_| entries(image).is_empty())?;
    Some(Finding {
        code: Code::CudaCompat,
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

pub(super) fn entrypoint(base: Option<&Process>, image: &Process) -> Option<Finding> {
    // A program in front of it may well start it.
    let has = |process: &Process| process.entrypoint.iter().any(|word| word == ENTRYPOINT);
    (has(base?) && !has(image)).then(|| Finding {
        code: Code::NvidiaEntrypoint,
        message: format!("the base's entrypoint {ENTRYPOINT} was replaced: it checks the driver and sets up CUDA"),
        hint: "give the program as `cmd` instead, or begin the entrypoint with NVIDIA's".into(),
    })
}

pub(super) fn devices(image: &Process) -> Option<Finding> {
    let value = filled(image, VISIBLE).filter(|value| !["all", "none", "void"].contains(value))?;
    Some(Finding {
        code: Code::NvidiaDevices,
        message: format!("{VISIBLE} is {value}: the image is bound to particular GPUs, which other machines lack"),
        hint: format!("set {VISIBLE} = \"all\", and choose with --gpus where the container is started"),
    })
}

pub(super) fn capabilities(image: &Process) -> Option<Finding> {
    let words = filled(image, CAPABILITIES)?.split(',').map(str::trim).filter(|word| !word.is_empty());
    let unknown = words.filter(|word| Capability::named(word).is_none()).collect::<Vec<_>>();
    let first = unknown.first()?;
    let hint = match nearest(first, &Capability::NAMES) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("use some of {}", Capability::NAMES.join(", ")),
    };
    let message = format!("{CAPABILITIES} has {first}, which NVIDIA's hook does not know: it fails on such an image");
    Some(Finding { code: Code::NvidiaCapabilities, message, hint })
}
