//! Recipes that are sound, and recipes that are no text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ociforge_manifests::ImageName;
use ociforge_manifests::lint::LintCode;

use super::*;
use crate::error::Explain;
use crate::layer::{Copy, CopySource, Directories, Pip, StepKind};
use crate::tables::{Owner, PlanError};

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
