use serde_json::{Value, json};

use super::parse::parse;
use super::*;

/// A document with one device, changed by `edit`.
fn document(edit: impl FnOnce(&mut Value)) -> Value {
    let mut document = json!({
        "cdiVersion": "1.1.0", "kind": "vendor.com/device",
        "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}],
    });
    edit(&mut document);
    document
}

/// The same, with these edits of the file.
fn with(edits: Value) -> Value {
    document(|document| document["containerEdits"] = edits)
}

fn fault(document: &Value) -> String {
    parse(document.to_string().as_bytes(), false).map_or_else(|fault| fault.to_string(), |_| "fine".into())
}

fn yaml(text: &str) -> String {
    parse(text.as_bytes(), true).map_or_else(|fault| fault.to_string(), |_| "fine".into())
}

const HEAD: &str = "cdiVersion: 0.5.0\nkind: vendor.com/device\n";

#[test]
fn a_version_must_have_what_the_file_uses() {
    let node = |node: Value| json!({"deviceNodes": [node]});
    for (version, edits, expected) in [
        ("0.3.0", json!({"env": ["A=1"]}), "fine"),
        ("v0.3.0", json!({"env": ["A=1"]}), "fine"),
        ("0.2.0", json!({}), "its cdiVersion is 0.2.0, and the first release came with 0.3.0"),
        ("0.9.0", json!({}), "its cdiVersion \"0.9.0\" is not known"),
        ("1.2.0", json!({}), "its cdiVersion \"1.2.0\" is not known"),
        ("", json!({}), "its cdiVersion \"\" is not known"),
        ("0.3.0", json!({"mounts": [{"hostPath": "/a", "containerPath": "/a"}]}), "fine"),
        (
            "0.3.0",
            json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}),
            "its cdiVersion is 0.3.0, and the type of a mount came with 0.4.0",
        ),
        ("0.4.0", json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}), "fine"),
        (
            "0.4.0",
            node(json!({"path": "/dev/a", "hostPath": "/dev/b"})),
            "its cdiVersion is 0.4.0, and hostPath of a device node came with 0.5.0",
        ),
        ("0.4.0", node(json!({"path": "/dev/a", "hostPath": ""})), "fine"),
        ("0.5.0", node(json!({"path": "/dev/a", "hostPath": "/dev/b"})), "fine"),
        ("0.6.0", json!({"intelRdt": {}}), "its cdiVersion is 0.6.0, and intelRdt came with 0.7.0"),
        ("0.6.0", json!({"additionalGids": [1]}), "its cdiVersion is 0.6.0, and additionalGids came with 0.7.0"),
        ("0.7.0", json!({"intelRdt": {"closID": "x"}, "additionalGids": [1]}), "fine"),
        (
            "1.0.0",
            json!({"intelRdt": {"enableMonitoring": true}}),
            "its cdiVersion is 1.0.0, and intelRdt's schemata and enableMonitoring came with 1.1.0",
        ),
        (
            "1.0.0",
            json!({"netDevices": [{"hostInterfaceName": "eth0", "name": "e"}]}),
            "its cdiVersion is 1.0.0, and netDevices came with 1.1.0",
        ),
        ("1.1.0", json!({"netDevices": [{"hostInterfaceName": "eth0", "name": "e"}]}), "fine"),
    ] {
        let mut document = with(edits.clone());
        document["cdiVersion"] = json!(version);
        assert_eq!(fault(&document), expected, "{version} {edits}");
        // A device's edits count as the file's do.
        if edits != json!({}) {
            let mut document = self::document(|document| document["devices"][0]["containerEdits"] = edits.clone());
            document["cdiVersion"] = json!(version);
            assert_eq!(fault(&document), expected, "{version} {edits}");
        }
    }
    let old = |edit: fn(&mut Value), version: &str| {
        let mut document = document(edit);
        document["cdiVersion"] = json!(version);
        fault(&document)
    };
    let digit = |document: &mut Value| document["devices"][0]["name"] = json!("0");
    assert!(old(digit, "0.4.0").contains("a digit first came with 0.5.0") && old(digit, "0.5.0") == "fine");
    let dot = |document: &mut Value| document["kind"] = json!("vendor.com/a.b");
    assert!(old(dot, "0.5.0").contains("a dot in the class came with 0.6.0") && old(dot, "0.6.0") == "fine");
    let annotated = |document: &mut Value| document["devices"][0]["annotations"] = json!({"a": "b"});
    assert!(old(annotated, "0.5.0").contains("annotations came with 0.6.0") && old(annotated, "0.6.0") == "fine");
}

