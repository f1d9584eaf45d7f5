//! Registries: the client, credentials, uploads, registries.conf.
//!
//! A [`Client`] knows the user's settings; [`Client::repository`] gives a [`Remote`], one repository as a
//! [`Source`](crate::content::Source) and [`Target`](crate::content::Target). Requests go through [`http`](crate::http),
//! which knows nothing of registries. In between:
//!
//! - `registries_conf` says which hosts stand behind a name, `endpoint` which protocol a host speaks;
//! - `origin` is one repository of one host, and sends requests to it with what `auth` and `credentials` give;
//! - `login` asks whether a host takes credentials, before `credentials` keeps them for the user;
//! - `manifest`, `names` and `referrers` speak of manifests, `tag` lets tags name them, `list` reads what comes in pages;
//! - `download` and `upload` move blobs, `fetch` goes from mirror to mirror, `fault` is what is said of what failed;
//! - `feed` and `body` read what is sent, and `journal` keeps uploads for the next run that this one could not end.

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
