//! The workbench as a place where foreign code runs to build wheels.

use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::runtime::Network;

use super::StepError;
use super::fixtures::{Access, Fixture, What};
use super::workbench::{Job, Workbench};
use crate::lock::{self, OUT, Workshop, WorkshopError};
use ociforge_sandbox::step::Ended;

#[async_trait]
impl Workshop for Workbench {
    /// What the command changes besides its directory is lost.
    async fn run(&self, job: lock::Job) -> Result<(), WorkshopError> {
        let bind = |path, to, access| Fixture { to, what: What::Bind { path, access } };
        let mut fixtures: Vec<_> = job.binds.into_iter().map(|(path, to)| bind(path, to, Access::Read)).collect();
        fixtures.push(bind(job.out, OUT.to_owned(), Access::Write));
        let job = Job {
            label: job.label,
            command: job.command,
            env: job.env,
            workdir: Some("/".into()),
            // Whatever the base's user is: what comes out belongs to whoever builds.
            user: Some("0:0".into()),
            network: Network::Private,
            fixtures,
        };
        match Workbench::run(self, &job).await {
            Ok(_) => Ok(()),
            Err(StepError::Failed { ended, last, .. }) => {
                let code = if let Ended::Exited(code) = ended { Some(code.into()) } else { None };
                Err(WorkshopError::Failed { code, last_lines: last })
            }
            Err(error) => Err(WorkshopError::Unavailable(Arc::new(error))),
        }
    }
}
