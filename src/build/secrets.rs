//! The secrets of the command line: their origins and their values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::Explain;
use crate::layer::is_secret_id;
use crate::plan::Plan;
use ociforge_layers::regular::read_at_most;

/// The maximum size of a secret in bytes, as in docker.
const LARGEST: u64 = 500 << 10;

/// One `--secret`: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`. It names the origin of the value, not the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretArg {
    /// The id in recipes.
    pub id: String,
    /// The origin of its value.
    pub origin: SecretOrigin,
}

/// The origin of a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretOrigin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}

/// The error of parsing a `--secret`. It does not repeat the text, which may contain the value by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretArgError {
    /// No `id=`.
    #[error("it has no id; expected id=NAME,src=FILE or id=NAME,env=VARIABLE")]
    NoId,
    /// An id with invalid characters.
    #[error("its id must have only letters, digits, `-`, `_` and `.`, and must not begin with `-` or `.`")]
    Id,
    /// Neither `src=` nor `env=`, or both.
    #[error("it needs one of src and env; expected id=NAME,src=FILE or id=NAME,env=VARIABLE")]
    SecretOrigin,
    /// An invalid name of a variable.
    #[error("the value of env= is not a valid variable name")]
    Variable,
    /// An unknown key.
    #[error("unknown key; expected id=NAME,src=FILE or id=NAME,env=VARIABLE")]
    Part,
    /// A repeated key.
    #[error("a key is repeated")]
    Twice,
}

impl FromStr for SecretArg {
    type Err = SecretArgError;

    /// Parses the format of docker: keys in any order, separated by commas, `source` for `src`, and an optional `type`.
    fn from_str(text: &str) -> Result<Self, SecretArgError> {
        let mut parts = BTreeMap::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or(SecretArgError::Part)?;
            let key = match key {
                "id" | "env" | "src" => key,
                "source" => "src",
                "type" if value == "file" || value == "env" => key,
                _ => return Err(SecretArgError::Part),
            };
            if parts.insert(key, value).is_some() {
                return Err(SecretArgError::Twice);
            }
        }
        let id = parts.get("id").ok_or(SecretArgError::NoId)?;
        if !is_secret_id(id) {
            return Err(SecretArgError::Id);
        }
        let origin = match (parts.get("src"), parts.get("env"), parts.get("type")) {
            // In docker `type=env,src=NAME` names a variable.
            (Some(name), None, Some(&"env")) | (None, Some(name), None | Some(&"env")) => {
                if name.is_empty() || name.contains('=') {
                    return Err(SecretArgError::Variable);
                }
                SecretOrigin::Variable((*name).to_owned())
            }
            (Some(file), None, _) if !file.is_empty() => SecretOrigin::File(file.into()),
            _ => return Err(SecretArgError::SecretOrigin),
        };
        Ok(Self { id: (*id).to_owned(), origin })
    }
}

/// The values of secrets, by id. Its `Debug` output does not contain the values.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Arc<[u8]>>);

/// The error of reading a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Two secrets with the same id.
    #[error("the secret `{0}` is given twice")]
    Twice(String),
    /// The file cannot be read.
    #[error("cannot read the secret `{id}` from {}", file.display())]
    Read {
        /// The secret.
        id: String,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The variable is not set.
    #[error("the secret `{id}` refers to the variable {variable}, which is not set")]
    Unset {
        /// The secret.
        id: String,
        /// The variable.
        variable: String,
    },
    /// The secret is too large.
    #[error("the secret `{id}` in {origin} is larger than {LARGEST} bytes")]
    Large {
        /// The secret.
        id: String,
        /// The origin of its value.
        origin: SecretOrigin,
    },
    /// A step needs a secret that the command line does not provide.
    #[error("`{step}` (line {line} of the recipe) needs the secret `{id}`, which is not given")]
    Missing {
        /// The secret.
        id: String,
        /// The step.
        step: String,
        /// The line of the recipe.
        line: usize,
    },
}

impl Explain for SecretError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { id, .. } => Some(format!("give it with --secret id={id},src=FILE or id={id},env=VARIABLE")),
            Self::Unset { variable, .. } => Some(format!("set it and export it: export {variable}")),
            Self::Large { .. } => {
                Some("secrets are for passwords and keys: use a `bind` mount for a larger file".into())
            }
            Self::Read { .. } => Some("the path of a --secret is relative to the working directory".into()),
            Self::Twice(_) => None,
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Twice(_) | Self::Missing { .. })
    }
}

