//! What the process under test does: the work of one command, without the rest of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ociforge::error::{Explain, Failure};
use ociforge::run::container::{Container, Io};
use ociforge::run::runtime::Runtime;
use ociforge_sandbox::overlay::{self, Layers, Method, OverlayMount};
use ociforge_sandbox::{Entered, enter};

use super::{launcher, staging};

pub(crate) fn play(scenario: &str, arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if scenario == "threads" {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        let entered = enter();
        drop(stop);
        let _ = thread.join();
        return entered.map_or_else(fail, |_| ExitCode::SUCCESS);
    }
    match (scenario, arguments.as_slice()) {
        ("isolate", [isolation]) => return staging::isolate(isolation).map_or_else(|code| code, |_| ExitCode::SUCCESS),
        ("stage", [isolation, store]) => return staging::stage(isolation, store),
        ("hold-stage", [store]) => return staging::hold(store),
        ("deep", [store]) => return staging::deep(store),
        ("step", [job]) => return super::steps::play(job),
        ("launch", [lower, root, command @ ..]) => return launcher::outside(lower, root, command),
        ("inside", [root, supervised, command @ ..]) => return launcher::inside(root, supervised, command),
        _ => {}
    }
    let entered = match enter() {
        Ok(entered) => entered,
        Err(error) => return fail(error),
    };
    match (scenario, arguments.as_slice()) {
        ("enter", []) => show(&entered),
        ("mount", [target]) => with_overlay(target, &entered),
        ("overlay", [method, root]) => look(&entered, method, Path::new(root)),
        ("hold", [method, root]) => hold(&entered, method, Path::new(root)),
        ("run", [runtime, bundle, state, flags]) => run(&entered, runtime, bundle, state, flags),
        _ => panic!("no scenario {scenario} {arguments:?}"),
    }
}

pub(crate) fn fail(error: impl Explain) -> ExitCode {
    let failure = Failure::from(error);
    eprintln!("error: {failure}");
    ExitCode::from(1)
}

fn show(entered: &Entered) -> ExitCode {
    println!("ids={:?} rootless={}", entered.ids(), entered.rootless());
    println!("warning={:?}", entered.warning());
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    println!("map={}", map.split_whitespace().collect::<Vec<_>>().join(" "));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("Uid:")).unwrap());
    ExitCode::SUCCESS
}

/// Mounts something that nobody else must see.
fn with_overlay(target: &str, _entered: &Entered) -> ExitCode {
    rustix::mount::mount("none", target, "tmpfs", rustix::mount::MountFlags::empty(), c"size=4k").unwrap();
    fs::write(Path::new(target).join("inside"), "").unwrap();
    println!("mounted");
    // Until the other side has looked.
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}

/// The directories below, topmost first, by the number in their names.
fn layers(root: &Path) -> Layers {
    let mut lower: Vec<PathBuf> =
        fs::read_dir(root.join("lower")).unwrap().map(|entry| entry.unwrap().path()).collect();
    lower.sort();
    lower.reverse();
    Layers { lower, upper: root.join("upper"), work: root.join("work"), volatile: true }
}

fn mounted(entered: &Entered, method: &str, root: &Path) -> Result<OverlayMount, overlay::OverlayError> {
    let methods: &[Method] = match method {
        "fsopen" => &[Method::Fsopen],
        "mount" => &[Method::Mount],
        "fuse" => &[Method::Fuse],
        _ => return overlay::mount(entered, &layers(root), &root.join("merged:,\\")),
    };
    overlay::mount_by(methods, entered, &layers(root), &root.join("merged:,\\"))
}

/// Prints what is seen through an overlay, and writes into it.
fn look(entered: &Entered, method: &str, root: &Path) -> ExitCode {
    let overlay = match mounted(entered, method, root) {
        Ok(overlay) => overlay,
        Err(error) => return fail(error),
    };
    println!("method={:?}", overlay.method());
    let target = overlay.target().to_owned();
    let mut names: Vec<String> = Vec::new();
    let mut directories = vec![target.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path.clone());
            }
            names.push(path.strip_prefix(&target).unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    println!("names={}", names.join(" "));
    println!("same={}", fs::read_to_string(target.join("same")).unwrap());
    fs::write(target.join("written"), "x").unwrap();
    fs::remove_file(target.join("same")).unwrap();
    drop(overlay);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "the overlay is still there");
    ExitCode::SUCCESS
}

/// Mounts an overlay and waits to be killed.
fn hold(entered: &Entered, method: &str, root: &Path) -> ExitCode {
    let _overlay = mounted(entered, method, root).unwrap();
    println!("mounted");
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}

fn run(entered: &Entered, runtime: &str, bundle: &str, state: &str, flags: &str) -> ExitCode {
    let path = std::env::var_os("PATH");
    let io = Io { tty: flags.contains('t'), interactive: flags.contains('i') };
    let container = Container { bundle: Path::new(bundle), id: "test-container", state_root: Path::new(state), io };
    let result = Runtime::find(Some(runtime), path.as_deref()).and_then(|runtime| container.run(&runtime, entered));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = error.exit_code();
            fail(error);
            ExitCode::from(code)
        }
    }
}
