//! Profiles resolved, and the own one beside the host's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::profile::{Conditions, SeccompProfile};
use super::{own, resolve};

/// Debian: golang-github-containers-common
const HOST: &str = "/usr/share/containers/seccomp.json";

fn conditions(architecture: &str, capabilities: &[&str], kernel: Option<(u32, u32)>) -> Conditions {
    let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
    Conditions { architecture: architecture.to_owned(), capabilities, kernel }
}

/// What happens to each system call that a filter names: its rules in order.
fn effects(filter: &Value) -> BTreeMap<String, Vec<String>> {
    let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in filter["syscalls"].as_array().unwrap() {
        let effect = format!("{} {} {}", rule["action"].as_str().unwrap(), rule["errnoRet"], rule["args"]);
        for name in rule["names"].as_array().unwrap() {
            effects.entry(name.as_str().unwrap().to_owned()).or_default().push(effect.clone());
        }
    }
    for rules in effects.values_mut() {
        rules.sort_unstable();
        rules.dedup();
    }
    effects
}

const DEFAULT: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_SYS_CHROOT", "CAP_MKNOD"];

#[test]
fn the_own_profile_has_the_hosts_effect() {
    let host = SeccompProfile::parse(&std::fs::read_to_string(HOST).expect("golang-github-containers-common")).unwrap();
    let own = own::profile();
    let all: Vec<String> = crate::runtime::capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut sets = vec![Vec::new(), DEFAULT.to_vec(), all.clone()];
    sets.extend(all.iter().map(|name| [&DEFAULT[..], &[name]].concat()));
    // Everything that differs, whatever the container may do.
    let mut differences = BTreeSet::new();
    for architecture in ["amd64", "arm64", "386", "arm", "ppc64le", "s390x", "riscv64", "loong64", "mips64le"] {
        // What a capability changes is the same everywhere.
        for set in sets.iter().take(if architecture == "amd64" { sets.len() } else { 3 }) {
            let conditions = conditions(architecture, set, Some((6, 1)));
            let [own, host] = [resolve(&own, &conditions), resolve(&host, &conditions)];
            for key in ["defaultAction", "defaultErrnoRet", "architectures"] {
                assert_eq!(own[key], host[key], "{key} on {architecture}");
            }
            let (own, host) = (effects(&own), effects(&host));
            for name in own.keys().chain(host.keys()) {
                if own.get(name) != host.get(name) {
                    differences.insert(format!("{name}: {:?} instead of {:?}", own.get(name), host.get(name)));
                }
            }
        }
    }
    let younger = "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat \
                   map_shadow_stack mseal removexattrat set_mempolicy_home_node setxattrat statmount";
    let expected: Vec<String> = younger
        .split(' ')
        .map(|name| format!(r#"{name}: Some(["SCMP_ACT_ALLOW null null"]) instead of None"#))
        .collect();
    assert_eq!(Vec::from_iter(differences), expected);
}

#[test]
fn rules_hold_by_architecture_capability_and_kernel() {
    let profile = |rule: Value| {
        let mut rule = rule;
        rule["names"] = json!(["x"]);
        rule["action"] = json!("SCMP_ACT_ALLOW");
        SeccompProfile::parse(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}).to_string()).unwrap()
    };
    let here = conditions("amd64", &["CAP_A", "CAP_B"], Some((5, 10)));
    for (rule, holds) in [
        (json!({}), true),
        (json!({"includes": {}, "excludes": null, "args": null}), true),
        (json!({"includes": {"arches": ["arm64", "amd64"]}}), true),
        (json!({"includes": {"arches": ["arm64"]}}), false),
        (json!({"excludes": {"arches": ["amd64"]}}), false),
        (json!({"includes": {"caps": ["CAP_A", "CAP_B"]}}), true),
        (json!({"includes": {"caps": ["CAP_A", "CAP_C"]}}), false),
        (json!({"excludes": {"caps": ["CAP_C", "CAP_A"]}}), false),
        (json!({"excludes": {"caps": ["CAP_C"]}}), true),
        (json!({"includes": {"minKernel": "4.8"}}), true),
        (json!({"includes": {"minKernel": "5.10"}}), true),
        (json!({"includes": {"minKernel": "5.11"}}), false),
        (json!({"includes": {"minKernel": "6.0"}}), false),
        (json!({"excludes": {"minKernel": "5.9"}}), false),
        (json!({"includes": {"caps": ["CAP_A"]}, "excludes": {"arches": ["x86", "arm"]}}), true),
    ] {
        let filter = resolve(&profile(rule.clone()), &here);
        assert_eq!(!filter["syscalls"].as_array().unwrap().is_empty(), holds, "{rule}");
    }
    let rule = json!({"includes": {"minKernel": "4.8"}});
    let unknown = conditions("amd64", &[], None);
    assert_eq!(resolve(&profile(rule), &unknown)["syscalls"], json!([]));
    let x86 = json!({"includes": {"arches": ["x86"]}});
    assert_ne!(resolve(&profile(x86), &conditions("386", &[], None))["syscalls"], json!([]));
}

