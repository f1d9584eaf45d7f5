//! The client, which all repositories share.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::Reference;

use super::auth::TokenSession;
use super::credentials::CredentialFiles;
use super::endpoint::Endpoint;
use super::journal::Journal;
use super::origin::Origin;
use super::registries_conf::{ConfiguredLocation, RegistriesConf};
use super::remote::Remote;
use super::settings::{Settings, SettingsError, must_be_readable};
use crate::http::{HttpClient, RetryPolicy, Stats};

/// A client of registries. Clones are cheap, and share connections, tokens and counts.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    tls_verify: bool,
    connections: usize,
    files: CredentialFiles,
    conf: RegistriesConf,
    http: Arc<HttpClient>,
    retry: RetryPolicy,
    journal: Option<Arc<Journal>>,
    /// Length in bytes of the chunks that blobs are sent in.
    chunk: u64,
    endpoints: Mutex<HashMap<(String, bool), Arc<Endpoint>>>,
    sessions: Mutex<HashMap<(String, String), Arc<TokenSession>>>,
}

impl Client {
    /// A client with these settings. Sends no request yet.
    ///
    /// # Errors
    /// When a file of the settings cannot be read, or registries.conf is invalid.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let files = match settings.authfile {
            Some(file) => {
                must_be_readable(&file)?;
                vec![file]
            }
            None => settings.auth_search,
        };
        Ok(Self(Arc::new(Shared {
            tls_verify: settings.tls_verify,
            connections: settings.connections,
            files: CredentialFiles { files, warn: settings.warn },
            conf: RegistriesConf::read(&settings.registries_conf)?,
            http: Arc::new(HttpClient::new(settings.tls_verify, settings.certs_d, settings.timeouts)),
            retry: settings.retry,
            journal: settings.journal.map(|directory| Arc::new(Journal::new(directory))),
            chunk: settings.chunk,
            endpoints: Mutex::default(),
            sessions: Mutex::default(),
        })))
    }

    /// The repository of `reference`, located by registries.conf.
    #[must_use]
    pub fn repository(&self, reference: &Reference) -> Remote {
        let places = self.0.conf.places(reference.registry(), reference.repository());
        let all = places.mirrors.iter().chain([&places.primary]);
        Remote {
            reference: reference.clone(),
            origins: all.filter(|_| !places.blocked).map(|place| self.origin(place)).collect(),
            serving: Arc::new(AtomicUsize::new(usize::MAX)),
            begun: Arc::default(),
            has_news: Arc::default(),
        }
    }

    /// The statistics of requests and bytes.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.0.http.stats
    }

    /// The host `registry` itself, without the mapping of registries.conf.
    pub(super) fn endpoint(&self, registry: &str) -> Arc<Endpoint> {
        self.endpoint_of(registry, self.0.conf.is_insecure(registry))
    }

    fn endpoint_of(&self, registry: &str, insecure: bool) -> Arc<Endpoint> {
        let insecure = insecure || !self.0.tls_verify;
        let mut endpoints = self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let Shared { connections, chunk, http, retry, .. } = &*self.0;
        let new = || Arc::new(Endpoint::new(registry, insecure, *connections, Arc::clone(http), retry.clone(), *chunk));
        Arc::clone(endpoints.entry((registry.to_owned(), insecure)).or_insert_with(new))
    }

    fn origin(&self, place: &ConfiguredLocation) -> Origin {
        let Shared { files, journal, sessions, .. } = &*self.0;
        let endpoint = self.endpoint_of(&place.registry, place.insecure);
        let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions
            .entry((place.registry.clone(), place.repository.clone()))
            .or_insert_with(|| Arc::new(TokenSession::new(&place.registry, &place.repository, files.clone())));
        let (repository, session) = (place.repository.clone(), Arc::clone(session));
        Origin { endpoint, repository, session, pulls: place.pulls, journal: journal.clone() }
    }
}
