//! Steps that run something.

use std::path::Path;

use ociforge_manifests::runtime::{Network, Size};

use super::{WHOLE, plan, wrong};
use crate::layer::{MountKind, Pip, PylockSelection, Run, Step, StepCommand, StepKind, is_secret_id};
use crate::plan::Libc;
use crate::tables::Owner;

fn step(layer: &str) -> Step {
    plan(&format!("base = 'a'\n[[layer]]\n{layer}")).target().steps[0].clone()
}

fn run(layer: &str) -> Run {
    let StepKind::Run(run) = step(layer).kind else { panic!() };
    run
}

#[test]
fn a_run_with_everything() {
    let plan = plan(WHOLE);
    let StepKind::Run(run) = &plan.target().steps[8].kind else { panic!() };
    let config = &plan.target().steps[8].config;
    assert_eq!(run.command.words(&config.shell), ["/bin/sh", "-c", "set -e\nmake \\\n    -j\n"]);
    assert_eq!(run.env, [("CC".to_owned(), "gcc".to_owned()), ("AR".into(), "ar".into())]);
    assert_eq!((config.workdir.as_deref(), config.user.as_deref()), (Some("/src"), Some("app:1000")));
    assert_eq!(run.network, Network::Host);
    let mounts: Vec<_> = run.mounts.iter().map(|mount| (mount.to.as_str(), mount.kind.clone())).collect();
    let owner = Some(Owner { uid: 1000, gid: 1000 });
    let expected = [
        ("/src", MountKind::Bind { from: "src".into(), writable: true }),
        ("/root/.cache/pip", MountKind::Cache { id: "/root/.cache/pip".into(), locked: true }),
        ("/var/cache/apt", MountKind::Cache { id: "apt".into(), locked: false }),
        ("/tmp", MountKind::Tmpfs { size: Some(Size(1 << 30)) }),
        ("/run/secrets/token", MountKind::Secret { id: "token".into(), mode: 0o400, owner: None }),
        ("/root/.netrc", MountKind::Secret { id: "netrc".into(), mode: 0o440, owner }),
    ];
    assert_eq!(mounts, expected);
    let secrets: Vec<_> = plan.secrets().map(|(step, id)| (step.line, id)).collect();
    assert_eq!(secrets, [(53, "token"), (53, "netrc")]);
    let StepKind::Run(run) = &plan.target().steps[9].kind else { panic!() };
    assert_eq!(run.command, StepCommand::Exec(["/bin/echo", "it's", ""].map(str::to_owned).into()));
    assert_eq!((run.network, &run.env[..]), (Network::Private, &[][..]));
    // What holds for the image holds for the step.
    let config = &plan.target().steps[9].config;
    assert_eq!((config.workdir.as_deref(), &config.user, config.env.len()), (Some("/code"), &None, 2));
    let StepKind::Pip(Pip::Project { directory, extras }) = &plan.target().steps[7].kind else { panic!() };
    assert_eq!((directory.as_path(), &extras[..]), (Path::new("lib"), &["all".to_owned(), "torch-cuda".into()][..]));
    assert_eq!(plan.projects().map(|(step, path)| (step.line, path)).collect::<Vec<_>>(), [(49, Path::new("lib"))]);
}

#[test]
fn only_what_runs_something_needs_the_sandbox() {
    for (layer, needs) in [
        ("tar = 'a'", false),
        ("pip = { wheels = '*.whl' }", false),
        ("pip = ['a']", false),
        ("pip = { requirements = 'a' }", false),
        ("pip = { lock = 'pylock.toml' }", false),
        ("pip = { project = '.' }", true),
        ("pip = { wheels = '*.whl' }\nbytecode = true", true),
        ("pip = ['a']\nbytecode = false", false),
        ("run = 'true'", true),
    ] {
        let plan = plan(&format!("base = 'a'\n[[layer]]\n{layer}"));
        assert_eq!(plan.needs_sandbox(), needs, "{layer}");
    }
}