/// Files that are broken, or made to harm: each is refused with a sentence, and none is believed in part.
#[test]
fn hostile_json() {
    let mount = |mount: Value| with(json!({"mounts": [mount]}));
    let node = |node: Value| with(json!({"deviceNodes": [node]}));
    let hook = |hook: Value| with(json!({"hooks": [hook]}));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, expected) in [
        (String::new(), "EOF while parsing a value"),
        ("{}".into(), "missing field `cdiVersion`"),
        ("null".into(), "invalid type: null"),
        ("[]".into(), "invalid length 0"),
        ("{\"cdiVersion\": \"0.5.0\"".into(), "EOF while parsing an object"),
        (deep.clone(), "invalid type: sequence"),
        (format!("{{\"cdiVersion\":\"0.5.0\",\"kind\":\"a/b\",\"devices\":{deep}}}"), "invalid type: sequence"),
        (document(|d| d["devices"] = json!([])).to_string(), "it has no devices"),
        (document(|d| d["devices"] = json!(null)).to_string(), "invalid type: null"),
        (document(|d| d["more"] = json!(1)).to_string(), "unknown field `more`"),
        (document(|d| d["devices"][0]["more"] = json!(1)).to_string(), "unknown field `more`"),
        (with(json!({"devicenodes": []})).to_string(), "unknown field `devicenodes`"),
        (with(json!({"\u{1b}[2J\nx": 1})).to_string(), "unknown field `?[2J"),
        (with(json!([])).to_string() + "x", "trailing characters"),
        (with(json!({"env": [1]})).to_string(), "invalid type: integer `1`, expected a string"),
        (document(|d| d["kind"] = json!("vendor.com")).to_string(), "its kind \"vendor.com\" is not VENDOR/CLASS"),
        (document(|d| d["kind"] = json!("../../etc/x")).to_string(), "is not VENDOR/CLASS"),
        (document(|d| d["kind"] = json!("a/b=c")).to_string(), "is not VENDOR/CLASS"),
        (document(|d| d["devices"][0]["name"] = json!("")).to_string(), "the device's name \"\""),
        (document(|d| d["devices"][0]["name"] = json!("a/b")).to_string(), "the device's name \"a/b\""),
        (document(|d| d["devices"][0]["name"] = json!("\u{1b}[2J")).to_string(), "\"\\u{1b}[2J\""),
        (document(|d| d["devices"][0]["containerEdits"] = json!({})).to_string(), "its device \"a\" has no edits"),
        (
            document(|d| d["devices"] = json!([d["devices"][0].clone(), d["devices"][0].clone()])).to_string(),
            "it has the device \"a\" twice",
        ),
        (
            "{\"cdiVersion\":\"0.5.0\",\"kind\":\"a/b\",\"kind\":\"c/d\",\"devices\":[]}".into(),
            "duplicate field `kind`",
        ),
        (document(|d| d["annotations"] = json!({"a b": "c"})).to_string(), "the annotation \"a b\""),
        (document(|d| d["annotations"] = json!({"a": "x".repeat(300_000)})).to_string(), "is more than 256 KiB"),
        (document(|d| d["annotations"] = json!({"a": 1})).to_string(), "expected a string"),
        (with(json!({"env": ["A"]})).to_string(), "the variable \"A\" is not KEY=VALUE"),
        (with(json!({"env": ["=1"]})).to_string(), "the variable \"=1\" is not KEY=VALUE"),
        (with(json!({"env": ["A=\0"]})).to_string(), "has a NUL in it"),
        (node(json!({})).to_string(), "missing field `path`"),
        (node(json!({"path": ""})).to_string(), "is not an absolute path"),
        (node(json!({"path": "dev/a"})).to_string(), "is not an absolute path"),
        (node(json!({"path": "/dev/.."})).to_string(), "is the root"),
        (node(json!({"path": "/dev/a\0"})).to_string(), "has a NUL in it"),
        (node(json!({"path": "/dev/a", "hostPath": "b"})).to_string(), "hostPath \"b\" is not an absolute path"),
        (node(json!({"path": "/dev/a", "type": "x"})).to_string(), "is not b, c, u or p"),
        (node(json!({"path": "/dev/a", "permissions": "rwx"})).to_string(), "are not of r, w and m"),
        (node(json!({"path": "/dev/a", "major": -1})).to_string(), "the device number \"-1\""),
        (node(json!({"path": "/dev/a", "major": 1.5})).to_string(), "invalid type: floating point"),
        (node(json!({"path": "/dev/a", "uid": -1})).to_string(), "invalid value: integer `-1`"),
        (node(json!({"path": "/dev/a", "gid": 4_294_967_296_u64})).to_string(), "invalid value"),
        (node(json!({"path": "/dev/a", "fileMode": "0666"})).to_string(), "invalid type: string"),
        (hook(json!({"hookName": "createContainer"})).to_string(), "missing field `path`"),
        (hook(json!({"hookName": "later", "path": "/a"})).to_string(), "the hook \"later\""),
        (hook(json!({"hookName": "prestart", "path": "a"})).to_string(), "the hook's path \"a\""),
        (hook(json!({"hookName": "prestart", "path": "/a", "env": ["A"]})).to_string(), "is not KEY=VALUE"),
        (hook(json!({"hookName": "prestart", "path": "/a", "args": ["\0"]})).to_string(), "has a NUL in it"),
        (hook(json!({"hookName": "prestart", "path": "/a", "timeout": 0})).to_string(), "is not above 0"),
        (mount(json!({"hostPath": "/a"})).to_string(), "missing field `containerPath`"),
        (mount(json!({"hostPath": "", "containerPath": "/a"})).to_string(), "hostPath \"\" is empty"),
        (mount(json!({"hostPath": "a", "containerPath": "/a"})).to_string(), "is not an absolute path"),
        (mount(json!({"hostPath": "/a", "containerPath": "a"})).to_string(), "is not an absolute path"),
        (mount(json!({"hostPath": "/a", "containerPath": "/a/.."})).to_string(), "is the root"),
        (mount(json!({"hostPath": "/a", "containerPath": "/a", "options": "ro"})).to_string(), "expected a sequence"),
        (mount(json!({"hostPath": "/a", "containerPath": "/a", "options": ["r\0"]})).to_string(), "has a NUL"),
        (with(json!({"intelRdt": {"closID": "../x"}})).to_string(), "intelRdt's closID"),
        (with(json!({"intelRdt": {"enableCMT": true}})).to_string(), "unknown field `enableCMT`"),
        (with(json!({"netDevices": [{"hostInterfaceName": "a/b", "name": "c"}]})).to_string(), "the network device"),
        (with(json!({"netDevices": [{"hostInterfaceName": "a", "name": ""}]})).to_string(), "the network device"),
        (
            with(json!({"netDevices": [{"hostInterfaceName": "a", "name": "c"}, {"hostInterfaceName": "b", "name": "c"}]}))
                .to_string(),
            "\"c\" is there twice",
        ),
        (with(json!({"additionalGids": [-1]})).to_string(), "invalid value"),
    ] {
        let said = parse(text.as_bytes(), false).map_or_else(|fault| fault.to_string(), |_| "fine".into());
        let shown: String = text.chars().take(200).collect();
        assert!(said.contains(expected), "{shown}\n{said}");
        assert!(!said.contains(char::is_control) && said.len() < 500, "{said:?}");
    }
    assert_eq!(parse(&[0xff, 0xfe], false).unwrap_err().to_string(), "it is not UTF-8");
    assert_eq!(parse(&vec![b' '; MAX_FILE_SIZE + 1], false).unwrap_err(), CdiFault::TooLarge);
}

