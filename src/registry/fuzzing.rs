//! The entry points of fuzz targets (`tests/fuzz`). Only their build has this module.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use url::Url;

use super::challenge::Challenge;
use super::registries_conf::RegistriesConf;

/// The token server and the requested scopes of a challenge in these `WWW-Authenticate` headers; `None` for basic
/// authentication or no challenge.
#[must_use]
pub fn bearer<'a>(values: impl IntoIterator<Item = &'a [u8]>, base: &Url) -> Option<(Url, String)> {
    let mut headers = HeaderMap::new();
    for value in values.into_iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(WWW_AUTHENTICATE, value);
    }
    match Challenge::read(&headers, base)? {
        Challenge::Bearer { realm, scopes, .. } => Some((realm, scopes.to_string())),
        Challenge::Basic => None,
    }
}

/// The hosts and repositories for `repository` of `registry` in a registries.conf of this text; empty if its use is
/// blocked.
///
/// # Errors
/// The invalid line, with the fault.
pub fn places(conf: &str, registry: &str, repository: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut settings = RegistriesConf::default();
    settings.add(conf)?;
    let places = settings.places(registry, repository);
    let all = std::iter::once(places.primary).chain(places.mirrors);
    Ok(all.filter(|_| !places.blocked).map(|place| (place.registry, place.repository)).collect())
}
