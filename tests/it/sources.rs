//! Packages that are built: sources without a wheel, projects, bytecode.

use std::fs;

use super::support::{DEBIAN, OCIFORGE, Place, User, run};

const HASH: &str = "0f343b0457d1bd2bd6d0d3a4a3f8a0b0f3a1f1c0e6e1d7c8b9a0f1e2d3c4b5a6";

/// An entry of the lock for an archive, and one for what builds it.
fn entry(layer: usize, file: &str, requirement: &str) -> String {
    let pin = |name: &str, version: &str, file: &str| {
        let url = format!("https://files.example.org/{file}");
        format!("name = '{name}'\nversion = '{version}'\nfile = '{file}'\nurl = '{url}'\nsha256 = '{HASH}'\n")
    };
    let place = format!("platform = 'linux/amd64'\nlayer = {layer}\n");
    let requires = pin("setuptools", "70.0", requirement);
    format!("[[sdist]]\n{place}{}\n[[sdist.requires]]\n{requires}", pin("old", "1.0", file))
}

#[test]
fn a_lock_with_sources_is_checked_before_anything_is_fetched() {
    let place = Place::new();
    // A layer that takes nothing from the lock.
    place.write("recipe/ociforge.toml", "base = 'scratch'\n[[layer]]\ndirectories = ['/d']\n");
    run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
    let lock = fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap();
    assert!(!lock.contains("sdist"), "{lock}");
    let wheel = "setuptools-70.0-py3-none-any.whl";
    for (entry, expected) in [
        (entry(0, "old-1.0.tar.gz", wheel), "ociforge.lock has packages for layer 0, which is not a pip layer"),
        (entry(0, "old-1.0.exe", wheel), "sdist old: `file` is not a source archive's file name"),
        (entry(0, "old-1.0.tar.gz", "setuptools-70.0.tar.gz"), "sdist setuptools: `file` is not a wheel's file name"),
        (entry(0, "old-1.0.zip", wheel).replace("url = ", "uri = "), "unknown field `uri`"),
    ] {
        place.write("recipe/ociforge.lock", format!("{lock}\n{entry}"));
        run(&mut place.build("recipe", &["--locked"])).fails(1, &[expected, "hint: run `ociforge lock`"]);
    }
}

/// A project that setuptools builds, with an extra, a script, and a dependency that has no wheel.
fn app(place: &Place, recipe: &str) {
    let pyproject = "[build-system]\nrequires = ['setuptools>=61']\nbuild-backend = 'setuptools.build_meta'\n\
                     [project]\nname = 'Demo_App'\nversion = '1.0'\n[project.optional-dependencies]\n\
                     nice = ['docopt==0.6.2']\n[project.scripts]\ndemo-app = 'demo_app:main'\n";
    let module = "import docopt\n\ndef main():\n    print(__cached__, docopt.__cached__)\n";
    place.write(&format!("{recipe}/app/pyproject.toml"), pyproject);
    place.write(&format!("{recipe}/app/src/demo_app/__init__.py"), module);
    let layer = "[[layer]]\npip = { project = 'app', extras = ['nice'] }\nbytecode = true\n";
    place.write(&format!("{recipe}/ociforge.toml"), format!("base = '{}'\n{layer}", DEBIAN.image));
}

/// A backend of a project's own, which needs nothing. Its `code` says what `text()` is, the text of its module.
fn own_backend(place: &Place, recipe: &str, code: &str) {
    let pyproject = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n[project]\n\
                     name = 'own'\nversion = '1'\n";
    let backend = format!(
        "import base64, hashlib, os, sys, zipfile\n{code}\n\
         def build_wheel(directory, *others):\n\
         \x20   info = 'own-1.dist-info/'\n\
         \x20   wheel = 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'\n\
         \x20   files = {{'own.py': text(), info + 'METADATA': 'Metadata-Version: 2.1\\nName: own\\nVersion: 1\\n', info + 'WHEEL': wheel}}\n\
         \x20   record = info + 'RECORD,,\\n'\n\
         \x20   with zipfile.ZipFile(os.path.join(directory, 'own-1-py3-none-any.whl'), 'w') as archive:\n\
         \x20       for name, content in files.items():\n\
         \x20           archive.writestr(name, content)\n\
         \x20           digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip('=')\n\
         \x20           record += '{{}},sha256={{}},{{}}\\n'.format(name, digest, len(content))\n\
         \x20       archive.writestr(info + 'RECORD', record)\n\
         \x20   return 'own-1-py3-none-any.whl'\n"
    );
    place.write(&format!("{recipe}/own/pyproject.toml"), pyproject);
    place.write(&format!("{recipe}/own/backend.py"), backend);
}

