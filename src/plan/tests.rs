//! Recipes, good and bad.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ociforge_manifests::ImageName;
use ociforge_manifests::lint::LintCode;

use super::*;
use crate::error::{Explain, Failure};
use crate::layer::{Copy, CopySource, Directories, Pip, StepKind};
use crate::tables::{Owner, PlanError};

mod stages;
mod steps;

fn plan(text: &str) -> Plan {
    recipe::parse(Path::new("dir/ociforge.toml"), text.as_bytes()).map_err(Failure::from).unwrap()
}

/// The message, without the file's name, and the hint.
fn wrong(text: &str) -> String {
    let failure = Failure::from(recipe::parse(Path::new("f"), text.as_bytes()).unwrap_err());
    let message = failure.message.strip_prefix("f:").unwrap();
    failure.hint.map_or_else(|| message.to_owned(), |hint| format!("{message} | {hint}"))
}

const WHOLE: &str = r#"
name = "registry.example.com/ml/docsaid-training"
base = "nvcr.io/nvidia/pytorch:22.12-py3"
platforms = ["linux/amd64", "linux/arm64"]

[config]
workdir = "/code"
cmd = ["bash"]
entrypoint = []
user = "1000:1000"
expose = [6006, "53/udp", "8080/tcp"]
volumes = ["/data"]
stop-signal = "SIGINT"
labels = { "org.example.a" = "b" }
[config.env]
PYTHONDONTWRITEBYTECODE = "1"
EMPTY = ""

[python]
version = "3.8.10"
site-packages = "/usr/local/lib/python3.8/dist-packages"
executable = "/usr/bin/python3"

[[layer]]
directories = ["/app/a", "/app/b/"]
mode = "0777"
owner = "1000"

[[layer]]
pip = ["tqdm", "Pillow >= 10.0.0", "x @ https://user:secret@example.com/x.whl?token=secret"]

[[layer]]
copy = { from = "src", to = "/code/", exclude = ["**/*.pyc"], owner = "7:8", mode = 0o640 }

[[layer]]
tar = "rootfs.tar.xz"

[[layer]]
pip = { requirements = "requirements.txt" }

[[layer]]
pip = { lock = "pylock.toml" }

[[layer]]
[layer.pip]
wheels = "dist/*.whl"

[[layer]]
pip = { project = "lib", extras = ["Torch_Cuda", "all", "torch.cuda"] }
bytecode = true

[[layer]]
run = '''
set -e
make \
    -j
'''
env = { CC = "gcc", AR = "ar" }
workdir = "/src"
user = "app:1000"
network = "host"
mounts = [
    { bind = "src", to = "/src/", write = true },
    { cache = "/root/.cache/pip" },
    { cache = "/var/cache/apt", id = "apt", sharing = "shared" },
    { tmpfs = "/tmp", size = "1g" },
    { secret = "token" },
    { secret = "netrc", to = "/root/.netrc", mode = "0440", owner = "1000:1000" },
]

[[layer]]
run = ["/bin/echo", "it's", ""]

[runtime]
gpus = "all"
shm-size = "64g"
ipc = "host"
network = "host"
cpuset-cpus = "0-31"
ulimits = ["memlock=-1", "nofile=1024:4096"]

[lint]
allow = ["secret-env", "cuda-compat"]
"#;

