//! Credential helpers: the programs that docker's `credHelpers` and `credsStore` name.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::{Credential, CredentialError};

/// `docker-credential-<name>`
pub(super) struct Helper<'a> {
    file: &'a Path,
    pub program: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl<'a> Helper<'a> {
    /// The helper that `file` calls `name`.
    pub(super) fn new(file: &'a Path, name: &str) -> Result<Self, CredentialError> {
        let helper = Self { file, program: format!("docker-credential-{name}") };
        if name.contains('/') { Err(helper.failed("its name holds a slash".into())) } else { Ok(helper) }
    }

    /// What it has under `server`.
    pub(super) fn get(&self, server: &str) -> Result<Credential, CredentialError> {
        let answer = ask(&self.program, "get", server).map_err(|reason| self.failed(reason))?;
        let Some(output) = answer else { return Ok(Credential::Anonymous) };
        let answer = serde_json::from_slice::<Answer>(&output);
        let unread = |_| CredentialError::HelperAnswer { program: self.program.clone() };
        let Answer { username, secret } = answer.map_err(unread)?;
        Ok(match username.as_str() {
            "<token>" => Credential::Identity(secret),
            "" if secret.is_empty() => Credential::Anonymous,
            _ => Credential::Password { user: username, password: secret },
        })
    }

    /// Has it keep a password under `server`.
    pub(super) fn store(&self, server: &str, user: &str, password: &str) -> Result<(), CredentialError> {
        let entry = json!({"ServerURL": server, "Username": user, "Secret": password}).to_string();
        // One that complains about its input may repeat it.
        let hidden = |reason: String| if password.is_empty() { reason } else { reason.replace(password, "***") };
        ask(&self.program, "store", &entry).map(drop).map_err(|reason| self.failed(hidden(reason)))
    }

    /// Has it forget what it has under `server`, and says whether there was something.
    pub(super) fn erase(&self, server: &str) -> Result<bool, CredentialError> {
        if self.get(server)? == Credential::Anonymous {
            return Ok(false);
        }
        ask(&self.program, "erase", server).map(|_| true).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: String) -> CredentialError {
        CredentialError::Helper { file: self.file.to_owned(), program: self.program.clone(), reason }
    }
}

/// Runs a helper; what it wrote, or nothing when it has none of these credentials. The error is its first line.
fn ask(program: &str, action: &str, input: &str) -> Result<Option<Vec<u8>>, String> {
    let mut command = Command::new(program);
    command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input still has its say.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("credentials not found") {
        return Ok(None);
    }
    Err(said.lines().next().unwrap_or("it failed without a word").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn helpers_answer_or_do_not() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("helper");
        let script = "#!/bin/sh\nread -r server\ncase $server in\nknown) echo \"$1 $server\";;\n\
                      new) echo 'credentials not found in native keychain'; exit 1;;\n*) echo locked >&2; exit 1;;\nesac\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let program = path.to_str().unwrap();
        assert_eq!(ask(program, "get", "known"), Ok(Some(b"get known\n".to_vec())));
        assert_eq!(ask(program, "get", "new"), Ok(None));
        assert_eq!(ask(program, "get", "other"), Err("locked".into()));
    }
}
