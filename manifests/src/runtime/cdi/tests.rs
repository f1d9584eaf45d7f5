use std::collections::BTreeMap;

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
    said(&document.to_string())
}

/// What is said of a file with that text.
fn said(text: &str) -> String {
    parse(text.as_bytes()).map_or_else(|fault| fault.to_string(), |_| "fine".into())
}

const HEAD: &str = "cdiVersion: 0.5.0\nkind: vendor.com/device\n";

#[test]
fn a_version_must_have_what_the_file_uses() {
    let node = |node: Value| json!({"deviceNodes": [node]});
    for (version, edits, expected) in [
        ("0.3.0", json!({"env": ["A=1"]}), "fine"),
        ("v0.3.0", json!({"env": ["A=1"]}), "fine"),
        ("0.2.0", json!({}), "its cdiVersion is 0.2.0, and the first release needs 0.3.0"),
        ("0.9.0", json!({}), "its cdiVersion \"0.9.0\" is not supported"),
        ("1.2.0", json!({}), "its cdiVersion \"1.2.0\" is not supported"),
        ("", json!({}), "its cdiVersion \"\" is not supported"),
        ("0.3.0", json!({"mounts": [{"hostPath": "/a", "containerPath": "/a"}]}), "fine"),
        (
            "0.3.0",
            json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}),
            "its cdiVersion is 0.3.0, and the type of a mount needs 0.4.0",
        ),
        ("0.4.0", json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "type": "bind"}]}), "fine"),
        (
            "0.4.0",
            node(json!({"path": "/dev/a", "hostPath": "/dev/b"})),
            "its cdiVersion is 0.4.0, and hostPath of a device node needs 0.5.0",
        ),
        ("0.4.0", node(json!({"path": "/dev/a", "hostPath": ""})), "fine"),
        ("0.5.0", node(json!({"path": "/dev/a", "hostPath": "/dev/b"})), "fine"),
        ("0.6.0", json!({"intelRdt": {}}), "its cdiVersion is 0.6.0, and intelRdt needs 0.7.0"),
        ("0.6.0", json!({"additionalGids": [1]}), "its cdiVersion is 0.6.0, and additionalGids needs 0.7.0"),
        ("0.7.0", json!({"intelRdt": {"closID": "x"}, "additionalGids": [1]}), "fine"),
        (
            "1.0.0",
            json!({"intelRdt": {"enableMonitoring": true}}),
            "its cdiVersion is 1.0.0, and intelRdt's schemata and enableMonitoring needs 1.1.0",
        ),
        (
            "1.0.0",
            json!({"netDevices": [{"hostInterfaceName": "eth0", "name": "e"}]}),
            "its cdiVersion is 1.0.0, and netDevices needs 1.1.0",
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
    assert!(old(digit, "0.4.0").contains("a digit first needs 0.5.0") && old(digit, "0.5.0") == "fine");
    let dot = |document: &mut Value| document["kind"] = json!("vendor.com/a.b");
    assert!(old(dot, "0.5.0").contains("a dot in the class needs 0.6.0") && old(dot, "0.6.0") == "fine");
    let annotated = |document: &mut Value| document["devices"][0]["annotations"] = json!({"a": "b"});
    assert!(old(annotated, "0.5.0").contains("annotations needs 0.6.0") && old(annotated, "0.6.0") == "fine");
}

