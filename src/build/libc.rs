//! The base's C library, which decides the wheels that run on it. Where the recipe states a Python and not this, the base
//! is asked when it matters, and only then.

use tokio::sync::OnceCell;

use super::{BuildError, Builder, base_files};
use crate::base::BaseImage;
use crate::base::facts;
use crate::plan::Libc;

/// The base's C library, as far as it is known.
pub(super) struct BaseLibc {
    /// What was stated, or what the base said when it was asked: nothing, perhaps.
    known: OnceCell<Option<Libc>>,
    base: BaseImage,
    /// The base's name, for people.
    name: String,
}

impl BaseLibc {
    pub(super) fn new(stated: Option<Libc>, base: &BaseImage, name: &str) -> Self {
        let known = stated.map_or_else(OnceCell::new, |libc| OnceCell::new_with(Some(Some(libc))));
        Self { known, base: base.clone(), name: name.to_owned() }
    }

    /// What is known without reading the base's layers.
    pub(super) fn known(&self, builder: &Builder) -> Option<Libc> {
        let remembered = || facts::known(&self.base.image, &builder.store.facts())?.libc;
        self.known.get().copied().unwrap_or_else(remembered)
    }

    /// What the base says, its layers being read once; `None` when it says nothing, of which the user is told.
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
                "{} does not say which C library it has: state it in the recipe, such as [python] libc = \"glibc 2.36\"",
                self.name
            ));
        }
        Ok(found)
    }
}
