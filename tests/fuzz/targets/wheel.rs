//! A wheel's archive.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge_fuzz::{file, wheel, zip::with_checksums};

fuzz_target!(|data: &[u8]| {
    wheel::check(&file(wheel::NAME, &with_checksums(data)));
});
