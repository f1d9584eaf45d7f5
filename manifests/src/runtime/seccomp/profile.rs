//! Docker's format of seccomp profiles.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

/// The architectures with different names in Go and in the runtime spec: Go's name, the spec's.
const ARCHITECTURES: [(&str, &str); 13] = [
    ("386", "SCMP_ARCH_X86"),
    ("amd64", "SCMP_ARCH_X86_64"),
    ("arm", "SCMP_ARCH_ARM"),
    ("arm64", "SCMP_ARCH_AARCH64"),
    ("loong64", "SCMP_ARCH_LOONGARCH64"),
    ("mips64", "SCMP_ARCH_MIPS64"),
    ("mips64le", "SCMP_ARCH_MIPSEL64"),
    ("mipsle", "SCMP_ARCH_MIPSEL"),
    ("ppc64le", "SCMP_ARCH_PPC64LE"),
    ("riscv64", "SCMP_ARCH_RISCV64"),
    ("s390", "SCMP_ARCH_S390"),
    ("s390x", "SCMP_ARCH_S390X"),
    ("x32", "SCMP_ARCH_X32"),
];

/// The actions of rules and the default action.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The comparison operators of arguments.
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

/// Text that is not a profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not JSON, or not of the format.
    #[error("not a seccomp profile")]
    Json(#[from] serde_json::Error),
    /// A word that is not in the runtime spec.
    #[error("`{0}` is not supported in a seccomp profile")]
    Word(String),
    /// A rule without system calls, or a system call without a name.
    #[error("a rule of the seccomp profile names no system call")]
    NoName,
    /// An argument index above five.
    #[error("a rule of the seccomp profile refers to argument {0}, and system calls have six (0 to 5)")]
    Argument(u32),
    /// An invalid version.
    #[error("`{0}` is not the version of a kernel")]
    Kernel(String),
}

/// A profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeccompProfile {
    pub(crate) default_action: String,
    #[serde(default, rename = "defaultErrnoRet")]
    pub(crate) default_errno: Option<u32>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) flags: Vec<String>,
    /// Architectures with their sub-architectures; docker's form.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) arch_map: Vec<Family>,
    /// The runtime spec's form.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) architectures: Vec<String>,
    #[serde(default, rename = "syscalls", deserialize_with = "null_as_empty")]
    pub(crate) rules: Vec<Rule>,
}

/// An architecture, and the other architectures whose programs it runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Family {
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) sub_architectures: Vec<String>,
}

/// A rule: an action for system calls, and its conditions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rule {
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) names: Vec<String>,
    /// The older form, with one system call.
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) action: String,
    #[serde(default, rename = "errnoRet")]
    pub(crate) errno: Option<u32>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) args: Vec<SyscallArgument>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) includes: When,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) excludes: When,
}

/// The condition on one argument of a system call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SyscallArgument {
    pub(crate) index: u32,
    pub(crate) value: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) value_two: u64,
    pub(crate) op: String,
}

/// A condition on the container. An empty one is true for `includes` and false for `excludes`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct When {
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) caps: Vec<String>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) arches: Vec<String>,
    /// `MAJOR.MINOR`.
    #[serde(default)]
    pub(crate) min_kernel: Option<String>,
}

/// The properties that conditions depend on.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    /// The architecture in Go's spelling.
    pub(crate) architecture: String,
    /// With `CAP_`.
    pub(crate) capabilities: BTreeSet<String>,
    /// Version and patch level; an unknown one is too old for a rule that requires one.
    pub(crate) kernel: Option<(u32, u32)>,
}

fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl SeccompProfile {
    /// Parses a profile and checks each word, because runtimes do not report faults clearly.
    pub(crate) fn parse(text: &str) -> Result<Self, ProfileError> {
        let mut profile: Self = serde_json::from_str(text)?;
        known(&profile.default_action, &ACTIONS)?;
        for rule in &mut profile.rules {
            rule.names.extend(rule.name.take());
            rule.check()?;
        }
        Ok(profile)
    }

    /// The architectures whose system calls are filtered on `architecture` (Go's name), which is the first.
    pub(crate) fn architectures(&self, architecture: &str) -> Vec<String> {
        let Some((_, native)) = ARCHITECTURES.iter().find(|(go, _)| *go == architecture) else {
            return self.architectures.clone();
        };
        match self.arch_map.iter().find(|family| family.architecture == *native) {
            Some(family) => [&[(*native).to_owned()], family.sub_architectures.as_slice()].concat(),
            None if self.architectures.is_empty() => vec![(*native).to_owned()],
            None => self.architectures.clone(),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), ProfileError> {
        known(&self.action, &ACTIONS)?;
        if self.names.is_empty() || self.names.iter().any(String::is_empty) {
            return Err(ProfileError::NoName);
        }
        for argument in &self.args {
            known(&argument.op, &OPERATORS)?;
            if argument.index > 5 {
                return Err(ProfileError::Argument(argument.index));
            }
        }
        for text in [&self.includes, &self.excludes].into_iter().filter_map(|when| when.min_kernel.as_ref()) {
            kernel(text).ok_or_else(|| ProfileError::Kernel(text.clone()))?;
        }
        Ok(())
    }

    /// Whether the rule applies to the container. One matching architecture is sufficient; all capabilities are
    /// necessary, and one excludes.
    pub(crate) fn holds(&self, conditions: &Conditions) -> bool {
        let has = |name: &String| conditions.capabilities.contains(name);
        let runs_on = |when: &When| when.arches.iter().any(|name| go_name(name) == conditions.architecture);
        let new_enough =
            |text: &String| kernel(text).is_some_and(|least| conditions.kernel.is_some_and(|k| k >= least));
        let (includes, excludes) = (&self.includes, &self.excludes);
        let included = (includes.arches.is_empty() || runs_on(includes))
            && includes.caps.iter().all(has)
            && includes.min_kernel.as_ref().is_none_or(new_enough);
        let excluded =
            runs_on(excludes) || excludes.caps.iter().any(has) || excludes.min_kernel.as_ref().is_some_and(new_enough);
        included && !excluded
    }
}

/// Go's name. Profiles also have `x86` for Go's `386`.
fn go_name(name: &str) -> &str {
    if name == "x86" { "386" } else { name }
}

fn known(word: &str, words: &[&str]) -> Result<(), ProfileError> {
    if words.contains(&word) { Ok(()) } else { Err(ProfileError::Word(word.to_owned())) }
}

/// Parses `MAJOR.MINOR`, and ignores the rest.
fn kernel(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