#[test]
fn a_recipe_with_everything() {
    let plan = plan(WHOLE);
    assert_eq!(plan.directory, Path::new("dir"));
    assert_eq!(plan.name.as_ref().unwrap().whole(), "registry.example.com/ml/docsaid-training:latest");
    assert_eq!(plan.target().base, Base::Image("nvcr.io/nvidia/pytorch:22.12-py3".parse().unwrap()));
    assert_eq!(plan.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
    assert_eq!(plan.target().config.workdir.as_deref(), Some("/code"));
    assert_eq!(
        (plan.target().config.cmd.as_deref(), plan.target().config.entrypoint.as_deref()),
        (Some(&["bash".into()][..]), Some(&[][..]))
    );
    assert_eq!(plan.target().config.expose, ["6006/tcp", "53/udp", "8080/tcp"]);
    assert_eq!(plan.target().config.env.len(), 2);
    assert_eq!(plan.target().config.labels["org.example.a"], "b");
    let python = plan.target().python.as_ref().unwrap();
    assert_eq!(python.version, PythonVersion { major: 3, minor: 8, patch: Some(10) });
    let steps: Vec<_> = plan.target().steps.iter().map(|step| format!("{} {}", step.line, step.description)).collect();
    let expected = [
        "25 directories /app/a /app/b",
        "30 pip tqdm Pillow >= 10.0.0 x @ https://example.com/x.whl",
        "33 copy src /code/",
        "36 tar rootfs.tar.xz",
        "39 pip requirements requirements.txt",
        "42 pip lock pylock.toml",
        "45 pip wheels dist/*.whl",
        "49 pip project lib[all,torch-cuda]",
        "53 run set -e\\nmake -j",
        "72 run /bin/echo 'it'\\''s' ''",
    ];
    assert_eq!(steps, expected);
    assert_eq!(plan.requirements().map(|(_, file)| file).collect::<Vec<_>>(), [Path::new("requirements.txt")]);
    assert_eq!(plan.locate(Path::new("src")), Path::new("dir/src"));
    let StepKind::Directories(Directories { paths, mode, owner }) = &plan.target().steps[0].kind else { panic!() };
    assert_eq!((paths.len(), *mode, *owner), (2, Some(0o777), Some(Owner { uid: 1000, gid: 1000 })));
    let StepKind::Copy(Copy { from, to, exclude, owner, mode }) = &plan.target().steps[2].kind else { panic!() };
    assert_eq!((from.clone(), to.path.to_string(), to.into), (CopySource::Context("src".into()), "/code".into(), true));
    assert_eq!((exclude.len(), *owner, *mode), (1, Some(Owner { uid: 7, gid: 8 }), Some(0o640)));
    let StepKind::Pip(Pip::Requirements(requirements)) = &plan.target().steps[1].kind else { panic!() };
    assert!(requirements[2].contains("user:secret@"), "the requirement itself is whole");
    assert_eq!(plan.target().steps.iter().filter(|step| step.bytecode).map(|step| step.line).collect::<Vec<_>>(), [49]);
    let runtime = r#"{"cpuset-cpus":"0-31","gpus":"all","ipc":"host","network":"host","shm-size":"64g","ulimits":["memlock=-1:-1","nofile=1024:4096"]}"#;
    assert_eq!(plan.runtime.to_annotation().unwrap(), runtime);
    assert_eq!(plan.allow, [LintCode::SecretEnv, LintCode::CudaCompat]);
}

#[test]
fn the_least_that_is_a_recipe() {
    let plan = plan("base = 'scratch'");
    assert_eq!((plan.target().base.clone(), plan.target().steps.len()), (Base::Scratch, 0));
    assert_eq!(plan.platforms, [ociforge_manifests::Platform::default()]);
    assert_eq!(plan.runtime.to_annotation(), None);
}

#[test]
fn a_number_of_layers_is_decimal() {
    let layers = |number: &str| format!("base = 'a'\n[build]\nmax-layers = {number}\n");
    assert_eq!(plan(&layers("100")).max_layers, Some(100));
    for number in ["0", "-1", "0x10", "0b1", "'5'", "1.0"] {
        assert!(wrong(&layers(number)).contains("expected a number of layers, such as 125"), "{number}");
    }
}

fn base_image(text: &str) -> ImageName {
    let plan = plan(text);
    let Base::Image(name) = &plan.target().base else { panic!() };
    plan.resolve(name)
}

#[test]
fn a_layout_is_beside_the_recipe() {
    let base = base_image("base = 'oci:layout:tag'");
    assert_eq!(base, ImageName::Layout { directory: "dir/layout".into(), tag: Some("tag".into()) });
    let base = base_image("base = 'oci-archive:/abs.tar'");
    assert_eq!(base, ImageName::Archive { file: "/abs.tar".into(), tag: None });
}

#[test]
fn the_inputs_are_what_a_lock_depends_on() {
    let inputs = |change: &dyn Fn(&str) -> String| plan(&change(WHOLE)).inputs;
    let own = inputs(&str::to_owned);
    for (from, to) in
        [("/code", "/work"), ("64g", "1g"), ("\"/app/a\"", "\"/x\""), ("docsaid", "other"), ("\n[py", "\n\n[py")]
    {
        assert_eq!(inputs(&|text| text.replace(from, to)), own, "{from}");
    }
    for (from, to) in [("22.12", "23.08"), ("tqdm", "tqdm2"), ("3.8.10", "3.8.11"), (", \"linux/arm64\"", "")] {
        assert_ne!(inputs(&|text| text.replace(from, to)), own, "{from}");
    }
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, expected) in [
        ("base = 'a'\n[config]\nworkdirr = '/'", "3:1: unknown key `workdirr` in [config] | did you mean `workdir`?"),
        ("base = 'a'\nnmae = 'b'", "2:1: unknown key `nmae` in the recipe | did you mean `name`?"),
        (
            "base = 'a'\n[config]\nstop_signal = 'X'",
            "3:1: unknown key `stop_signal` in [config] | did you mean `stop-signal`?",
        ),
        ("base = 'a'\n[config]\nENV = {}", "3:1: unknown key `ENV` in [config] | did you mean `env`?"),
        ("base = 'a'\nworkdir = '/'", "2:1: unknown key `workdir` in the recipe | `workdir` belongs in [config]"),
        (
            "base = 'a'\n[config]\nplatforms = []",
            "3:1: unknown key `platforms` in [config] | `platforms` belongs at the top, before the first [table]",
        ),
        ("base = 'a'\n[[layer]]\n  copi = {}", "3:3: unknown key `copi` in [[layer]] | did you mean `copy`?"),
        (
            "base = 'a'\n[[layer]]\ncopy = { from = 'a', too = '/' }",
            "3:22: unknown key `too` in `copy` | did you mean `to`?",
        ),
        ("base = 'a'\n[[layer]]\npip = { lok = 'a' }", "3:9: unknown key `lok` in `pip` | did you mean `lock`?"),
        ("base = 'a'\nruntime.gpu = 'all'", "2:9: unknown key `gpu` in [runtime] | did you mean `gpus`?"),
        (
            "base = 'a'\npython.zzzzzz = 1",
            "2:8: unknown key `zzzzzz` in [python] | the keys here are version, site-packages, executable, libc",
        ),
        (
            "base = 'a'\n'' = 1\n'ä' = 2",
            "2:1: unknown key `` in the recipe | the keys here are name, base, platforms, python, config, layer, \
                stage, runtime, lint, build",
        ),
    ] {
        assert_eq!(wrong(text), expected);
    }
}