#[test]
fn the_first_rule_without_arguments_settles_a_name() {
    let text = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["a", "b"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["b", "c"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
            {"name": "a", "action": "SCMP_ACT_KILL"},
        ],
    });
    let profile = SeccompProfile::parse(&text.to_string()).unwrap();
    assert_eq!(
        resolve(&profile, &conditions("amd64", &[], None)),
        json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                {"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]},
                {"names": ["a", "b"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["c"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
            ],
        })
    );
    // An architecture that the profile does not map, and one that nobody knows.
    assert_eq!(profile.architectures("s390x"), ["SCMP_ARCH_S390X"]);
    assert_eq!(profile.architectures("pdp11"), [] as [&str; 0]);
}

#[test]
fn what_is_no_profile_says_why() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}).to_string();
    let argument = |argument: Value| rule(json!({"names": ["x"], "action": "SCMP_ACT_ALLOW", "args": [argument]}));
    for (text, said) in [
        (String::new(), "EOF"),
        ("[]".into(), "invalid length"),
        ("{}".into(), "missing field `defaultAction`"),
        (json!({"defaultAction": "ALLOW"}).to_string(), "`ALLOW` is not supported"),
        (json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}}).to_string(), "expected a sequence"),
        (rule(json!({"names": ["x"]})), "missing field `action`"),
        (rule(json!({"names": ["x"], "action": "SCMP_ACT_ALOW"})), "`SCMP_ACT_ALOW` is not supported"),
        (rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"})), "names no system call"),
        (rule(json!({"names": [""], "action": "SCMP_ACT_ALLOW"})), "names no system call"),
        (rule(json!({"names": ["x"], "action": "SCMP_ACT_ALLOW", "errnoRet": -1})), "invalid value"),
        (rule(json!({"names": ["x"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}})), "`new` is not"),
        (argument(json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"})), "argument 6"),
        (argument(json!({"index": 0, "value": 0, "op": "=="})), "`==` is not supported"),
        (argument(json!({"index": 0, "op": "SCMP_CMP_EQ"})), "missing field `value`"),
    ] {
        let error = SeccompProfile::parse(&text).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {source}").contains(said), "{text}: {error}: {source}");
    }
}

#[test]
fn keys_are_refused_whatever_the_profile_says() {
    use super::super::{ContainerRequest, Host, Seccomp, runtime_spec};
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": {"Cmd": ["sh"]}});
    let config = crate::Document::<crate::Config>::from_json(config).unwrap();
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_LOG"}]}"#;
    let own = Seccomp::Profile { name: "f".into(), text: text.into() };
    for seccomp in [Seccomp::Default, own, Seccomp::Unconfined] {
        let request = ContainerRequest { seccomp: seccomp.clone(), ..ContainerRequest::default() };
        let mut spec = runtime_spec(&config, &BTreeMap::new(), &request, &Host::default()).unwrap();
        spec.refuse_keys();
        let first = spec.json.pointer("/linux/seccomp/syscalls/0").cloned();
        let refused = json!({"names": ["add_key", "keyctl", "request_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1});
        assert_eq!(first, (seccomp != Seccomp::Unconfined).then_some(refused), "{seccomp:?}");
    }
}
