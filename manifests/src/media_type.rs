//! Media types of OCI and of Docker's schema 2, and their conversion (image-spec, media-types.md).

/// OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, an uncompressed tar.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Docker's manifest, schema 1, which is obsolete.
const DOCKER_SCHEMA_ONE: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// The same with signatures.
const DOCKER_SCHEMA_ONE_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The `Accept` types of a request for a manifest: all four kinds, OCI first.
pub const MANIFESTS: [&str; 4] = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Whether documents of this type list manifests.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_LIST)
}

/// Whether documents of this type list one image's config and layers.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// Whether content of this type is a manifest or an index.
#[must_use]
pub fn is_document(media_type: &str) -> bool {
    is_manifest(media_type) || is_index(media_type)
}

/// Whether the type is generic: servers and tools use these types for any content.
#[must_use]
pub fn is_generic(media_type: &str) -> bool {
    let generic =
        ["", "application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"];
    generic.contains(&media_type)
}

/// For a type of Docker's schema 1: whether it is the one with signatures.
#[must_use]
pub fn schema_one(media_type: &str) -> Option<bool> {
    match media_type {
        DOCKER_SCHEMA_ONE => Some(false),
        DOCKER_SCHEMA_ONE_SIGNED => Some(true),
        _ => None,
    }
}

/// Whether this is a type of Docker with an OCI equivalent.
#[must_use]
pub fn is_docker(media_type: &str) -> bool {
    matches!(media_type, DOCKER_LIST | DOCKER_MANIFEST | DOCKER_CONFIG) || layer_as_oci(media_type) != media_type
}

/// Whether content of this type is an image config. Docker once used the type of arbitrary bytes for configs.
#[must_use]
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, CONFIG | DOCKER_CONFIG | "application/octet-stream")
}

/// Whether content of this type is files of an image, which may be compressed or encrypted.
#[must_use]
pub fn is_layer(media_type: &str) -> bool {
    media_type.contains(".image.layer.") || media_type.contains(".image.rootfs.")
}

/// The OCI equivalent of a layer's media type; other types stay unchanged.
#[must_use]
pub fn layer_as_oci(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" | "application/vnd.docker.image.rootfs.diff.tar+gzip" => {
            LAYER_GZIP
        }
        "application/vnd.docker.image.rootfs.diff.tar" => LAYER_TAR,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" | "application/vnd.docker.image.rootfs.diff.tar+zstd" => {
            LAYER_ZSTD
        }
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        }
        "application/vnd.docker.image.rootfs.foreign.diff.tar" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar"
        }
        other => other,
    }
}