/// Files that are broken, or made to harm: each is refused with a sentence, and none is believed in part.
#[test]
fn hostile_json() {
    let mount = |mount: Value| with(json!({"mounts": [mount]}));
    let node = |node: Value| with(json!({"deviceNodes": [node]}));
    let hook = |hook: Value| with(json!({"hooks": [hook]}));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, expected) in [
        (String::new(), "invalid type: null"),
        ("{}".into(), "its cdiVersion \"\" is not supported"),
        ("null".into(), "invalid type: null"),
        ("[]".into(), "invalid type: sequence"),
        (r#"["1.1.0", "a/b", {}, [{"name": "a", "containerEdits": {"env": ["A=1"]}}]]"#.into(), "invalid type: sequence"),
        ("{\"cdiVersion\": \"0.5.0\"".into(), "unclosed bracket"),
        (deep.clone(), "limit"),
        (format!("{{\"cdiVersion\":\"0.5.0\",\"kind\":\"a/b\",\"devices\":{deep}}}"), "limit"),
        (document(|d| d["devices"] = json!([])).to_string(), "it has no devices"),
        (document(|d| d["devices"] = json!(null)).to_string(), "it has no devices"),
        (document(|d| d["devices"] = json!({})).to_string(), "invalid type: map"),
        (document(|d| d["devices"] = json!([null])).to_string(), "invalid type: null"),
        (document(|d| d["devices"] = json!([["a", {}, {"env": ["A=1"]}]])).to_string(), "invalid type: sequence"),
        (document(|d| d["more"] = json!(1)).to_string(), "unknown field `more`"),
        (document(|d| d["devices"][0]["more"] = json!(null)).to_string(), "unknown field `more`"),
        (with(json!({"device-nodes": []})).to_string(), "unknown field `device-nodes`"),
        (with(json!({"\u{1b}[2J\nx": 1})).to_string(), "unknown field `?[2J"),
        (with(json!([])).to_string(), "invalid type: sequence"),
        (with(json!({"env": [1]})).to_string(), "the variable \"1\" is not KEY=VALUE"),
        (with(json!({"env": [null]})).to_string(), "the variable \"\" is not KEY=VALUE"),
        (with(json!({"env": [["A=1"]]})).to_string(), "invalid type: sequence"),
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
            "uplicate",
        ),
        (document(|d| d["annotations"] = json!({"a": {}})).to_string(), "expected a string"),
        (document(|d| d["annotations"] = json!([])).to_string(), "invalid type: sequence"),
        (with(json!({"env": ["A"]})).to_string(), "the variable \"A\" is not KEY=VALUE"),
        (with(json!({"env": ["=1"]})).to_string(), "the variable \"=1\" is not KEY=VALUE"),
        (with(json!({"env": ["A=\0"]})).to_string(), "has a NUL"),
        (node(json!({})).to_string(), "the device node's path \"\" is empty"),
        (node(json!({"path": "/dev/a\0"})).to_string(), "has a NUL"),
        (node(json!(null)).to_string(), "invalid type: null"),
        (node(json!({"path": "/dev/a", "type": "x"})).to_string(), "is not b, c, u or p"),
        (node(json!({"path": "/dev/a", "permissions": "rwx"})).to_string(), "are not of r, w and m"),
        (node(json!({"path": "/dev/a", "major": 1.5})).to_string(), "invalid type: floating point"),
        (node(json!({"path": "/dev/a", "major": "1"})).to_string(), "invalid type: string"),
        (node(json!({"path": "/dev/a", "uid": -1})).to_string(), "invalid value: integer `-1`"),
        (node(json!({"path": "/dev/a", "gid": 4_294_967_296_u64})).to_string(), "invalid value"),
        (node(json!({"path": "/dev/a", "fileMode": "0666"})).to_string(), "invalid type: string"),
        (hook(json!({"hookName": "createContainer"})).to_string(), "the hook's path \"\" is empty"),
        (hook(json!({"hookName": "later", "path": "/a"})).to_string(), "the hook \"later\""),
        (hook(json!({"hookName": "prestart", "path": "/a", "env": ["A"]})).to_string(), "is not KEY=VALUE"),
        (hook(json!({"hookName": "prestart", "path": "/a", "args": ["\0"]})).to_string(), "has a NUL"),
        (hook(json!({"hookName": "prestart", "path": "/a", "timeout": 0.5})).to_string(), "invalid type: floating point"),
        (mount(json!({"hostPath": "/a"})).to_string(), "the mount's containerPath \"\" is empty"),
        (mount(json!({"hostPath": "", "containerPath": "/a"})).to_string(), "hostPath \"\" is empty"),
        (mount(json!({"hostPath": "/a", "containerPath": "/a", "options": "ro"})).to_string(), "expected a sequence"),
        (mount(json!({"hostPath": "/a", "containerPath": "/a", "options": ["r\0"]})).to_string(), "has a NUL"),
        (with(json!({"intelRdt": {"closID": "../x"}})).to_string(), "intelRdt's closID"),
        (with(json!({"intelRdt": {"enableCMT": true}})).to_string(), "unknown field `enableCMT`"),
        (with(json!({"netDevices": [{"hostInterfaceName": "a", "name": ""}]})).to_string(), "the network device"),
        (
            with(json!({"netDevices": [{"hostInterfaceName": "a", "name": "c"}, {"hostInterfaceName": "b", "name": "c"}]}))
                .to_string(),
            "\"c\" is there twice",
        ),
        (with(json!({"additionalGids": [-1]})).to_string(), "invalid value"),
    ] {
        let said = said(&text);
        let shown: String = text.chars().take(200).collect();
        assert!(said.contains(expected), "{shown}\n{said}");
        assert!(!said.contains(char::is_control) && said.len() < 500, "{said:?}");
    }
    assert_eq!(parse(&[0xff, 0xfe]).unwrap_err().to_string(), "it is not UTF-8");
    assert_eq!(parse(&vec![b' '; MAX_FILE_SIZE + 1]).unwrap_err(), CdiFault::TooLarge);
}

