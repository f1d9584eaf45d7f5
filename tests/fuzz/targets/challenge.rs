//! `WWW-Authenticate` headers, one a line: tokens are had over HTTP only, and scopes are read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge::registry::fuzzing::bearer;

fuzz_target!(|data: &[u8]| {
    let base = "https://registry.example/v2/".parse().expect("a URL");
    let Some((realm, scopes)) = bearer(data.split(|byte| *byte == b'\n'), &base) else { return };
    assert!(matches!(realm.scheme(), "https" | "http"), "{realm}");
    assert!(realm.has_host());
    let needs_quotes = |text: &str| text.contains(['"', '\\']) || !text.is_ascii();
    if !needs_quotes(&scopes) && !needs_quotes(realm.as_str()) {
        let again = format!(r#"Bearer realm="{realm}",scope="{scopes}""#);
        assert_eq!(bearer([again.as_bytes()], &base), Some((realm, scopes)), "{again}");
    }
});
