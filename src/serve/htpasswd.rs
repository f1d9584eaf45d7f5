//! The users of the registry: names and passwords in a file of `htpasswd -B`.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::{HeaderMap, header};
use base64::Engine;
use bcrypt::HashParts;
use ring::hmac;
use tokio::sync::Semaphore;

use super::answer::{ApiError, Code};
use super::blocking;
use crate::error::Explain;

/// The users of a registry. The file is read again when it changes.
pub struct Htpasswd {
    path: PathBuf,
    users: Mutex<Arc<Users>>,
    /// The permits for bcrypt hashes: ten guesses cost a second of CPU time, so their number at a time is limited.
    turns: Arc<Semaphore>,
}

/// The content of the file with its state.
struct Users {
    stamp: HtpasswdState,
    hashes: HashMap<String, String>,
    /// The most expensive hash, for unknown users: they must not differ from wrong passwords.
    decoy: String,
    key: hmac::Key,
    /// The users with a verified password, and a keyed hash of it. bcrypt takes a tenth of a second, which an image of
    /// 60 layers must not pay for each request.
    verified: Mutex<HashMap<String, hmac::Tag>>,
}

/// The metadata that identifies a version of the file.
#[derive(PartialEq, Eq)]
struct HtpasswdState {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

/// An error of a file of users. It does not repeat the text of the file.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// The file cannot be read.
    #[error("cannot read the users in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is not understood.
    #[error("cannot use line {line} of {path}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The fault.
        problem: HtpasswdProblem,
    },
    /// The file has no users.
    #[error("{path} has no users")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A fault of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdProblem {
    /// The line has no colon, or nothing before it.
    #[error("the line is not of the form NAME:HASH")]
    Form,
    /// The hash is of another kind than bcrypt.
    #[error("the hash is not a bcrypt hash")]
    Hash,
    /// A user that was there before.
    #[error("the user has an earlier line")]
    Twice,
}

impl Explain for HtpasswdError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } | Self::Line { problem: HtpasswdProblem::Twice, .. } => None,
            Self::Line { .. } | Self::Empty { .. } => Some("create lines with `htpasswd -B FILE NAME`".into()),
        }
    }
}

impl Htpasswd {
    /// Reads the users in `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or has a line without a user and a bcrypt hash.
    pub fn open(path: &Path) -> Result<Self, HtpasswdError> {
        let users = Mutex::new(Arc::new(Users::read(path)?));
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { path: path.to_owned(), users, turns: Arc::new(Semaphore::new(turns)) })
    }

    /// The user of a request.
    pub(super) async fn user(self: &Arc<Self>, request: &HeaderMap) -> Result<String, ApiError> {
        let Some((name, password)) = credentials(request) else {
            return Err(unauthorized("a name and a password are needed"));
        };
        let this = Arc::clone(self);
        let users = blocking(move || this.current()).await??;
        if users.knows(&name, &password) {
            return Ok(name);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        let right = blocking(move || {
            let right = users.knows(&name, &password) || users.verify(&name, &password);
            drop(turn);
            right.then_some(name)
        });
        right.await?.ok_or_else(|| unauthorized("the name or the password is wrong"))
    }

    /// The current users of the file. An invalid file rejects all requests.
    fn current(&self) -> Result<Arc<Users>, ApiError> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let unusable = |error: HtpasswdError| {
            let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            ApiError::new(Code::Unknown, "passwords cannot be checked now")
                .status(503)
                .logged(format!("{error}{source}"))
        };
        if HtpasswdState::of(&self.path).ok().as_ref() != Some(&users.stamp) {
            *users = Arc::new(Users::read(&self.path).map_err(unusable)?);
        }
        Ok(Arc::clone(&users))
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Users {
    fn read(path: &Path) -> Result<Self, HtpasswdError> {
        let failed = |source| HtpasswdError::Read { path: path.to_owned(), source };
        // Read before the content: a write in between is noticed at the next check.
        let stamp = HtpasswdState::of(path).map_err(failed)?;
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut hashes = HashMap::new();
        let mut decoy = (0, None);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |problem| HtpasswdError::Line { path: path.to_owned(), line: number + 1, problem };
            let (name, hash) =
                line.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(bad(HtpasswdProblem::Form))?;
            let parts: HashParts = hash.parse().map_err(|_| bad(HtpasswdProblem::Hash))?;
            if !(4..=31).contains(&parts.get_cost()) {
                return Err(bad(HtpasswdProblem::Hash));
            }
            if parts.get_cost() > decoy.0 {
                decoy = (parts.get_cost(), Some(hash.to_owned()));
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(bad(HtpasswdProblem::Twice));
            }
        }
        let decoy = decoy.1.ok_or_else(|| HtpasswdError::Empty { path: path.to_owned() })?;
        let random = |_| failed(io::Error::other("the system has no random numbers"));
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).map_err(random)?;
        Ok(Self { stamp, hashes, decoy, key, verified: Mutex::default() })
    }

    /// Whether the user has shown this password before.
    fn knows(&self, name: &str, password: &[u8]) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(name).is_some_and(|tag| hmac::verify(&self.key, password, tag.as_ref()).is_ok())
    }

    /// Checks a user's password; takes equally long for an unknown user.
    fn verify(&self, name: &str, password: &[u8]) -> bool {
        let hash = self.hashes.get(name);
        let right = bcrypt::verify(password, hash.unwrap_or(&self.decoy)).unwrap_or(false) && hash.is_some();
        if right {
            let tag = hmac::sign(&self.key, password);
            self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), tag);
        }
        right
    }
}

