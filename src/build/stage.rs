//! The stages of a build: each is a base for later stages, or a source of their copies.

use std::collections::BTreeMap;

use ociforge_layers::source::image::ImageFilesError;
use ociforge_layers::{BaseFiles, LayerPath, LowerLayers, PackError, PathSources, PlaceError};
use ociforge_manifests::{Descriptor, Digest, Image, ImageName, Platform};
use tokio::runtime::Handle;

use super::error::failed;
use super::pins::Pins;
use super::{BuildError, Builder, Built, BuiltLayer, base_files, new_layer};
use crate::base::BaseImage;
use crate::layer::{ImageOrigin, LayerError, SourceImage, Step};
use crate::lock::Lock;
use crate::plan::{Base, Plan, Stage};
use crate::python::install::correction;
use crate::rootfs::files::ReadFilesError;
use crate::transport::ImageSourceError;

/// A stage that is built, or, while a recipe is locked, only resolved; an image is one, too.
#[derive(Clone)]
pub(super) struct StageImage {
    /// The image at the bottom of the stage's chain of bases.
    pub(super) root: BaseImage,
    /// The image of the stage. A stage that is only resolved has the layers of its root.
    pub(super) image: Image,
    /// The files of the root, and those of the layers on top of it.
    pub(super) below: LowerLayers,
}

/// The stages so far, by their index in the plan.
pub(super) type StageImages = BTreeMap<usize, StageImage>;

/// A stage to build or to lock, for one platform.
#[derive(Clone, Copy)]
pub(super) struct StageInput<'a> {
    pub(super) plan: &'a Plan,
    /// The index of the stage in the plan.
    pub(super) index: usize,
    pub(super) platform: &'a Platform,
    /// The pins of an earlier resolution.
    pub(super) lock: Option<&'a Lock>,
    /// Whether the stage is built, and not only locked.
    pub(super) is_build: bool,
    /// The stages before it that the image needs.
    pub(super) earlier: &'a StageImages,
}

impl<'a> StageInput<'a> {
    pub(super) fn stage(&self) -> &'a Stage {
        &self.plan.stages[self.index]
    }

    /// An earlier stage, by its index in the plan.
    fn earlier(&self, index: usize) -> Result<&'a StageImage, BuildError> {
        self.earlier.get(&index).ok_or(BuildError::Internal("a stage is missing"))
    }
}

impl StageImage {
    /// The stage as the base of another one.
    pub(super) fn as_base(&self) -> BaseImage {
        BaseImage { image: self.image.clone(), ..self.root.clone() }
    }

    /// Resolves the base of a stage: an earlier stage, or an image, which is its own root.
    pub(super) async fn base_of(builder: &Builder, input: StageInput<'_>) -> Result<Self, BuildError> {
        let stage = input.stage();
        let name = match &stage.base {
            Base::Stage(below) => return input.earlier(*below).cloned(),
            Base::Image(name) => Some(input.plan.resolve(name)),
            Base::Scratch => None,
        };
        let pinned = input.lock.and_then(|lock| lock.base_of(&input.platform.to_string(), stage.name.as_deref()));
        let base = builder.resolve(name.as_ref(), input.platform, pinned.map(|base| &base.digest));
        let base = base.await.map_err(|source| {
            let mut name = name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
            if let Some(stage) = &stage.name {
                name.push_str(&format!(" of the stage `{stage}`"));
            }
            BuildError::Base { name, source: Box::new(source) }
        })?;
        if input.is_build && input.plan.runs_on(input.index) {
            builder.state.note_runs_on(base.image.manifest.digest());
        }
        let files = base_files::known(builder, &base, pinned).await?;
        Ok(Self { image: base.image.clone(), root: base, below: LowerLayers::new(files) })
    }
}

impl Builder {
    /// Resolves an image, or `scratch` without a name, once in a build: its tag may move meanwhile.
    async fn resolve(
        &self,
        name: Option<&ImageName>,
        platform: &Platform,
        pinned: Option<&Digest>,
    ) -> Result<BaseImage, ImageSourceError> {
        let key = (name.map(ToString::to_string), platform.to_string(), pinned.cloned());
        if let Some(image) = self.state.resolved(&key) {
            return Ok(image);
        }
        let image = BaseImage::resolve(name, platform, pinned, &self.client).await?;
        self.state.note_resolved(key, image.clone());
        Ok(image)
    }

