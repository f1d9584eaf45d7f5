//! Credential helpers: the programs that docker's `credHelpers` and `credsStore` name.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::{Credential, CredentialError};

/// The maximum output of a helper on each of its two streams, in bytes.
const MOST: u64 = 64 << 10;

/// `docker-credential-<name>`
pub(super) struct Helper<'a> {
    file: &'a Path,
    pub program: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperCredentials {
    username: String,
    secret: String,
}

impl<'a> Helper<'a> {
    /// The helper that `file` calls `name`.
    pub(super) fn new(file: &'a Path, name: &str) -> Result<Self, CredentialError> {
        let helper = Self { file, program: format!("docker-credential-{name}") };
        let slash = || helper.failed(HelperError::Failed("its name holds a slash".into()));
        if name.contains('/') { Err(slash()) } else { Ok(helper) }
    }

    /// The credentials for `server`.
    pub(super) fn get(&self, server: &str) -> Result<Credential, CredentialError> {
        let answer = ask(&self.program, "get", server).map_err(|trouble| self.failed(trouble))?;
        let Some(output) = answer else { return Ok(Credential::Anonymous) };
        let answer = serde_json::from_slice::<HelperCredentials>(&output);
        let unread = |_| CredentialError::HelperAnswer { program: self.program.clone() };
        let HelperCredentials { username, secret } = answer.map_err(unread)?;
        Ok(match username.as_str() {
            "<token>" => Credential::Identity(secret),
            "" if secret.is_empty() => Credential::Anonymous,
            _ => Credential::Password { user: username, password: secret },
        })
    }

    /// Stores a password for `server`.
    pub(super) fn store(&self, server: &str, user: &str, password: &str) -> Result<(), CredentialError> {
        let entry = json!({"ServerURL": server, "Username": user, "Secret": password}).to_string();
        // One that complains about its input may repeat it.
        let hidden = |trouble| match trouble {
            HelperError::Failed(reason) if !password.is_empty() => HelperError::Failed(reason.replace(password, "***")),
            other => other,
        };
        ask(&self.program, "store", &entry).map(drop).map_err(|trouble| self.failed(hidden(trouble)))
    }

    /// Removes the credentials for `server`, and returns whether they existed.
    pub(super) fn erase(&self, server: &str) -> Result<bool, CredentialError> {
        if self.get(server)? == Credential::Anonymous {
            return Ok(false);
        }
        ask(&self.program, "erase", server).map(|_| true).map_err(|trouble| self.failed(trouble))
    }

    fn failed(&self, trouble: HelperError) -> CredentialError {
        let (file, program) = (self.file.to_owned(), self.program.clone());
        match trouble {
            HelperError::Missing => CredentialError::NoHelper { file, program },
            HelperError::Failed(reason) => CredentialError::Helper { file, program, reason },
        }
    }
}

/// The error of a helper.
#[derive(Debug, PartialEq, Eq)]
enum HelperError {
    /// The program does not exist.
    Missing,
    /// Its first printable line, or another fault.
    Failed(String),
}

impl From<String> for HelperError {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Runs a helper and returns its output; `None` if it does not have the credentials.
fn ask(program: &str, action: &str, input: &str) -> Result<Option<Vec<u8>>, HelperError> {
    let mut command = Command::new(program);
    command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => HelperError::Missing,
        _ => HelperError::Failed(error.to_string()),
    })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || read(stderr));
    if let Some(mut stdin) = stdin {
        // A helper may ignore its input.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = read(stdout);
    if output.is_err() {
        // It may write for ever.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let errors = errors.join().map_err(|_| "its error output cannot be read".to_owned())?;
    let (output, errors) = (output?, errors?);
    if status.success() {
        return Ok(Some(output));
    }
    let (output, errors) = (String::from_utf8_lossy(&output), String::from_utf8_lossy(&errors));
    if [&output, &errors].iter().any(|said| said.contains("credentials not found")) {
        return Ok(None);
    }
    Err(complaint(&output, &errors).to_owned().into())
}

/// The complete content of a stream. The error is that it is too long, or cannot be read.
fn read(stream: Option<impl Read>) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let read = stream.map_or(Ok(0), |stream| stream.take(MOST + 1).read_to_end(&mut all));
    match read.map_err(|error: io::Error| error.to_string())? as u64 {
        0..=MOST => Ok(all),
        _ => Err(format!("it wrote more than {} KiB", MOST >> 10)),
    }
}

/// The message of a failed helper: from stderr, or else from stdout, unless that looks like an answer with the secret.
fn complaint<'a>(output: &'a str, errors: &'a str) -> &'a str {
    let is_answer = output.contains('{') || serde_json::from_str::<serde_json::Value>(output).is_ok();
    let spoken = if is_answer { "" } else { output };
    let mut lines = errors.lines().chain(spoken.lines()).map(str::trim);
    lines.find(|line| !line.is_empty()).unwrap_or("it failed without a message")
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn helpers_answer_or_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("helper");
        let script = "#!/bin/sh\nread -r server\ncase $server in\nknown) echo \"$1 $server\";;\n\
                      new) echo 'credentials not found in native keychain'; exit 1;;\n\
                      told) echo; echo ' no bus'; exit 1;;\n\
                      late) echo '{\"Username\":\"u\",'; echo '\"Secret\":\"s3cret\"}'; exit 1;;\n\
                      both) echo '{\"Secret\":\"s3cret\"}'; echo locked >&2; exit 1;;\n\
                      endless) exec yes;;\nloud) exec yes >&2;;\n\
                      *) echo locked >&2; exit 1;;\nesac\n";
        crate::testing::write_program(&path, script);
        let program = path.to_str().unwrap();
        assert_eq!(ask(program, "get", "known"), Ok(Some(b"get known\n".to_vec())));
        assert_eq!(ask(program, "get", "new"), Ok(None));
        for (server, said) in [
            ("other", "locked"),
            ("told", "no bus"),
            ("late", "it failed without a message"),
            ("both", "locked"),
            ("endless", "it wrote more than 64 KiB"),
            ("loud", "it wrote more than 64 KiB"),
        ] {
            assert_eq!(ask(program, "get", server), Err(HelperError::Failed(said.into())), "{server}");
        }
        assert_eq!(ask("docker-credential-none", "get", "known"), Err(HelperError::Missing));
    }
}
