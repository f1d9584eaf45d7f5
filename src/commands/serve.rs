//! `ociforge serve`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, gc};
use crate::cli::{self, ServeArgs};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::serve::{AccessLogEntry, DamageObserver, Htpasswd, Observer, ServeOptions, Server, Tls};
use crate::store::descriptors::raise_descriptor_limit;
use crate::store::{GcOptions, Layout, collect};

pub(super) async fn run(context: &Context, args: ServeArgs) -> Result<(), Failure> {
    if let Err(error) = raise_descriptor_limit() {
        context.reporter.note(&format!("the number of connections is limited: {error}"));
    }
    let layout = if args.read_only { Layout::open(&args.directory) } else { Layout::create(&args.directory) };
    let layout = layout.map_err(|error| {
        Failure::new(format!("cannot serve {}", args.directory.display()))
            .caused_by(error)
            .hint("name a directory that is empty, missing, or an OCI layout")
    })?;
    let users = args.htpasswd.as_deref().map(Htpasswd::open).transpose()?.map(Arc::new);
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    let risk = risk(users.is_some(), tls.is_some());
    let observer = Some(observer(context.reporter.clone(), args.verbose));
    let reporter = context.reporter.clone();
    let damage_observer: DamageObserver = Arc::new(move |digest| {
        reporter.warn(&format!("the blob {digest} is damaged: ociforge does not send its end; push it again"));
    });
    let damage_observer = Some(damage_observer);
    let options = ServeOptions { read_only: args.read_only, users, tls, observer, damage_observer };
    let server = Server::bind(layout.clone(), args.listen, options).await?;
    let address = server.local_addr();
    cli::result(&format!("listening on {address}"))?;
    if let Some(risk) = risk.filter(|_| !address.ip().is_loopback()) {
        context.reporter.warn(&format!("{address} can be reached from other machines, {risk}"));
    }
    tokio::select! {
        // The server runs until a signal ends the process.
        ended = server.run(std::future::pending()) => {
            ended.map_err(|error| Failure::new("cannot continue to serve").caused_by(error))
        }
        never = collect_every(args.gc_every, layout, context.reporter.clone()) => match never {},
    }
}

/// The risk of an address that other machines can reach.
fn risk(users: bool, tls: bool) -> Option<&'static str> {
    match (users, tls) {
        (true, true) => None,
        (false, true) => Some("without a password"),
        (true, false) => Some("and passwords are sent without TLS"),
        (false, false) => Some("without a password or TLS"),
    }
}

/// Collects garbage at the interval `pause`, if there is one.
async fn collect_every(pause: Option<Duration>, layout: Layout, reporter: Arc<dyn Reporter>) -> Infallible {
    let Some(pause) = pause else { return std::future::pending().await };
    loop {
        tokio::time::sleep(pause).await;
        let layout = layout.clone();
        match tokio::task::spawn_blocking(move || collect(&layout, &GcOptions::default())).await {
            Ok(Ok(collected)) => {
                gc::warn(&collected, &*reporter);
                reporter.note(&gc::summary(&collected, false));
            }
            Ok(Err(error)) => reporter.warn(&Failure::from(error).to_string()),
            Err(error) => reporter.warn(&format!("cannot collect garbage: {error}")),
        }
    }
}

/// Logs each request in one line; without `verbose` only those that end in a server error.
fn observer(reporter: Arc<dyn Reporter>, verbose: bool) -> Observer {
    Arc::new(move |access| {
        let AccessLogEntry { method, path, user, status, received, sent, error } = access;
        let failed = *status >= 500;
        if !verbose && !failed {
            return;
        }
        let user = user.as_ref().map_or_else(String::new, |user| format!("{user:?} "));
        let error = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let line = format!("{user}{method} {path} {status}, {received} in, {sent} out{error}");
        if failed { reporter.warn(&line) } else { reporter.note(&line) }
    })
}
