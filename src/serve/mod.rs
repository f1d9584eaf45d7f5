//! An OCI layout seen through HTTP, as a registry (distribution-spec).
