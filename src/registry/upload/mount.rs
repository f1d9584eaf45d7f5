//! Taking a blob over from another repository (distribution-spec, "Mounting a blob from another repository").

use ociforge_manifests::Descriptor;
use reqwest::{Method, StatusCode};
use url::Url;

use super::session::{location, uploads};
use crate::content::{Cause, Repository};
use crate::registry::challenge::Scopes;
use crate::registry::fault::{Fault, Subject};
use crate::registry::origin::{Origin, Request, same_digest};

/// The result of a mount request.
pub(in crate::registry) enum MountOutcome {
    /// The blob is mounted.
    Done,
    /// The registry began an upload at this URL instead.
    Begun(Url),
    /// It would not.
    Refused,
}

/// Requests the mount of a blob from another repository of the registry. A refusal is a result; only an unreachable
/// registry is an error.
pub(in crate::registry) async fn mount(
    origin: &Origin,
    descriptor: &Descriptor,
    from: &Repository,
) -> Result<MountOutcome, Cause> {
    let mut url = uploads(origin).await?;
    let blob = descriptor.digest.as_str();
    url.query_pairs_mut().append_pair("mount", blob).append_pair("from", &from.name);
    let scopes = Scopes::push(&origin.repository).and(Scopes::pull(&from.name));
    let request = Request::new(Method::POST, url, &scopes);
    match origin.retries().run(|| origin.succeed(&request, Subject::Upload)).await {
        Ok(answer) if answer.status() == StatusCode::CREATED => {
            Ok(same_digest(&answer, &descriptor.digest).map_or(MountOutcome::Refused, |()| MountOutcome::Done))
        }
        Ok(answer) => Ok(location(origin, &answer).await.map_or(MountOutcome::Refused, MountOutcome::Begun)),
        Err(Fault { cause: cause @ Cause::Network { .. }, .. }) => Err(cause),
        Err(_) => Ok(MountOutcome::Refused),
    }
}
