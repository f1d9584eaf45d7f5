//! Filters of system calls: `linux.seccomp` of a runtime spec (config-linux.md) as a program for the kernel (seccomp(2)).
//!
//! The numbers of an architecture are divided into intervals, each with one outcome, and the program finds the interval
//! by binary search: after about nine comparisons it returns or compares arguments.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use super::compare::{self, Condition};
use super::numbers::{Architecture, X32, on_x32};

/// The maximum number of instructions of the kernel (`BPF_MAXINSNS`).
const MOST: usize = 4096;

/// The kernel's action for a system call (`linux/seccomp.h`).
const ALLOW: u32 = 0x7FFF_0000;
const LOG: u32 = 0x7FFC_0000;
const TRACE: u32 = 0x7FF0_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Instructions (`linux/bpf_common.h`).
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;
pub(super) const JUMP: u16 = 0x05;
pub(super) const IF_EQUAL: u16 = 0x15;
pub(super) const IF_GREATER: u16 = 0x25;
pub(super) const IF_NOT_LESS: u16 = 0x35;

/// The offsets of the number and the architecture in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// One instruction: `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// The numbers of instructions to skip if the comparison is true, and if it is false.
    pub(crate) then: u8,
    pub(crate) otherwise: u8,
    pub(crate) value: u32,
}

impl Instruction {
    pub(super) const fn new(code: u16, value: u32) -> Self {
        Self { code, then: 0, otherwise: 0, value }
    }

    pub(super) const fn branch(code: u16, value: u32, then: u8, otherwise: u8) -> Self {
        Self { code, then, otherwise, value }
    }

    /// The instruction as one number, for another process.
    pub(super) fn packed(self) -> u64 {
        u64::from(self.code) << 48
            | u64::from(self.then) << 40
            | u64::from(self.otherwise) << 32
            | u64::from(self.value)
    }

    /// The opposite of [`Instruction::packed`].
    pub(super) fn unpacked(packed: u64) -> Self {
        let [a, b, then, otherwise, c, d, e, f] = packed.to_be_bytes();
        Self { code: u16::from_be_bytes([a, b]), then, otherwise, value: u32::from_be_bytes([c, d, e, f]) }
    }
}

/// A filter: its program, and the flags of seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) program: Vec<Instruction>,
    pub(super) flags: u32,
}

/// An error of creating a filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Not of the runtime spec's form.
    #[error("`linux.seccomp` does not follow the runtime spec")]
    Form(#[from] serde_json::Error),
    /// An unknown or unsupported word.
    #[error("`{0}` is not supported in a seccomp filter here")]
    Word(String),
    /// An argument beyond the sixth.
    #[error("a rule refers to argument {0}, and system calls have six (0 to 5)")]
    Argument(u32),
    /// An architecture with unknown system calls.
    #[error("seccomp filters are not supported on this architecture")]
    Architecture,
    /// More instructions than the kernel accepts.
    #[error("the filter has {0} instructions, and the kernel accepts {MOST}")]
    Long(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<compare::Argument>,
}

/// The rules for one system call: the first one with only true conditions applies, or else the unconditional one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SyscallRules {
    rules: Vec<(Vec<Condition>, u32)>,
    else_: u32,
}

impl SyscallRules {
    fn always(action: u32) -> Self {
        Self { rules: Vec::new(), else_: action }
    }

    /// Adds a rule. Rules after an unconditional one are ignored.
    fn add(&mut self, conditions: &[Condition], action: u32, settled: &mut bool) {
        match conditions {
            _ if *settled => {}
            [] => (self.else_, *settled) = (action, true),
            _ => self.rules.push((conditions.to_vec(), action)),
        }
    }

    fn program(&self) -> Vec<Instruction> {
        let mut program = Vec::new();
        for (conditions, action) in &self.rules {
            program.extend(compare::all(conditions, *action));
        }
        program.push(Instruction::new(RETURN, self.else_));
        program
    }
}

/// Builds the filter for this machine.
pub(super) fn compile(seccomp: &Value) -> Result<Filter, FilterError> {
    compile_for(Architecture::native().ok_or(FilterError::Architecture)?, seccomp)
}

fn compile_for(native: Architecture, seccomp: &Value) -> Result<Filter, FilterError> {
    let profile = Profile::deserialize(seccomp)?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let rules = rules(&profile)?;
    let has = |name: &str| profile.architectures.iter().any(|architecture| architecture == name);
    let x32 = has("SCMP_ARCH_X32");
    let other = native.other().filter(|(name, _)| has(name)).map(|(_, architecture)| architecture);
    let mut program = vec![Instruction::new(LOAD, ARCHITECTURE)];
    for architecture in [Some(native), other].into_iter().flatten() {
        let section = section(&intervals(&outcomes(architecture, x32, default, &rules), architecture, x32, default));
        program.push(Instruction::branch(IF_EQUAL, architecture as u32, 1, 0));
        program.push(jump(section.len()));
        program.extend(section);
    }
    // Programs of unsupported architectures could call anything.
    program.push(Instruction::new(RETURN, KILL_PROCESS));
    if program.len() > MOST {
        return Err(FilterError::Long(program.len()));
    }
    Ok(Filter { program, flags: flags(&profile.flags)? })
}

