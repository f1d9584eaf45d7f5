//! The Python of the base, and the wheels that it can use.

use std::collections::BTreeMap;

use ociforge_layers::source::wheel::Scheme;
use ociforge_layers::{FileIndex, PathError};
use ociforge_manifests::Platform;

use super::base_files;
use super::error::failed;
use super::libc::BaseLibc;
use super::pins::project_files;
use super::{BuildError, Builder};
use crate::base::BaseImage;
use crate::base::facts::{self, BaseFacts, Contents};
use crate::bytes::counted;
use crate::layer::{Pip, Step, stays_inside};
use crate::plan::{Libc, Plan, StatedPython};
use crate::python::build::{BuildContext, SourceMetadata, WheelBuilder, project};
use crate::python::install::matching;
use crate::python::{
    self, LockedSource, LockedWheel, PackageProblem, Python3Version, Requirements, Resolution, ResolveError,
    SourceLocation, Sources, WheelTarget,
};

/// The Python that the packages are for.
pub(super) struct Interpreter {
    /// Its C library is an assumption until `libc` knows it.
    target: WheelTarget,
    libc: BaseLibc,
    pub(super) scheme: Scheme,
    /// Other facts about the base; `None` if the recipe states the Python.
    facts: Option<BaseFacts>,
}

/// The packages of a step.
#[derive(Default)]
pub(super) struct Packages {
    pub(super) wheels: Vec<LockedWheel>,
    /// The packages without a wheel, to be built.
    pub(super) sources: Vec<LockedSource>,
}

impl Interpreter {
    /// Finds the Python. Returns the base's files, too, if the base was read for it.
    pub(super) async fn of(
        builder: &Builder,
        stated: Option<&StatedPython>,
        platform: &Platform,
        base: &BaseImage,
    ) -> Result<(Self, Option<FileIndex>), BuildError> {
        let name = &base.name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
        let none = || BuildError::NoPython { base: name.clone() };
        let target = |version: &str| -> Result<WheelTarget, BuildError> {
            let python: Python3Version = version.parse().map_err(|_| none())?;
            Ok(WheelTarget { python, platform: platform.clone(), libc: WheelTarget::ASSUMED_LIBC })
        };
        if let Some(StatedPython { version, site_packages, executable, libc }) = stated {
            let scheme = Scheme::new(site_packages.clone(), (version.major, version.minor), executable.clone());
            let (scheme, libc) = (scheme.map_err(|_| none())?, BaseLibc::new(*libc, base, name));
            return Ok((Self { target: target(&version.to_string())?, libc, scheme, facts: None }, None));
        }
        if base.source.is_none() {
            return Err(none());
        }
        let Contents { facts, files } = base_files::contents(builder, base).await?;
        let python = facts.python.as_ref().ok_or_else(none)?;
        let target = target(python.full_version.as_ref().unwrap_or(&python.version))?;
        let scheme = scheme(python, target.python.minor, &facts).map_err(|_| none())?;
        let libc = BaseLibc::new(facts.libc, base, name);
        Ok((Self { target, libc, scheme, facts: Some(facts) }, Some(files)))
    }

