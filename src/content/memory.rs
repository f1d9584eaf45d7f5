//! Content in memory, or in the `data` of its descriptor.

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

/// The fetched content of `descriptor`. If it does not exist, the `data` of the descriptor (image-spec, descriptor.md,
/// "data"): the blob of a descriptor with data is optional.
///
/// # Errors
/// The error of the fetch; or the data of the descriptor do not match its size and digest.
pub fn or_data(
    fetched: Result<ByteStream, ContentError>,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<ByteStream, ContentError> {
    match fetched {
        Err(error) if error.is_not_found() => match descriptor.data() {
            Some(Ok(data)) => Ok(in_memory(data, offset)),
            Some(Err(wrong)) => {
                let hint = Some("get the image again from its origin".into());
                Err(Cause::Other { message: wrong.to_string(), hint }.of(error.operation))
            }
            None => Err(error),
        },
        fetched => fetched,
    }
}
