//! Wrong layers.

use super::*;

#[test]
fn wrong_layers() {
    for (layer, expected) in [
        ("", "2:1: this [[layer]] has no kind | give it one of `directories`, `copy`, `tar`, `pip`, `run`"),
        (
            "mode = '0755'",
            "2:1: this [[layer]] has no kind | give it one of `directories`, `copy`, `tar`, `pip`, `run`",
        ),
        (
            "tar = 'a'\npip = ['b']",
            "4:1: this [[layer]] has two kinds, `tar` and `pip` | write two [[layer]] tables; ociforge builds them in \
                order",
        ),
        ("apt = ['ffmpeg']", "3:1: a layer of kind `apt` is not supported yet"),
        ("pip = ['a']\nbytecode = 1", "4:12: `bytecode` is the number 1; expected true or false"),
        (
            "pip = ['a']\nbytecode = 'true'",
            "4:12: `bytecode` is `true`; expected true or false | write it without quotes: true",
        ),
        ("tar = 'a'\nbytecode = true", "4:1: `bytecode` cannot be combined with `tar`"),
        (
            "pip = { project = '.', extras = ['a,b'] }",
            "3:34: `extras` is `a,b`; expected a name such as `torch` | write each name as a string of its own",
        ),
        (
            "pip = { project = '.', extras = 'a' }",
            "3:33: `extras` is `a`; expected an array of strings | write an array: extras = [\"a\"]",
        ),
        ("pip = { project = '' }", "3:19: `project` is empty; expected a string that is not empty"),
        (
            "pip = { wheels = 'a', extras = ['b'] }",
            "3:23: `extras` cannot be combined with `wheels` | write a package's extras with its name, such as \
                `package[extra]`",
        ),
        ("pip = []", "3:7: `pip` is an empty array; expected at least one requirement, such as `tqdm`"),
        ("pip = 'tqdm'", "3:7: `pip` is `tqdm`; expected an array of strings | write an array: pip = [\"tqdm\"]"),
        ("pip = {}", "3:7: `pip` is a table; expected one of `requirements`, `lock`, `wheels` and `project` in it"),
        (
            "pip = { lock = 'a', wheels = 'b' }",
            "3:7: `pip` is a table; expected one of `requirements`, `lock`, `wheels` and `project` in it",
        ),
        ("pip = { project = '.', groups = ['b'] }", "3:24: `groups` cannot be combined with `project`"),
        ("pip = { lock = 'a', groups = ['b c'] }", "3:31: `groups` is `b c`; expected a name such as `torch`"),
        (
            "pip = { extras = ['a'] }",
            "3:7: `pip` is a table; expected one of `requirements`, `lock`, `wheels` and `project` in it",
        ),
        (
            "pip = ['--index-url https://u:secret@example.com']",
            "3:8: `pip` is `--index-url https://example.com`; expected a requirement such as `Pillow>=10.0.0` | \
                write options in a requirements file: pip = { requirements = \"requirements.txt\" }",
        ),
        (
            "pip = ['./a.whl']",
            "3:8: `pip` is `./a.whl`; expected a requirement such as `Pillow>=10.0.0` | for wheels on disk write pip \
                = { wheels = \"dist/*.whl\" }",
        ),
        (
            "pip = ['.']",
            "3:8: `pip` is `.`; expected a requirement such as `Pillow>=10.0.0` | for a project on disk write pip = { \
                project = \".\" }, for wheels { wheels = \"dist/*.whl\" }",
        ),
        ("pip = [\"a\\nb\"]", "3:8: `pip` is text with control characters; expected a line of text"),
        ("directories = []", "3:15: `directories` is an empty array; expected at least one directory"),
        ("directories = ['/']", "3:16: `directories` is `/`; expected a directory below `/`"),
        (
            "directories = ['app']",
            "3:16: `directories` is `app`; expected an absolute path in the image | write `/app`",
        ),
        (
            "directories = ['/a']\nmode = 755",
            "4:8: `mode` is the number 755; expected an octal mode such as \"0755\" | write it in quotes: \"0755\"",
        ),
        (
            "directories = ['/a']\nowner = 'app:app'",
            "4:9: `owner` is `app:app`; expected a numeric owner such as \"1000:1000\" | names of users and groups \
                are not supported yet; write their numbers",
        ),
        (
            "copy = ['a', 'b']",
            "3:8: `copy` is an array; expected a table | write for example `copy = { from = \"src\", to = \"/code\" }`",
        ),
        (
            "copy = { from = 'a' }",
            "3:8: `copy` has no `to` | write for example `copy = { from = \"src\", to = \"/code\" }`",
        ),
        (
            "copy = { from = ['a'], to = '/' }",
            "3:17: `from` is an array; expected one file or directory | make a [[layer]] of each",
        ),
        (
            "copy = { from = 'a', to = 'code' }",
            "3:27: `to` is `code`; expected an absolute path in the image | write `/code`",
        ),
        (
            "copy = { from = 'a', to = '/b', exclude = ['[a'] }",
            "3:44: `exclude` is `[a`; expected a pattern as in .dockerignore | `[a` is not a pattern: a `[` is not \
                closed",
        ),
        (
            "copy = { from = 'a', to = '/b' }\nmode = '0644'",
            "4:1: `mode` cannot be combined with `copy` | write it inside: copy = { …, mode = … }",
        ),
        ("tar = 'a'\nowner = '0'", "4:1: `owner` cannot be combined with `tar`"),
    ] {
        assert_eq!(wrong(&format!("base = 'a'\n[[layer]]\n{layer}")), expected);
    }
    let second = wrong("base = 'a'\n[[layer]]\ntar = 'a'\n\n[[layer]]\n\n[config]\n");
    assert!(second.starts_with("5:1: this [[layer]] has no kind"), "{second}");
    assert_eq!(
        wrong("base = 'a'\n[layer]\ntar = 'b'"),
        "2:1: `layer` is a table; expected an array of tables | write [[layer]] with two brackets"
    );
}

