use std::fs;

use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn credentials(indexes: &[&str], netrc: &str, keyring: Option<KeyringCommand>) -> IndexCredentials {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), netrc).unwrap();
    IndexCredentials::new(indexes.iter().map(|index| url(index)).collect(), Some(file.path()), keyring)
}

#[tokio::test]
async fn an_index_of_the_same_origin() {
    let found = credentials(&["https://u:p@h/a/simple", "https://v:q@h/b/simple", "https://tok@k:8443/"], "", None);
    for (asked, expected) in [
        ("https://h/a/files/x.whl", "https://u:p@h/a/files/x.whl"),
        ("https://h/b/files/x.whl", "https://v:q@h/b/files/x.whl"),
        ("https://h/x.whl", "https://u:p@h/x.whl"),
        ("https://own:1@h/x.whl", "https://own:1@h/x.whl"),
        ("https://k:8443/x.whl", "https://tok@k:8443/x.whl"),
        ("https://k/x.whl", "https://k/x.whl"),
        ("http://h/x.whl", "http://h/x.whl"),
        ("https://other/x.whl", "https://other/x.whl"),
    ] {
        assert_eq!(found.complete(&url(asked)).await.as_str(), expected);
        assert_eq!(found.other(&url(asked)).await, None);
    }
}

#[tokio::test]
async fn netrc_is_for_those_who_want_it() {
    let netrc = "machine h login u password p@ss\nmachine k\n  login v\n  password q\ndefault login d password e\n";
    let found = credentials(&["https://w@k/simple"], netrc, None);
    assert_eq!(found.complete(&url("https://h/x")).await, url("https://h/x"));
    assert_eq!(found.other(&url("https://h/x")).await.unwrap().as_str(), "https://u:p%40ss@h/x");
    // Once it is known, it is sent at once.
    assert_eq!(found.complete(&url("https://h/y")).await.as_str(), "https://u:p%40ss@h/y");
    assert_eq!(found.other(&url("https://u:p%40ss@h/y")).await, None);
    assert_eq!(found.other(&url("https://z/x")).await.unwrap().as_str(), "https://d:e@z/x");
    // Another user than the one that is asked for.
    assert_eq!(found.other(&url("https://w@k/x")).await, None);
}

#[tokio::test]
async fn the_keyring_knows_passwords_of_users() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("keyring");
    let script = "#!/bin/sh\necho \"$*\" >>\"$0.calls\"\n[ \"$2\" = h:81 ] && [ \"$3\" = u@x ] && echo 'p a/ss' && exit 0\nexit 1\n";
    crate::testing::write_program(&program, script);
    let found = credentials(&["http://u%40x@h:81/simple"], "", Some(KeyringCommand::of(&program)));
    let asked = found.complete(&url("http://h:81/files/x")).await;
    assert_eq!(asked.as_str(), "http://u%40x@h:81/files/x");
    let expected = "http://u%40x:p%20a%2Fss@h:81/files/x";
    assert_eq!(found.other(&asked).await.unwrap().as_str(), expected);
    assert_eq!(found.complete(&url("http://h:81/files/x")).await.as_str(), expected);
    // It is asked once, for the URL and then for the host, and not where no user is known.
    assert_eq!(found.other(&url("http://other/x")).await, None);
    let calls = fs::read_to_string(directory.path().join("keyring.calls")).unwrap();
    assert_eq!(calls, "get http://h:81/simple u@x\nget h:81 u@x\n");
}
