//! The user of a process: `uid`, `name`, `uid:gid`, `name:group`, `uid:group`, `name:gid`.

use serde_json::{Value, json};

/// The root filesystem's accounts: the contents of `/etc/passwd` and `/etc/group` (passwd(5), group(5)), empty if the
/// file does not exist.
#[derive(Debug, Clone, Default)]
pub struct UserDatabase {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

/// A user that cannot be resolved to numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// A name without accounts to resolve it.
    #[error("the {what} `{name}` is a name, and only the root filesystem knows its number")]
    NoAccounts {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that the accounts do not have.
    #[error("the root filesystem has no {what} `{name}`")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A number that is out of range.
    #[error("`{0}` is not the number of a user or group (0 to 2147483647)")]
    Range(String),
}

impl UserError {
    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoAccounts { .. } => "give numbers with --user, such as --user 1000:1000".into(),
            Self::Unknown { what: "group", .. } => "give the group's number with --user, such as --user 0:1000".into(),
            Self::Unknown { .. } => "give the user's number with --user, or add the user in a layer".into(),
            Self::Range(_) => "give a number in that range, such as --user 1000:1000".into(),
        })
    }
}

/// Maximum id, as in docker: the largest positive 32-bit number.
const MAX_ID: u32 = i32::MAX as u32;

/// The ids of a user, as in `process.user`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UserIds {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The supplementary groups besides `gid`.
    pub(crate) additional: Vec<u32>,
}

impl UserIds {
    /// The primary group is also a supplementary one: otherwise a program that changes its primary group would lose the
    /// restrictions that a file's mode has for that group (CVE-2022-36109).
    pub(crate) fn json(&self) -> Value {
        let groups: Vec<u32> = std::iter::once(self.gid).chain(self.additional.iter().copied()).collect();
        json!({"uid": self.uid, "gid": self.gid, "additionalGids": groups})
    }
}

/// Resolves `user`; empty means root. The default group is that of the account, or 0 for a number without an account;
/// an account also gets the groups that list it, as in docker.
pub(crate) fn resolve(user: &str, users: Option<&UserDatabase>) -> Result<UserIds, UserError> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let name = if name.is_empty() { "0" } else { name };
    let unknown = |uid| PasswdEntry { name: "", uid, gid: 0 };
    let account = match number(name)? {
        Some(uid) => users.and_then(|users| users.account(|_, id| id == uid)).unwrap_or(unknown(uid)),
        // Root is 0 in every system, even if the accounts are unknown.
        None if users.is_none() && name == "root" => unknown(0),
        None => named(users, "user", name, |users| users.account(|have, _| have == name))?,
    };
    let gid = match number(group)? {
        _ if group.is_empty() => account.gid,
        Some(gid) => gid,
        None => named(users, "group", group, |users| users.group(group))?,
    };
    let implied = users.filter(|_| group.is_empty());
    let mut additional = implied.map(|users| users.groups_of(account.name)).unwrap_or_default();
    additional.retain(|other| *other != gid);
    Ok(UserIds { uid: account.uid, gid, additional })
}

/// Whether `user` is a name without a group.
pub(crate) fn is_name(user: &str) -> bool {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    group.is_empty() && !name.is_empty() && matches!(number(name), Ok(None))
}

fn named<'a, T>(
    users: Option<&'a UserDatabase>,
    what: &'static str,
    name: &str,
    find: impl FnOnce(&'a UserDatabase) -> Option<T>,
) -> Result<T, UserError> {
    let users = users.ok_or_else(|| UserError::NoAccounts { what, name: name.to_owned() })?;
    find(users).ok_or_else(|| UserError::Unknown { what, name: name.to_owned() })
}

/// The id in `text`, or `None` for a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID && digits == text => Ok(Some(id)),
        _ => Err(UserError::Range(text.to_owned())),
    }
}

