//! An image's requirements of the NVIDIA driver: `NVIDIA_REQUIRE_*`, `NVIDIA_DRIVER_CAPABILITIES`, `CUDA_VERSION`.
//!
//! A requirement compares properties: `cuda>=12.4 brand=tesla,driver>=470,driver<471`. A space means "or", a comma
//! means "and", and every variable must be true. Empty alternatives are ignored. NVIDIA's hook checks requirements, but
//! CDI does not, so this checks them for both. Brand and architecture of the GPUs are unknown here: comparisons with
//! them are neither met nor unmet.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::driver::{Cuda, DriverVersion, Number};
use super::gpus::DriverCapability;

const PREFIX: &str = "NVIDIA_REQUIRE_";

/// The requirement of CUDA, which every image except first-generation ones has.
pub(crate) const REQUIRE_CUDA: &str = "NVIDIA_REQUIRE_CUDA";

/// The version of CUDA in the image.
pub(crate) const CUDA_VERSION: &str = "CUDA_VERSION";

/// Disables the checks of the driver.
pub const DISABLE_REQUIRE: &str = "NVIDIA_DISABLE_REQUIRE";

/// Describes the mounts of Tegra; not a requirement.
const JETPACK: &str = "NVIDIA_REQUIRE_JETPACK";

/// The directory of the compat libraries, which let CUDA run with an older driver.
const COMPAT: &str = "/usr/local/cuda/compat";

/// The package of those libraries; NVIDIA's CUDA images set it if they have them.
const COMPAT_PACKAGE: &str = "NV_CUDA_COMPAT_PACKAGE";

/// A mismatch of image and driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequirementError {
    /// The driver does not meet the image's requirement.
    #[error("the image needs {requirement} ({variable}), and driver {driver} does not meet this requirement")]
    Unmet {
        /// The variable with the requirement.
        variable: String,
        /// The first requirement in it.
        requirement: String,
        /// The driver and its CUDA.
        driver: String,
        /// The oldest sufficient driver, if known.
        needed: Option<String>,
        /// Whether it is a JetPack driver.
        jetpack: bool,
    },
    /// An invalid requirement; NVIDIA's hook fails on it, too.
    #[error("the image's {variable} has {part:?}, which is not a requirement")]
    Malformed {
        /// The variable.
        variable: String,
        /// The invalid part.
        part: String,
    },
    /// An unknown driver capability; NVIDIA's hook fails on it, too.
    #[error("unsupported capabilities: {0:?} in NVIDIA_DRIVER_CAPABILITIES is not a capability of the driver")]
    Capability(String),
}

impl RequirementError {
    /// Whether `NVIDIA_DISABLE_REQUIRE` disables it.
    #[must_use]
    pub fn is_about_driver(&self) -> bool {
        !matches!(self, Self::Capability(_))
    }

    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        const OFF: &str = "--env NVIDIA_DISABLE_REQUIRE=1 disables the check";
        Some(match self {
            Self::Unmet { jetpack: true, .. } => format!("install a newer JetPack; {OFF}"),
            Self::Unmet { needed: Some(driver), .. } => format!("install driver {driver} or newer; {OFF}"),
            Self::Unmet { .. } => format!("install another driver; {OFF}"),
            Self::Malformed { variable, .. } => {
                format!("write comparisons such as cuda>=12.0 with --env {variable}=…; {OFF}")
            }
            Self::Capability(word) => DriverCapability::suggestion(word),
        })
    }
}

/// A newer CUDA in the image than in the driver.
///
/// NVIDIA's own images do not require their CUDA: they have `cuda>=9.0`, because the compat libraries support older
/// drivers. These libraries work with data-centre GPUs only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerCuda {
    wanted: Cuda,
    have: Cuda,
    driver: DriverVersion,
    needed: Option<String>,
    compat: bool,
    /// Whether a requirement of the image names this driver for a brand of GPUs.
    named: bool,
}

impl NewerCuda {
    /// The same for an image that is known to have the compat libraries.
    #[must_use]
    pub fn with_compat(self) -> Self {
        Self { compat: true, ..self }
    }

    /// Whether programs may still run, at least some of them or on some GPUs.
    #[must_use]
    pub fn may_run(&self) -> bool {
        self.compat || self.named || self.has_minor_compatibility()
    }

    /// Within a major version, from 11 on, programs run with an older driver if they use no newer features of CUDA.
    fn has_minor_compatibility(&self) -> bool {
        self.wanted.0 == self.have.0 && self.have.0 >= 11
    }
}

impl fmt::Display for NewerCuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, have, driver, .. } = self;
        write!(f, "the image's CUDA {wanted} is newer than CUDA {have}, the newest of driver {driver}")?;
        if let Some(needed) = &self.needed {
            write!(f, "; driver {needed} has it")?;
        }
        if self.has_minor_compatibility() {
            write!(f, "; programs that need no new feature of CUDA {} run", have.0)?;
        }
        if self.compat {
            write!(f, "; on data centre GPUs the image's {COMPAT} compensates for that")?;
        } else if self.named {
            write!(f, "; the image allows this driver on GPUs of some brands")?;
        }
        Ok(())
    }
}

