//! The base's C library, which determines the wheels that run. If the recipe states a Python but no C library, the
//! base's layers are read only when it makes a difference.

use tokio::sync::OnceCell;

use super::{BuildError, Builder, base_files};
use crate::base::BaseImage;
use crate::base::facts;
use crate::plan::Libc;

/// The base's C library, if it is known.
pub(super) struct BaseLibc {
    /// From the recipe, or from the base once it is read; `None` inside if the base does not have it.
    known: OnceCell<Option<Libc>>,
    base: BaseImage,
    /// The base's name, for messages.
    name: String,
}

impl BaseLibc {
    pub(super) fn new(stated: Option<Libc>, base: &BaseImage, name: &str) -> Self {
        let known = stated.map_or_else(OnceCell::new, |libc| OnceCell::new_with(Some(Some(libc))));
        Self { known, base: base.clone(), name: name.to_owned() }
    }

    /// The C library, if it is known without reading the base's layers.
    pub(super) fn known(&self, builder: &Builder) -> Option<Libc> {
        let remembered = || facts::known(&self.base.image, &builder.store.facts())?.libc;
        self.known.get().copied().unwrap_or_else(remembered)
    }

    /// The C library of the base. Reads the base's layers once. `None`, with a warning, if they do not show it.
    pub(super) async fn ask(&self, builder: &Builder) -> Result<Option<Libc>, BuildError> {
        self.known.get_or_try_init(|| self.read(builder)).await.copied()
    }

    async fn read(&self, builder: &Builder) -> Result<Option<Libc>, BuildError> {
        let found = match self.base.source.is_some() {
            true => base_files::contents(builder, &self.base).await?.facts.libc,
            false => None,
        };
        if found.is_none() {
            builder.reporter.warn(&format!(
                "the C library of {} is unknown: set it in the recipe, such as [python] libc = \"glibc 2.36\"",
                self.name
            ));
        }
        Ok(found)
    }
}