#[test]
fn whoever_builds_a_source_gets_the_same_image() {
    let place = Place::new();
    app(&place, "recipe");
    let lock = || {
        run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
        fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap()
    };
    let first = lock();
    assert_eq!(lock(), first);
    for part in
        ["[[sdist]]\nname = \"docopt\"", "[[sdist.requires]]", "[[project]]\nname = \"demo-app\"", "path = \"app\""]
    {
        assert!(first.contains(part), "{part}\n{first}");
    }

    // What the lock has is in the store: nothing else is asked for.
    let image = format!("oci:{}:x", place.at("image"));
    let offline = |flags: &[&str]| {
        let call = ["--net", OCIFORGE, "build", "recipe", "--locked", "--progress", "plain"];
        let ran = run(&mut place.wrapped("unshare", [&call, flags].concat()));
        (ran.stderr.clone(), ran.ok())
    };
    run(&mut place.build("recipe", &["--locked"])).ok();
    let (told, digest) = offline(&["-o", &image]);
    assert!(!told.contains(": ran") && told.matches(": cached").count() >= 2, "{told}");
    let (told, anew) = offline(&["--no-cache"]);
    assert_eq!(anew, digest);
    for job in ["build docopt 0.6.2: ran", "build the project app: ran", "compile the bytecode of"] {
        assert_eq!(told.matches(job).count(), 1, "{job}\n{told}");
    }

    let site = DEBIAN.site_packages();
    let tag = format!("cpython-{}.pyc", DEBIAN.python.replace('.', ""));
    let call = ["run", "--rm", "--read-only", "--progress", "none", &image, "--"];
    let said = run(&mut place.ociforge([&call[..], &["python3", "-v", "/usr/local/bin/demo-app"]].concat()));
    let files = ["demo_app/__pycache__/__init__", "__pycache__/docopt"].map(|stem| format!("{site}/{stem}.{tag}"));
    assert_eq!(said.stdout, format!("{}\n", files.join(" ")), "{}", said.stderr);
    for file in files {
        assert!(said.stderr.contains(&format!("code object from '{file}'")), "{}", said.stderr);
    }

    // What a source says of itself belongs to the lock, and what else is in it doesn't.
    place.write("recipe/app/src/demo_app/new.py", "");
    assert_ne!(run(&mut place.build("recipe", &["--locked"])).ok(), digest);
    fs::remove_file(place.path("recipe/app/src/demo_app/new.py")).unwrap();
    place.write("recipe/app/setup.cfg", "");
    let unfit = ["ociforge.lock does not match the recipe", "hint: run `ociforge lock`"];
    run(&mut place.build("recipe", &["--locked"])).fails(1, &unfit);
    fs::remove_file(place.path("recipe/app/setup.cfg")).unwrap();

    let users = [User::with_ranges(), User::with_one_id()];
    for user in users {
        let theirs = Place::new();
        app(&theirs, "recipe");
        theirs.write("recipe/ociforge.lock", &first);
        user.move_in(&theirs);
        // The base may be where they don't get to.
        let locked = ["build", "recipe", "--locked", "--progress", "none"];
        assert_eq!(run(&mut user.ociforge(&theirs, &locked)).ok(), digest);
    }
    place.assert_clean();
}

#[test]
fn a_wheel_is_built_on_the_layers_below_it() {
    let place = Place::new();
    own_backend(
        &place,
        "recipe",
        "def text():\n    return 'print(%r)' % ' '.join([open('/etc/below').read(), os.environ['SAID']])",
    );
    let image = format!("oci:{}:x", place.at("image"));
    for (below, said) in [("one", "A"), ("two", "A"), ("two", "B")] {
        let recipe = format!(
            "base = '{}'\n[config.env]\nSAID = '{said}'\n[[layer]]\nrun = 'printf {below} > /etc/below'\n\
             [[layer]]\npip = {{ project = 'own' }}\n",
            DEBIAN.image
        );
        place.write("recipe/ociforge.toml", recipe);
        run(&mut place.build("recipe", &["-o", &image])).ok();
        let call = ["run", "--rm", "--progress", "none", &image, "--", "python3", "-m", "own"];
        assert_eq!(run(&mut place.ociforge(call)).ok(), format!("{below} {said}\n"));
    }
}