#[test]
fn wrong_values() {
    for (text, expected) in [
        (
            "name = 'a'",
            "1:1: the recipe has no `base` | write for example `base = \"nvcr.io/nvidia/pytorch:22.12-py3\"`",
        ),
        ("base = 3", "1:8: `base` is the number 3; expected a string | write it in quotes: \"3\""),
        ("base = ''", "1:8: `base` is empty; expected a string that is not empty"),
        (
            "base = 'a'\nname = 'oci:dir'",
            "2:8: `name` is `oci:dir`; expected a name in a registry, such as `registry.example.com/ml/train` | to \
                write a layout or an archive use `-o`",
        ),
        (
            "base = 'a'\nplatforms = []",
            "2:13: `platforms` is an empty array; expected at least one platform, such as `linux/amd64`",
        ),
        (
            "base = 'a'\nplatforms = 'linux/amd64'",
            "2:13: `platforms` is `linux/amd64`; expected an array of strings | write an array: platforms = \
                [\"linux/amd64\"]",
        ),
        (
            "base = 'a'\nplatforms = ['linux/arm64', 'linux/arm64/v8']",
            "2:29: `platforms` is `linux/arm64/v8` twice; expected each platform once",
        ),
        (
            "base = 'a'\nplatforms = ['linux']",
            "2:14: `platforms` is `linux`; expected os/architecture or os/architecture/variant, such as `linux/amd64`",
        ),
        (
            "base = 'a'\nconfig.cmd = 'bash'",
            "2:14: `cmd` is `bash`; expected an array of strings | write an array: cmd = [\"bash\"]",
        ),
        (
            "base = 'a'\nconfig.cmd = ['a', 1]",
            "2:20: `cmd` is the number 1; expected a string | write it in quotes: \"1\"",
        ),
        (
            "base = 'a'\nconfig.workdir = 'code'",
            "2:18: `workdir` is `code`; expected an absolute path in the image | write `/code`",
        ),
        (
            "base = 'a'\nconfig.workdir = '/a/../b'",
            "2:18: `workdir` is `/a/../b`; expected an absolute path in the image | the path `/a/../b` has a \
                component `..`, which layers do not allow",
        ),
        (
            "base = 'a'\n[[layer]]\ndirectories = ['/usr/.wh.bin']",
            "3:16: `directories` is `/usr/.wh.bin`; expected an absolute path in the image | in a layer a name that \
                begins with `.wh.` removes files of the layers below",
        ),
        ("base = 'a'\nconfig = 1", "2:10: `config` is the number 1; expected a table"),
        (
            "base = 'a'\n[config.env]\nA = 1",
            "3:5: `env.A` is the number 1; expected a string | write it in quotes: \"1\"",
        ),
        (
            "base = 'a'\n[config.env]\nA = true",
            "3:5: `env.A` is the boolean true; expected a string | write it in quotes: \"true\"",
        ),
        (
            "base = 'a'\n[config.env]\n'A=B' = 'x'",
            "3:9: `env.A=B` is not a variable name; expected a non-empty name without `=` and NUL",
        ),
        (
            "base = 'a'\n[config.env]\n'' = 'x'",
            "3:6: `env.` is not a variable name; expected a non-empty name without `=` and NUL",
        ),
        (
            "base = 'a'\n[config.env]\n\"A\\u0000\" = 'x'",
            "3:13: `env.A\\0` is not a variable name; expected a non-empty name without `=` and NUL",
        ),
        ("base = 'a'\n[config.env]\nA = \"s\\u0000\"", "3:5: `env.A` is text with a NUL byte; expected other text"),
        (
            "base = 'a'\n[config.labels]\norg.a = 'x'",
            "3:1: `labels.org` is a table; expected a string | write a label's name in quotes: \"org.example.label\" \
                = \"value\"",
        ),
        (
            "base = 'a'\nconfig.expose = ['0']",
            "2:18: `expose` is `0`; expected a port such as \"8080\", \"8080/tcp\" or \"53/udp\"",
        ),
        (
            "base = 'a'\nconfig.stop-signal = 'TERM'",
            "2:22: `stop-signal` is `TERM`; expected a signal such as \"SIGTERM\"",
        ),
        (
            "base = 'a'\n[python]\nversion = 3.10",
            "2:1: [python] has no `site-packages` | write for example `site-packages = \
                \"/usr/local/lib/python3.11/dist-packages\"`",
        ),
        (
            "base = 'a'\n[python]\nversion = 3.10\nsite-packages = '/a'\nexecutable = '/b'",
            "3:11: `version` is the number 3.10; expected a string | write it in quotes: \"3.10\"",
        ),
        (
            "base = 'a'\n[python]\nversion = '3.10'\nsite-packages = '/a'\nexecutable = '/b'\nlibc = '2.36'",
            "6:8: `libc` is `2.36`; expected a C library and its version, such as `glibc 2.36` or `musl 1.2`",
        ),
    ] {
        assert_eq!(wrong(text), expected);
    }
}

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
fn warnings_that_nobody_knows_cannot_be_silenced() {
    for (entry, expected) in [
        (
            "allow = ['secret-env', 'secretenv']",
            "3:24: `allow` is `secretenv`; expected the code of a warning | did you mean `secret-env`?",
        ),
        ("alow = []", "3:1: unknown key `alow` in [lint] | did you mean `allow`?"),
        (
            "allow = 'secret-env'",
            "3:9: `allow` is `secret-env`; expected an array of strings | write an array: allow = [\"secret-env\"]",
        ),
    ] {
        assert_eq!(wrong(&format!("base = 'a'\n[lint]\n{entry}")), expected);
    }
    assert!(wrong("base = 'a'\nlint.allow = ['zzz']").contains("| the codes are cuda-version, "));
    assert_eq!(plan("base = 'a'\n[lint]").allow, []);
}