impl HtpasswdState {
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path)?;
        Ok(Self { modified: metadata.modified()?, length: metadata.len(), inode: metadata.ino() })
    }
}

/// Name and password of a request (RFC 7617).
fn credentials(request: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let (scheme, value) = request.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut name = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.truncate(colon);
    // bcrypt stops at a NUL: a text that repeats the password after it has the same hash.
    if password.contains(&0) {
        return None;
    }
    Some((String::from_utf8(name).ok()?, password))
}

fn unauthorized(message: &str) -> ApiError {
    let challenge = r#"Basic realm="ociforge", charset="UTF-8""#;
    ApiError::new(Code::Unauthorized, message).headers(vec![(header::WWW_AUTHENTICATE, challenge.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `secret`, with the least cost that there is.
    const HASH: &str = "$2y$04$nLIRXxqSaJJZF1EqjJ0LcOKi7zcJBqJr5lyfbP0vdmQEkPkg2v6q2";

    fn open(text: &str) -> Result<Htpasswd, HtpasswdError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("users"), text).unwrap();
        Htpasswd::open(&directory.path().join("users"))
    }

    #[test]
    fn only_bcrypt_is_taken_and_nothing_of_the_text_is_told() {
        assert!(open(&format!("# users\n\nme:{HASH}\n")).is_ok());
        for (line, problem) in [
            ("hunter2", HtpasswdProblem::Form),
            (":hunter2", HtpasswdProblem::Form),
            ("me:hunter2", HtpasswdProblem::Hash),
            ("me:$apr1$hunter2$hunter2hunter2hunter2/", HtpasswdProblem::Hash),
            ("me:{SHA}hunter2=", HtpasswdProblem::Hash),
            ("me:$2y$99$nLIRXxqSaJJZF1EqjJ0LcOKi7zcJBqJr5lyfbP0vdmQEkPkg2v6q2", HtpasswdProblem::Hash),
            (&format!("a:{HASH}"), HtpasswdProblem::Twice),
        ] {
            let error = open(&format!("a:{HASH}\n\n{line}\n")).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            match error {
                HtpasswdError::Line { line: 3, problem: found, .. } => assert_eq!(found, problem),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(open("# nobody\n"), Err(HtpasswdError::Empty { .. })));
    }

    #[test]
    fn a_password_is_hashed_once() {
        let users = open(&format!("me:{HASH}\nyou:{}\n", HASH.replace("$04$", "$05$"))).unwrap();
        let users = users.users.lock().unwrap();
        assert!(users.decoy.contains("$05$"));
        assert!(!users.knows("me", b"secret") && users.verify("me", b"secret") && users.knows("me", b"secret"));
        for (name, password) in [("me", "Secret"), ("me", ""), ("you", "secret"), ("other", "secret")] {
            assert!(!users.knows(name, password.as_bytes()), "{name} {password}");
            assert!(!users.verify(name, password.as_bytes()), "{name} {password}");
        }
        // Verified users of the same entry stay verified.
        assert!(users.knows("me", b"secret"));
    }

    #[test]
    fn credentials_are_read_as_browsers_write_them() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            credentials(&headers)
        };
        let pair = |name: &str, password: &[u8]| Some((name.to_owned(), password.to_vec()));
        assert_eq!(read("Basic bWU6YTpi"), pair("me", b"a:b"));
        assert_eq!(read("bAsIc bWU6"), pair("me", b""));
        for bad in ["Bearer bWU6YTpi", "Basic", "Basic bWU=", "Basic !", "Basic /zph", "Basic bWU6YQBh"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }
}
