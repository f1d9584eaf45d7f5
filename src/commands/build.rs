//! `ociforge build`

mod output;

use std::collections::BTreeMap;

use ociforge_layers::Compression;
use ociforge_manifests::graph::{GraphNode, Index};
use ociforge_manifests::{Document, ImageName, media_type};
use serde_json::json;

use super::recipe::{lock_path, platforms};
use super::reexec::CommandError;
use super::{Context, FinalProcess, recipe};
use crate::build::{BuildError, Built, Secrets, recipe_digest};
use crate::cli::{self, BuildArgs, CompressionKind};
use crate::content::Source;
use crate::error::Failure;
use crate::lock::Lock;
use crate::plan::{Base, Plan};
use crate::transfer::Overlay;
use crate::transport::{self, BuiltImage};

/// Whether the recipe needs the sandbox. Errors of the recipe are reported later.
pub(super) fn runs(args: &BuildArgs) -> bool {
    let build_args: BTreeMap<_, _> = args.build_args.iter().cloned().collect();
    recipe::has_something_run(&args.recipe, &build_args)
}

pub(super) async fn run(context: &Context, args: BuildArgs) -> Result<Option<Box<dyn FinalProcess>>, CommandError> {
    let build_args: BTreeMap<_, _> = args.build_args.iter().cloned().collect();
    let mut plan = recipe::read(&args.recipe, &build_args)?;
    plan.allow.extend(&args.allow);
    if let Some(warning) = plan.runtime.gpus.as_ref().and_then(|gpus| gpus.warning("[runtime] gpus")) {
        context.reporter.warn(&warning);
    }
    let names = names(&plan, &args)?;
    output::check_files(&args)?;
    let platforms = platforms(&plan, args.platforms.clone());
    for output in &args.outputs {
        transport::of(output).check_platforms(platforms.len())?;
    }
    let secrets = Secrets::read(&args.steps.secrets, &plan, |name| std::env::var_os(name))?;
    if plan.needs_sandbox() {
        let entered =
            context.entered().map_err(|failure| failure.during("the recipe has steps that cannot run here"))?;
        context.reporter.note(&format!("steps run in {}", entered.describe()));
    }
    let mut builder = context.builder(compression(&args)?, !args.no_cache, secrets)?;
    builder.check_base = args.check_base;
    let lock = fitting_lock(context, &plan, &args)?;
    let mut built = Vec::new();
    for platform in platforms {
        built.push(builder.build(&plan, &platform, lock.as_ref()).await.map_err(command_error)?);
    }
    let node = node(&built)?;
    let documents: Vec<&[u8]> = built.iter().flat_map(|b| [b.image.manifest.bytes(), b.image.config.bytes()]).collect();
    // Images for several platforms may have several bases: read each blob from the base that has it.
    let bases = output::Bases(built.iter().filter_map(|b| Some((b.image.clone(), b.base.source.clone()?))).collect());
    let below: &dyn Source = &bases;
    let source = Overlay::new(&documents, builder.store.layout(), Some(below));
    output::keep(&builder, &built, &node, &names).await?;
    let image = BuiltImage {
        source: &source,
        node: &node,
        store: builder.store.layout(),
        jobs: args.jobs,
        client: &builder.client,
        reporter: &*context.reporter,
    };
    let shipped = output::ship(&image, &names, &args).await?;
    output::write_files(&args, &builder, &built, &node, shipped)?;
    let digest = node.descriptor().digest;
    let shown = names.first().map_or_else(String::new, |name| format!("{}@", without_tag(name)));
    cli::result(&format!("{shown}{digest}"))?;
    Ok(None)
}

/// Converts the error of a build: a build outside of namespaces may need to run again inside.
pub(super) fn command_error(error: BuildError) -> CommandError {
    if error.is_outside() { CommandError::NeedsNamespaces } else { error.into() }
}

