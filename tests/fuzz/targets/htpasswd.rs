//! A file of users, and after a NUL the `Authorization` header of one: only who has the password gets in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge::serve::{Htpasswd, HtpasswdError, fuzzing};
use ociforge_fuzz::{block_on, file};

/// The hash of `secret`, with the least cost that there is.
const HASH: &str = "$2y$04$nLIRXxqSaJJZF1EqjJ0LcOKi7zcJBqJr5lyfbP0vdmQEkPkg2v6q2";

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (users, authorization) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let known = match Htpasswd::open(&file("htpasswd", users)) {
        Ok(known) => known,
        Err(HtpasswdError::Line { line, .. }) => {
            assert!((1..=users.split(|byte| *byte == b'\n').count()).contains(&line));
            return;
        }
        Err(_) => return,
    };
    // Other hashes may take any time.
    let text = String::from_utf8_lossy(users);
    if text.matches('$').count() != 3 * text.matches(HASH).count() {
        return;
    }
    if let Some(name) = block_on(fuzzing::user(known, authorization)) {
        assert!(text.lines().any(|line| line.trim().strip_prefix(name.as_str()) == Some(&format!(":{HASH}"))));
        let credentials = String::from_utf8_lossy(authorization);
        let encoded = credentials.split_once(' ').map(|(_, encoded)| encoded.trim());
        assert_eq!(encoded, Some(base64(format!("{name}:secret").as_bytes()).as_str()));
    }
});

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| (bits << 8) | usize::from(*byte));
        let digit = |at: usize| if at > three.len() { '=' } else { char::from(ALPHABET[(bits >> (18 - 6 * at)) & 63]) };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(group).collect()
}