#[test]
fn a_lock_depends_on_projects_and_not_on_commands() {
    let inputs = |layer: &str| plan(&format!("base = 'a'\n[[layer]]\n{layer}")).inputs;
    assert_eq!(inputs("run = 'true'"), inputs("run = 'false'\nenv = { A = 'b' }"));
    assert_eq!(inputs("pip = ['a']"), inputs("pip = ['a']\nbytecode = true"));
    let project = inputs("pip = { project = '.' }");
    assert_ne!(project, inputs("pip = { project = 'b' }"));
    assert_ne!(project, inputs("pip = { project = '.', extras = ['b'] }"));
    assert_eq!(
        inputs("pip = { project = '.', extras = ['b', 'C'] }"),
        inputs("pip.project = '.'\npip.extras = ['c', 'b']")
    );
}

#[test]
fn what_of_a_lock_is_wanted() {
    let lock = |text: &str| {
        let step = step(&format!("pip = {{ lock = 'pylock.toml'{text} }}"));
        let StepKind::Pip(Pip::Lock(_, selection)) = step.kind else { panic!() };
        (selection, step.description)
    };
    assert_eq!(lock(""), (PylockSelection::default(), "pip lock pylock.toml".into()));
    let selection =
        PylockSelection { extras: vec!["gpu-x".into()], groups: Some(vec!["default".into(), "dev".into()]) };
    let both = lock(", extras = ['Gpu_x'], groups = ['dev', 'default']");
    assert_eq!(both, (selection, "pip lock pylock.toml[gpu-x,default,dev]".into()));
    assert_eq!(lock(", groups = []").0.groups, Some(vec![]));
    let inputs = |text: &str| plan(&format!("base = 'a'\n[[layer]]\npip = {{ lock = 'l'{text} }}")).inputs;
    let all = ["", ", extras = ['a']", ", groups = ['a']", ", groups = []"].map(inputs);
    assert!((0..4).all(|n| all.iter().filter(|other| **other == all[n]).count() == 1));
}

#[test]
fn c_libraries() {
    for (text, libc) in
        [("glibc 2.39", Libc::Glibc(2, 39)), ("musl 1.2", Libc::Musl(1, 2)), ("musl 1.2.5", Libc::Musl(1, 2))]
    {
        assert_eq!(text.parse(), Ok(libc));
        assert!(text.starts_with(&libc.to_string()));
    }
    for wrong in [
        "",
        "glibc",
        "2.39",
        "glibc 2",
        "glibc 3.1",
        "musl 2.0",
        "glibc-2.39",
        "Glibc 2.39",
        "glibc 2.+9",
        "glibc 2.3.4.5",
    ] {
        assert_eq!(wrong.parse::<Libc>(), Err(()), "{wrong}");
    }
    let python = "[python]\nversion = '3.10'\nsite-packages = '/a'\nexecutable = '/b'\n";
    let stated = |libc: &str| plan(&format!("base = 'a'\n{python}{libc}"));
    assert_eq!(stated("").target().python.as_ref().unwrap().libc, None);
    assert_eq!(stated("libc = 'glibc 2.36'").target().python.as_ref().unwrap().libc, Some(Libc::Glibc(2, 36)));
    assert_ne!(stated("").inputs, stated("libc = 'glibc 2.36'").inputs);
}

#[test]
fn commands_are_described_on_one_line() {
    let long = "x".repeat(500);
    for (layer, expected) in [
        ("run = 'make   install'", "run make install"),
        ("run = '''\n\n  make \\\n     a\\\n  b\n\n  true\n'''", r"run make a b\ntrue"),
        ("run = \"printf '\\u001b[2J\\u0007'\"", "run printf '\u{fffd}[2J\u{fffd}'"),
        ("run = \"a\\tb\"", "run a b"),
        ("run = 'wget https://u:secret@example.com/a?token=secret -O b'", "run wget https://example.com/a -O b"),
        ("run = 'x=a://u:secret@b,c://u:secret@d y'", "run x=a://b,c://d y"),
        ("run = ['sh', '-c', \"echo a b\\n\"]", r"run sh -c 'echo a b\n'"),
        ("run = ['é', '$A', 'a;b']", "run é '$A' 'a;b'"),
    ] {
        assert_eq!(step(layer).description, expected);
    }
    let description = step(&format!("run = '{long}'")).description;
    assert!(description.len() < 420 && description.ends_with("xx…"), "{description}");
    let secret = "run = 'true'\nenv = { TOKEN = 'secret' }\nmounts = [{ secret = 'b' }]\nnetwork = 'host'";
    assert_eq!(step(secret).description, "run true");
}

