//! Registries: the client, credentials, uploads, registries.conf.
//!
//! A [`Client`] knows the user's settings; [`Client::repository`] gives a [`Remote`], one repository as a
//! [`Source`](crate::content::Source) and [`Target`](crate::content::Target). What happens below that:
//!
//! - `registries_conf` says which hosts stand behind a name, `endpoint` which protocol a host speaks;
//! - `origin` is one repository of one host, and sends requests to it with what `auth` and `credentials` give;
//! - `login` asks whether a host takes credentials, before `credentials` keeps them for the user;
//! - `http` makes one exchange: redirects, timeouts, counting. Credentials never leave the host that they are for;
//! - `certificates` are what containers-certs.d(5) has for a host, `identity` asks a host whether it wants some;
//! - `manifest`, `names` and `referrers` speak of manifests, `tag` lets tags name them, `list` reads what comes in pages;
//! - `download` and `upload` move blobs, `fetch` goes from mirror to mirror, `retry` says when something is tried again, `fault` what is said when not;
//! - `feed` reads what is sent, and `journal` keeps uploads for the next run that this one could not end.

mod auth;
mod body;
mod certificates;
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
mod http;
mod identity;
mod journal;
mod list;
mod login;
mod manifest;
mod names;
mod origin;
mod referrers;
mod registries_conf;
mod remote;
mod retry;
mod settings;
mod stats;
mod tag;
mod upload;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use credentials::{Account, AccountError, Kept, Keyring, Login, Password};
pub use http::install_tls;
pub use remote::Remote;
pub use settings::{Patience, Settings, SettingsError, Warn};
pub use stats::{Counts, Stats};