#[test]
fn wrong_runtime_defaults() {
    for (entry, expected) in [
        ("shm-size = '64x'", "`64x` is not a size"),
        ("cpuset-cpus = '3-1'", "`3-1`"),
        ("ulimits = ['nofile']", "`nofile`"),
        ("ipc = 'hots'", "`hots`"),
        ("gpus = 'all,capabilities=utilitys'", "did you mean utility?"),
        ("gpus = 1.5", "`gpus` is the number 1.5; expected a string | write it in quotes: \"1.5\""),
        ("volumes = ['/a:/a']", "unknown key `volumes` in [runtime]"),
    ] {
        let message = wrong(&format!("base = 'a'\n[runtime]\n{entry}"));
        assert!(message.contains(expected), "{message}");
    }
    let gpus = plan("base = 'a'\nruntime.gpus = 2").runtime.gpus;
    assert_eq!(gpus.unwrap().to_string(), "2");
    // NVIDIA's documents have this for `utility`.
    let gpus = plan("base = 'a'\nruntime.gpus = 'all,capabilities=utilities'").runtime.gpus.unwrap();
    assert_eq!((gpus.to_string().as_str(), gpus.slip), ("all,capabilities=utility", true));
}

#[test]
fn what_is_no_toml_or_no_text() {
    for (text, place) in [("base = ", "1:"), ("base = 'a'\n\nbase = 'b'", "3:1: "), ("base = 'a'\nmode = 0755", "2:")] {
        let message = wrong(text);
        assert!(message.starts_with(place) && !message.contains('\n'), "{message}");
    }
    let error = recipe::parse(Path::new("f"), b"base = 'a'\nx = '\xff'").unwrap_err();
    assert_eq!(error.to_string(), "f:2:6: the recipe is not UTF-8 text");
}