/// The names of the image: those of the command line, or else that of the recipe.
fn names(plan: &Plan, args: &BuildArgs) -> Result<Vec<ImageName>, Failure> {
    // Not parsed by clap: its error repeats the text, which may contain a password.
    let given = args.tags.iter().map(|tag| Ok(tag.parse()?)).collect::<Result<Vec<ImageName>, Failure>>()?;
    for name in &given {
        let (why, hint) = match name {
            ImageName::Registry(reference) if reference.digest().is_some() => {
                ("has a digest, which is not known before the image is built", "give a tag")
            }
            ImageName::Registry(_) => continue,
            _ => ("is a location, not a name", "give locations with -o, and names in registries with -t"),
        };
        return Err(Failure::new(format!("`{name}` {why}")).hint(hint).usage());
    }
    let names = if given.is_empty() { plan.name.iter().cloned().map(ImageName::Registry).collect() } else { given };
    if names.is_empty() && args.push {
        return Err(Failure::new("the image has no name to push to")
            .hint("write `name` in the recipe, or give one with -t")
            .usage());
    }
    Ok(names)
}

fn without_tag(name: &ImageName) -> String {
    match name {
        ImageName::Registry(reference) => format!("{}/{}", reference.registry(), reference.repository()),
        other => other.to_string(),
    }
}

fn compression(args: &BuildArgs) -> Result<Compression, Failure> {
    let level = |default: u8, max: u8| match args.compression_level.unwrap_or(default) {
        level if level <= max => Ok(level),
        level => {
            Err(Failure::new(format!("the compression level {level} is not supported; the maximum is {max}")).usage())
        }
    };
    Ok(match args.compression {
        CompressionKind::Gzip => Compression::Gzip(level(6, 9)?.into()),
        CompressionKind::Zstd => Compression::Zstd(level(3, 19)?.into()),
        CompressionKind::None => Compression::None,
    })
}

/// The lock, if it matches the recipe. With `--locked` a missing or outdated lock is an error.
fn fitting_lock(context: &Context, plan: &Plan, args: &BuildArgs) -> Result<Option<Lock>, Failure> {
    let path = lock_path(plan);
    let lock = Lock::read(&path)?;
    let digest = recipe_digest(plan)?;
    let missing = |lock: &Lock| {
        let wanted = platforms(plan, args.platforms.clone()).into_iter().map(|platform| platform.to_string());
        let needed: Vec<_> = plan.needed().into_iter().map(|n| &plan.stages[n]).collect();
        let based = needed.iter().filter(|stage| matches!(stage.base, Base::Image(_)));
        let names: Vec<_> = based.map(|stage| stage.name.as_deref()).collect();
        let images: Vec<_> =
            needed.iter().flat_map(|stage| stage.copied_images()).map(|(_, name)| name.to_string()).collect();
        wanted.into_iter().find(|platform| {
            names.iter().any(|name| lock.base_of(platform, *name).is_none())
                || images.iter().any(|name| lock.image(platform, name).is_none())
        })
    };
    let why = match &lock {
        None => "is missing".to_owned(),
        Some(lock) if !lock.fits(&digest) => "does not match the recipe".to_owned(),
        Some(lock) => match missing(lock) {
            None => return Ok(Some(lock.clone())),
            Some(platform) => format!("has no entry for {platform}"),
        },
    };
    if args.locked {
        return Err(Failure::new(format!("{} {why}", path.display())).hint("run `ociforge lock`"));
    }
    if lock.is_some() {
        context.reporter.warn(&format!(
            "{} {why}: the base and the packages are resolved again; `ociforge lock` pins them",
            path.display()
        ));
    }
    Ok(None)
}

/// The manifest of a single platform, or an index of several.
fn node(built: &[Built]) -> Result<GraphNode, Failure> {
    if let [one] = built {
        return Ok(one.node());
    }
    let manifests = built.iter().map(|b| {
        let mut descriptor = b.image.manifest.descriptor(media_type::MANIFEST);
        descriptor.platform = Some(b.platform.clone());
        descriptor
    });
    let json = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests.collect::<Vec<_>>()});
    let index: Document<Index> =
        Document::from_json(json).map_err(|error| Failure::new("cannot create an index").caused_by(error))?;
    Ok(GraphNode::Index(Box::new(index)))
}
