//! What fuzz targets reach of this module (`tests/fuzz`). Only their build has it.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use url::Url;

use super::challenge::Challenge;
use super::registries_conf::RegistriesConf;

/// Where tokens are had from, and the scopes that are asked for, of a challenge in these `WWW-Authenticate` headers;
/// `None` where it is for a password, or none at all.
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

/// The hosts and repositories that stand for `repository` of `registry` in a registries.conf of this text; none where
/// it can't be used.
///
/// # Errors
/// The line that can't be used, and why.
pub fn places(conf: &str, registry: &str, repository: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut settings = RegistriesConf::default();
    settings.add(conf)?;
    let places = settings.places(registry, repository);
    let all = std::iter::once(places.primary).chain(places.mirrors);
    Ok(all.filter(|_| !places.blocked).map(|place| (place.registry, place.repository)).collect())
}
