//! Where the blobs of a layout lie (image-spec, image-layout.md): `blobs/<algorithm>/<hex>`.

use ociforge_manifests::Digest;

/// The directory of all blobs.
pub(in crate::store) const BLOBS: &str = "blobs";

/// Where the blob of this digest lies.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm(), digest.hex())
}

/// The digest of a blob by where it lies. What lies elsewhere is none of the layout's, and left alone.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix(BLOBS)?.strip_prefix('/')?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