#[test]
fn scripts_have_the_line_ends_of_unix() {
    assert_eq!(run("run = '''a\r\nb\r\n'''").command, StepCommand::Shell("a\nb\n".into()));
    assert_eq!(run("run = ['a', \"b\\r\\n\"]").command, StepCommand::Exec(vec!["a".into(), "b\r\n".into()]));
}

#[test]
fn wrong_commands() {
    const EXPECTED: &str =
        "expected a command, such as \"make install\" for the shell or [\"make\", \"install\"] without one";
    for (layer, expected) in [
        ("run = ''", format!("3:7: `run` is empty; {EXPECTED}")),
        ("run = \" \\n\"", format!("3:7: `run` is ` \\n`; {EXPECTED}")),
        ("run = []", format!("3:7: `run` is an empty array; {EXPECTED}")),
        ("run = ['', 'a']", format!("3:7: `run` is an array; {EXPECTED}")),
        ("run = 1", format!("3:7: `run` is the number 1; {EXPECTED}")),
        (
            "run = { command = 'a' }",
            format!(
                "3:7: `run` is a table; {EXPECTED} | `env`, `workdir`, `user`, `shell`, `network`, `mounts` belong beside \
                    `run`, in the [[layer]]"
            ),
        ),
        ("run = ['a', 1]", "3:13: `run` is the number 1; expected a string | write it in quotes: \"1\"".into()),
        ("run = \"a\\u0000\"", "3:7: `run` is text with a NUL byte; expected other text".into()),
        ("run = ['a', \"b\\u0000\"]", "3:13: `run` is text with a NUL byte; expected other text".into()),
    ] {
        assert_eq!(wrong(&format!("base = 'a'\n[[layer]]\n{layer}")), expected);
    }
}

#[test]
fn wrong_keys_of_run() {
    for (key, expected) in [
        ("workdir = 'src'", "4:11: `workdir` is `src`; expected an absolute path in the image | write `/src`"),
        (
            "env = { 'A=B' = 'x' }",
            "4:17: `env.A=B` is not a variable name; expected a non-empty name without `=` and NUL",
        ),
        ("env = { '' = 'x' }", "4:14: `env.` is not a variable name; expected a non-empty name without `=` and NUL"),
        ("env = { A = 1 }", "4:13: `env.A` is the number 1; expected a string | write it in quotes: \"1\""),
        ("env = ['A=b']", "4:7: `env` is an array; expected a table"),
        ("user = 1000", "4:8: `user` is the number 1000; expected a string | write it in quotes: \"1000\""),
        ("user = ':1'", "4:8: `user` is `:1`; expected a user such as \"app\", \"1000\" or \"1000:1000\""),
        ("user = 'a:'", "4:8: `user` is `a:`; expected a user such as \"app\", \"1000\" or \"1000:1000\""),
        ("user = 'a:b:c'", "4:8: `user` is `a:b:c`; expected a user such as \"app\", \"1000\" or \"1000:1000\""),
        ("user = '-1'", "4:8: `user` is `-1`; expected a user such as \"app\", \"1000\" or \"1000:1000\""),
        (
            "user = '2147483648'",
            "4:8: `user` is `2147483648`; expected a user such as \"app\", \"1000\" or \"1000:1000\"",
        ),
        (
            "network = 'bridge'",
            "4:11: `network` is `bridge`; expected \"none\" or \"host\" | \"host\" gives the step the host's \
                network; without `network` it has none",
        ),
        ("network = true", "4:11: `network` is the boolean true; expected a string | write it in quotes: \"true\""),
        ("bytecode = true", "4:1: `bytecode` cannot be combined with `run`"),
        ("owner = '0'", "4:1: `owner` cannot be combined with `run`"),
        ("mount = []", "4:1: unknown key `mount` in [[layer]] | did you mean `mounts`?"),
        ("sharing = 'locked'", "4:1: unknown key `sharing` in [[layer]] | `sharing` belongs in `mounts`"),
    ] {
        assert_eq!(wrong(&format!("base = 'a'\n[[layer]]\nrun = 'true'\n{key}")), expected);
    }
    for key in ["env = {}", "workdir = '/'", "user = 'a'", "network = 'none'", "mounts = []"] {
        let name = key.split(' ').next().unwrap();
        let message = wrong(&format!("base = 'a'\n[[layer]]\npip = ['a']\n{key}"));
        assert_eq!(message, format!("4:1: `{name}` cannot be combined with `pip`"));
    }
}

