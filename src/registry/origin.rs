//! One repository of one host: authorized requests to it.

use std::future::ready;
use std::io::Seek;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ociforge_manifests::{Descriptor, Digest};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use tempfile::SpooledTempFile;
use url::Url;

use super::auth::TokenSession;
use super::challenge::{Challenge, Scopes};
use super::endpoint::{Endpoint, Lane};
use super::fault::{Fault, Subject};
use super::journal::Journal;
use super::registries_conf::Pulls;
use crate::content::{Cause, Repository};
use crate::http::{Authorization, HttpRequest, HttpResponse, Payload, Retries, same_origin};
use crate::store::spool::spooled;

/// A repository of a host.
#[derive(Clone)]
pub(super) struct Origin {
    pub endpoint: Arc<Endpoint>,
    pub repository: String,
    pub session: Arc<TokenSession>,
    /// The pulls that this mirror serves.
    pub pulls: Pulls,
    /// The storage of notes of unfinished uploads, if any.
    pub journal: Option<Arc<Journal>>,
}

/// A request to a repository.
pub(super) struct Request<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub payload: Payload<'a>,
    pub scopes: &'a Scopes,
    pub lane: Lane,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: Url, scopes: &'a Scopes) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: Payload::Empty, scopes, lane: Lane::Brief }
    }
}

impl Origin {
    /// Host and repository of requests.
    pub(super) fn as_repository(&self) -> Repository {
        Repository { registry: self.endpoint.address.clone(), name: self.repository.clone() }
    }

    /// The attempts of one operation at this host.
    pub(super) fn retries(&self) -> Retries {
        self.endpoint.retries()
    }

    /// The address of a path in the repository, such as `["manifests", "latest"]`.
    pub(super) async fn url(&self, parts: &[&str]) -> Result<Url, Cause> {
        let mut url = self.endpoint.base().await?.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.repository.split('/')).extend(parts);
        }
        Ok(url)
    }

    /// Sends the request once; after a 401, once more with the requested authorization. Any status is an answer.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<HttpResponse, Fault> {
        let base = self.endpoint.base().await?;
        let at_home = same_origin(base, &request.url);
        let long = matches!(request.lane, Lane::Upload | Lane::Held);
        let authorization = || self.session.authorization(&self.endpoint.http, base, request.scopes, long);
        let auth = if at_home { authorization().await? } else { Authorization::Anonymous };
        let permit = self.endpoint.permit(request.lane).await;
        let mut answer = self.exchange(request, &auth).await?;
        let refused = answer.status() == StatusCode::UNAUTHORIZED && at_home && same_origin(answer.url(), base);
        let challenge = if refused { Challenge::read(answer.headers(), base) } else { None };
        if let Some(challenge) = challenge {
            self.session.challenged(challenge, request.scopes, &auth).await;
            let renewed = authorization().await?;
            if renewed != auth {
                answer = self.exchange(request, &renewed).await?;
            }
        }
        answer.permit = permit;
        Ok(answer)
    }

    /// Sends the request once. Any answer except a success is a fault.
    pub(super) async fn succeed(&self, request: &Request<'_>, subject: Subject) -> Result<HttpResponse, Fault> {
        let answer = self.send(request).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer, subject).await) }
    }

    /// Sends the request with retries. The fault is as that of [`Self::read`].
    pub(super) async fn ask(&self, request: &Request<'_>, subject: Subject) -> Result<HttpResponse, Fault> {
        self.answered(request, subject, |answer| ready(Ok(answer)).boxed()).await
    }

    /// Sends the request with retries, and reads the complete body of the answer, of at most `limit` bytes. The fault
    /// is the refusal, whose status has more information than its cause, or has the cause of the last attempt.
    pub(super) async fn read(
        &self,
        request: &Request<'_>,
        subject: Subject,
        limit: u64,
    ) -> Result<(HttpResponse, Vec<u8>), Fault> {
        self.answered(request, subject, |mut answer| {
            async move { Ok(answer.read(limit).await.map(|body| (answer, body))?) }.boxed()
        })
        .await
    }

    /// As [`Self::read`], but a body longer than `in_memory` goes to a temporary file.
    pub(super) async fn spool(
        &self,
        request: &Request<'_>,
        subject: Subject,
        limit: u64,
        in_memory: u64,
    ) -> Result<(HttpResponse, SpooledTempFile), Fault> {
        self.answered(request, subject, |mut answer| {
            async move {
                let mut body = spooled(usize::try_from(in_memory).unwrap_or(usize::MAX));
                answer.receive(limit, in_memory, &mut body).await?;
                body.rewind().map_err(Cause::Io)?;
                Ok((answer, body))
            }
            .boxed()
        })
        .await
    }

    /// Sends the request with retries until `read` accepts an answer.
    async fn answered<T>(
        &self,
        request: &Request<'_>,
        subject: Subject,
        read: impl Fn(HttpResponse) -> BoxFuture<'static, Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let done = self.retries().run(|| async { read(self.succeed(request, subject).await?).await }).await;
        // The last attempt's fault is final.
        done.map_err(|fault| if fault.transient { fault.cause.into() } else { fault })
    }

    /// A refusal by this registry.
    pub(super) async fn refusal(&self, answer: HttpResponse, subject: Subject) -> Fault {
        Fault::refused(answer, &self.endpoint.registry, subject).await
    }

    /// Whether the repository has this, of this size.
    pub(super) async fn holds(&self, descriptor: &Descriptor) -> Result<bool, Cause> {
        let (url, headers, subject) = self.locate(descriptor).await?;
        let scopes = Scopes::push(&self.repository);
        let mut request = Request::new(Method::HEAD, url, &scopes);
        request.headers = headers;
        match self.ask(&request, subject).await {
            Ok(answer) => Ok(answer.length().is_none_or(|length| length == descriptor.size)),
            Err(fault) if fault.is_not_found() => Ok(false),
            Err(fault) => Err(fault.cause),
        }
    }

    /// The request for a blob or manifest: its URL, headers and subject.
    pub(super) async fn locate(&self, descriptor: &Descriptor) -> Result<(Url, HeaderMap, Subject), Cause> {
        let mut headers = HeaderMap::new();
        let (kind, subject) = if descriptor.is_document() {
            headers.extend(HeaderValue::from_str(&descriptor.media_type).ok().map(|value| (ACCEPT, value)));
            ("manifests", Subject::Manifest)
        } else {
            ("blobs", Subject::Blob)
        };
        Ok((self.url(&[kind, descriptor.digest.as_str()]).await?, headers, subject))
    }

    async fn exchange(&self, request: &Request<'_>, auth: &Authorization) -> Result<HttpResponse, Fault> {
        let mut call = HttpRequest::new(request.method.clone(), request.url.clone());
        call.headers = request.headers.clone();
        call.payload = request.payload;
        call.authorization = auth;
        self.endpoint.call(call).await
    }
}

/// Fails if the registry states another digest than expected.
pub(super) fn same_digest(answer: &HttpResponse, expected: &Digest) -> Result<(), Cause> {
    let said = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    match said.filter(|said| said.algorithm() == expected.algorithm() && said != expected) {
        Some(actual) => Err(Cause::WrongDigest { expected: expected.clone(), actual }),
        None => Ok(()),
    }
}
