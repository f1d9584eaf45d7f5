//! registries.conf: what it leads to are hosts and repositories, and an error names a line that is there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge::registry::fuzzing::places;
use ociforge_manifests::reference::{is_host, is_repository};

/// What is looked for besides what the text has between quotes.
const NAMES: [&str; 3] = ["nvcr.io/nvidia/pytorch", "a.example.com:5000/b", "docker.io/library/debian"];

fuzz_target!(|text: &str| {
    let quoted = text.split(['\'', '"', '\n']).filter(|part| part.contains('/'));
    for name in quoted.take(8).chain(NAMES) {
        let Some((registry, repository)) = name.split_once('/') else { continue };
        if !is_host(registry) || !is_repository(repository) {
            continue;
        }
        match places(text, registry, repository) {
            Ok(places) => {
                for (registry, repository) in places {
                    assert!(is_host(&registry), "{name} leads to the host {registry:?}");
                    assert!(is_repository(&repository), "{name} leads to the repository {repository:?}");
                }
            }
            Err((line, message)) => {
                assert!((1..=text.lines().count().max(1) + 1).contains(&line), "line {line}: {message}");
                assert!(!message.is_empty());
            }
        }
    }
});