#[test]
fn yaml_has_the_same_types_as_json() {
    let device = "devices: [{name: a, containerEdits: {env: ['A=1']}}]\n";
    for (text, expected) in [
        (format!("---\n{HEAD}{device}"), "fine"),
        (
            format!(
                "# a comment\n{HEAD}{device}containerEdits:\n  deviceNodes:\n  - path: /dev/a\n    fileMode: 0666\n"
            ),
            "fine",
        ),
        (format!("{HEAD}devices:\n- name: \"0\"\n  containerEdits:\n    env:\n    - A=1\n"), "fine"),
        (
            format!(
                "{HEAD}devices:\n- &x\n  name: a\n  containerEdits: &y {{env: [A=1]}}\n- name: b\n  containerEdits: *y\n"
            ),
            "fine",
        ),
        (format!("{HEAD}devices:\n- name: 0\n  containerEdits: {{env: [A=1]}}\n"), "invalid type: integer `0`"),
        (format!("{HEAD}devices:\n- name: yes\n  containerEdits: {{env: [A=1]}}\n"), "invalid type: boolean"),
        (format!("{HEAD}{HEAD}{device}"), "uplicate"),
        (format!("{HEAD}{device}more: 1\n"), "unknown field `more`"),
        (format!("{HEAD}{device}---\n{HEAD}{device}"), "ocuments"),
        (format!("{HEAD}{device}containerEdits: !!python/object:os.system {{}}\n"), "tag"),
        (format!("{HEAD}{device}containerEdits: {{env: [*unknown]}}\n"), "nknown"),
        (format!("\t{HEAD}"), "expected"),
        (String::new(), "invalid type: null"),
        ("- a\n".into(), "invalid"),
        ("a: [".into(), ""),
        ("\u{0}".into(), ""),
    ] {
        let said = yaml(&text);
        assert!(said.contains(expected) && (said == "fine") == (expected == "fine"), "{text}\n{said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
    let mode =
        format!("{HEAD}devices:\n- name: a\n  containerEdits: {{deviceNodes: [{{path: /dev/a, fileMode: 0666}}]}}\n");
    let document = parse(mode.as_bytes(), true).unwrap();
    assert_eq!(document.devices[0].container_edits.device_nodes[0].file_mode, Some(0o666));
}

/// Each unfolds to far more than it holds, or nests without end.
#[test]
fn yaml_bombs_do_not_go_off() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    let long = format!("big: &big {}\nall: [{}]\n", "x".repeat(1 << 20), vec!["*big"; 900].join(", "));
    let many = format!("a: &a 1\nb: [{}]\n", vec!["*a"; 2000].join(", "));
    let mut merges = String::from("m0: &m0 {a: 1}\n");
    for level in 1..30 {
        merges += &format!("m{level}: &m{level} {{<<: [*m{0}, *m{0}], k{level}: 1}}\n", level - 1);
    }
    let nested = "[".repeat(50_000);
    let blocks = (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    let recursive = "a: &a [*a]\n".to_owned();
    let anchors = (0..5000).map(|n| format!("k{n}: &k{n} 1\n")).collect::<String>();
    for text in [laughs, long, many, merges, nested, blocks, recursive, anchors] {
        let start = std::time::Instant::now();
        assert_ne!(yaml(&text), "fine");
        assert!(start.elapsed().as_secs() < 20, "{}", &text[..80]);
    }
}

fn file(path: &str, priority: usize, document: &Value) -> CdiFile {
    CdiFile { path: path.into(), priority, content: Ok(document.to_string().into_bytes()) }
}

/// A document of that kind whose devices set `FROM` to `mark`.
fn devices(kind: &str, names: &[&str], mark: &str) -> Value {
    let devices: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "containerEdits": {"env": [format!("{}={mark}", name.to_uppercase())]}}))
        .collect();
    json!({"cdiVersion": "0.5.0", "kind": kind, "devices": devices, "containerEdits": {"env": [format!("FROM={mark}")]}})
}

