//! The paths of blobs in a layout (image-spec, image-layout.md): `blobs/<algorithm>/<hex>`.

use ociforge_manifests::Digest;

/// The directory of all blobs.
pub(in crate::store) const BLOBS: &str = "blobs";

/// The path of the blob of this digest.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm(), digest.hex())
}

/// The digest of the blob at a path; `None` for a path that is not a blob's.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix(BLOBS)?.strip_prefix('/')?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
