//! Changing the files of credentials: `login` and `logout`.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::account::Account;
use super::file::{AuthFile, read, server_of};
use super::{Credential, CredentialError, CredentialFiles};
use crate::content::{Cause, ContentError};
use crate::registry::Settings;

/// A password, or what serves as one.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl FromStr for Password {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Who somebody is to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name, without a `:`.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// Where the credentials for an account are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file that is read for them.
    pub file: PathBuf,
    /// The helper that has them, by the name of its program, where the file leaves them to one.
    pub helper: Option<String>,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.helper {
            Some(helper) => write!(f, "{helper}, which {file} names"),
            None => file.fmt(f),
        }
    }
}

/// The user's files of credentials, in the order in which they are searched. Everything here reads files and may run a
/// helper: call it where blocking is allowed.
#[derive(Debug, Clone)]
pub struct Keyring(Vec<PathBuf>);

/// What of an entry is secret, or says whose it is.
const OF_THE_USER: [&str; 5] = ["auth", "username", "password", "identitytoken", "registrytoken"];

impl Keyring {
    /// The files that these settings search. They need not be there.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(settings.authfile.clone().map_or_else(|| settings.auth_search.clone(), |file| vec![file]))
    }

    /// The user that is logged in to `account`, or to what it is a part of: `<token>` where it is a token that is known.
    ///
    /// # Errors
    /// When a file can't be read, or a helper fails.
    pub fn user(&self, account: &Account) -> Result<Option<String>, ContentError> {
        let found = CredentialFiles(self.0.clone()).find(account.registry(), account.namespace());
        match found.map_err(|error| Cause::from(error).of(format!("find the user of {account}")))? {
            Credential::Anonymous => Ok(None),
            Credential::Password { user, .. } => Ok(Some(user)),
            Credential::Identity(_) => Ok(Some("<token>".into())),
        }
    }

    /// Keeps a login in the first of the files, in place of an older one there, or in the helper that it names. What else
    /// there is in the file stays.
    ///
    /// # Errors
    /// When the file can't be read or written, or the helper fails. Then the file is as it was.
    pub fn put(&self, account: &Account, login: &Login) -> Result<Kept, ContentError> {
        let error = |error: CredentialError| Cause::from(error).of(format!("keep the credentials for {account}"));
        put(self.0.first(), account, login).map_err(error)
    }

    /// Removes what is kept for `account` itself from one file after the other, and from the helpers that they name. Says
    /// where there was something.
    pub fn remove(&self, account: &Account) -> impl Iterator<Item = Result<Kept, ContentError>> {
        let error =
            move |error: CredentialError| Cause::from(error).of(format!("remove the credentials for {account}"));
        self.0.iter().filter_map(move |file| remove(file, account).map_err(error).transpose())
    }

    /// All that something may be kept for, by name.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn accounts(&self) -> Result<Vec<Account>, ContentError> {
        let mut accounts = Vec::new();
        for file in &self.0 {
            let content = AuthFile::read(file).map_err(|error| Cause::from(error).of("list the credentials"))?;
            accounts.extend(content.accounts());
        }
        accounts.sort();
        accounts.dedup();
        Ok(accounts)
    }
}

fn put(file: Option<&PathBuf>, account: &Account, login: &Login) -> Result<Kept, CredentialError> {
    let mut document = Document::open(file.ok_or(CredentialError::NoPlace)?)?;
    let Login { user, password: Password(password) } = login;
    let (entry, helper, server) = match document.content.keeper(&document.file, account)? {
        Some((helper, server)) => {
            helper.store(&server, user, password)?;
            (json!({}), Some(helper.program), server)
        }
        None => {
            let server = if document.is_dockers() { server_of(account.registry()) } else { account.registry() };
            let path = account.to_string();
            let key = if account.namespace().is_empty() { server.to_owned() } else { path };
            (json!({"auth": STANDARD.encode(format!("{user}:{password}"))}), None, key)
        }
    };
    let auths = &mut document.auths;
    let mut older = Vec::new();
    for (key, fields) in auths.iter_mut().filter(|(key, _)| account.has_key(key)) {
        older.push(key.clone());
        if let Value::Object(fields) = fields {
            fields.retain(|name, _| !OF_THE_USER.contains(&name.as_str()));
        }
    }
    let key = if older.contains(&server) { &server } else { older.first().unwrap_or(&server) };
    match (auths.get_mut(key).and_then(Value::as_object_mut), entry) {
        (Some(fields), Value::Object(new)) => fields.extend(new),
        (_, entry) => drop(auths.insert(key.clone(), entry)),
    }
    document.write()?;
    Ok(Kept { file: document.file, helper })
}

