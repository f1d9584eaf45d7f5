//! Content that is in memory, or that its descriptor brings along.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ociforge_manifests::Descriptor;

use super::{ByteStream, Cause, ContentError};

/// These bytes from `offset` on.
#[must_use]
pub fn in_memory(bytes: impl Into<Bytes>, offset: u64) -> ByteStream {
    let bytes = bytes.into();
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    stream::iter([Ok(bytes.slice(start..))]).boxed()
}

/// What was fetched of `descriptor`, or, where it is not there, what the descriptor brings along (image-spec,
/// descriptor.md, "data"): whoever makes a descriptor with data need not keep the blob.
///
/// # Errors
/// Those of fetching it; when it is not there and the data are not what size and digest say.
pub fn or_data(
    fetched: Result<ByteStream, ContentError>,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<ByteStream, ContentError> {
    match fetched {
        Err(error) if error.is_not_found() => match descriptor.data() {
            Some(Ok(data)) => Ok(in_memory(data, offset)),
            Some(Err(wrong)) => {
                let hint = Some("get the image again from where it came".into());
                Err(Cause::Other { message: wrong.to_string(), hint }.of(error.operation))
            }
            None => Err(error),
        },
        fetched => fetched,
    }
}
