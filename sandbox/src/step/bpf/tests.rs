use ociforge_manifests::runtime::{ContainerRequest, Host, runtime_spec};
use ociforge_manifests::{Config, Document};
use serde_json::json;

use super::*;

/// What a filter says to a system call, by the kernel's rules for such programs.
fn ask(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number.to_le_bytes(), architecture.to_le_bytes(), [0; 4], [0; 4]].concat();
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut accumulator, mut at) = (0, 0);
    for _ in 0..filter.program.len() {
        let Instruction { code, then, otherwise, value } = filter.program[at];
        at += 1;
        let holds = match code {
            LOAD => {
                let place = value as usize;
                accumulator = u32::from_le_bytes(data[place..place + 4].try_into().unwrap());
                continue;
            }
            AND => {
                accumulator &= value;
                continue;
            }
            JUMP => {
                at += value as usize;
                continue;
            }
            RETURN => return value,
            IF_EQUAL => accumulator == value,
            IF_GREATER => accumulator > value,
            IF_NOT_LESS => accumulator >= value,
            _ => panic!("no instruction {code}"),
        };
        at += usize::from(if holds { then } else { otherwise });
    }
    panic!("the program has no end");
}

fn ask_x86_64(filter: &Filter, name: &str, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    ask(filter, Architecture::X86_64 as u32, Architecture::X86_64.number(name).unwrap(), all)
}

fn made(architecture: Architecture, seccomp: Value) -> Filter {
    compile_for(architecture, &seccomp).unwrap()
}

const NONE: [u64; 6] = [0; 6];

#[test]
fn every_number_has_its_outcome() {
    let names = ["read", "write", "open", "mount", "getrandom", "execve"];
    let filter = made(
        Architecture::X86_64,
        json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone3", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["reboot"], "action": "SCMP_ACT_KILL"}]}),
    );
    for (architecture, bits) in [(Architecture::X86_64, 0), (Architecture::X86_64, X32), (Architecture::X86, 0)] {
        for number in 0..1000 {
            let is = |name: &str| match bits {
                0 => architecture.number(name) == Some(number),
                _ => on_x32(name).any(|x32| x32 == number | bits),
            };
            let highest = if bits == X32 { 520 } else { 435 };
            let expected = match number {
                _ if names.iter().any(|name| is(name)) => ALLOW,
                _ if is("reboot") => KILL_THREAD,
                _ if is("clone3") || number > highest => ERRNO | ENOSYS,
                _ => ERRNO | EPERM,
            };
            assert_eq!(ask(&filter, architecture as u32, number | bits, NONE), expected, "{architecture:?} {number}");
        }
    }
    assert_eq!(ask(&filter, Architecture::Arm as u32, 0, NONE), KILL_PROCESS);
}

#[test]
fn what_is_not_listed_is_no_way_around() {
    let filter = made(
        Architecture::X86_64,
        json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}),
    );
    assert_eq!(ask_x86_64(&filter, "mount", &[]), ERRNO | 13);
    assert_eq!(ask_x86_64(&filter, "umount2", &[]), ALLOW);
    assert_eq!(ask(&filter, Architecture::X86_64 as u32, 9999, NONE), ALLOW);
    assert_eq!(ask(&filter, Architecture::X86_64 as u32, X32 | 165, NONE), KILL_PROCESS);
    assert_eq!(ask(&filter, Architecture::X86 as u32, 21, NONE), KILL_PROCESS);
    let arm = made(
        Architecture::Aarch64,
        json!({"defaultAction": "SCMP_ACT_TRAP", "architectures": ["SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_LOG"}]}),
    );
    assert_eq!(ask(&arm, Architecture::Aarch64 as u32, 40, NONE), LOG);
    assert_eq!(ask(&arm, Architecture::Arm as u32, 21, NONE), LOG);
    assert_eq!(ask(&arm, Architecture::Arm as u32, 40, NONE), TRAP);
}

#[test]
fn arguments_are_compared_with_all_their_bits() {
    let big = 7 << 32 | 5;
    let values = [0, 4, 5, 6, 6 << 32 | 9, 7 << 32 | 4, big, 7 << 32 | 6, 8 << 32, u64::MAX];
    type Compare = fn(u64, u64) -> bool;
    let operators: [(&str, Compare); 6] = [
        ("EQ", |a, b| a == b),
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("GT", |a, b| a > b),
        ("GE", |a, b| a >= b),
    ];
    for (operator, compare) in operators {
        for wanted in values {
            let filter = made(
                Architecture::X86_64,
                json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 2, "value": wanted, "op": format!("SCMP_CMP_{operator}")}]}]}),
            );
            for value in values {
                let expected = if compare(value, wanted) { ALLOW } else { ERRNO | EPERM };
                assert_eq!(ask_x86_64(&filter, "personality", &[1, 1, value]), expected, "{value} {operator} {wanted}");
            }
        }
    }
}