fn remove(file: &PathBuf, account: &Account) -> Result<Option<Kept>, CredentialError> {
    if !file.exists() {
        return Ok(None);
    }
    let mut document = Document::open(file)?;
    let mut helper = None;
    match document.content.keeper(&document.file, account) {
        Ok(Some((keeper, server))) => {
            let erased = keeper.erase(&server)?;
            helper = Some(keeper.program).filter(|_| erased);
        }
        Ok(None) | Err(CredentialError::WholeRegistry { .. }) => {}
        Err(error) => return Err(error),
    }
    let before = document.auths.len();
    let mut had_secret = false;
    document.auths.retain(|key, entry| {
        let own = account.has_key(key);
        had_secret |= own && OF_THE_USER.iter().any(|name| entry.get(name).is_some());
        !own
    });
    if document.auths.len() != before {
        document.write()?;
    }
    let kept = Kept { file: document.file, helper };
    Ok(Some(kept).filter(|kept| had_secret || kept.helper.is_some()))
}

/// A file that is about to be changed, alone with it.
struct Document {
    /// As the user knows it.
    file: PathBuf,
    /// Where the links lead.
    place: PathBuf,
    content: AuthFile,
    /// Its entries, whole.
    auths: Map<String, Value>,
    /// Everything else.
    rest: Map<String, Value>,
    _lock: File,
}

impl Document {
    /// Waits until nobody else changes the file, and reads it. Directories that are missing are made, for the user alone.
    fn open(file: &Path) -> Result<Self, CredentialError> {
        let unwritten = |error: io::Error| unwritten(file, &error);
        let place = target(file).map_err(unwritten)?;
        let directory = directory_of(&place);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unwritten)?;
        let lock = File::open(directory).map_err(unwritten)?;
        // Some network file systems lock no directories. There the last of two that write at once wins.
        let _ = lock.lock();
        let content = AuthFile::read(&place)?;
        let mut rest: Map<String, Value> = read(&place)?;
        let auths = match rest.remove("auths") {
            Some(Value::Object(auths)) => auths,
            _ => Map::new(),
        };
        Ok(Self { file: file.to_owned(), place, content, auths, rest, _lock: lock })
    }

    /// Whether it is docker's own, which calls Docker Hub by another name.
    fn is_dockers(&self) -> bool {
        self.file.file_name().is_some_and(|name| name == "config.json")
    }

    /// Replaces the file by one that only the user can read.
    fn write(&self) -> Result<(), CredentialError> {
        self.try_write().map_err(|error| unwritten(&self.file, &error))
    }

    fn try_write(&self) -> io::Result<()> {
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut json = self.rest.clone();
        json.insert("auths".into(), Value::Object(self.auths.clone()));
        json.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
        text.push(b'\n');
        // It has mode 0600 from the beginning.
        let mut new = tempfile::Builder::new().prefix(".auth-").tempfile_in(directory_of(&self.place))?;
        new.write_all(&text)?;
        new.as_file().sync_all()?;
        new.persist(&self.place)?;
        Ok(())
    }
}

fn unwritten(file: &Path, error: &io::Error) -> CredentialError {
    CredentialError::Write { file: file.to_owned(), reason: error.to_string() }
}

