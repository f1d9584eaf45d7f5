//! A lock after PEP 751: what is taken of it is pinned, runs on the target, and is the same every time.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ociforge::error::Explain;
use ociforge::layer::PylockSelection;
use ociforge::plan::Libc;
use ociforge::python::{Python3Version, Requirements, Resolution, Sources, WheelTarget, resolve};
use ociforge_fuzz::{file, scratch};
use ociforge_layers::source::wheel::{FileName, normalize};
use ociforge_manifests::Platform;

fuzz_target!(|text: &str| {
    let lock = file("pylock.toml", text.as_bytes());
    let target = WheelTarget {
        python: Python3Version { minor: 11, patch: Some(2) },
        platform: Platform::default(),
        libc: Libc::Glibc(2, 36),
    };
    let first = read(&lock, &target);
    assert_eq!(first, read(&lock, &target));
    let Some(resolution) = first else { return };
    assert!(resolution.runs_on(&target));
    for wheel in resolution.wheels.iter().chain(&resolution.sdists) {
        assert_eq!(wheel.name, normalize(&wheel.name));
        assert_eq!(wheel.sha256.algorithm(), "sha256");
        assert!(!wheel.file.contains('/'), "{} leads elsewhere", wheel.file);
    }
    assert!(resolution.wheels.iter().all(|wheel| FileName::parse(&wheel.file).is_ok()));
    let mut names: Vec<&str> =
        resolution.wheels.iter().chain(&resolution.sdists).map(|wheel| wheel.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a package is there twice");
});

fn read(lock: &Path, target: &WheelTarget) -> Option<Resolution> {
    let requirements = Requirements::Lock(lock.into(), PylockSelection::default());
    let resolution = resolve(&requirements, target, None, &scratch(), &mut Sources::default());
    resolution.map_err(|error| (error.to_string(), error.hint())).ok()
}
