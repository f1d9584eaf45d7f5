//! Changing the files of credentials: `login` and `logout`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::account::Account;
use super::document::LockedAuthFile;
use super::file::{AuthFile, server_of};
use super::{Credential, CredentialError, CredentialFiles, Warn};
use crate::content::{Cause, ContentError};
use crate::registry::Settings;

/// A password or token.
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

/// The login of a user at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name, without a `:`.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// The place of an account's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialLocation {
    /// The file that is read for them.
    pub file: PathBuf,
    /// The helper that has them, by the name of its program, if the file names one.
    pub helper: Option<String>,
}

impl fmt::Display for CredentialLocation {
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
pub struct Keyring {
    searched: Vec<PathBuf>,
    kept: Option<PathBuf>,
    /// Receives warnings about helpers that are not installed.
    warn: Warn,
}

/// The secret and the identity of an entry.
const OF_THE_USER: [&str; 5] = ["auth", "username", "password", "identitytoken", "registrytoken"];

impl Keyring {
    /// The files that these settings search. They need not be there.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let warn = settings.warn.clone();
        match &settings.authfile {
            Some(file) => Self { warn, ..Self::of(vec![file.clone()]) },
            None => {
                let kept = settings.auth_kept.clone();
                Self {
                    kept: kept.or(settings.auth_search.first().cloned()),
                    searched: settings.auth_search.clone(),
                    warn,
                }
            }
        }
    }

    fn of(files: Vec<PathBuf>) -> Self {
        Self { kept: files.first().cloned(), searched: files, warn: Warn::default() }
    }

    /// The user who is logged in to `account` or to its parent: `<token>` for a token.
    ///
    /// # Errors
    /// When a file cannot be read, or a helper fails.
    pub fn user(&self, account: &Account) -> Result<Option<String>, ContentError> {
        let files = CredentialFiles { files: self.searched.clone(), warn: self.warn.clone() };
        let found = files.find(account.registry(), account.namespace());
        match found.map_err(|error| Cause::from(error).of(format!("find the user of {account}")))? {
            Credential::Anonymous => Ok(None),
            Credential::Password { user, .. } => Ok(Some(user)),
            Credential::Identity(_) => Ok(Some("<token>".into())),
        }
    }

    /// Stores a login in its file, in place of an older one, or in the helper that the file names. Other content of the
    /// file is unchanged.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the helper fails. The file is then unchanged.
    pub fn put(&self, account: &Account, login: &Login) -> Result<CredentialLocation, ContentError> {
        let error = |error: CredentialError| Cause::from(error).of(format!("store the credentials for {account}"));
        put(self.kept.as_deref(), account, login).map_err(error)
    }

    /// The file with precedence over `kept` that has credentials for `account`, too.
    #[must_use]
    pub fn before(&self, kept: &Path, account: &Account) -> Option<&Path> {
        let has = |file: &Path| {
            let found = AuthFile::read(file)
                .ok()?
                .find(file, account.registry(), account.namespace(), &Warn::default())
                .ok()?;
            Some(found != Credential::Anonymous)
        };
        let earlier = self.searched.iter().map(PathBuf::as_path).take_while(|file| *file != kept);
        earlier.into_iter().find(|file| has(file).unwrap_or(false))
    }

    /// Removes the credentials of exactly `account` from all files, and from the helpers that they name. Returns the
    /// places that had them.
    pub fn remove(&self, account: &Account) -> impl Iterator<Item = Result<CredentialLocation, ContentError>> {
        let error =
            move |error: CredentialError| Cause::from(error).of(format!("remove the credentials for {account}"));
        self.searched.iter().filter_map(move |file| remove(file, account).map_err(error).transpose())
    }

    /// All accounts with credentials, by name.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn accounts(&self) -> Result<Vec<Account>, ContentError> {
        let mut accounts = Vec::new();
        for file in &self.searched {
            let content = AuthFile::read(file).map_err(|error| Cause::from(error).of("list the credentials"))?;
            accounts.extend(content.accounts());
        }
        accounts.sort();
        accounts.dedup();
        Ok(accounts)
    }
}

fn put(file: Option<&Path>, account: &Account, login: &Login) -> Result<CredentialLocation, CredentialError> {
    let mut document = LockedAuthFile::open(file.ok_or(CredentialError::NoPlace)?)?;
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
    Ok(CredentialLocation { file: document.file, helper })
}

fn remove(file: &Path, account: &Account) -> Result<Option<CredentialLocation>, CredentialError> {
    if !file.exists() {
        return Ok(None);
    }
    let mut document = LockedAuthFile::open(file)?;
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
    let kept = CredentialLocation { file: document.file, helper };
    Ok(Some(kept).filter(|kept| had_secret || kept.helper.is_some()))
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        let keyring = Keyring::of(vec![file.clone(), directory.path().join("other.json")]);
        let account: Account = "r.example:5000/ml".parse().unwrap();
        assert_eq!(
            keyring.put(&account, &login("me", "pass:word")).unwrap(),
            CredentialLocation { file: file.clone(), helper: None }
        );
        assert_eq!(json_of(&file), json!({"auths": {"r.example:5000/ml": {"auth": "bWU6cGFzczp3b3Jk"}}}));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(keyring.user(&account).unwrap().as_deref(), Some("me"));
        assert_eq!(keyring.user(&"r.example:5000".parse().unwrap()).unwrap(), None);
        assert_eq!(keyring.accounts().unwrap(), std::slice::from_ref(&account));
        let removed: Vec<_> = keyring.remove(&account).map(Result::unwrap).collect();
        assert_eq!(removed, [CredentialLocation { file: file.clone(), helper: None }]);
        assert_eq!((keyring.remove(&account).count(), json_of(&file)), (0, json!({"auths": {}})));
        assert!(
            Keyring::of(vec![])
                .put(&account, &login("a", "b"))
                .unwrap_err()
                .cause
                .to_string()
                .contains("cannot store credentials")
        );
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
        let keyring = Keyring::of(vec![link.clone()]);
        keyring.put(&"docker.io".parse().unwrap(), &login("me", "p")).unwrap();
        assert!(link.is_symlink());
        let mut expected = old.clone();
        // Docker Hub counts as one entry.
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
    fn logins_at_once_all_stay() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::of(vec![directory.path().join("auth.json")]);
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
        let keyring = Keyring::of(vec![file.clone()]);
        let put = |name: &str| keyring.put(&name.parse().unwrap(), &login("me", "swordfish")).unwrap_err();
        assert!(put("a.example").cause.to_string().contains("docker-credential-none-such"));
        assert!(put("a.example/x").cause.to_string().contains("stores them for whole registries only"));
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        let remove = |name: &str| keyring.remove(&name.parse().unwrap()).collect::<Vec<_>>();
        assert!(remove("a.example")[0].is_err() && remove("a.example/x")[0].is_ok());
        assert_eq!(json_of(&file), json!({"credHelpers": {"a.example": "none-such"}, "auths": {}}));
    }
}