/// What CDI's own library takes, although it looks wrong, and what it makes of it.
#[test]
fn what_the_library_takes() {
    let device = "devices: [{name: a, containerEdits: {env: ['A=1']}}]\n";
    let json = document(|_| {}).to_string();
    for text in [
        // nothing where a list, an object or a text belongs
        format!("{HEAD}{device}annotations:\ncontainerEdits:\n"),
        format!("{HEAD}{device}containerEdits: {{env: , deviceNodes: , netDevices: , hooks: , mounts: , intelRdt: \
            }}\n"),
        format!("{HEAD}{device}containerEdits: {{additionalGids: , mounts: [{{hostPath: /a, containerPath: /b, \
            options: }}]}}\n"),
        format!("{HEAD}{device}containerEdits: {{hooks: [{{hookName: prestart, path: /a, args: , env: , timeout: \
            }}]}}\n"),
        format!("{HEAD}{device}containerEdits: {{deviceNodes: [{{path: /a, type: , hostPath: null, major: ~, uid: \
            }}]}}\n"),
        // keys in any case
        "cdiversion: 0.5.0\nKIND: a/b\nDevices: [{NAME: a, containeredits: {ENV: [A=1], DeviceNodes: []}}]\n".into(),
        // paths that are not absolute, annotations that are none
        format!("{HEAD}{device}containerEdits: {{mounts: [{{hostPath: a, containerPath: b}}]}}\n"),
        format!("{HEAD}{device}containerEdits: {{deviceNodes: [{{path: /, hostPath: b}}, {{path: a}}]}}\n"),
        format!("{HEAD}{device}containerEdits: {{hooks: [{{hookName: prestart, path: a, timeout: -1}}]}}\n"),
        format!("cdiVersion: 0.6.0\nkind: a/b\nannotations: {{a b: 1, c: {}}}\n{device}", "x".repeat(300_000)),
        format!("cdiVersion: 0.5.0\nkind: {}/{}\n{device}", "a".repeat(300), "b".repeat(70)),
        // several documents, the first of which counts; what comes after it is not even read
        format!("{HEAD}{device}---\n{HEAD}"),
        format!("{HEAD}{device}...\n[\n"),
        // YAML in a JSON file is read, too, and so are comments and commas at the end
        format!("# a comment\n{json}"),
        json.replace("\"kind\"", " # another\n\"kind\""),
        json.replace("\"kind\"", "# behind a comma, and a \"quote\n\"kind\""),
        json.replace("[{", "[# one\n{# two\n").replace("A=1", "A=,#'\\\",#1"),
        format!("{HEAD}devices: [# one\n {{name: a,# two\n containerEdits: {{env: ['A=it''s,#1', B=it's]}}}}]# \
            three\n"),
        json.replace("\"A=1\"", "\"A=1\","),
        json.replace(',', ",\n\t"),
        json.replace(',', ",\r\n"),
        format!("\u{feff}{json}"),
        // of a version that is too old only these count: what is the file's or the last device's
        "cdiVersion: 0.3.0\nkind: a/b\ndevices: [{name: a, containerEdits: {deviceNodes: [{path: /a, hostPath: /b}]}}, \
         {name: b, containerEdits: {mounts: [{hostPath: /a, containerPath: /b}]}}]\n"
            .into(),
    ] {
        assert_eq!(said(&text), "fine", "{text}");
    }
}

