//! Which end point a path means (distribution-spec, "Endpoints").

use ociforge_manifests::Digest;
use ociforge_manifests::reference::{is_repository, is_tag};
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::answer::{ApiError, Code};

/// A route of the registry. `name` is a valid repository name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`.
    Root,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags { name: String },
    /// `/v2/<name>/manifests/<tag or digest>`.
    Manifest { name: String, reference: Reference },
    /// `/v2/<name>/blobs/<digest>`.
    Blob { digest: Digest },
    /// `/v2/<name>/blobs/uploads/`.
    Uploads { name: String },
    /// `/v2/<name>/blobs/uploads/<id>`.
    Upload { name: String, id: Uuid },
    /// `/v2/<name>/referrers/<digest>`.
    Referrers { name: String, digest: Digest },
}

/// The reference of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Route {
    /// Reads a path. Repository names have slashes, so it is read from its end.
    pub(super) fn parse(path: &str) -> Result<Self, ApiError> {
        let unknown = || ApiError::new(Code::Unsupported, "unknown endpoint").status(404);
        let path = percent_decode_str(path).decode_utf8().map_err(|_| unknown())?;
        let path = path.strip_prefix("/v2").ok_or_else(unknown)?;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            [] | [""] => Ok(Self::Root),
            ["_catalog"] => Ok(Self::Catalog),
            [name @ .., "tags", "list"] => Ok(Self::Tags { name: repository(name)? }),
            [name @ .., "blobs", "uploads" | "uploads/"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads { name: repository(name)? })
            }
            [name @ .., "blobs", "uploads", id] => {
                let name = repository(name)?;
                let unknown = || ApiError::new(Code::BlobUploadUnknown, "the upload is unknown");
                Ok(Self::Upload { name, id: id.parse().map_err(|_| unknown())? })
            }
            [name @ .., "manifests", reference] => {
                Ok(Self::Manifest { name: repository(name)?, reference: reference.parse()? })
            }
            [name @ .., "blobs", digest] => {
                repository(name)?;
                Ok(Self::Blob { digest: parse_digest(digest)? })
            }
            [name @ .., "referrers", digest] => {
                Ok(Self::Referrers { name: repository(name)?, digest: parse_digest(digest)? })
            }
            _ => Err(unknown()),
        }
    }

    /// The methods that the end point has, as the header `Allow` lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Root | Self::Catalog | Self::Tags { .. } | Self::Referrers { .. } => "GET, HEAD",
            Self::Manifest { .. } => "GET, HEAD, PUT, DELETE",
            Self::Blob { .. } => "GET, HEAD, DELETE",
            Self::Uploads { .. } => "POST",
            Self::Upload { .. } => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }
}

impl std::str::FromStr for Reference {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        if text.contains(':') {
            parse_digest(text).map(Self::Digest)
        } else if is_tag(text) {
            Ok(Self::Tag(text.to_owned()))
        } else {
            Err(ApiError::new(Code::ManifestInvalid, format!("`{text}` is neither a tag nor a digest")))
        }
    }
}

/// A digest that a client sent.
pub(super) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse()
        .map_err(|error: ociforge_manifests::digest::DigestError| ApiError::new(Code::DigestInvalid, error.to_string()))
}

fn repository(parts: &[&str]) -> Result<String, ApiError> {
    let name = parts.join("/");
    if is_repository(&name) {
        Ok(name)
    } else {
        Err(ApiError::new(Code::NameInvalid, format!("`{name}` is not the name of a repository")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_look_like_end_points() {
        let digest = Digest::of(b"");
        let blob = format!("/v2/a/blobs/uploads/blobs/{digest}");
        assert_eq!(Route::parse(&blob).unwrap(), Route::Blob { digest: digest.clone() });
        let encoded = format!("/v2/a/referrers/{}", digest.as_str().replace(':', "%3A"));
        assert_eq!(Route::parse(&encoded).unwrap(), Route::Referrers { name: "a".into(), digest });
        let reference = Reference::Tag("list".into());
        let tagged = Route::parse("/v2/tags/list/manifests/list").unwrap();
        assert_eq!(tagged, Route::Manifest { name: "tags/list".into(), reference });
        for uploads in ["/v2/a/b/blobs/uploads/", "/v2/a/b/blobs/uploads"] {
            assert_eq!(Route::parse(uploads).unwrap(), Route::Uploads { name: "a/b".into() });
        }
        assert_eq!(Route::parse("/v2").unwrap(), Route::Root);
        assert_eq!(Route::parse("/v2/").unwrap(), Route::Root);
    }

    #[test]
    fn malformed_paths_are_refused() {
        for (path, status) in [
            ("/", 404),
            ("/v3/", 404),
            ("/v2/a", 404),
            ("/v2/a/manifests", 404),
            ("/v2/%ff/tags/list", 404),
            ("/v2/A/tags/list", 400),
            ("/v2//tags/list", 400),
            ("/v2/tags/list", 400),
            ("/v2/a/../b/tags/list", 400),
            ("/v2/a%2F..%2Fb/tags/list", 400),
            ("/v2/a/manifests/-t", 400),
            ("/v2/a/manifests/", 400),
            ("/v2/a/manifests/sha256:bad", 400),
            ("/v2/a/blobs/sha256:bad", 400),
            ("/v2/a/referrers/bad", 400),
            ("/v2/a/blobs/uploads/../../x", 404),
            ("/v2/a/blobs/uploads/not-a-uuid", 404),
        ] {
            let error = Route::parse(path).unwrap_err();
            assert_eq!(error.status_code(), status, "{path}");
        }
    }
}