    /// Builds a stage on top of earlier stages.
    pub(super) async fn stage(&self, input: StageInput<'_>) -> Result<(Built, StageImage), BuildError> {
        let StageInput { plan, platform, .. } = input;
        let mut pins = Pins::find(self, input).await?;
        pins.sources = self.copy_sources(input).await?;
        if pins.below.is_assumed()
            && let Some(files) = self.state.read(&pins.root.image.manifest.digest())
        {
            pins.below.set_base(BaseFiles::Known(files));
        }
        let mut is_base_read = false;
        let (layers, below) = loop {
            let error = match self.layers(input, &pins).await {
                Ok(layers) => break layers,
                Err(error) => error,
            };
            if let Some(path) = error.unknown_path().filter(|_| !is_base_read) {
                self.reporter.note(&format!("reading the base's layers to find {path}"));
                pins.read_base(self).await?;
                is_base_read = true;
            } else if !self.corrects_wheels(&error)? {
                return Err(error);
            }
        };
        self.note_assumed(&pins);
        let is_target = plan.is_target(input.index);
        let annotations = if is_target { super::annotations(&pins.root, plan) } else { BTreeMap::new() };
        let new: Vec<_> = layers.iter().map(new_layer).collect();
        let image = pins.base.image.append(&new, &pins.config, &self.epoch.rfc3339(), &annotations)?;
        if is_target {
            self.lint(plan, &pins, &image);
        }
        let stage = StageImage { root: pins.root, image: image.clone(), below };
        Ok((Built { platform: platform.clone(), image, base: pins.base, layers }, stage))
    }

    /// Whether a layer cannot be packed because of a wrong RECORD of a wheel, which is now corrected.
    fn corrects_wheels(&self, error: &BuildError) -> Result<bool, BuildError> {
        let BuildError::Pack { source: PackError::Content { path, .. }, .. } = error else { return Ok(false) };
        let wheels = self.state.wheels();
        Ok(tokio::task::block_in_place(|| correction::correct(&wheels, path, &*self.reporter))?)
    }

    /// The stages and images that steps copy from, by the index of the step.
    async fn copy_sources(&self, input: StageInput<'_>) -> Result<BTreeMap<usize, SourceImage>, BuildError> {
        let mut sources = BTreeMap::new();
        for (n, step) in input.stage().steps.iter().enumerate() {
            let Some((origin, path)) = step.kind.as_kind().copies_from() else { continue };
            let source = match origin {
                ImageOrigin::Stage(stage) => self.stage_source(input.earlier(*stage)?, path, step).await?,
                ImageOrigin::Image(name) => {
                    let image = self.copied_image(input, step, name).await?;
                    self.source(&image.image, None, image.image.manifest.layers.clone(), &image)
                }
            };
            sources.insert(n, source);
        }
        Ok(sources)
    }

    /// The image that a step copies from.
    pub(super) async fn copied_image(
        &self,
        input: StageInput<'_>,
        step: &Step,
        name: &ImageName,
    ) -> Result<BaseImage, BuildError> {
        let pinned = input.lock.and_then(|lock| lock.image(&input.platform.to_string(), &name.to_string()));
        let name = input.plan.resolve(name);
        let image = self.resolve(Some(&name), input.platform, pinned.map(|image| &image.digest)).await;
        let (name, line) = (name.to_string(), step.line);
        image.map_err(|source| BuildError::CopiedImage { name, line, source: Box::new(source) })
    }

    /// The layers of a stage that have files at `path`. Reads the layers of the stage's root if its files are not known.
    async fn stage_source(&self, stage: &StageImage, path: &LayerPath, step: &Step) -> Result<SourceImage, BuildError> {
        let found = match stage.below.sources(path) {
            Err(PlaceError::Unknown(_)) => {
                let files = base_files::contents(self, &stage.root).await?.files;
                self.state.note_read(stage.root.image.manifest.digest(), files.clone());
                let mut below = stage.below.clone();
                below.set_base(BaseFiles::Known(files));
                below.sources(path)
            }
            found => found,
        };
        let found = found.map_err(|error| match error {
            PlaceError::Loop { path } => {
                failed(step, LayerError::from(ReadFilesError::from(ImageFilesError::Loop(path))))
            }
            error => failed(step, error),
        });
        let PathSources { path, base, layers: own } = found?;
        let all = &stage.image.manifest.layers;
        let of_root = all.len().saturating_sub(stage.below.layer_count());
        let is_needed = |n: &usize| if *n < of_root { base } else { own.contains(&(n - of_root)) };
        let layers = all.iter().enumerate().filter(|(n, _)| is_needed(n)).map(|(_, layer)| layer.clone());
        Ok(self.source(&stage.image, Some(path), layers.collect(), &stage.root))
    }

    fn source(&self, image: &Image, path: Option<LayerPath>, layers: Vec<Descriptor>, root: &BaseImage) -> SourceImage {
        SourceImage {
            diff_ids: image.config.rootfs.diff_ids.clone(),
            path,
            layers,
            store: self.store.layout().clone(),
            source: root.source.clone(),
            reporter: self.reporter.clone(),
            runtime: Handle::current(),
        }
    }
}

/// The new layers of a stage, and the files below a layer on top of them.
pub(super) type StageLayers = (Vec<BuiltLayer>, LowerLayers);
