//! The builder of `build` and `lock`.

use std::sync::Arc;

use ociforge_layers::Compression;

use super::Context;
use crate::build::{Builder, Epoch, Sandbox, Secrets};
use crate::error::Failure;

impl Context {
    /// The builder with the store, the client and the sandbox of this command.
    pub(super) fn builder(
        &self,
        compression: Compression,
        use_cache: bool,
        secrets: Secrets,
    ) -> Result<Builder, Failure> {
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        Ok(Builder {
            store: self.store()?,
            client: self.client()?,
            reporter: self.reporter.clone(),
            cancel: self.cancel.clone(),
            compression,
            use_cache,
            epoch: Epoch::parse(epoch.as_deref())?,
            sandbox: self.entered.clone().map(|entered| Arc::new(Sandbox::new(entered, secrets))),
            isolated: None,
            check_base: false,
            state: Arc::default(),
        })
    }
}