#[test]
fn a_recipe_is_a_file_or_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    let none = BTreeMap::new();
    for path in [directory.path(), &file, Path::new("/nonexistent/x.toml")] {
        let error = read(path, &none).unwrap_err();
        assert!(matches!(&error, PlanError::Missing(_)) && error.hint().unwrap().contains("-f"), "{error}");
    }
    std::fs::write(&file, "base = 'scratch'").unwrap();
    assert_eq!(read(directory.path(), &none).unwrap().directory, directory.path());
    assert_eq!(read(&file, &none).unwrap().directory, directory.path());
    let error = read(&file, &[("A".to_owned(), "1".to_owned())].into()).unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("the build argument `A` is not used"), "{error}");
    let relative = recipe::parse(Path::new(FILE_NAME), b"base = 'scratch'").unwrap();
    assert_eq!(relative.locate(Path::new("a")), PathBuf::from("./a"));
}

#[test]
fn broken_recipes_never_panic() {
    // A linear congruential generator: the same recipes in every run.
    let mut state = 12345u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % limit as u64).unwrap()
    };
    let lines: Vec<&str> = WHOLE.lines().collect();
    let pieces =
        ["'", "\"", "[", "]", "[[", "{", "}", "=", ".", "-", "0", "\u{ff}", "\0", "\n", "/", "..", "1.5", "true", "é"];
    let mut good = 0;
    for round in 0..3000 {
        let mut text: Vec<u8> = match round % 2 {
            0 => WHOLE.into(),
            _ => (0..below(30)).flat_map(|_| [lines[below(lines.len())], "\n"]).collect::<String>().into(),
        };
        for _ in 0..below(4) {
            let at = below(text.len() + 1);
            match below(3) {
                0 => drop(text.splice(at..at, pieces[below(pieces.len())].bytes())),
                1 if at < text.len() => text[at] = u8::try_from(below(256)).unwrap(),
                _ => text.truncate(text.len() - below(1 + text.len() / 8)),
            }
        }
        match recipe::parse(Path::new("f"), &text) {
            Ok(_) => good += 1,
            Err(error) => assert!(!Failure::from(error).message.is_empty()),
        }
    }
    assert!((300..2700).contains(&good), "{good} of 3000 were recipes");
    for _ in 0..1000 {
        let noise: Vec<u8> = (0..below(200)).map(|_| u8::try_from(below(256)).unwrap()).collect();
        assert!(recipe::parse(Path::new("f"), &noise).is_err());
    }
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