/// Names, conditions and action of each rule, in order.
type Rules<'a> = Vec<(&'a [String], Vec<Vec<Condition>>, u32)>;

fn rules(profile: &Profile) -> Result<Rules<'_>, FilterError> {
    let rules = profile.syscalls.iter().map(|syscalls| {
        let conditions = compare::alternatives(&syscalls.args)?;
        Ok((syscalls.names.as_slice(), conditions, action(&syscalls.action, syscalls.errno_ret)?))
    });
    rules.collect()
}

/// The outcome of each number that has a rule. Names that the architecture does not have are skipped.
fn outcomes(architecture: Architecture, x32: bool, default: u32, rules: &Rules<'_>) -> BTreeMap<u32, SyscallRules> {
    let mut outcomes: BTreeMap<u32, (SyscallRules, bool)> = BTreeMap::new();
    for (names, alternatives, action) in rules {
        for name in *names {
            let also = (x32 && architecture == Architecture::X86_64).then(|| on_x32(name)).into_iter().flatten();
            for number in architecture.number(name).into_iter().chain(also) {
                let (outcome, settled) = outcomes.entry(number).or_insert((SyscallRules::always(default), false));
                alternatives.iter().for_each(|conditions| outcome.add(conditions, *action, settled));
            }
        }
    }
    outcomes.into_iter().map(|(number, (outcome, _))| (number, outcome)).collect()
}

/// The intervals of all numbers: the first number of each, and its outcome.
fn intervals(
    outcomes: &BTreeMap<u32, SyscallRules>,
    architecture: Architecture,
    x32: bool,
    default: u32,
) -> Vec<(u32, SyscallRules)> {
    // System calls that are newer than the profile return an error as on an older kernel, which programs handle.
    let younger = if default & !0xFFFF == ERRNO { ERRNO | ENOSYS } else { default };
    let mut line = BTreeMap::new();
    let mut lay = |numbers: Range<u32>| {
        let mut next = numbers.start;
        line.insert(next, SyscallRules::always(younger));
        for (number, outcome) in outcomes.range(numbers) {
            if *number > next {
                line.insert(next, SyscallRules::always(default));
            }
            next = number + 1;
            line.insert(*number, outcome.clone());
            line.insert(next, SyscallRules::always(younger));
        }
    };
    match architecture {
        Architecture::X86_64 => lay(0..X32),
        _ => lay(0..u32::MAX),
    }
    match architecture {
        Architecture::X86_64 if x32 => lay(X32..u32::MAX),
        // These could bypass the rules.
        Architecture::X86_64 => _ = line.insert(X32, SyscallRules::always(KILL_PROCESS)),
        _ => {}
    }
    let mut intervals: Vec<(u32, SyscallRules)> = line.into_iter().collect();
    intervals.dedup_by(|later, earlier| later.1 == earlier.1);
    intervals
}

/// The program for an architecture. Always returns.
fn section(intervals: &[(u32, SyscallRules)]) -> Vec<Instruction> {
    let mut section = vec![Instruction::new(LOAD, NUMBER)];
    section.extend(search(intervals));
    section
}

fn search(intervals: &[(u32, SyscallRules)]) -> Vec<Instruction> {
    match intervals {
        [] => Vec::new(),
        [(_, outcome)] => outcome.program(),
        _ => {
            let (lower, upper) = intervals.split_at(intervals.len() / 2);
            let first = upper.first().map_or(0, |(number, _)| *number);
            let lower = search(lower);
            let mut program = match u8::try_from(lower.len()) {
                Ok(distance) => vec![Instruction::branch(IF_NOT_LESS, first, distance, 0)],
                Err(_) => vec![Instruction::branch(IF_NOT_LESS, first, 0, 1), jump(lower.len())],
            };
            program.extend(lower);
            program.extend(search(upper));
            program
        }
    }
}

fn jump(distance: usize) -> Instruction {
    // The compiler refuses longer programs.
    Instruction::new(JUMP, u32::try_from(distance).unwrap_or(u32::MAX))
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, FilterError> {
    let number = errno.unwrap_or(EPERM) & 0xFFFF;
    match name {
        "SCMP_ACT_ALLOW" => Ok(ALLOW),
        "SCMP_ACT_ERRNO" => Ok(ERRNO | number),
        "SCMP_ACT_TRACE" => Ok(TRACE | number),
        "SCMP_ACT_LOG" => Ok(LOG),
        "SCMP_ACT_TRAP" => Ok(TRAP),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(KILL_THREAD),
        "SCMP_ACT_KILL_PROCESS" => Ok(KILL_PROCESS),
        other => Err(FilterError::Word(other.to_owned())),
    }
}

/// The flags that apply to a filter without a listener.
fn flags(names: &[String]) -> Result<u32, FilterError> {
    let flag = |name: &String| match name.as_str() {
        "SECCOMP_FILTER_FLAG_LOG" => Ok(2),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(4),
        // There is one thread and no listener.
        "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(0),
        other => Err(FilterError::Word(other.to_owned())),
    };
    names.iter().map(flag).try_fold(0, |all, flag| Ok(all | flag?))
}

#[cfg(test)]
mod tests;