#[test]
fn a_build_sees_its_source_and_the_base() {
    let place = Place::new();
    let own = format!("base = '{}'\n[[layer]]\npip = {{ project = 'own' }}\n", DEBIAN.image);
    place.write("recipe/ociforge.toml", own);
    let look = "print('sees', os.getuid(), os.listdir('/sys/class/net'), sorted(os.listdir('/ociforge')), 'SEEN' in \
        os.environ)\n\
                print('alone', [name for name in os.listdir('/proc') if name.isdigit()], os.uname().nodename)\n\
                print('recipe', os.path.exists('/recipe'), os.path.exists(os.path.join(os.environ['HOME'], 'registries.conf')))\n\
                for name in ['frontend', 'requirements']:\n    print(name, os.access('/ociforge/' + name, os.W_OK))\n\
                sys.exit('that is all')";
    own_backend(&place, "recipe", look);
    let ran = run(place.build("recipe", &[]).env("SEEN", "1"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    let expected = [
        "error: cannot build the project own\n  cause: the query of its build requirements failed\n  cause: exit code \
            1; its last output:\n",
        "    sees 0 ['lo'] ['frontend', 'out', 'requirements'] False\n",
        "    alone ['1'] ociforge\n",
        "    recipe False False\n",
        "    frontend False\n    requirements False\n    that is all\n",
    ];
    assert!(ran.stderr.ends_with(&expected.concat()), "{}", ran.stderr);

    let code = "def text():\n    sys.exit(\"error: [Errno 2] No such file or directory: 'gcc'\")";
    own_backend(&place, "recipe", code);
    let ran = run(&mut place.build("recipe", &[]));
    for part in ["  cause: its build failed\n", "\n  hint: its build needs a compiler: install it in an earlier layer"]
    {
        assert!(ran.code == Some(1) && ran.stderr.contains(part), "{}", ran.stderr);
    }
    place.assert_clean();
}

#[test]
fn projects_are_in_the_recipes_directory() {
    let place = Place::new();
    own_backend(&place, "elsewhere", "");
    for (project, cause, hint) in [
        ("../elsewhere/own", "leads out of the recipe's directory", "copy it into the directory"),
        ("link", "leads out of the recipe's directory", "copy it into the directory"),
        ("missing", "No such file or directory", "paths are relative to the recipe's directory"),
        (".", "has neither pyproject.toml nor setup.py", "name the directory of the project"),
    ] {
        place
            .write("recipe/ociforge.toml", format!("base = 'scratch'\n[[layer]]\npip = {{ project = '{project}' }}\n"));
        std::os::unix::fs::symlink("../elsewhere/own", place.path("recipe/link")).ok();
        for mut command in [place.build("recipe", &[]), place.ociforge(["lock", "recipe", "--progress", "none"])] {
            run(&mut command).fails(1, &[&format!("`pip project {project}` (line 3"), cause, hint]);
        }
    }
}

#[test]
fn only_sources_need_the_sandbox() {
    let place = Place::new();
    let without = |command: &str, recipe: &str| {
        let script = "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
        let unshare = ["--user", "--map-root-user", "sh", "-c", script, "sh", OCIFORGE];
        let call = [command, recipe, "--isolation", "one-uid", "--progress", "none"];
        run(&mut place.wrapped("unshare", [&unshare[..], &call].concat()))
    };
    for (name, package) in [("wheel", "six==1.17.0"), ("source", "docopt==0.6.2")] {
        let recipe = format!("base = 'scratch'\n{}[[layer]]\npip = ['{package}']\n", DEBIAN.stated());
        place.write(&format!("{name}/ociforge.toml"), recipe);
    }
    without("lock", "wheel").ok();
    without("build", "wheel").ok();
    let why =
        ["cannot build docopt 0.6.2", "max_user_namespaces is 0", "hint: run `sysctl -w user.max_user_namespaces="];
    without("lock", "source").fails(1, &why);
    without("build", "source").fails(1, &why);
}
