//! Registries: the client, credentials, uploads, registries.conf.
//!
//! A [`Client`] has the user's settings; [`Client::repository`] returns a [`Remote`], one repository as a
//! [`Source`](crate::content::Source) and [`Target`](crate::content::Target). Requests use [`http`](crate::http), which
//! is independent of registries. The modules in between:
//!
//! - `registries_conf` maps names to hosts, `endpoint` detects the protocol of a host;
//! - `origin` is one repository of one host, and sends requests with the authorization of `auth` and `credentials`;
//! - `login` checks credentials with a host, before `credentials` stores them for the user;
//! - `manifest`, `names` and `referrers` handle manifests, `tag` sets tags, `list` reads paginated lists;
//! - `download` and `upload` transfer blobs, `fetch` tries the mirrors, `fault` describes failures;
//! - `feed` and `body` stream the content of uploads, and `journal` records unfinished uploads for the next run.

mod auth;
mod body;
mod challenge;
mod client;
mod credentials;
mod download;
mod endpoint;
mod fault;
mod feed;
mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
mod journal;
mod list;
mod login;
mod manifest;
mod names;
mod origin;
mod referrers;
mod registries_conf;
mod remote;
mod settings;
mod tag;
mod upload;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use credentials::{Account, AccountError, CredentialLocation, Keyring, Login, Password};
pub use remote::Remote;
pub use settings::{Settings, SettingsError, Warn};
