//! The texts in a wheel: RECORD, WHEEL, METADATA, entry_points.txt, and then names and contents of files, with a NUL
//! between each two.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge_fuzz::{file, wheel, zip::of_files};

const TEXTS: [&[u8]; 4] = [
    b"demo-1.0.dist-info/RECORD",
    b"demo-1.0.dist-info/WHEEL",
    b"demo-1.0.dist-info/METADATA",
    b"demo-1.0.dist-info/entry_points.txt",
];

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let mut files: Vec<(&[u8], &[u8])> = TEXTS.into_iter().zip(&mut parts).collect();
    while let Some(name) = parts.next() {
        files.push((name, parts.next().unwrap_or_default()));
    }
    wheel::check(&file(wheel::NAME, &of_files(&files)));
});
