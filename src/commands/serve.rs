//! `ociforge serve`

use std::sync::Arc;

use super::Context;
use crate::cli::{self, ServeArgs};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::serve::{Access, Observer, Options, Server};
use crate::store::Layout;

pub(super) async fn run(context: &Context, args: ServeArgs) -> Result<(), Failure> {
    let layout = if args.read_only { Layout::open(&args.directory) } else { Layout::create(&args.directory) };
    let layout = layout.map_err(|error| {
        Failure::new(format!("cannot serve {}", args.directory.display()))
            .caused_by(error)
            .hint("name a directory that is empty, missing, or an OCI layout")
    })?;
    let observer = args.verbose.then(|| observer(context.reporter.clone()));
    let options = Options { read_only: args.read_only, observer };
    let server = Server::bind(layout, args.listen, options).await?;
    cli::result(&format!("listening on {}", server.local_addr()))?;
    let address = server.local_addr();
    if !address.ip().is_loopback() {
        context.reporter.warn(&format!("{address} can be reached from other machines, without a password"));
    }
    // It serves until a signal ends the process.
    server.run(std::future::pending()).await.map_err(|error| Failure::new("cannot go on serving").caused_by(error))
}

/// Tells of each request in a line.
fn observer(reporter: Arc<dyn Reporter>) -> Observer {
    Arc::new(move |access| {
        let Access { method, path, status, received, sent, error } = access;
        let error = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        reporter.note(&format!("{method} {path} {status}, {received} in, {sent} out{error}"));
    })
}
