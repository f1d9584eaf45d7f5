//! Wrong keys and values.

use super::*;

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
            "2:8: `name` is `oci:dir`; expected a name in a registry, such as `registry.example.com/ml/train` | use \
                `-o` to write a layout or an archive",
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