#[test]
fn conditions_on_several_arguments_must_all_hold_and_on_one_any() {
    let masked =
        json!({"index": 0, "value": 0x7E02_0000_u64 | 1 << 40, "valueTwo": 1_u64 << 40, "op": "SCMP_CMP_MASKED_EQ"});
    let equal = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let filter = made(
        Architecture::X86_64,
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [masked, equal(5, 9)]},
            {"names": ["clone"], "action": "SCMP_ACT_LOG", "args": [equal(1, 3)]},
            {"names": ["clone"], "action": "SCMP_ACT_TRAP"},
            {"names": ["clone"], "action": "SCMP_ACT_KILL", "args": [equal(1, 4)]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [equal(0, 1), equal(0, 2)]}]}),
    );
    for (arguments, expected) in [
        ([1 << 40 | 17, 0, 0, 0, 0, 9], ALLOW),
        ([1 << 40 | 17, 0, 0, 0, 0, 8], TRAP),
        ([1 << 40 | 0x0200_0000, 0, 0, 0, 0, 9], TRAP),
        ([17, 3, 0, 0, 0, 9], LOG),
        ([17, 4, 0, 0, 0, 9], TRAP),
    ] {
        assert_eq!(ask_x86_64(&filter, "clone", &arguments), expected, "{arguments:?}");
    }
    let socket = [0, 1, 2, 3].map(|family| ask_x86_64(&filter, "socket", &[family]) == ALLOW);
    assert_eq!(socket, [false, true, true, false]);
}

#[test]
fn the_profile_of_this_house_fits() {
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": {"Cmd": ["sh"]}});
    let config = Document::<Config>::from_json(config).unwrap();
    let host = Host { architecture: Some("amd64".into()), kernel: Some((6, 1)), ..Host::default() };
    let spec = runtime_spec(&config, &BTreeMap::new(), &ContainerRequest::default(), &host).unwrap();
    let filter = made(Architecture::X86_64, spec.json["linux"]["seccomp"].clone());
    assert!(filter.program.len() < 2000, "{}", filter.program.len());
    for name in ["read", "execve", "chown", "clone3", "statx", "faccessat2", "keyctl"] {
        assert_eq!(ask_x86_64(&filter, name, &[]), ALLOW, "{name}");
    }
    for name in ["bpf", "kexec_load", "swapon", "init_module", "userfaultfd"] {
        assert_eq!(ask_x86_64(&filter, name, &[]) & !0xFFFF, ERRNO, "{name}");
    }
    // Those of steps, by any of the numbers that they have.
    let mut spec = spec;
    spec.refuse_keys();
    let filter = made(Architecture::X86_64, spec.json["linux"]["seccomp"].clone());
    for name in ["keyctl", "add_key", "request_key"] {
        for (architecture, bits) in [(Architecture::X86_64, 0), (Architecture::X86_64, X32), (Architecture::X86, 0)] {
            let number = architecture.number(name).unwrap() | bits;
            assert_eq!(ask(&filter, architecture as u32, number, NONE), ERRNO | EPERM, "{architecture:?} {name}");
        }
    }
    let packed = filter.program.iter().map(|instruction| Instruction::unpacked(instruction.packed()));
    assert_eq!(packed.collect::<Vec<_>>(), filter.program);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |seccomp: Value| compile_for(Architecture::X86_64, &seccomp).unwrap_err().to_string();
    assert!(refused(json!({})).contains("does not follow the runtime spec"));
    assert!(refused(json!({"defaultAction": "SCMP_ACT_NOTIFY"})).contains("`SCMP_ACT_NOTIFY` is not supported"));
    let argument = |index: u32, op: &str| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP",
            "args": [{"index": index, "value": 0, "op": op}]}]})
    };
    assert!(refused(argument(6, "SCMP_CMP_EQ")).contains("argument 6"));
    assert!(refused(argument(0, "SCMP_CMP_XX")).contains("SCMP_CMP_XX"));
}