fn env(registry: &Registry, names: &[&str]) -> String {
    registry.resolve(names.iter().copied()).map_or_else(|error| error.to_string(), |edits| edits.0.env.join(" "))
}

#[test]
fn files_are_ranked_and_bad_ones_left_out() {
    let registry = Registry::load(vec![
        file("/etc/cdi/a.json", 0, &devices("v.com/x", &["a", "b", "c"], "low")),
        file("/etc/cdi/b.json", 0, &devices("v.com/x", &["c", "d"], "other")),
        file("/etc/cdi/c.yml", 0, &devices("v.com/x", &["e"], "yml")),
        file("/etc/cdi/README", 0, &json!(1)),
        file("/etc/cdi/d.JSON", 0, &json!(1)),
        file("/etc/cdi/bad.json", 0, &json!({})),
        CdiFile { path: "/etc/cdi/no.json".into(), priority: 0, content: Err("permission denied".into()) },
        file("/var/run/cdi/a.json", 1, &devices("v.com/x", &["b", "f"], "high")),
        file("/var/run/cdi/b.yaml", 1, &devices("w.com/y", &["a", "f"], "high")),
        file("/var/run/cdi/c.json", 1, &devices("v.com/x", &["f"], "again")),
    ]);
    assert_eq!(
        registry.left_out().iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "the CDI file /etc/cdi/c.yml is left out: only .json and .yaml are read; rename it",
            "the CDI file /etc/cdi/bad.json is left out: missing field `cdiVersion` at line 1 column 2",
            "the CDI file /etc/cdi/no.json is left out: it can't be read: permission denied",
            "the CDI device v.com/x=c is left out: /etc/cdi/a.json and /etc/cdi/b.json describe it",
            "the CDI device v.com/x=f is left out: /var/run/cdi/a.json and /var/run/cdi/c.json describe it",
        ]
    );
    let files: Vec<_> = registry.files().map(|(path, kind, count)| format!("{path} {kind} {count}")).collect();
    assert_eq!(
        files,
        [
            "/etc/cdi/a.json v.com/x 1",
            "/etc/cdi/b.json v.com/x 1",
            "/var/run/cdi/a.json v.com/x 1",
            "/var/run/cdi/b.yaml w.com/y 2",
            "/var/run/cdi/c.json v.com/x 0",
        ]
    );
    let names: Vec<_> = registry.names().collect();
    assert_eq!(names, ["v.com/x=a", "v.com/x=b", "v.com/x=d", "w.com/y=a", "w.com/y=f"]);
    assert_eq!(Vec::from_iter(registry.kinds()), ["v.com/x", "w.com/y"]);
    for (names, expected) in [
        (&[][..], ""),
        (&["v.com/x=a"], "FROM=low A=low"),
        (&["v.com/x=b"], "FROM=high B=high"),
        // the file's edits once, devices in the order of the request, each once
        (&["w.com/y=f", "w.com/y=a", "w.com/y=f"], "FROM=high F=high A=high"),
        (&["v.com/x=a", "w.com/y=a"], "FROM=low A=low FROM=high A=high"),
        (&["v.com/x=c", "v.com/x=a", "v.com/x=z"], "unresolvable CDI devices v.com/x=c, v.com/x=z"),
        (&["x"], "\"x\" is not the name of a CDI device"),
    ] {
        assert_eq!(env(&registry, names), expected, "{names:?}");
    }
}