    /// The packages of one step: wheels on disk, those of a `pylock.toml`, those of `locked`, or a new resolution by
    /// uv. Sources report their metadata in the sandbox of `build_context`.
    pub(super) async fn packages(
        &self,
        builder: &Builder,
        plan: &Plan,
        step: &Step,
        pip: &Pip,
        locked: Option<Packages>,
        build_context: &BuildContext,
    ) -> Result<Packages, BuildError> {
        let wheel_builder = self.wheel_builder(builder, plan, build_context);
        let mut packages = Packages::default();
        let mut known = Sources::default();
        let requirements = match (pip, locked) {
            (Pip::Wheels(pattern), _) => {
                packages.wheels = self.local(builder, plan, step, pattern).await?;
                return Ok(packages);
            }
            (Pip::Lock(file, selection), locked) => {
                stays_inside(&plan.directory, &plan.locate(file)).map_err(|error| failed(step, error))?;
                let requirements = Requirements::Lock(file.clone(), selection.clone());
                return self.of_lock(builder, plan, step, &requirements, locked, &wheel_builder).await;
            }
            (_, Some(locked)) => return Ok(locked),
            (Pip::Requirements(list), None) => Requirements::List(list.clone()),
            (Pip::File(file), None) => Requirements::File(file.clone()),
            (Pip::Project { directory, extras }, None) => {
                let SourceMetadata { metadata, requires } = wheel_builder.study_project(directory).await?;
                let (name, version) = project(&metadata, directory)?;
                known.add_project(&name, &version, &metadata);
                let requirement = format!("{name}[{}]=={version}", extras.join(","));
                let origin = SourceLocation::Project { name, directory: directory.clone() };
                packages.sources.push(LockedSource { origin, requires });
                Requirements::List(vec![requirement])
            }
        };
        let options = python::index_options(&requirements, &plan.directory);
        let mut studied = BTreeMap::new();
        let task = builder.reporter.task(&format!("resolve {}", step.description), None);
        let resolution = loop {
            let resolution = self.resolve(builder, plan, &requirements, &mut known).await?;
            let unknown: Vec<_> = resolution.sdists.iter().filter(|archive| !known.knows(archive)).cloned().collect();
            if unknown.is_empty() {
                break resolution;
            }
            for archive in unknown {
                let SourceMetadata { metadata, requires } = wheel_builder.study_sdist(&archive, &options).await?;
                known.learn(&archive, &metadata);
                studied.insert(archive.sha256, requires);
            }
        };
        tell(builder, &resolution);
        for archive in resolution.sdists {
            let requires = studied.remove(&archive.sha256).unwrap_or_default();
            packages.sources.push(LockedSource { origin: SourceLocation::Sdist(archive), requires });
        }
        packages.wheels = resolution.wheels;
        task.done(&packages.counted());
        Ok(packages)
    }

    /// The wheels on disk that match the pattern.
    async fn local(
        &self,
        builder: &Builder,
        plan: &Plan,
        step: &Step,
        pattern: &str,
    ) -> Result<Vec<LockedWheel>, BuildError> {
        let files = matching(pattern, &plan.directory).map_err(|error| failed(step, error))?;
        let wheels = python::local(&files, &self.target, &plan.directory, &builder.store.file_hashes())?;
        let libc = match self.libc.known(builder) {
            None if python::misfits(&wheels, &self.target).next().is_some() => self.libc.ask(builder).await?,
            known => known,
        };
        match libc {
            Some(libc) => python::check_libc(&wheels, &self.on(libc))?,
            None => python::misfits(&wheels, &self.target).for_each(|wheel| {
                let file = &wheel.file;
                builder.reporter.warn(&format!("{file} is installed, but may not run with the base's C library"));
            }),
        }
        Ok(wheels)
    }

    /// The packages of a `pylock.toml`. The build requirements of packages without a wheel come from `locked`, or else
    /// from a new resolution.
    async fn of_lock(
        &self,
        builder: &Builder,
        plan: &Plan,
        step: &Step,
        requirements: &Requirements,
        locked: Option<Packages>,
        wheel_builder: &WheelBuilder<'_>,
    ) -> Result<Packages, BuildError> {
        let resolution = self.resolve(builder, plan, requirements, &mut Sources::default()).await?;
        tell(builder, &resolution);
        let archives = resolution.sdists.into_iter().map(SourceLocation::Sdist);
        let projects =
            resolution.projects.into_iter().map(|(name, directory)| SourceLocation::Project { name, directory });
        let mut packages = Packages { wheels: resolution.wheels, sources: Vec::new() };
        for origin in archives.chain(projects) {
            if let SourceLocation::Project { directory, .. } = &origin {
                project_files(plan, directory).map_err(|error| failed(step, error))?;
            }
            let pinned = locked.as_ref().map(|locked| locked.sources.iter().find(|source| source.origin == origin));
            let requires = match (pinned, &origin) {
                (Some(Some(source)), _) => source.requires.clone(),
                (Some(None), _) => {
                    let name = LockedSource { origin, requires: Vec::new() }.name().to_owned();
                    return Err(ResolveError::Package { name, problem: PackageProblem::Unpinned }.into());
                }
                (None, SourceLocation::Sdist(archive)) => wheel_builder.study_sdist(archive, &[]).await?.requires,
                (None, SourceLocation::Project { directory, .. }) => {
                    wheel_builder.study_project(directory).await?.requires
                }
            };
            packages.sources.push(LockedSource { origin, requires });
        }
        Ok(packages)
    }

