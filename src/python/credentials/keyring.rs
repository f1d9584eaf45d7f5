//! The keyring, through the program `keyring`, as in pip and uv.

use std::process::{Command, Stdio};

use url::Url;

/// The variable that selects uv's keyring provider.
pub(in crate::python) const PROVIDER: &str = "UV_KEYRING_PROVIDER";

/// The command that queries the keyring.
pub(super) struct KeyringCommand {
    program: std::path::PathBuf,
}

impl Default for KeyringCommand {
    fn default() -> Self {
        Self { program: "keyring".into() }
    }
}

impl KeyringCommand {
    #[cfg(test)]
    pub(super) fn of(program: &std::path::Path) -> Self {
        Self { program: program.into() }
    }

    /// The user's password for an index: the entry for its URL, or else for its host.
    pub(super) async fn password(&self, index: &Url, user: &str) -> Option<String> {
        let url = super::with(index, "", None);
        let host = url.host_str()?;
        let services = [url.to_string(), url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))];
        let calls = services.map(|service| {
            let mut command = Command::new(&self.program);
            command.args(["get", &service, user]).env("PYTHONIOENCODING", "utf-8");
            command.stdin(Stdio::null()).stderr(Stdio::null());
            command
        });
        let asked = tokio::task::spawn_blocking(|| calls.into_iter().find_map(answer));
        asked.await.ok().flatten()
    }
}

fn answer(mut command: Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let password = String::from_utf8(output.stdout).ok()?.trim_end_matches(['\r', '\n']).to_owned();
    (!password.is_empty()).then_some(password)
}

/// Whether the program is installed.
pub(super) fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("keyring").is_file())
}
