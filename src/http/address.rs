//! Comparison of addresses, and addresses without secrets for messages.

use std::net::IpAddr;

use url::Url;

/// The host and, if it is not the scheme's default, the port.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Scheme and host, for messages about two different origins.
pub(super) fn origin_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host_of(url))
}

/// Whether both have the same scheme, host and port, so that credentials of one may go to the other.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Whether a host (without port) is this machine: `localhost`, 127.0.0.0/8, `::1`.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let home = "https://r.example/v2/".parse().unwrap();
        for (url, expected) in [
            ("https://r.example:443/x?y", true),
            ("http://r.example/v2/", false),
            ("https://r.example:8443/v2/", false),
            ("https://cdn.r.example/v2/", false),
        ] {
            assert_eq!(same_origin(&home, &url.parse().unwrap()), expected, "{url}");
        }
    }
}