/// A number or a truth value where a text belongs, as YAML 1.1 reads it and Go writes it.
#[test]
fn scalars_become_texts() {
    for (scalar, expected) in [
        ("0", "0"),
        ("00", "0"),
        ("755", "755"),
        ("0755", "493"),
        ("0o17", "15"),
        ("0x10", "16"),
        ("0b11", "3"),
        ("08", "8"),
        ("-3", "-3"),
        ("1_000", "1000"),
        ("18446744073709551615", "18446744073709551615"),
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("1e10", "1e+10"),
        ("535.104", "535.104"),
        ("535.104.05", "535.104.05"),
        ("true", "true"),
        ("no", "false"),
        ("ON", "true"),
        ("null", ""),
        ("~", ""),
        ("2001-01-01", "2001-01-01"),
        ("12:30", "12:30"),
        ("1e400", ".inf"),
        ("'0755'", "0755"),
        ("\"true\"", "true"),
    ] {
        let text = format!(
            "{HEAD}annotations: {{}}\ndevices: [{{name: a, containerEdits: {{hooks: [{{hookName: prestart, path: /a, \
                args: [{scalar}]}}]}}}}]\n"
        );
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.devices[0].container_edits.hooks[0].args, [expected], "{scalar}");
    }
    // Names, too, and numbers in any form where a number belongs.
    let text = format!(
        "{HEAD}devices: [{{name: 0, containerEdits: {{deviceNodes: [{{path: /dev/a, major: 1e2, minor: 3.0, fileMode: \
            0666}}], \
         additionalGids: [null, 5.0]}}}}]\n"
    )
    .replace("0.5.0", "0.7.0");
    let document = parse(text.as_bytes()).unwrap();
    let edits = &document.devices[0].container_edits;
    let node = &edits.device_nodes[0];
    assert_eq!((node.major, node.minor, node.file_mode), (Some(100), Some(3), Some(0o666)));
    assert_eq!((document.devices[0].name.as_str(), &edits.additional_gids[..]), ("0", &[0, 5][..]));
}

