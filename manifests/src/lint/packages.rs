//! Python packages and the libraries of the image.

use super::code::LintCode;
use super::finding::{Finding, InstalledPackage};
use crate::config::ExecutionParameters;

/// The major versions of CUDA and cuDNN for which the wheels of onnxruntime-gpu on PyPI are built: first and last minor
/// version of 1.x, CUDA, cuDNN. All minor versions of CUDA and cuDNN are compatible.
const BUILT_FOR: [(u32, u32, u32, u32); 2] = [(7, 18, 11, 8), (19, 23, 12, 9)];

pub(super) fn onnxruntime(image: &ExecutionParameters, packages: &[InstalledPackage<'_>]) -> Option<Finding> {
    let package = packages.iter().find(|package| package.name == "onnxruntime-gpu")?;
    let (_, _, cuda, cudnn) = built_for(package.version)?;
    // If wheels contain the libraries, the image's own are not used.
    let brought = |name: &str| packages.iter().any(|package| package.name.starts_with(name));
    let have = |keys: &[&str]| keys.iter().find_map(|key| major(image.env_value(key)?));
    let has_cuda = have(&["CUDA_VERSION"]).filter(|_| !brought("nvidia-cuda-runtime"));
    let has_cudnn = have(&["CUDNN_VERSION", "NV_CUDNN_VERSION"]).filter(|_| !brought("nvidia-cudnn"));
    let wrong = [("CUDA", cuda, has_cuda), ("cuDNN", cudnn, has_cudnn)];
    let wrong =
        wrong.into_iter().filter_map(|(name, needs, has)| Some((name, needs, has.filter(|has| *has != needs)?)));
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        return None;
    }
    let needs: Vec<_> = wrong.iter().map(|(name, needs, _)| format!("{name} {needs}")).collect();
    let has: Vec<_> = wrong.iter().map(|(name, _, has)| format!("{name} {has}")).collect();
    let (needs, has) = (needs.join(" and "), has.join(" and "));
    Some(Finding {
        code: LintCode::OnnxruntimeCuda,
        message: format!(
            "onnxruntime-gpu {} is built for {needs} and the image has {has}: it will run on the CPU",
            package.version
        ),
        hint: fitting(has_cuda, has_cudnn)
            .unwrap_or_else(|| format!("choose a base with CUDA {cuda} and cuDNN {cudnn}")),
    })
}

/// The row for a version, if it is known.
fn built_for(version: &str) -> Option<(u32, u32, u32, u32)> {
    let mut numbers = version.split('.');
    let (one, minor) = (numbers.next()?, numbers.next()?.parse().ok()?);
    BUILT_FOR.into_iter().find(|(first, last, ..)| one == "1" && (*first..=*last).contains(&minor))
}

/// The requirement for an image with these versions, if it is known.
fn fitting(has_cuda: Option<u32>, has_cudnn: Option<u32>) -> Option<String> {
    let fits = |has: Option<u32>, needs: u32| has.is_none_or(|has| has == needs);
    let mut rows = BUILT_FOR.into_iter();
    let (first, last, ..) = rows.find(|(.., cuda, cudnn)| fits(has_cuda, *cuda) && fits(has_cudnn, *cudnn))?;
    Some(format!("require onnxruntime-gpu>=1.{first},<1.{}", last + 1))
}

/// `12` of `12.3.2.001`.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

pub(super) fn onnxruntime_twice(packages: &[InstalledPackage<'_>]) -> Option<Finding> {
    let has = |name: &str| packages.iter().any(|package| package.name == name);
    (has("onnxruntime") && has("onnxruntime-gpu")).then(|| Finding {
        code: LintCode::OnnxruntimeTwice,
        message: "onnxruntime and onnxruntime-gpu are both installed, into the same directory: one breaks the other"
            .into(),
        hint:
            "require only onnxruntime-gpu, and find out with `uv tree` or `pip show` which package asks for the other"
                .into(),
    })
}
