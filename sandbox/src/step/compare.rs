//! Conditions on the arguments of system calls, as parts of a filter.
//!
//! Arguments have 64 bits, and instructions 32: each argument is compared in halves, the upper one first.

use serde::Deserialize;

use super::bpf::{AND, FilterError, IF_EQUAL, IF_GREATER, IF_NOT_LESS, Instruction, LOAD, RETURN};

/// The offset of the first argument in `struct seccomp_data`; each has 8 bytes, the lower half first (both x86-64 and
/// AArch64).
const ARGUMENTS: u32 = 16;

/// An entry of `args` (runtime-spec, config-linux.md, "Seccomp").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    index: u32,
    operator: Operator,
    value: u64,
    /// The expected value under the mask `value`.
    masked: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    NotGreater,
    Greater,
    NotLess,
    MaskedEqual,
}

/// The conditions of a rule: it applies if all conditions of one list are true. As in runc, several conditions on one
/// argument are alternatives.
pub(super) fn alternatives(arguments: &[Argument]) -> Result<Vec<Vec<Condition>>, FilterError> {
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = |condition: &Condition| conditions.iter().filter(|other| other.index == condition.index).count() > 1;
    if conditions.iter().any(twice) {
        return Ok(conditions.into_iter().map(|condition| vec![condition]).collect());
    }
    Ok(vec![conditions])
}

fn condition(argument: &Argument) -> Result<Condition, FilterError> {
    let operator = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Operator::Equal,
        "SCMP_CMP_NE" => Operator::NotEqual,
        "SCMP_CMP_LT" => Operator::Less,
        "SCMP_CMP_LE" => Operator::NotGreater,
        "SCMP_CMP_GT" => Operator::Greater,
        "SCMP_CMP_GE" => Operator::NotLess,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
        other => return Err(FilterError::Word(other.to_owned())),
    };
    if argument.index > 5 {
        return Err(FilterError::Argument(argument.index));
    }
    Ok(Condition { index: argument.index, operator, value: argument.value, masked: argument.value_two })
}

/// The target of a comparison.
#[derive(Clone, Copy)]
enum JumpTarget {
    /// The next instruction.
    Next,
    /// The end of the condition, which is true.
    Holds,
    /// The end of the rule, which does not apply.
    Fails,
}

/// A step of a condition.
enum ConditionInstruction {
    Plain(Instruction),
    Branch(u16, u32, JumpTarget, JumpTarget),
}

/// Returns `action` if all conditions are true; otherwise execution continues after these instructions.
pub(super) fn all(conditions: &[Condition], action: u32) -> Vec<Instruction> {
    let conditions: Vec<Vec<ConditionInstruction>> = conditions.iter().map(|condition| condition.parts()).collect();
    // Including the final instruction, which returns.
    let whole: usize = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program: Vec<Instruction> = Vec::with_capacity(whole);
    for parts in &conditions {
        let end = program.len() + parts.len();
        for part in parts {
            let here = program.len() + 1;
            // Six conditions of six instructions stay far below 255.
            let distance = |to: JumpTarget| match to {
                JumpTarget::Next => 0,
                JumpTarget::Holds => u8::try_from(end - here).unwrap_or(u8::MAX),
                JumpTarget::Fails => u8::try_from(whole - here).unwrap_or(u8::MAX),
            };
            program.push(match part {
                ConditionInstruction::Plain(instruction) => *instruction,
                ConditionInstruction::Branch(code, value, then, otherwise) => {
                    Instruction::branch(*code, *value, distance(*then), distance(*otherwise))
                }
            });
        }
    }
    program.push(Instruction::new(RETURN, action));
    program
}

impl Condition {
    fn parts(&self) -> Vec<ConditionInstruction> {
        use JumpTarget::{Fails, Holds, Next};
        let at = ARGUMENTS + 8 * self.index;
        let (high, low) = (
            ConditionInstruction::Plain(Instruction::new(LOAD, at + 4)),
            ConditionInstruction::Plain(Instruction::new(LOAD, at)),
        );
        let (upper, lower) = halves(self.value);
        let greater = |value, then, otherwise| ConditionInstruction::Branch(IF_GREATER, value, then, otherwise);
        let not_less = |value, then, otherwise| ConditionInstruction::Branch(IF_NOT_LESS, value, then, otherwise);
        let equal = |value, then, otherwise| ConditionInstruction::Branch(IF_EQUAL, value, then, otherwise);
        match self.operator {
            Operator::Equal => vec![high, equal(upper, Next, Fails), low, equal(lower, Next, Fails)],
            Operator::NotEqual => vec![high, equal(upper, Next, Holds), low, equal(lower, Fails, Next)],
            Operator::Greater => {
                vec![high, greater(upper, Holds, Next), equal(upper, Next, Fails), low, greater(lower, Next, Fails)]
            }
            Operator::NotLess => {
                vec![high, greater(upper, Holds, Next), equal(upper, Next, Fails), low, not_less(lower, Next, Fails)]
            }
            Operator::Less => {
                vec![high, greater(upper, Fails, Next), equal(upper, Next, Holds), low, not_less(lower, Fails, Next)]
            }
            Operator::NotGreater => {
                vec![high, greater(upper, Fails, Next), equal(upper, Next, Holds), low, greater(lower, Fails, Next)]
            }
            Operator::MaskedEqual => {
                let mask = |half| ConditionInstruction::Plain(Instruction::new(AND, half));
                let wanted = halves(self.masked);
                vec![high, mask(upper), equal(wanted.0, Next, Fails), low, mask(lower), equal(wanted.1, Next, Fails)]
            }
        }
    }
}

/// The upper and the lower 32 bits.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
