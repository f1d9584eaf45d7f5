//! Documents in JSON: versions, hostile ones, and what the library of CDI takes.

use super::*;

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