impl Secrets {
    /// Reads the secrets that `plan` uses, and no others. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// When the plan uses a secret that `given` lacks, or a secret cannot be read.
    pub fn read(
        given: &[SecretArg],
        plan: &Plan,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SecretError> {
        if let Some(twice) = (1..given.len()).find(|n| given[..*n].iter().any(|other| other.id == given[*n].id)) {
            return Err(SecretError::Twice(given[twice].id.clone()));
        }
        let mut values = BTreeMap::new();
        for (step, id) in plan.secrets() {
            let Some(secret) = given.iter().find(|secret| secret.id == id) else {
                let (id, step, line) = (id.to_owned(), step.description.clone(), step.line);
                return Err(SecretError::Missing { id, step, line });
            };
            if !values.contains_key(id) {
                values.insert(id.to_owned(), value(secret, &variable)?.into());
            }
        }
        Ok(Self(values))
    }

    /// The value of a secret.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<[u8]>> {
        self.0.get(id).cloned()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn value(secret: &SecretArg, variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<u8>, SecretError> {
    let id = secret.id.clone();
    let value = match &secret.origin {
        SecretOrigin::File(file) => {
            let read = File::open(file).and_then(|input| read_at_most(input, LARGEST));
            read.map_err(|source| SecretError::Read { id: id.clone(), file: file.clone(), source })?
        }
        SecretOrigin::Variable(name) => {
            let unset = || SecretError::Unset { id: id.clone(), variable: name.clone() };
            Some(variable(name).ok_or_else(unset)?.into_vec()).filter(|value| value.len() as u64 <= LARGEST)
        }
    };
    value.ok_or_else(|| SecretError::Large { id, origin: secret.origin.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::Failure;
    use crate::plan;

    #[test]
    fn secrets_are_named_as_in_docker() {
        let file = |file: &str| SecretOrigin::File(file.into());
        let variable = |name: &str| SecretOrigin::Variable(name.into());
        for (text, id, origin) in [
            ("id=a,src=b", "a", file("b")),
            ("id=a,source=/b/c d=e", "a", file("/b/c d=e")),
            ("type=file,src=b,id=a", "a", file("b")),
            ("id=a-b_c.d,env=A", "a-b_c.d", variable("A")),
            ("id=a,type=env,env=A", "a", variable("A")),
            ("id=a,type=env,src=A", "a", variable("A")),
        ] {
            assert_eq!(text.parse(), Ok(SecretArg { id: id.into(), origin }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_not_repeated() {
        for (text, expected) in [
            ("hunter2", SecretArgError::Part),
            ("", SecretArgError::Part),
            ("token=hunter2", SecretArgError::Part),
            ("id=a,hunter2", SecretArgError::Part),
            ("id=a,type=hunter2,src=b", SecretArgError::Part),
            ("src=hunter2", SecretArgError::NoId),
            ("id=hunter2 x,src=b", SecretArgError::Id),
            ("id=,src=b", SecretArgError::Id),
            ("id=hunter2", SecretArgError::SecretOrigin),
            ("id=a,src=", SecretArgError::SecretOrigin),
            ("id=a,src=hunter2,env=B", SecretArgError::SecretOrigin),
            ("id=a,type=file,env=B", SecretArgError::SecretOrigin),
            ("id=a,env=A=hunter2", SecretArgError::Variable),
            ("id=a,src=b,source=hunter2", SecretArgError::Twice),
        ] {
            let error = text.parse::<SecretArg>().unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    fn read(given: &[&str], variable: Option<&str>) -> Result<Secrets, Failure> {
        let recipe = tempfile::tempdir().unwrap();
        let text =
            "base = 'scratch'\n[[layer]]\nrun = 'make'\nmounts = [{ secret = 'a' }, { secret = 'a', to = '/b' }]\n";
        std::fs::write(recipe.path().join("ociforge.toml"), text).unwrap();
        let plan = plan::read(recipe.path(), &BTreeMap::new()).unwrap();
        let given: Vec<SecretArg> = given.iter().map(|text| text.parse().unwrap()).collect();
        Ok(Secrets::read(&given, &plan, |name| variable.filter(|_| name == "V").map(Into::into))?)
    }

    #[test]
    fn values_come_from_files_and_variables_and_are_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"hunter2\n\xff").unwrap();
        let flag = format!("id=a,src={}", file.display());
        let secrets = read(&[&flag, "id=unused,src=/nonexistent"], None).unwrap();
        assert_eq!(secrets.get("a").as_deref(), Some(&b"hunter2\n\xff"[..]));
        assert_eq!(secrets.get("unused"), None);
        assert_eq!(format!("{secrets:?}"), r#"{"a"}"#);
        let secrets = read(&["id=a,env=V"], Some("hunter2")).unwrap();
        assert_eq!(secrets.get("a").as_deref(), Some(&b"hunter2"[..]));

        std::fs::write(&file, vec![b'x'; LARGEST as usize]).unwrap();
        assert_eq!(read(&[&flag], None).unwrap().get("a").unwrap().len() as u64, LARGEST);
        std::fs::write(&file, vec![b'x'; LARGEST as usize + 1]).unwrap();
        let failure = read(&[&flag], None).unwrap_err();
        let expected = format!("the secret `a` in the file {} is larger than 512000 bytes", file.display());
        assert_eq!((failure.message, failure.code), (expected, 1));
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |given: &[&str]| {
            let failure = read(given, None).unwrap_err();
            (failure.to_string(), failure.code)
        };
        let missing = "`run make` (line 3 of the recipe) needs the secret `a`, which is not given\n  hint: give it \
                       with --secret id=a,src=FILE or id=a,env=VARIABLE";
        assert_eq!(message(&["id=b,env=V"]), (missing.into(), 2));
        let unset = "the secret `a` refers to the variable V, which is not set\n  hint: set it and export it: export V";
        assert_eq!(message(&["id=a,env=V"]), (unset.into(), 1));
        assert_eq!(message(&["id=a,env=V", "id=a,src=b"]), ("the secret `a` is given twice".into(), 2));
        let (file, code) = message(&["id=a,src=/nonexistent/a"]);
        assert!(file.starts_with("cannot read the secret `a` from /nonexistent/a\n  cause: No such file"), "{file}");
        assert_eq!(code, 1);
    }
}
