//! Recipes of several stages.

use super::{plan, wrong};
use crate::layer::{Copy, CopySource, ImageOrigin, StepKind};
use crate::plan::{Base, Plan};

const STAGES: &str = "base = { stage = 'deps' }
[config]
env = { A = '1' }
[[layer]]
copy = { stage = 'build', from = '/out/', to = '/app/' }
[[layer]]
copy = { image = 'oci:tools:1', from = '/usr/bin/tool', to = '/usr/bin/', owner = '7:8' }

[[stage]]
name = 'deps'
base = 'debian:12'
python = { version = '3.11', site-packages = '/s', executable = '/usr/bin/python3' }

[[stage]]
name = 'build'
base = { stage = 'deps' }
[stage.config]
workdir = '/src'
env = { B = '2' }
[[stage.layer]]
run = 'make'
shell = ['/bin/bash', '-ec']

[[stage]]
name = 'unused'
base = 'scratch'
[[stage.layer]]
pip = { project = 'none' }
[[stage.layer]]
run = 'true'
mounts = [{ secret = 'none' }]
";

fn copied(plan: &Plan, n: usize) -> (CopySource, &str) {
    let step = &plan.target().steps[n];
    let StepKind::Copy(Copy { from, .. }) = &step.kind else { panic!() };
    (from.clone(), &step.description)
}

#[test]
fn stages_use_earlier_ones() {
    let plan = plan(STAGES);
    let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_deref()).collect();
    assert_eq!(names, [Some("deps"), Some("build"), Some("unused"), None]);
    assert_eq!((&plan.target().base, &plan.stages[1].base), (&Base::Stage(0), &Base::Stage(0)));
    assert_eq!((plan.needed(), plan.root(3), plan.root(2)), (vec![0, 1, 3], 0, 2));
    assert_eq!(plan.stated_python(3).unwrap().executable, "/usr/bin/python3");
    let stage = CopySource::Image(ImageOrigin::Stage(1), "out".parse().unwrap());
    assert_eq!(copied(&plan, 0), (stage, "copy --from=build /out /app/"));
    let image = CopySource::Image(ImageOrigin::Image("oci:tools:1".parse().unwrap()), "usr/bin/tool".parse().unwrap());
    assert_eq!(copied(&plan, 1), (image, "copy --from=oci:tools:1 /usr/bin/tool /usr/bin/"));
    let make = &plan.stages[1].steps[0];
    assert_eq!((make.config.workdir.as_deref(), make.config.env.len()), (Some("/src"), 1));
    let StepKind::Run(run) = &make.kind else { panic!() };
    assert_eq!(run.command.words(&make.config.shell), ["/bin/bash", "-ec", "make"]);
    // A stage that the image does not need requires nothing.
    assert_eq!((plan.projects().count(), plan.secrets().count()), (0, 0));
    let renamed = super::plan(&STAGES.replace("'unused'", "'other'"));
    assert_eq!(renamed.inputs, plan.inputs);
    assert!(plan.needs_sandbox());
    let unneeded = STAGES.replace("copy = { stage = 'build', from = '/out/', to = '/app/' }", "directories = ['/a']");
    assert!(!super::plan(&unneeded).needs_sandbox());
}

#[test]
fn a_lock_depends_on_all_stages() {
    let own = plan(STAGES).inputs;
    for (from, to, same) in [
        ("'make'", "'make all'", true),
        ("A = '1'", "A = '2'", true),
        ("debian:12", "debian:13", false),
        ("'oci:tools:1'", "'oci:tools:2'", false),
        ("base = { stage = 'deps' }\n[stage", "base = 'scratch'\n[stage", false),
        ("run = 'make'\nshell = ['/bin/bash', '-ec']", "pip = ['numpy']", false),
    ] {
        let changed = STAGES.replace(from, to);
        assert_ne!(changed, STAGES, "{from}");
        assert_eq!(plan(&changed).inputs == own, same, "{from}");
    }
}

#[test]
fn wrong_stages() {
    let build = "base = 'a'\n[[stage]]\nname = 'build'\nbase = 'b'\n";
    let copy = |inner: &str| format!("{build}[[layer]]\ncopy = {{ {inner}, from = '/a', to = '/b' }}\n");
    for (text, expected) in [
        ("base = 'a'\nstage = 'x'".to_owned(), "expected an array of tables | write [[stage]] with two brackets"),
        ("base = 'a'\n[stage]\nname = 'x'".into(), "expected an array of tables | write [[stage]] with two brackets"),
        ("base = 'a'\n[[stage]]\nbase = 'b'".into(), "`name`"),
        ("base = 'a'\n[[stage]]\nname = 'x'".into(), "`base`"),
        ("base = 'a'\n[[stage]]\nname = 'a b'\nbase = 'b'".into(), "expected a name of letters"),
        (format!("{build}[[stage]]\nname = 'build'\nbase = 'c'"), "`build` twice"),
        (format!("{build}platforms = []"), "`platforms` belongs at the top"),
        ("base = { stage = 'x' }".into(), "the name of an earlier stage | write a [[stage]] with this name"),
        ("base = { image = 'x' }".into(), "image"),
        (build.replace("'b'", "{ stage = 'build' }"), "an earlier stage"),
        (copy("stage = 'biuld'"), "the stages before this one are build"),
        (copy("stage = 'build', image = 'x'"), "stage"),
        (copy("image = '://'"), "expected an image name"),
        (format!("{build}[[layer]]\nrun = 'a'\nshell = '/bin/bash'"), "a program with arguments"),
        (format!("{build}[[layer]]\nrun = 'a'\nshell = []"), "a program with arguments"),
        (format!("{build}[[layer]]\nrun = ['a']\nshell = ['b']"), "an array runs without a shell"),
        (copy("image = 'scratch'"), "`scratch` has no files"),
        (format!("{build}[[layer]]\ntar = 'a'\nshell = ['a']"), "shell"),
    ] {
        let message = wrong(&text);
        assert!(message.contains(expected), "{text}\n{message}");
    }
}
