//! `ociforge logout`

use super::Context;
use super::login::blocking;
use crate::cli::LogoutArgs;
use crate::error::Failure;
use crate::registry::Keyring;

pub(super) async fn run(context: &Context, args: LogoutArgs) -> Result<(), Failure> {
    let keyring = Keyring::new(&context.settings());
    let accounts = match args.registry {
        Some(name) => vec![name.parse()?],
        None => {
            let keyring = keyring.clone();
            blocking(move || keyring.accounts()).await??
        }
    };
    let mut failed = None;
    for account in accounts {
        let (keyring, of) = (keyring.clone(), account.clone());
        let removed = blocking(move || keyring.remove(&of).collect::<Vec<_>>()).await?;
        if removed.is_empty() && !args.all {
            context.reporter.note(&format!("not logged in to {account}"));
        }
        for removed in removed {
            match removed {
                Ok(kept) => context.reporter.note(&format!("logged out of {account}: removed from {kept}")),
                // Continue with the other accounts after an error.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