#[test]
fn wrong_mounts() {
    const EXAMPLE: &str = "write for example mounts = [{ cache = \"/root/.cache\" }]";
    const INSIDE: &str = "a bind mount shows only files below the recipe's directory; copy them there, or move the \
                          recipe to a parent directory";
    const SECRET: &str = "the name is the id of `--secret id=…,src=FILE`: letters, digits, `-`, `_` and `.`";
    for (mounts, expected) in [
        ("'/a'", format!("4:10: `mounts` is `/a`; expected an array of tables | {EXAMPLE}")),
        ("['/a']", format!("4:11: `mounts` is `/a`; expected an array of tables | {EXAMPLE}")),
        ("{ cache = '/a' }", format!("4:10: `mounts` is a table; expected an array of tables | {EXAMPLE}")),
        ("[{}]", "4:11: `mounts` is a table; expected one of `bind`, `cache`, `tmpfs` and `secret` in it".into()),
        (
            "[{ cache = '/a', tmpfs = '/b' }]",
            "4:11: `mounts` is a table; expected one of `bind`, `cache`, `tmpfs` and `secret` in it".into(),
        ),
        ("[{ cach = '/a' }]", "4:13: unknown key `cach` in `mounts` | did you mean `cache`?".into()),
        ("[{ cache = '/a', size = '1g' }]", "4:27: `size` cannot be combined with `cache`".into()),
        (
            "[{ tmpfs = '/a', to = '/b' }]",
            "4:27: `to` cannot be combined with `tmpfs` | the value of `tmpfs` is the destination".into(),
        ),
        ("[{ secret = 'a', write = true }]", "4:27: `write` cannot be combined with `secret`".into()),
        (
            "[{ bind = 'a' }]",
            "4:11: `mounts` has no `to` | write for example `{ bind = \"src\", to = \"/src\" }`".into(),
        ),
        (
            "[{ bind = '/etc', to = '/a' }]",
            format!("4:20: `bind` is `/etc`; expected a path in the recipe's directory | {INSIDE}"),
        ),
        (
            "[{ bind = 'a/../../b', to = '/a' }]",
            format!("4:20: `bind` is `a/../../b`; expected a path in the recipe's directory | {INSIDE}"),
        ),
        ("[{ bind = '', to = '/a' }]", "4:20: `bind` is empty; expected a string that is not empty".into()),
        ("[{ bind = 'a', to = '/' }]", "4:30: `to` is `/`; expected a path below `/`".into()),
        ("[{ cache = '/.' }]", "4:21: `cache` is `/.`; expected a path below `/`".into()),
        ("[{ tmpfs = 'a' }]", "4:21: `tmpfs` is `a`; expected an absolute path in the image | write `/a`".into()),
        (
            "[{ tmpfs = '/proc/a' }]",
            "4:21: `tmpfs` is `/proc/a`; expected a path that is free for mounts | every step has its own /proc, /sys, \
                /dev"
                .into(),
        ),
        (
            "[{ tmpfs = '/dev/shm2' }]",
            "4:21: `tmpfs` is `/dev/shm2`; expected a path that is free for mounts | every step has its own /proc, \
                /sys, /dev"
                .into(),
        ),
        ("[{ tmpfs = '/a' }, { cache = '/a/.' }]", "4:29: `mounts` is `/a` twice; expected each destination once".into()),
        (
            "[{ secret = 'a' }, { bind = 'b', to = '/run/secrets//a' }]",
            "4:29: `mounts` is `/run/secrets/a` twice; expected each destination once".into(),
        ),
        (
            "[{ cache = '/a', sharing = 'private' }]",
            "4:37: `sharing` is `private`; expected \"locked\" or \"shared\" | \"locked\" lets one build at a time \
                use it, \"shared\" all of them"
                .into(),
        ),
        ("[{ cache = '/a', id = '' }]", "4:32: `id` is empty; expected a string that is not empty".into()),
        (
            "[{ tmpfs = '/a', size = '1x' }]",
            "4:34: `size` is `1x`; expected a valid value (`1x` is not a size) | write a number of bytes, or one \
                with a unit: 65536k, 512m, 64g"
                .into(),
        ),
        ("[{ tmpfs = '/a', size = 0 }]", "4:34: `size` is the number 0; expected a size above 0".into()),
        ("[{ bind = 'a', to = '/a', write = 'yes' }]", "4:44: `write` is `yes`; expected true or false".into()),
        (
            "[{ secret = 'a/b' }]",
            format!("4:22: `secret` is `a/b`; expected the name of a secret, such as `token` | {SECRET}"),
        ),
        (
            "[{ secret = '..' }]",
            format!("4:22: `secret` is `..`; expected the name of a secret, such as `token` | {SECRET}"),
        ),
        (
            "[{ secret = 'a', mode = '9' }]",
            "4:34: `mode` is `9`; expected an octal mode such as \"0755\" | its digits are 0 to 7: 4 to read, 2 to \
                write, \
             1 to execute, for owner, group and others"
                .into(),
        ),
        (
            "[{ secret = 'a', owner = 'app' }]",
            "4:35: `owner` is `app`; expected a numeric owner such as \"1000:1000\" | names of users and groups are \
                not supported yet; write their numbers"
                .into(),
        ),
    ] {
        assert_eq!(wrong(&format!("base = 'a'\n[[layer]]\nrun = 'true'\nmounts = {mounts}")), expected);
    }
}

