//! The entry points of fuzz targets (`tests/fuzz`). Only their build has this module.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};

use super::Htpasswd;

/// The user of `users` whose name and password an `Authorization` header has.
pub async fn user(users: Htpasswd, authorization: &[u8]) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(authorization).ok()?);
    Arc::new(users).user(&headers).await.ok()
}
