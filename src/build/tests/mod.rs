//! Real builds with real backends, in namespaces of their own.

mod reproducible;
mod sources;
mod testbed;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use ociforge_manifests::lint::Finding;
use testbed::{PYTHON, Testbed};

use super::*;
use crate::cancel::Cancel;
use crate::error::Failure;
use crate::layer::{Pip, Step, StepConfig, StepKind};
use crate::lock::Lock;
use crate::plan;
use crate::progress::{Progress, Reporter};
use crate::python::LockedWheel;
use crate::python::build::archive as archive_of;
use crate::registry::{Client, Settings};
use crate::store::Store;

/// A recipe's directory, a store, and an isolated runner.
struct Place {
    directory: tempfile::TempDir,
    bed: Arc<Testbed>,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn task(&self, _: &str, _: Option<u64>) -> Box<dyn Progress> {
        Box::new(())
    }
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn warn(&self, _: &str) {}
    fn finding(&self, _: &Finding) {}
}

impl Place {
    fn new() -> Self {
        Self::with(Testbed::default())
    }

    fn with(bed: Testbed) -> Self {
        Self { directory: tempfile::tempdir_in("/var/tmp").unwrap(), bed: Arc::new(bed), notes: Arc::default() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.directory.path().join("recipe").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn builder(&self) -> Builder {
        Builder {
            store: Store::open(&self.directory.path().join("store")).unwrap(),
            client: Client::new(Settings::from_env()).unwrap(),
            reporter: self.notes.clone(),
            cancel: Cancel::default(),
            compression: Default::default(),
            use_cache: true,
            epoch: Epoch::default(),
            sandbox: Err(Arc::new(ociforge_sandbox::SandboxError::Outside)),
            isolated: Some(self.bed.clone()),
            check_base: false,
            state: Arc::default(),
        }
    }

    /// A plan with one layer of packages.
    fn plan(&self, pip: Pip) -> Plan {
        let version = std::process::Command::new(PYTHON).arg("-V").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap().trim().replace("Python ", "");
        let minor = version.rsplit_once('.').unwrap().0;
        let site = format!("/usr/local/lib/python{minor}/dist-packages");
        let python = format!("version = '{version}'\nsite-packages = '{site}'\nexecutable = '{PYTHON}'");
        self.write("ociforge.toml", format!("base = 'scratch'\n[python]\n{python}\n"));
        let mut plan = plan::read(&self.directory.path().join("recipe"), &BTreeMap::new()).unwrap();
        let kind = StepKind::Pip(pip);
        let (config, description) = (StepConfig::default(), "pip x".into());
        plan.stages[0].steps.push(Step { kind, config, line: 7, description, bytecode: true });
        plan
    }

    async fn lock(&self, plan: &Plan) -> Result<Lock, Failure> {
        Ok(lock_file(&self.builder(), plan, &[Platform::default()]).await?)
    }

    /// The wheels of the plan's only layer.
    async fn wheels(&self, builder: &Builder, plan: &Plan, lock: &Lock) -> Result<Vec<LocalWheel>, Failure> {
        let pins = Pins::find(
            builder,
            StageInput {
                plan,
                index: 0,
                platform: &Platform::default(),
                lock: Some(lock),
                is_build: true,
                earlier: &BTreeMap::new(),
            },
        )
        .await?;
        Ok(pins.fetch(builder, plan, 0, &pins.build_context).await?)
    }

    fn jobs(&self) -> Vec<String> {
        std::mem::take(&mut *self.bed.labels.lock().unwrap())
    }
}

fn requirements(list: &[&str]) -> Pip {
    Pip::Requirements(list.iter().map(|text| (*text).to_owned()).collect())
}

fn names(wheels: &[LockedWheel]) -> Vec<&str> {
    wheels.iter().map(|wheel| wheel.name.as_str()).collect()
}

/// A project whose backend is its own, in Python.
fn own_backend(place: &Place, hooks: &str) -> Plan {
    let table = "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n\
                 [project]\nname = 'app'\nversion = '1'\n";
    place.write("pyproject.toml", table);
    place.write("own.py", hooks);
    place.plan(Pip::Project { directory: ".".into(), extras: vec![] })
}
