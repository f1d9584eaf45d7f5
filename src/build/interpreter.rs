//! The Python that packages are installed for, and the wheels that it takes.

use ociforge_layers::PathError;
use ociforge_layers::source::wheel::Scheme;
use ociforge_manifests::Platform;

use super::python::matching;
use super::steps::failed;
use super::{BuildError, Builder};
use crate::base::BaseImage;
use crate::base::facts::{self, Facts};
use crate::lock::{self, LockedWheel, Requirements, Target};
use crate::plan::{Pip, Plan, StatedPython, Step};
use crate::transfer::Overlay;

/// The Python that packages are for.
pub(super) struct Interpreter {
    target: Target,
    pub(super) scheme: Scheme,
    /// What else is known of the base; nothing where the recipe states the Python.
    facts: Option<Facts>,
}

impl Interpreter {
    pub(super) async fn of(
        builder: &Builder,
        plan: &Plan,
        platform: &Platform,
        base: &BaseImage,
        name: &str,
    ) -> Result<Self, BuildError> {
        let none = || BuildError::NoPython { base: name.to_owned() };
        if let Some(StatedPython { version, site_packages, executable }) = &plan.python {
            let target = Target {
                python: version.to_string().parse().map_err(|_| none())?,
                platform: platform.clone(),
                libc: Target::LIBC,
            };
            let scheme = Scheme::new(site_packages.clone(), (version.major, version.minor), executable.clone());
            let scheme = scheme.map_err(|_| none())?;
            return Ok(Self { target, scheme, facts: None });
        }
        let source = base.source.as_ref().ok_or_else(none)?;
        // Layers that are here already are read here.
        let source = Overlay::new(&[], builder.store.layout(), Some(&**source));
        let facts = facts::facts(&base.image, &source, &builder.store.facts(), &*builder.reporter).await;
        let facts = facts.map_err(|source| BuildError::Facts { name: name.to_owned(), source: Box::new(source) })?;
        let python = facts.python.as_ref().ok_or_else(none)?;
        let target = Target::of_base(&facts, platform).ok_or_else(none)?;
        let scheme = scheme(python, target.python.minor, &facts).map_err(|_| none())?;
        Ok(Self { target, scheme, facts: Some(facts) })
    }

    /// The wheels of one step: those on disk, those of the user's own lock, those that `locked` has, or those that uv
    /// finds now.
    pub(super) async fn wheels(
        &self,
        builder: &Builder,
        plan: &Plan,
        step: &Step,
        pip: &Pip,
        locked: Option<Vec<LockedWheel>>,
    ) -> Result<Vec<LockedWheel>, BuildError> {
        let requirements = match (pip, locked) {
            (Pip::Wheels(pattern), _) => {
                let files = matching(pattern, &plan.directory).map_err(|error| failed(step, error))?;
                return Ok(lock::local(&files, &self.target, &plan.directory)?);
            }
            (Pip::Lock(file), _) => Requirements::Lock(file.clone()),
            (Pip::Project { .. }, _) => return Err(BuildError::Interrupted),
            (_, Some(locked)) => return Ok(locked),
            (Pip::Requirements(list), None) => Requirements::List(list.clone()),
            (Pip::File(file), None) => Requirements::File(file.clone()),
        };
        let (target, facts, directory) = (self.target.clone(), self.facts.clone(), plan.directory.clone());
        let task = builder.reporter.task(&format!("resolve {}", step.description), None);
        let resolved = tokio::task::spawn_blocking(move || {
            lock::resolve(&requirements, &target, facts.as_ref(), &directory, &mut lock::Sources::default())
        });
        let resolution = resolved.await.map_err(|_| BuildError::Interrupted)??;
        task.done(&format!("{} wheels", resolution.wheels.len()));
        for lock::Replaced { name, old, new } in &resolution.replaced {
            builder.reporter.warn(&format!("{name} {new} is installed over the base's {name} {old}, whose files stay"));
        }
        Ok(resolution.wheels)
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
