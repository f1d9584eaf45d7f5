//! Registries: the client, credentials, uploads, registries.conf.