/// Checks the variables of a container with GPUs against the driver, if it is known. Returns a warning for the user.
///
/// # Errors
/// When the driver does not meet a requirement, or a variable is invalid.
pub fn check<'a>(
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
    driver: Option<&DriverVersion>,
) -> Result<Option<NewerCuda>, RequirementError> {
    let env: BTreeMap<_, _> = env.into_iter().collect();
    let get = |key: &str| env.get(key).copied();
    if let Some(word) = get("NVIDIA_DRIVER_CAPABILITIES").and_then(DriverCapability::first_unknown) {
        return Err(RequirementError::Capability(word.to_owned()));
    }
    if requires_nothing(get) {
        return Ok(None);
    }
    let mut named = false;
    for (variable, text) in requirements(&env)? {
        match (
            holds(&text, driver).map_err(|part| RequirementError::Malformed { variable: variable.clone(), part })?,
            driver,
        ) {
            (Some(false), Some(driver)) => return Err(unmet(variable, &text, driver)),
            (None, Some(driver)) => named |= names(&text, driver),
            _ => {}
        }
    }
    let compat = has_compat(&env);
    Ok(driver.and_then(|driver| Some(NewerCuda { compat, named, ..newer_cuda(get, driver)? })))
}

/// Whether the checks of the driver are disabled. The hook accepts Go's words for true.
pub fn requires_nothing<'a>(get: impl Fn(&str) -> Option<&'a str>) -> bool {
    get(DISABLE_REQUIRE).is_some_and(|text| ["1", "t", "T", "true", "TRUE", "True"].contains(&text))
}

/// The CUDA version of a first-generation image, which has no requirement. NVIDIA's hook requires this version for such
/// an image, and gives it all GPUs by default.
pub(crate) fn first_generation<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    let filled = |key: &str| get(key).filter(|value| !value.is_empty());
    filled(CUDA_VERSION).filter(|_| filled(REQUIRE_CUDA).is_none())
}

/// A CUDA version that the hook parses and fails on, because it has more than three parts.
pub(crate) fn unreadable_version<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    first_generation(&get).filter(|version| version.split('.').count() > 3 && !requires_nothing(&get))
}

/// Each requirement and its variable.
fn requirements(env: &BTreeMap<&str, &str>) -> Result<Vec<(String, String)>, RequirementError> {
    let stated = env.iter().filter(|(key, _)| key.starts_with(PREFIX) && !key.starts_with(JETPACK));
    let mut all: Vec<_> = stated.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if let Some(version) = first_generation(|key| env.get(key).copied()) {
        let variable = CUDA_VERSION.to_owned();
        match cuda_of(version) {
            Some(cuda) => all.push((variable, format!("cuda>={cuda}"))),
            None => return Err(RequirementError::Malformed { variable, part: version.to_owned() }),
        }
    }
    Ok(all)
}

/// Major and minor number of a `CUDA_VERSION`.
pub fn cuda_of(version: &str) -> Option<Cuda> {
    let release = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let (major, minor) = Number::read(release)?.major_minor();
    Some(Cuda(major, minor))
}

/// Whether a requirement is met; `None` if that depends on unknown properties. The error is the invalid part; as in the
/// hook, which stops at the first alternative that is met, later parts are not checked.
fn holds(requirement: &str, driver: Option<&DriverVersion>) -> Result<Option<bool>, String> {
    let (mut failed, mut unknown) = (false, false);
    for alternative in requirement.split(' ').filter(|text| !text.trim_matches(',').is_empty()) {
        match all_hold(alternative, driver) {
            Ok(Some(true)) => return Ok(Some(true)),
            Ok(Some(false)) => failed = true,
            Err(part) if !unknown => return Err(part),
            Ok(None) | Err(_) => unknown = true,
        }
    }
    Ok(if unknown { None } else { Some(!failed) })
}

/// Whether an alternative that depends on the GPU's brand names this driver.
fn names(requirement: &str, driver: &DriverVersion) -> bool {
    let is_about_driver = |text: &str| text.split(',').filter_map(split).any(|(property, ..)| property == "driver");
    let mut alternatives = requirement.split(' ').filter(|text| is_about_driver(text));
    alternatives.any(|text| all_hold(text, Some(driver)) == Ok(None))
}

fn all_hold(alternative: &str, driver: Option<&DriverVersion>) -> Result<Option<bool>, String> {
    let mut unknown = false;
    for comparison in alternative.split(',').filter(|text| !text.is_empty()) {
        match compare(comparison, driver) {
            Some(Some(true)) => {}
            Some(Some(false)) => return Ok(Some(false)),
            None if !unknown => return Err(comparison.to_owned()),
            Some(None) | None => unknown = true,
        }
    }
    Ok(if unknown { None } else { Some(true) })
}