    /// Resolves for the base's C library. If it is unknown, the base is read only if the C library makes a difference:
    /// if a newer one gives other packages, or no packages run on the assumed one.
    async fn resolve(
        &self,
        builder: &Builder,
        plan: &Plan,
        requirements: &Requirements,
        known: &mut Sources,
    ) -> Result<Resolution, BuildError> {
        let with = async |libc, sources: &mut Sources| self.attempt(plan, requirements, libc, sources).await;
        if let Some(libc) = self.libc.known(builder) {
            return with(libc, known).await;
        }
        // Packages for an older C library also run on the newest. So this resolution is right for the assumed C
        // library, too, if all of its packages run there.
        let mut sources = known.clone();
        let newest = with(WheelTarget::NEWEST_LIBC, &mut sources).await;
        if let Ok(newest) = &newest
            && newest.runs_on(&self.target)
        {
            *known = sources;
            return Ok(newest.clone());
        }
        let mut sources = known.clone();
        let assumed = with(self.target.libc, &mut sources).await;
        let alike = matches!((&assumed, &newest), (Ok(assumed), Ok(newest)) if assumed.is_like(newest));
        match if alike { None } else { self.libc.ask(builder).await? } {
            Some(libc) => with(libc, known).await,
            None => {
                *known = sources;
                assumed
            }
        }
    }

    async fn attempt(
        &self,
        plan: &Plan,
        requirements: &Requirements,
        libc: Libc,
        known: &mut Sources,
    ) -> Result<Resolution, BuildError> {
        let (target, facts, directory) = (self.on(libc), self.facts.clone(), plan.directory.clone());
        let (requirements, mut sources) = (requirements.clone(), known.clone());
        let resolved = tokio::task::spawn_blocking(move || {
            let resolution = python::resolve(&requirements, &target, facts.as_ref(), &directory, &mut sources);
            resolution.map(|resolution| (resolution, sources))
        });
        let (resolution, sources) = resolved.await.map_err(BuildError::thread)??;
        *known = sources;
        Ok(resolution)
    }

    /// The target with this C library.
    fn on(&self, libc: Libc) -> WheelTarget {
        WheelTarget { libc, ..self.target.clone() }
    }

    /// The builder of wheels for this Python.
    pub(super) fn wheel_builder<'a>(
        &'a self,
        builder: &'a Builder,
        plan: &'a Plan,
        build_context: &'a BuildContext,
    ) -> WheelBuilder<'a> {
        let target = self.on(self.libc.known(builder).unwrap_or(self.target.libc));
        let Builder { store, reporter, use_cache, epoch, .. } = builder;
        let (reporter, use_cache, epoch) = (&**reporter, *use_cache, *epoch);
        WheelBuilder {
            store,
            reporter,
            use_cache,
            epoch,
            plan,
            scheme: &self.scheme,
            target,
            facts: self.facts.as_ref(),
            build_context,
        }
    }
}

impl Packages {
    /// The number of packages, for messages.
    fn counted(&self) -> String {
        let wheels = counted(self.wheels.len(), "wheel");
        if self.sources.is_empty() { wheels } else { format!("{wheels}, {} to build", self.sources.len()) }
    }
}

/// Reports the packages of the base that the resolution replaces.
fn tell(builder: &Builder, resolution: &Resolution) {
    for python::Replaced { name, old, new } in &resolution.replaced {
        builder.reporter.warn(&format!("{name} {new} is installed over the base's {name} {old}, whose files stay"));
    }
}

/// The installation scheme of the base's own pip: the scripts that pip writes depend on its version.
fn scheme(python: &facts::Python, minor: u32, facts: &BaseFacts) -> Result<Scheme, PathError> {
    let scheme = Scheme::new(python.site_packages.parse()?, (3, minor), python.executable.clone())?;
    let scheme = if python.venv { scheme.in_venv()? } else { scheme };
    let pip = facts.distributions.iter().find(|distribution| distribution.normalized_name() == "pip");
    let mut numbers = pip.map_or("", |pip| pip.version.as_str()).split('.').map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => Ok(scheme.like_pip((major, minor))),
        _ => Ok(scheme),
    }
}
