//! The stages of a build: each is a base for later stages, or a source of their copies.

use std::collections::BTreeMap;

use ociforge_layers::source::image::ImageFilesError;
use ociforge_layers::{BaseFiles, LayerPath, LowerLayers, PathSources, PlaceError};
use ociforge_manifests::{Descriptor, Image, ImageName, Platform};
use tokio::runtime::Handle;

use super::error::failed;
use super::pins::Pins;
use super::{BuildError, Builder, Built, BuiltLayer, base_files, new_layer};
use crate::base::BaseImage;
use crate::layer::{Copy, CopySource, ImageOrigin, LayerError, SourceImage, Step, StepKind};
use crate::lock::Lock;
use crate::plan::{Base, Plan};
use crate::rootfs::files::ReadFilesError;

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

impl StageImage {
    /// The stage as the base of another one.
    pub(super) fn as_base(&self) -> BaseImage {
        BaseImage { image: self.image.clone(), ..self.root.clone() }
    }

    /// Resolves the base of the stage `n`: an earlier stage, or an image, which is its own root.
    pub(super) async fn base_of(
        builder: &Builder,
        plan: &Plan,
        n: usize,
        platform: &Platform,
        lock: Option<&Lock>,
        stages: &StageImages,
    ) -> Result<Self, BuildError> {
        let stage = &plan.stages[n];
        let name = match &stage.base {
            Base::Stage(below) => {
                return stages.get(below).cloned().ok_or(BuildError::Interrupted);
            }
            Base::Image(name) => Some(plan.resolve(name)),
            Base::Scratch => None,
        };
        let pinned = lock.and_then(|lock| lock.base_of(&platform.to_string(), stage.name.as_deref()));
        let base = BaseImage::resolve(name.as_ref(), platform, pinned.map(|base| &base.digest), &builder.client);
        let base = base.await.map_err(|source| {
            let mut name = name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
            if let Some(stage) = &stage.name {
                name.push_str(&format!(" of the stage `{stage}`"));
            }
            BuildError::Base { name, source: Box::new(source) }
        })?;
        let files = base_files::known(builder, &base, pinned).await?;
        Ok(Self { image: base.image.clone(), root: base, below: LowerLayers::new(files) })
    }
}

impl Builder {
    /// Builds the stage `n` on top of earlier stages.
    pub(super) async fn stage(
        &self,
        plan: &Plan,
        n: usize,
        platform: &Platform,
        lock: Option<&Lock>,
        stages: &StageImages,
    ) -> Result<(Built, StageImage), BuildError> {
        let mut pins = Pins::find(self, plan, n, platform, lock, stages).await?;
        pins.sources = self.copy_sources(plan, n, platform, lock, stages).await?;
        if pins.below.is_assumed()
            && let Some(files) = self.state.read(&pins.root.image.manifest.digest())
        {
            pins.below.set_base(BaseFiles::Known(files));
        }
        let (layers, below) = match self.layers(plan, n, &pins).await {
            Err(error) => {
                let path = error.unknown_path().cloned().ok_or(error)?;
                self.reporter.note(&format!("what the base has at {path} is looked up in its layers"));
                pins.read_base(self).await?;
                self.layers(plan, n, &pins).await?
            }
            Ok(layers) => layers,
        };
        self.tell_assumed(&pins);
        let is_target = n + 1 == plan.stages.len();
        let annotations = if is_target { super::annotations(&pins.root, plan) } else { BTreeMap::new() };
        let new: Vec<_> = layers.iter().map(new_layer).collect();
        let image = pins.base.image.append(&new, &pins.config, &self.epoch.rfc3339(), &annotations)?;
        if is_target {
            self.lint(plan, &pins, &image);
        }
        let stage = StageImage { root: pins.root, image: image.clone(), below };
        Ok((Built { platform: platform.clone(), image, base: pins.base, layers }, stage))
    }

    /// The stages and images that steps copy from, by the index of the step.
    async fn copy_sources(
        &self,
        plan: &Plan,
        n: usize,
        platform: &Platform,
        lock: Option<&Lock>,
        stages: &StageImages,
    ) -> Result<BTreeMap<usize, SourceImage>, BuildError> {
        let (mut sources, mut images) = (BTreeMap::new(), BTreeMap::new());
        for (n, step) in plan.stages[n].steps.iter().enumerate() {
            let StepKind::Copy(Copy { from: CopySource::Image(origin, path), .. }) = &step.kind else { continue };
            let source = match origin {
                ImageOrigin::Stage(stage) => {
                    let stage = stages.get(stage).ok_or(BuildError::Interrupted)?;
                    self.stage_source(stage, path, step).await?
                }
                ImageOrigin::Image(name) => {
                    let image = match images.remove(&name.to_string()) {
                        Some(image) => image,
                        None => self.copied_image(plan, step, name, platform, lock).await?,
                    };
                    let source = self.source(&image.image, None, image.image.manifest.layers.clone(), &image);
                    images.insert(name.to_string(), image);
                    source
                }
            };
            sources.insert(n, source);
        }
        Ok(sources)
    }

    /// The image that a step copies from.
    pub(super) async fn copied_image(
        &self,
        plan: &Plan,
        step: &Step,
        name: &ImageName,
        platform: &Platform,
        lock: Option<&Lock>,
    ) -> Result<BaseImage, BuildError> {
        let pinned = lock.and_then(|lock| lock.image(&platform.to_string(), &name.to_string()));
        let name = plan.resolve(name);
        let image = BaseImage::resolve(Some(&name), platform, pinned.map(|image| &image.digest), &self.client).await;
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