/// A conflict below does not take a device away that a directory above describes.
#[test]
fn a_higher_priority_ends_a_conflict() {
    let registry = Registry::load(vec![
        file("0a.json", 0, &devices("v.com/x", &["a"], "0a")),
        file("0b.json", 0, &devices("v.com/x", &["a"], "0b")),
        file("1.json", 1, &devices("v.com/x", &["a"], "1")),
    ]);
    assert_eq!(env(&registry, &["v.com/x=a"]), "FROM=1 A=1");
    assert_eq!(registry.left_out(), []);
}

#[test]
fn who_asks_for_what_is_not_there_is_told_what_is() {
    let registry = Registry::load(vec![
        file("/etc/cdi/a.json", 0, &devices("nvidia.com/gpu", &["0", "1", "all"], "x")),
        file("/etc/cdi/b.yml", 0, &json!(1)),
    ]);
    let hint = |name: &str| registry.resolve([name]).unwrap_err().hint().unwrap();
    let rest = "CDI files describe devices of nvidia.com/gpu; the CDI file /etc/cdi/b.yml is left out: only .json and .yaml \
                are read; rename it";
    assert_eq!(hint("nvidia.com/gpu=2"), format!("did you mean nvidia.com/gpu=1?; {rest}"));
    assert_eq!(hint("nvida.com/gpu=all"), format!("did you mean nvidia.com/gpu=all?; {rest}"));
    assert_eq!(hint("z.org/q=0"), rest);
    let none = Registry::default().resolve(["nvidia.com/gpu=0"]).unwrap_err();
    assert!(none.hint().unwrap().contains("nvidia-ctk cdi generate"));
    assert!(registry.resolve(["/dev/nvidia0"]).unwrap_err().hint().unwrap().contains("VENDOR/CLASS=NAME"));
}

/// A real file with bytes changed, cut out or doubled: none makes the reader panic, and what it takes it can resolve.
#[test]
fn any_bytes_are_taken_or_left() {
    let text = include_bytes!("../../../tests/cdi/nvidia.yaml");
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut taken = 0;
    for _ in 0..400 {
        let mut bytes = text.to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len() - 40);
            match random(3) {
                0 => bytes[at] = b":-&*!|>'\"[]{}#%@`\0\n\t 0a\xff"[random(24)],
                1 => drop(bytes.drain(at..at + random(40))),
                _ => bytes.extend_from_within(at..at + random(40)),
            }
        }
        let registry = Registry::load(vec![CdiFile { path: "x.yaml".into(), priority: 0, content: Ok(bytes) }]);
        let names: Vec<_> = registry.names().collect();
        assert_eq!(names.is_empty(), registry.left_out().len() == 1);
        taken += usize::from(!names.is_empty());
        assert!(registry.resolve(names).is_ok());
    }
    assert!((1..400).contains(&taken), "{taken}");
}