/// An account.
#[derive(Clone, Copy)]
struct PasswdEntry<'a> {
    /// Empty for a number without an account.
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl UserDatabase {
    /// The first account with a `wanted` name and uid.
    fn account(&self, wanted: impl Fn(&str, u32) -> bool) -> Option<PasswdEntry<'_>> {
        entries(&self.passwd).find_map(|fields| match fields[..] {
            [name, _, uid, gid, ..] => {
                let (uid, gid) = (id(uid)?, id(gid)?);
                wanted(name, uid).then_some(PasswdEntry { name, uid, gid })
            }
            _ => None,
        })
    }

    /// The home directory of the first account with this uid.
    pub(crate) fn home(&self, wanted: u32) -> Option<&str> {
        entries(&self.passwd).find_map(|fields| match fields[..] {
            [_, _, uid, _, _, home, ..] => (id(uid)? == wanted && home.starts_with('/')).then_some(home),
            _ => None,
        })
    }

    /// The gid of the first group with this name.
    fn group(&self, wanted: &str) -> Option<u32> {
        entries(&self.group).find_map(|fields| match fields[..] {
            [name, _, gid, ..] if name == wanted => id(gid),
            _ => None,
        })
    }

    /// The groups that list `user`, in the order of the file, each once.
    fn groups_of(&self, user: &str) -> Vec<u32> {
        let mut gids = Vec::new();
        for fields in entries(&self.group) {
            let [_, _, gid, members, ..] = fields[..] else { continue };
            if let Some(gid) = id(gid)
                && members.split(',').any(|member| !user.is_empty() && member.trim() == user)
                && !gids.contains(&gid)
            {
                gids.push(gid);
            }
        }
        gids
    }
}

/// The fields of each line; the callers skip comments and invalid lines when they parse the fields.
fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(|line| line.split(':').collect())
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> UserDatabase {
        let passwd = "# comment\nroot:x:0:0:root:/root:/bin/sh\n+nis\nbroken:x:abc:1::/:\nme:x:1000:100:,,,:/home/me:/bin/sh\n\
                      me:x:2000:2::/:\nlarge:x:4294967295:0::/:\nonly:x:7:8";
        let group = "root:x:0:root\nwheel:x:10:root,\nusers:x:100:me\nvideo:x:44:you,me\nmedia:x:45:me\nagain:x:44:me\n\
                     bad:x:x:me\nmen:x:46:men,m,e";
        UserDatabase { passwd: passwd.into(), group: group.into() }
    }

    fn ids(uid: u32, gid: u32, additional: &[u32]) -> Result<UserIds, UserError> {
        Ok(UserIds { uid, gid, additional: additional.to_vec() })
    }

    #[test]
    fn users_are_resolved_in_the_root_filesystem() {
        let users = users();
        for (text, expected) in [
            ("", ids(0, 0, &[10])),
            ("0", ids(0, 0, &[10])),
            ("root", ids(0, 0, &[10])),
            ("0:0", ids(0, 0, &[])),
            ("1000", ids(1000, 100, &[44, 45])),
            ("1000:", ids(1000, 100, &[44, 45])),
            ("1000:5", ids(1000, 5, &[])),
            ("4711", ids(4711, 0, &[])),
            ("4711:video", ids(4711, 44, &[])),
            ("me", ids(1000, 100, &[44, 45])),
            ("me:", ids(1000, 100, &[44, 45])),
            ("me:7", ids(1000, 7, &[])),
            ("me:video", ids(1000, 44, &[])),
            (":video", ids(0, 44, &[])),
            ("only", ids(7, 8, &[])),
        ] {
            assert_eq!(resolve(text, Some(&users)), expected, "{text}");
        }
    }

    #[test]
    fn the_primary_group_is_a_supplementary_one_too() {
        let groups = |text: &str| resolve(text, Some(&users())).unwrap().json()["additionalGids"].clone();
        assert_eq!(groups("me"), json!([100, 44, 45]));
        assert_eq!(groups("me:video"), json!([44]));
        assert_eq!(groups("4711"), json!([0]));
        assert_eq!(resolve("5:6", None).unwrap().json(), json!({"uid": 5, "gid": 6, "additionalGids": [6]}));
    }

    #[test]
    fn without_accounts_only_numbers_will_do() {
        assert_eq!(resolve("5:6", None), ids(5, 6, &[]));
        assert_eq!(resolve("5", None), ids(5, 0, &[]));
        assert_eq!(resolve("root", None), ids(0, 0, &[]));
        let error = resolve("me", None).unwrap_err();
        assert_eq!(error, UserError::NoAccounts { what: "user", name: "me".into() });
        assert!(error.hint().unwrap().contains("--user"));
        assert!(matches!(resolve("5:video", None), Err(UserError::NoAccounts { what: "group", .. })));
    }

    #[test]
    fn who_is_not_there_is_an_error() {
        let users = users();
        for name in ["nobody", "ME", "broken", "+nis", "large", "me ", "# comment", "root:none", "a:b:c", "me:bad"] {
            assert!(matches!(resolve(name, Some(&users)), Err(UserError::Unknown { .. })), "{name}");
        }
        for number in ["-1", "2147483648", "99999999999999999999", "0:-5", "+1", "me:4294967296"] {
            assert!(matches!(resolve(number, Some(&users)), Err(UserError::Range(_))), "{number}");
        }
        assert!(matches!(resolve("me", Some(&UserDatabase::default())), Err(UserError::Unknown { .. })));
    }
}