fn directory_of(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a file is that links may lead to, also one that is not there yet.
fn target(file: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut place = file.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&place) {
            Ok(next) => place = directory_of(&place).join(next),
            // It is no link, or not there.
            Err(_) => return Ok(place),
        }
    }
    Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: Password(password.into()) }
    }

    fn json_of(file: &Path) -> Value {
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    #[test]
    fn a_file_is_made_and_changed_for_the_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/b/auth.json");
        let keyring = Keyring(vec![file.clone(), directory.path().join("other.json")]);
        let account: Account = "r.example:5000/ml".parse().unwrap();
        assert_eq!(
            keyring.put(&account, &login("me", "pass:word")).unwrap(),
            Kept { file: file.clone(), helper: None }
        );
        assert_eq!(json_of(&file), json!({"auths": {"r.example:5000/ml": {"auth": "bWU6cGFzczp3b3Jk"}}}));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(keyring.user(&account).unwrap().as_deref(), Some("me"));
        assert_eq!(keyring.user(&"r.example:5000".parse().unwrap()).unwrap(), None);
        assert_eq!(keyring.accounts().unwrap(), [account.clone()]);
        let removed: Vec<_> = keyring.remove(&account).map(Result::unwrap).collect();
        assert_eq!(removed, [Kept { file: file.clone(), helper: None }]);
        assert_eq!((keyring.remove(&account).count(), json_of(&file)), (0, json!({"auths": {}})));
        assert!(Keyring(vec![]).put(&account, &login("a", "b")).unwrap_err().cause.to_string().contains("no place"));
    }

    #[test]
    fn what_else_there_is_in_a_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("real.json"), directory.path().join("config.json"));
        let hub = "https://index.docker.io/v1/";
        let old = json!({
            "auths": {"r.example": {"auth": "eDp5"}, hub: {"identitytoken": "old", "email": "me@x"},
                "docker.io": {"auth": "eDp5"}},
            "HttpHeaders": {"X": "1"}, "plugins": [1, 2],
        });
        fs::write(&file, old.to_string()).unwrap();
        symlink("real.json", &link).unwrap();
        let keyring = Keyring(vec![link.clone()]);
        keyring.put(&"docker.io".parse().unwrap(), &login("me", "p")).unwrap();
        assert!(link.is_symlink());
        let mut expected = old.clone();
        // One entry counts for Docker Hub.
        expected["auths"]["docker.io"] = json!({});
        expected["auths"][hub] = json!({"email": "me@x", "auth": "bWU6cA=="});
        assert_eq!(json_of(&file), expected);
        assert_eq!(keyring.user(&"index.docker.io".parse().unwrap()).unwrap().as_deref(), Some("me"));

        fs::write(&file, "{}").unwrap();
        keyring.put(&"docker.io".parse().unwrap(), &login("me", "p")).unwrap();
        assert_eq!(json_of(&file)["auths"], json!({hub: {"auth": "bWU6cA=="}}));
        let broken = r#"{"auths": {"a": {"auth": "hunter2"}}, "#;
        fs::write(&file, broken).unwrap();
        let error = keyring.put(&"r.example".parse().unwrap(), &login("me", "swordfish")).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2") && !format!("{error:?}").contains("swordfish"), "{error:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), broken);
        assert_eq!(format!("{:?}", login("me", "swordfish")), r#"Login { user: "me", password: Password(…) }"#);
    }

    #[test]
    fn links_are_followed_to_files_that_are_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("sub/b", at("a")).unwrap();
        assert_eq!(target(&at("a")).unwrap(), at("sub/b"));
        symlink("loop", at("loop")).unwrap();
        assert!(target(&at("loop")).is_err());
    }

    #[test]
    fn logins_at_once_all_stay() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring(vec![directory.path().join("auth.json")]);
        std::thread::scope(|scope| {
            for n in 0..20 {
                let keyring = &keyring;
                scope.spawn(move || keyring.put(&format!("r{n}.example").parse().unwrap(), &login("a", "b")).unwrap());
            }
        });
        assert_eq!(keyring.accounts().unwrap().len(), 20);
    }

    #[test]
    fn helpers_keep_whole_registries_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        let text = r#"{"credHelpers": {"a.example": "none-such"}, "auths": {"a.example/x": {"auth": "eDp5"}}}"#;
        fs::write(&file, text).unwrap();
        let keyring = Keyring(vec![file.clone()]);
        let put = |name: &str| keyring.put(&name.parse().unwrap(), &login("me", "swordfish")).unwrap_err();
        assert!(put("a.example").cause.to_string().contains("docker-credential-none-such"));
        assert!(put("a.example/x").cause.to_string().contains("keeps them for whole registries"));
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        let remove = |name: &str| keyring.remove(&name.parse().unwrap()).collect::<Vec<_>>();
        assert!(remove("a.example")[0].is_err() && remove("a.example/x")[0].is_ok());
        assert_eq!(json_of(&file), json!({"credHelpers": {"a.example": "none-such"}, "auths": {}}));
    }
}