/// Property, operator and value of a comparison.
fn split(comparison: &str) -> Option<(String, ComparisonOperator, &str)> {
    let is_operator = |c| "<>=!".contains(c);
    let start = comparison.find(is_operator)?;
    let (property, rest) = comparison.split_at(start);
    let end = rest.find(|c| !is_operator(c))?;
    let operator = match &rest[..end] {
        "=" => ComparisonOperator::Equal,
        // The hook accepts the first character alone.
        "!=" | "!" => ComparisonOperator::NotEqual,
        "<" => ComparisonOperator::Less,
        "<=" => ComparisonOperator::LessOrEqual,
        ">" => ComparisonOperator::Greater,
        ">=" => ComparisonOperator::GreaterOrEqual,
        _ => return None,
    };
    Some((property.to_ascii_lowercase(), operator, &rest[end..]))
}

/// Evaluates a comparison: the outer `None` if it is invalid, the inner one if its property is unknown.
fn compare(comparison: &str, driver: Option<&DriverVersion>) -> Option<Option<bool>> {
    let (property, operator, value) = split(comparison)?;
    if property == "brand" {
        return matches!(operator, ComparisonOperator::Equal | ComparisonOperator::NotEqual).then_some(None);
    }
    let value = Number::read(value)?;
    Some(match property.as_str() {
        "driver" => driver.map(|driver| operator.accepts(driver.number().cmp(&value))),
        "cuda" => driver.and_then(DriverVersion::cuda).and_then(|cuda| {
            let order = Number::from(cuda.newest).cmp(&value);
            let certain = match order {
                Ordering::Greater => true,
                Ordering::Equal => matches!(operator, ComparisonOperator::GreaterOrEqual | ComparisonOperator::Less),
                Ordering::Less => false,
            };
            (!cuda.or_newer || certain).then(|| operator.accepts(order))
        }),
        "arch" => None,
        _ => return None,
    })
}

#[derive(Debug, Clone, Copy)]
enum ComparisonOperator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl ComparisonOperator {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

fn unmet(variable: String, text: &str, driver: &DriverVersion) -> RequirementError {
    let mut alternatives = text.split(' ').filter(|text| !text.is_empty());
    let first = alternatives.next().unwrap_or_default();
    let needed = first.split(',').filter_map(split).find_map(|(property, operator, value)| match operator {
        ComparisonOperator::GreaterOrEqual if property == "driver" => Some(value.to_owned()),
        ComparisonOperator::GreaterOrEqual if property == "cuda" => cuda_of(value)?.oldest_driver(),
        _ => None,
    });
    let more = if alternatives.next().is_some() { " or other drivers" } else { "" };
    let cuda = driver.cuda().map(|cuda| format!(" with CUDA {}", cuda.newest)).unwrap_or_default();
    let (requirement, shown) = (format!("`{first}`{more}"), format!("{driver}{cuda}"));
    RequirementError::Unmet { variable, requirement, driver: shown, needed, jetpack: driver.is_jetpack() }
}

/// The image's CUDA, if it is known and newer than the driver's.
fn newer_cuda<'a>(get: impl Fn(&str) -> Option<&'a str>, driver: &DriverVersion) -> Option<NewerCuda> {
    let of_driver = || get("CUDA_DRIVER_VERSION")?.parse::<DriverVersion>().ok();
    let wanted = get(CUDA_VERSION).and_then(cuda_of);
    let wanted = wanted.or_else(|| of_driver()?.cuda().map(|cuda| cuda.newest))?;
    let have = driver.cuda().filter(|have| !have.or_newer && have.newest < wanted)?.newest;
    let needed = of_driver().map(|driver| driver.to_string()).or_else(|| wanted.oldest_driver());
    Some(NewerCuda { wanted, have, driver: driver.clone(), needed, compat: false, named: false })
}

/// Whether the image's variables show that it has the compat libraries: by their package, or by a path to them.
fn has_compat(env: &BTreeMap<&str, &str>) -> bool {
    env.get(COMPAT_PACKAGE).is_some_and(|package| !package.is_empty())
        || env.values().flat_map(|value| value.split(':')).any(is_in_compat)
}

/// Whether the path is [`COMPAT`], or the same directory of a version: `/usr/local/cuda-12.4/compat`.
fn is_in_compat(path: &str) -> bool {
    let below = path.strip_prefix("/usr/local/cuda").and_then(|rest| rest.split_once('/'));
    below.is_some_and(|(version, rest)| {
        (version.is_empty() || version.starts_with('-')) && rest.split('/').next() == Some("compat")
    })
}

#[cfg(test)]
mod tests;
