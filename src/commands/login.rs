//! `ociforge login`

use std::path::Path;

use super::Context;
use crate::cli::{self, ControllingTerminal, LoginArgs, PromptError};
use crate::content::ContentError;
use crate::error::Failure;
use crate::progress::Reporter;
use crate::registry::{Account, Client, Keyring, Login, Password, Settings};

pub(super) async fn run(context: &Context, args: LoginArgs) -> Result<(), Failure> {
    let settings = context.settings();
    let (keyring, account) = (Keyring::new(&settings), args.registry.parse::<Account>()?);
    if args.get_login {
        let user = blocking({
            let account = account.clone();
            move || keyring.user(&account)
        });
        let stranger =
            || Failure::new(format!("not logged in to {account}")).hint(format!("use `ociforge login {account}`"));
        return cli::result(&user.await??.ok_or_else(stranger)?);
    }
    let login = login(&*context.reporter, &account, args).await?;
    // Check only the new credentials, not the stored ones.
    let client = Client::new(Settings { authfile: None, auth_search: Vec::new(), ..settings })?;
    if !client.check(&account, &login).await? {
        context
            .reporter
            .warn(&format!("{} does not ask for a password, so ociforge did not check it", account.registry()));
    }
    let (user, of) = (login.user.clone(), account.clone());
    let (kept, older) = blocking(move || {
        let kept = keyring.put(&of, &login)?;
        let older = keyring.before(&kept.file, &of).map(Path::to_owned);
        Ok::<_, ContentError>((kept, older))
    })
    .await??;
    context.reporter.note(&format!("logged in to {account} as {user}; the password is in {kept}"));
    if let Some(file) = older.map(|file| file.display().to_string()) {
        let warning = format!("{file} has precedence, and has an older login: ");
        context.reporter.warn(&(warning + &format!("remove it with `ociforge logout {account} --authfile {file}`")));
    }
    Ok(())
}

/// Runs blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::new("the work on credentials ended early"))
}

/// The user name and password: from the arguments, or else from a prompt.
async fn login(reporter: &dyn Reporter, account: &Account, args: LoginArgs) -> Result<Login, Failure> {
    let LoginArgs { username, password, password_stdin, .. } = args;
    if password.is_some() {
        reporter.warn(
            "a password on the command line is visible in the process list and in the shell's history: use \
                --password-stdin",
        );
    }
    let user = match username {
        Some(user) => user,
        None => ask(account, "user name").await?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Failure::new("the user name is empty or has a `:`").usage());
    }
    let password = match password {
        Some(Password(password)) => password,
        None if password_stdin => {
            let line = cli::first_line(std::io::stdin()).await;
            line.map_err(|error| Failure::new("cannot read the password from stdin").caused_by(error))?
                .unwrap_or_default()
        }
        None => ask(account, "password").await?,
    };
    if password.is_empty() {
        return Err(Failure::new("the password is empty").usage());
    }
    Ok(Login { user, password: Password(password) })
}

async fn ask(account: &Account, what: &str) -> Result<String, Failure> {
    let answer = async {
        let mut terminal = ControllingTerminal::open()?;
        match what {
            "password" => terminal.ask_secretly(&format!("Password for {account}: ")).await,
            _ => terminal.ask(&format!("User name for {account}: ")).await,
        }
    };
    answer.await.map_err(|error| {
        let nobody = matches!(error, PromptError::NoTerminal(_));
        let failure = Failure::from(error).during(format!("cannot ask for the {what}"));
        if nobody { failure.hint("use --username with --password-stdin").usage() } else { failure }
    })
}