#[test]
fn hostile_yaml() {
    let device = "devices: [{name: a, containerEdits: {env: ['A=1']}}]\n";
    for (text, expected) in [
        (
            format!(
                "{HEAD}devices:\n- &x\n  name: a\n  containerEdits: &y {{env: [A=1]}}\n- name: b\n  containerEdits: \
                    *y\n"
            ),
            "fine",
        ),
        (format!("{HEAD}{HEAD}{device}"), "uplicate"),
        (format!("{HEAD}{device}more: 1\n"), "unknown field `more`"),
        (format!("{HEAD}{device}containerEdits: !!python/object:os.system {{}}\n"), "tag"),
        (format!("{HEAD}{device}containerEdits: {{env: [*unknown]}}\n"), "nknown"),
        (format!("\t{HEAD}"), ""),
        ("---\n".into(), "invalid type: null"),
        ("- a\n".into(), "invalid"),
        ("a: [".into(), ""),
        ("\u{0}".into(), ""),
    ] {
        let said = said(&text);
        assert!(said.contains(expected) && (said == "fine") == (expected == "fine"), "{text}\n{said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
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
        assert_ne!(said(&text), "fine");
        assert!(start.elapsed().as_secs() < 120, "{}", &text[..80]);
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

fn env(registry: &CdiRegistry, names: &[&str]) -> String {
    registry.resolve(names.iter().copied()).map_or_else(|error| error.to_string(), |edits| edits.edits.env.join(" "))
}

#[test]
fn files_are_ranked_and_bad_ones_left_out() {
    let registry = CdiRegistry::load(vec![
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
            "the CDI file /etc/cdi/c.yml is skipped: only .json and .yaml are read; rename it",
            "the CDI file /etc/cdi/bad.json is skipped: its cdiVersion \"\" is not supported",
            "the CDI file /etc/cdi/no.json is skipped: cannot read it: permission denied",
            "the CDI device v.com/x=c is skipped: /etc/cdi/a.json and /etc/cdi/b.json describe it",
            "the CDI device v.com/x=f is skipped: /var/run/cdi/a.json and /var/run/cdi/c.json describe it",
        ]
    );
    let files: Vec<_> = registry.files().map(|file| format!("{} {} {}", file.path, file.kind, file.devices)).collect();
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
    let registry = CdiRegistry::load(vec![
        file("0a.json", 0, &devices("v.com/x", &["a"], "0a")),
        file("0b.json", 0, &devices("v.com/x", &["a"], "0b")),
        file("1.json", 1, &devices("v.com/x", &["a"], "1")),
    ]);
    assert_eq!(env(&registry, &["v.com/x=a"]), "FROM=1 A=1");
    assert_eq!(registry.left_out(), []);
}

#[test]
fn who_asks_for_what_is_not_there_is_told_what_is() {
    let registry = CdiRegistry::load(vec![
        file("/etc/cdi/a.json", 0, &devices("nvidia.com/gpu", &["0", "1", "all"], "x")),
        file("/etc/cdi/b.yml", 0, &json!(1)),
    ]);
    let hint = |name: &str| registry.resolve([name]).unwrap_err().hint().unwrap();
    let rest = "CDI files describe devices of nvidia.com/gpu; the CDI file /etc/cdi/b.yml is skipped: only .json and \
        .yaml are read; rename it";
    assert_eq!(hint("nvidia.com/gpu=2"), format!("there are 2 GPUs, by the names 0, 1, all; {rest}"));
    assert_eq!(hint("nvidia.com/gpu=al"), format!("did you mean nvidia.com/gpu=all?; {rest}"));
    let uuids = "not by UUID (`nvidia-ctk cdi generate --device-name-strategy=uuid` does that)";
    assert_eq!(hint("nvidia.com/gpu=GPU-5a"), format!("there are 2 GPUs, by the names 0, 1, all, {uuids}; {rest}"));
    assert_eq!(hint("nvida.com/gpu=all"), format!("did you mean nvidia.com/gpu=all?; {rest}"));
    assert_eq!(hint("z.org/q=0"), rest);
    let none = CdiRegistry::default().resolve(["nvidia.com/gpu=0"]).unwrap_err();
    assert!(none.hint().unwrap().contains("nvidia-ctk cdi generate"));
    assert!(registry.resolve(["/dev/nvidia0"]).unwrap_err().hint().unwrap().contains("VENDOR/CLASS=NAME"));
}

#[test]
fn a_file_names_the_driver_that_it_was_made_for() {
    for (libraries, arguments, expected) in [
        (&["libcuda.so.550.54.15"][..], &[][..], Some("550.54.15")),
        (&["libnvidia-ml.so.1", "libnvidia-ml.so.535.104.05"], &[], Some("535.104.05")),
        (&["libcuda.so.1"], &["enable-cuda-compat", "--host-driver-version=560.35.03"], Some("560.35.03")),
        (&["libcuda.so.1.1", "libcuda.so", "libcudadebugger.so.550.54.15"], &["--host-driver-version="], None),
        (&[], &[], None),
    ] {
        let mount = |name: &&str| json!({"hostPath": format!("/lib/{name}"), "containerPath": "/a"});
        let edits = json!({
            "env": ["A=1"], "mounts": libraries.iter().map(mount).collect::<Vec<_>>(),
            "hooks": [{"hookName": "createContainer", "path": "/h", "args": arguments}],
        });
        let registry = CdiRegistry::load(vec![file("/etc/cdi/a.json", 0, &with(edits))]);
        let edits = registry.resolve(["vendor.com/device=a"]).unwrap();
        let loaded = "999.1".parse().unwrap();
        let stale = edits.stale(&BTreeMap::new(), &BTreeMap::new(), Some(&loaded), false);
        let found = stale.map(|stale| stale.drivers.unwrap().0.to_string());
        assert_eq!(found.as_deref(), expected, "{libraries:?}");
        assert_eq!(edits.stale(&BTreeMap::new(), &BTreeMap::new(), None, false), None);
    }
}

#[test]
fn a_gpu_is_meant_by_the_beginning_of_its_name() {
    let node = |names: &[&str], path: &str| {
        let device = |name: &&str| json!({"name": name, "containerEdits": {"deviceNodes": [{"path": path}]}});
        names.iter().map(device).collect::<Vec<_>>()
    };
    let gpus = [
        node(&["0", "GPU-5a4bc2d1-9e8f"], "/dev/nvidia0"),
        node(&["1", "GPU-5a77c2d1-9e8f"], "/dev/nvidia1"),
        node(&["1:0", "MIG-41b35146"], "/dev/nvidia-caps/nvidia-cap3"),
    ]
    .concat();
    let document = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": gpus});
    let registry = CdiRegistry::load(vec![file("/etc/cdi/a.json", 0, &document)]);
    let hint = |name: &str| registry.resolve([format!("nvidia.com/gpu={name}").as_str()]).unwrap_err().hint().unwrap();
    for (name, expected) in [
        ("GPU-5a4b", "did you mean nvidia.com/gpu=GPU-5a4bc2d1-9e8f?;"),
        ("gpu-5A77C2D1-9E8F", "did you mean nvidia.com/gpu=GPU-5a77c2d1-9e8f?;"),
        ("GPU-5a77c2d1-9e8e", "did you mean nvidia.com/gpu=GPU-5a77c2d1-9e8f?;"),
        ("GPU-5a", "GPU-5a is the beginning of several names;"),
        ("MIG-41b", "did you mean nvidia.com/gpu=MIG-41b35146?;"),
        ("7", "there are 3 GPUs, by the names 0, 1, 1:0, GPU-5a4bc2d1-9e8f, GPU-5a77c2d1-9e8f, MIG-41b35146;"),
        ("1:7", "there are 3 GPUs, by the names"),
        ("all", "there are 3 GPUs, by the names"),
    ] {
        assert!(hint(name).starts_with(expected), "{name}: {}", hint(name));
    }
    assert_eq!(registry.count("nvidia.com/gpu"), 3);
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
        let registry = CdiRegistry::load(vec![CdiFile { path: "x.yaml".into(), priority: 0, content: Ok(bytes) }]);
        let names: Vec<_> = registry.names().collect();
        assert_eq!(names.is_empty(), registry.left_out().len() == 1);
        taken += usize::from(!names.is_empty());
        assert!(registry.resolve(names).is_ok());
    }
    assert!((1..400).contains(&taken), "{taken}");
}