#[test]
fn mounts_that_are_right() {
    let kinds = |mounts: &str| run(&format!("run = 'true'\nmounts = {mounts}")).mounts;
    let mounts =
        kinds("[{ bind = '.', to = '/a' }, { bind = './a/../b', to = '/b' }, { tmpfs = '/dev/shm', size = 4096 }]");
    assert_eq!(mounts[0].kind, MountKind::Bind { from: ".".into(), writable: false });
    assert_eq!((mounts[2].to.as_str(), &mounts[2].kind), ("/dev/shm", &MountKind::Tmpfs { size: Some(Size(4096)) }));
    // In the tables that TOML writes over several lines.
    let recipe =
        "base = 'a'\n[[layer]]\nrun = 'true'\n[[layer.mounts]]\ncache = '/a'\n[[layer.mounts]]\ntmpfs = '/processes'\n";
    let StepKind::Run(run) = plan(recipe).target().steps[0].clone().kind else { panic!() };
    assert_eq!(run.mounts.iter().map(|mount| mount.to.as_str()).collect::<Vec<_>>(), ["/a", "/processes"]);
    for (id, fits) in
        [("a", true), ("A-1_b.c", true), ("_", true), ("", false), (".a", false), ("-a", false), ("é", false)]
    {
        assert_eq!(is_secret_id(id), fits, "{id}");
    }
}
