//! A CDI file: what is accepted can be applied, messages can be shown, and no text of a spec has a NUL.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ociforge_manifests::runtime::cdi::{CdiFile, CdiRegistry, DeviceFacts, DeviceNodeKind};
use ociforge_manifests::runtime::{ContainerRequest, Host, runtime_spec};
use ociforge_manifests::{Config, Document};

static CONFIG: LazyLock<Document<Config>> = LazyLock::new(|| {
    let config = r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]},"rootfs":{"diff_ids":[]}}"#;
    Document::parse(config).expect("a config")
});

fuzz_target!(|data: &[u8]| {
    let load = |ending| {
        let content = Ok(data.to_vec());
        CdiRegistry::load(vec![CdiFile { path: format!("/etc/cdi/a.{ending}"), priority: 0, content }])
    };
    let registry = load("yaml");
    for left_out in registry.left_out() {
        let message = left_out.to_string();
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    let names: Vec<String> = registry.names().map(str::to_owned).collect();
    assert_eq!(names, load("json").names().collect::<Vec<_>>(), "the ending makes a difference");
    if names.is_empty() {
        assert!(!registry.left_out().is_empty());
        return;
    }
    let described: usize = registry.files().map(|file| file.devices).sum();
    assert!((1..=names.len()).contains(&described));
    for rootless in [false, true] {
        let request = ContainerRequest { devices: names.clone(), rootless, ..ContainerRequest::default() };
        apply(&registry, &request);
    }
});

fn apply(registry: &CdiRegistry, request: &ContainerRequest) {
    let facts = DeviceFacts { kind: DeviceNodeKind::Char, major: 195, minor: 0, mode: 0o666 };
    let devices: BTreeMap<_, _> = registry.host_paths().into_iter().map(|path| (path.to_owned(), facts)).collect();
    let host = Host { cdi: registry.clone(), devices, ..Host::default() };
    let emit = || runtime_spec(&CONFIG, &BTreeMap::new(), request, &host);
    match (emit(), emit()) {
        (Ok(spec), Ok(again)) => {
            assert_eq!(spec.bytes(), again.bytes());
            let json = String::from_utf8(spec.bytes()).expect("JSON is text");
            assert!(!json.contains("\\u0000"), "{json}");
        }
        (Err(error), Err(_)) => drop(error.to_string()),
        _ => panic!("the same input gives a spec and an error"),
    }
}