#[test]
fn modes_that_are_none_say_how_to_write_them() {
    let digits = "its digits are 0 to 7: 4 to read, 2 to write, 1 to execute, for owner, group and others";
    let places = [
        ("directories = ['/a']\nmode = MODE", "4:8"),
        ("copy = { from = 'a', to = '/b', mode = MODE }", "3:40"),
        ("run = 'x'\nmounts = [{ secret = 'a', mode = MODE }]", "4:34"),
    ];
    for (mode, found, hint) in [
        ("0777", "the number 0777 begins with 0, which TOML does not allow", "write it in quotes: \"0777\""),
        ("0400", "the number 0400 begins with 0, which TOML does not allow", "write it in quotes: \"0400\""),
        ("755", "the number 755", "write it in quotes: \"0755\""),
        ("1777", "the number 1777", "write it in quotes: \"1777\""),
        // As other languages print 0o755.
        ("493", "the number 493", "write it in quotes: \"0755\""),
        ("0x1ff", "the number 0x1ff", "write it in quotes: \"0777\""),
        ("99999", "the number 99999", digits),
        ("0o17777", "the number 0o17777", digits),
        ("'0o755'", "`0o755`", "write \"0755\""),
        ("' 755'", "` 755`", "write \"0755\""),
        ("'0888'", "`0888`", digits),
        ("'17777'", "`17777`", digits),
        ("'rwxr-xr-x'", "`rwxr-xr-x`", digits),
        ("''", "empty", digits),
        ("true", "the boolean true", digits),
        ("7.5", "the number 7.5", digits),
        ("['0755']", "an array", digits),
    ] {
        let whole = match found.strip_prefix("the number 0777 ").or(found.strip_prefix("the number 0400 ")) {
            Some(_) => format!("{found} | {hint}"),
            None => format!("`mode` is {found}; expected an octal mode such as \"0755\" | {hint}"),
        };
        for (layer, at) in places {
            let text = format!("base = 'a'\n[[layer]]\n{}", layer.replace("MODE", mode));
            assert_eq!(wrong(&text), format!("{at}: {whole}"), "{text}");
        }
    }
    for good in ["'0755'", "'755'", "0o755", "'00755'", "'7777'", "0o0"] {
        plan(&format!("base = 'a'\n[[layer]]\ndirectories = ['/a']\nmode = {good}"));
    }
    let octal = wrong("base = 'a'\n[[layer]]\ndirectories = ['/a']\nmode = 0o888");
    assert!(octal.ends_with("| an octal number has the digits 0 to 7, such as 0o755"), "{octal}");
    // Not every number with a zero is a mode.
    let other = wrong("base = 'a'\n[[layer]]\ndirectories = ['/a']\nowner = 0100");
    assert!(other.ends_with("| write it in quotes: \"0100\""), "{other}");
}
