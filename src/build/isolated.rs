//! Runs build backends in the root filesystem of a build.

use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::runtime::Network;

use super::StepError;
use super::build_root::{BuildRoot, StepProcess};
use super::step_mounts::{Access, MountSource, ResolvedMount};
use crate::python::{self, IsolatedError, IsolatedRunner, OUT};
use ociforge_sandbox::step::Ended;

#[async_trait]
impl IsolatedRunner for BuildRoot {
    /// Changes outside of the command's directory are discarded.
    async fn run(&self, job: python::IsolatedCommand) -> Result<(), IsolatedError> {
        let bind = |path, to, access| ResolvedMount { to, what: MountSource::Bind { path, access } };
        let mut step_mounts: Vec<_> = job.binds.into_iter().map(|(path, to)| bind(path, to, Access::Read)).collect();
        step_mounts.push(bind(job.out, OUT.to_owned(), Access::Write));
        let unavailable = |error: StepError| IsolatedError::Unavailable(Arc::new(error));
        let job = StepProcess {
            image: self.backend_image().map_err(|error| unavailable(error.into()))?,
            label: job.label,
            command: job.command,
            env: job.env,
            workdir: Some("/".into()),
            // Not the user of the base: the output must belong to the user who builds.
            user: Some("0:0".into()),
            network: Network::Private,
            step_mounts,
        };
        match BuildRoot::run(self, job).await {
            Ok(_) => Ok(()),
            Err(StepError::Failed { ended, last, .. }) => {
                let code = if let Ended::Exited(code) = ended { Some(code.into()) } else { None };
                Err(IsolatedError::Failed { code, last_lines: last })
            }
            Err(error) => Err(unavailable(error)),
        }
    }
}
