//! Pinning what a build takes from package indexes: resolution by uv, the lock file, the download of wheels.
