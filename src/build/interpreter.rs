//! The Python that packages are installed for, and the wheels that it takes.

use std::collections::BTreeMap;

use ociforge_layers::source::wheel::Scheme;
use ociforge_layers::{FileIndex, PathError};
use ociforge_manifests::Platform;

use super::base_files;
use super::python::matching;
use super::steps::failed;
use super::wheelhouse::{self, Ground, Study, Wheelhouse};
use super::{BuildError, Builder};
use crate::base::BaseImage;
use crate::base::facts::{self, Contents, Facts};
use crate::lock::{self, LockedSource, LockedWheel, Origin, Requirements, Resolution, Sources, Target};
use crate::plan::{Pip, Plan, StatedPython, Step};

/// The Python that packages are for.
pub(super) struct Interpreter {
    target: Target,
    pub(super) scheme: Scheme,
    /// What else is known of the base; nothing where the recipe states the Python.
    facts: Option<Facts>,
}

/// What a step installs.
#[derive(Default)]
pub(super) struct Packages {
    pub(super) wheels: Vec<LockedWheel>,
    /// What has no wheel and is to be built.
    pub(super) sources: Vec<LockedSource>,
}

impl Interpreter {
    /// The Python that packages are for; and the base's files, where the base was read to find it.
    pub(super) async fn of(
        builder: &Builder,
        plan: &Plan,
        platform: &Platform,
        base: &BaseImage,
        name: &str,
    ) -> Result<(Self, Option<FileIndex>), BuildError> {
        let none = || BuildError::NoPython { base: name.to_owned() };
        if let Some(StatedPython { version, site_packages, executable }) = &plan.python {
            let target = Target {
                python: version.to_string().parse().map_err(|_| none())?,
                platform: platform.clone(),
                libc: Target::LIBC,
            };
            let scheme = Scheme::new(site_packages.clone(), (version.major, version.minor), executable.clone());
            let scheme = scheme.map_err(|_| none())?;
            return Ok((Self { target, scheme, facts: None }, None));
        }
        let Contents { facts, files } = base_files::contents(builder, base).await?;
        let python = facts.python.as_ref().ok_or_else(none)?;
        let target = Target::of_base(&facts, platform).ok_or_else(none)?;
        let scheme = scheme(python, target.python.minor, &facts).map_err(|_| none())?;
        Ok((Self { target, scheme, facts: Some(facts) }, Some(files)))
    }

    /// The packages of one step: the wheels on disk, those of the user's own lock, what `locked` has, or what uv finds
    /// now. What the sandbox has to tell of sources is asked on `ground`.
    pub(super) async fn packages(
        &self,
        builder: &Builder,
        plan: &Plan,
        step: &Step,
        pip: &Pip,
        locked: Option<Packages>,
        ground: &Ground,
    ) -> Result<Packages, BuildError> {
        let wheelhouse = self.wheelhouse(builder, plan, ground);
        let mut packages = Packages::default();
        let mut known = Sources::default();
        let requirements = match (pip, locked) {
            (Pip::Wheels(pattern), _) => {
                let files = matching(pattern, &plan.directory).map_err(|error| failed(step, error))?;
                packages.wheels = lock::local(&files, &self.target, &plan.directory)?;
                return Ok(packages);
            }
            (Pip::Lock(file), _) => Requirements::Lock(file.clone()),
            (_, Some(locked)) => return Ok(locked),
            (Pip::Requirements(list), None) => Requirements::List(list.clone()),
            (Pip::File(file), None) => Requirements::File(file.clone()),
            (Pip::Project { directory, extras }, None) => {
                let Study { metadata, requires } = wheelhouse.study_project(directory).await?;
                let (name, version) = wheelhouse::project(&metadata, directory)?;
                known.add_project(&name, &version, &metadata);
                let requirement = format!("{name}[{}]=={version}", extras.join(","));
                let origin = Origin::Project { name, directory: directory.clone() };
                packages.sources.push(LockedSource { origin, requires });
                Requirements::List(vec![requirement])
            }
        };
        let options = lock::index_options(&requirements, &plan.directory);
        let mut studied = BTreeMap::new();
        let task = builder.reporter.task(&format!("resolve {}", step.description), None);
        let resolution = loop {
            let resolution = self.resolve(plan, &requirements, &mut known).await?;
            let unknown: Vec<_> = resolution.sdists.iter().filter(|archive| !known.knows(archive)).cloned().collect();
            if unknown.is_empty() {
                break resolution;
            }
            for archive in unknown {
                let Study { metadata, requires } = wheelhouse.study_sdist(&archive, &options).await?;
                known.learn(&archive, &metadata);
                studied.insert(archive.sha256, requires);
            }
        };
        for archive in resolution.sdists {
            let requires = studied.remove(&archive.sha256).unwrap_or_default();
            packages.sources.push(LockedSource { origin: Origin::Sdist(archive), requires });
        }
        packages.wheels = resolution.wheels;
        let (wheels, sources) = (packages.wheels.len(), packages.sources.len());
        let sources = if sources == 0 { String::new() } else { format!(", {sources} to be built") };
        task.done(&format!("{wheels} wheels{sources}"));
        for lock::Replaced { name, old, new } in &resolution.replaced {
            builder.reporter.warn(&format!("{name} {new} is installed over the base's {name} {old}, whose files stay"));
        }
        Ok(packages)
    }

    async fn resolve(
        &self,
        plan: &Plan,
        requirements: &Requirements,
        known: &mut Sources,
    ) -> Result<Resolution, BuildError> {
        let (target, facts, directory) = (self.target.clone(), self.facts.clone(), plan.directory.clone());
        let (requirements, mut sources) = (requirements.clone(), known.clone());
        let resolved = tokio::task::spawn_blocking(move || {
            let resolution = lock::resolve(&requirements, &target, facts.as_ref(), &directory, &mut sources);
            resolution.map(|resolution| (resolution, sources))
        });
        let (resolution, sources) = resolved.await.map_err(|_| BuildError::Interrupted)??;
        *known = sources;
        Ok(resolution)
    }

    /// Where wheels for this Python are built.
    pub(super) fn wheelhouse<'a>(&'a self, builder: &'a Builder, plan: &'a Plan, ground: &'a Ground) -> Wheelhouse<'a> {
        Wheelhouse { builder, plan, scheme: &self.scheme, target: &self.target, facts: self.facts.as_ref(), ground }
    }
}

/// How the base's own pip would install: its scripts differ a little from one version of pip to the next.
fn scheme(python: &facts::Python, minor: u32, facts: &Facts) -> Result<Scheme, PathError> {
    let scheme = Scheme::new(python.site_packages.parse()?, (3, minor), python.executable.clone())?;
    let scheme = if python.venv { scheme.in_venv()? } else { scheme };
    let pip = facts.distributions.iter().find(|distribution| distribution.normalized_name() == "pip");
    let mut numbers = pip.map_or("", |pip| pip.version.as_str()).split('.').map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => Ok(scheme.like_pip((major, minor))),
        _ => Ok(scheme),
    }
}
