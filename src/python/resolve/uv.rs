//! Resolution by uv.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{fs, thread};

use super::Requirements;
use super::pylock;
use super::requirements::{NamedRequirement, index_options};
use super::sources::{self, PackageWithoutWheel, Sources};
use super::stubs::Stubs;
use super::uv_hints::adapted;
use crate::base::facts::BaseFacts;
use crate::plan::Libc;
use crate::python::credentials::{self, PROVIDER};
use crate::python::error::{ProgramMessage, ResolveError};
use crate::python::redact::redacted;
use crate::python::target::WheelTarget;
use crate::python::wheel::{Location, LockedWheel};

/// The glibc versions of uv's platforms, the newest first: 2.40, …
const MANYLINUX: [u32; 12] = [NEWEST_GLIBC, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17];
pub(in crate::python) const NEWEST_GLIBC: u32 = 40;
/// Maximum length of uv's message, in characters.
const MAX_SAID: usize = 4000;

/// Resolves requirements to wheels, and to source archives if no wheel satisfies them. The result has the base's
/// distributions as stubs in their own versions. Builds nothing.
pub(super) fn compile(
    requirements: &Requirements,
    named: &[NamedRequirement],
    target: &WheelTarget,
    base: Option<&BaseFacts>,
    directory: &Path,
    sources: &mut Sources,
) -> Result<Vec<LockedWheel>, ResolveError> {
    loop {
        let refusal = match try_once(requirements, named, target, base, directory, sources)? {
            Ok(files) => return Ok(files),
            Err(refusal) => refusal,
        };
        let options = index_options(requirements, directory);
        let mut found = false;
        for wanted in &refusal.wanted {
            for question in sources.questions(wanted) {
                let archive = sdist(&wanted.name, &question, &options, target, directory)?;
                if archive.is_some_and(|archive| sources.add(archive)) {
                    found = true;
                    break;
                }
            }
        }
        if !found {
            return Err(refusal.error);
        }
    }
}

/// No solution, and the packages whose missing wheels may be the reason.
struct NoSolution {
    error: ResolveError,
    wanted: Vec<PackageWithoutWheel>,
}

fn try_once(
    requirements: &Requirements,
    named: &[NamedRequirement],
    target: &WheelTarget,
    base: Option<&BaseFacts>,
    directory: &Path,
    sources: &Sources,
) -> Result<Result<Vec<LockedWheel>, NoSolution>, ResolveError> {
    let work = tempfile::tempdir().map_err(|source| ResolveError::Write { path: std::env::temp_dir(), source })?;
    let result = work.path().join("pylock.toml");
    let mut command = command(target, directory)?;
    command.arg("--output-file").arg(&result);
    let stubs = base.map(|base| Stubs::of(base).without(sources.projects()));
    if let Some(stubs) = &stubs {
        add_base(stubs, named, target, work.path(), &mut command)?;
    }
    if !sources.is_empty() {
        let wheels = work.path().join("sources");
        let written = sources.write_wheels(&wheels);
        written.map_err(|source| ResolveError::Write { path: work.path().to_path_buf(), source })?;
        command.arg("--find-links").arg(wheels);
    }
    let input = match requirements {
        Requirements::List(list) => list.join("\n") + "\n",
        Requirements::File(_) | Requirements::Lock(..) => String::new(),
    };
    match requirements {
        Requirements::List(_) => command.arg("-"),
        Requirements::File(file) | Requirements::Lock(file, _) => command.arg("--").arg(file),
    };
    let output = run(command, &input)?;
    if !output.status.success() {
        let wanted = sources::wanted(&String::from_utf8_lossy(&output.stderr));
        return Ok(Err(NoSolution { error: refusal(&output, target, stubs.as_ref(), named), wanted }));
    }
    let text = fs::read_to_string(&result).map_err(|source| ResolveError::read(&result, source))?;
    let mut files = Vec::new();
    for mut wheel in pylock::read(&text, &result, target)? {
        let stub = matches!(&wheel.location, Location::Path(path) if path.starts_with(work.path().join("sources")));
        match sources.behind(&wheel.name, &wheel.version).filter(|_| stub) {
            Some(Some(archive)) => files.push(archive.clone()),
            Some(None) => {}
            None => {
                // uv writes paths relative to its result, a temporary file.
                wheel.location.relate_to(directory);
                files.push(wheel);
            }
        }
    }
    Ok(Ok(files))
}

/// The newest source archive that matches the requirement `question`, if any. Does not need its dependencies, so uv has
/// no reason to build it.
fn sdist(
    name: &str,
    question: &str,
    options: &[String],
    target: &WheelTarget,
    directory: &Path,
) -> Result<Option<LockedWheel>, ResolveError> {
    let work = tempfile::tempdir().map_err(|source| ResolveError::Write { path: std::env::temp_dir(), source })?;
    let result = work.path().join("pylock.toml");
    let mut command = command(target, directory)?;
    command.args(["--no-deps", "--no-binary", name]).arg("--output-file").arg(&result);
    command.arg("-");
    let output = run(command, &format!("{}\n{question}\n", options.join("\n")))?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = fs::read_to_string(&result).map_err(|source| ResolveError::read(&result, source))?;
    let mut found = pylock::read_sdists(&text, &result, target)?;
    found.iter_mut().for_each(|archive| archive.location.relate_to(directory));
    Ok(found.pop().filter(|archive| archive.name == name))
}

/// The uv command for a lock with wheels for the target. Indexes and credentials are those of the user's environment
/// and configuration.
fn command(target: &WheelTarget, directory: &Path) -> Result<Command, ResolveError> {
    let platform = platform(target).ok_or_else(|| ResolveError::Target { target: target.to_string() })?;
    let mut command = Command::new("uv");
    command.current_dir(directory);
    if credentials::uses_keyring(directory) {
        command.env(PROVIDER, "subprocess");
    }
    command.args(["pip", "compile", "--format", "pylock.toml", "--only-binary", ":all:", "--no-header"]);
    command.args(["--no-progress", "--color", "never", "--no-python-downloads"]);
    // If uv tries to build anyway, the Python that it starts fails before it runs foreign code. uv's own queries of
    // Python use `-I`, which ignores this variable.
    command.env("PYTHONHOME", "/nonexistent");
    command.args(["--python-version", &target.python.to_string(), "--python-platform", &platform]);
    Ok(command)
}

/// uv's name for the platform: for glibc, the newest that the target can run.
fn platform(target: &WheelTarget) -> Option<String> {
    let machine = Some(target.machine()).filter(|machine| matches!(*machine, "x86_64" | "aarch64"))?;
    match target.libc {
        Libc::Glibc(2, minor) => {
            let newest = MANYLINUX.iter().find(|version| **version <= minor)?;
            Some(format!("{machine}-manylinux_2_{newest}"))
        }
        Libc::Glibc(..) => None,
        Libc::Musl(..) => Some(format!("{machine}-unknown-linux-musl")),
    }
}

/// Writes the files of the base's distributions, and adds them to uv's arguments.
fn add_base(
    stubs: &Stubs<'_>,
    named: &[NamedRequirement],
    target: &WheelTarget,
    work: &Path,
    command: &mut Command,
) -> Result<(), ResolveError> {
    let (wheels, pins, preferences) = (work.join("stubs"), work.join("pins.txt"), work.join("pylock.toml"));
    stubs
        .write_wheels(&wheels, &pylock::marker_environment(target)?)
        .and_then(|()| fs::write(&pins, stubs.pins(named)))
        .and_then(|()| fs::write(preferences, stubs.preferences(named)))
        .map_err(|source| ResolveError::Write { path: work.to_path_buf(), source })?;
    command.arg("--find-links").arg(wheels).arg("--constraints").arg(pins);
    Ok(())
}

/// Runs uv to its end.
fn run(mut command: Command, input: &str) -> Result<Output, ResolveError> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ResolveError::NoUv,
        _ => ResolveError::RunUv(error),
    })?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // uv may end without reading its input; its exit status has the result.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
        child.wait_with_output().map_err(ResolveError::RunUv)
    })
}

/// The error message of uv, without warnings and progress notes.
fn refusal(
    output: &Output,
    target: &WheelTarget,
    stubs: Option<&Stubs<'_>>,
    named: &[NamedRequirement],
) -> ResolveError {
    let text = redacted(&String::from_utf8_lossy(&output.stderr));
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let hint = if text.contains("no usable wheels") {
        Some("build a wheel (`pip wheel`) and use it, `pip = { wheels = \"dist/*.whl\" }`".to_owned())
    } else {
        lines().filter_map(|line| line.strip_prefix("hint: ")).find_map(adapted)
    };
    let begins = |line: &str| line.starts_with("error: ") || line.starts_with('×');
    let skipped = lines().position(begins).unwrap_or(0);
    let said: Vec<&str> = lines().skip(skipped).filter(|line| !line.starts_with("hint: ")).map(bare).collect();
    let said: String = said.join("; ").chars().take(MAX_SAID).collect();
    let source = ProgramMessage(if said.is_empty() { output.status.to_string() } else { said });
    ResolveError::Uv { target: target.to_string(), hint: pinned_hint(&source, stubs, named).or(hint), source }
}

/// A line of a report without its prefix: words, or the branches of a tree.
fn bare(line: &str) -> &str {
    let line = line.strip_prefix("error: ").or_else(|| line.strip_prefix("cause: ")).unwrap_or(line);
    line.trim_start_matches(['×', '╰', '├', '─', '▶', '│', ' '])
}

/// The hint for a conflict with a build of the base.
fn pinned_hint(said: &ProgramMessage, stubs: Option<&Stubs<'_>>, named: &[NamedRequirement]) -> Option<String> {
    let (name, version) = stubs?.own_builds(named).find(|(name, _)| said.0.contains(&format!("{name}==")))?;
    Some(format!("ociforge keeps the base's {name} {version}; to replace it, require another version of {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let platform = |libc, architecture: &str| {
            let mut target = WheelTarget::for_tests("3.11", libc);
            target.platform.architecture = architecture.into();
            platform(&target)
        };
        assert_eq!(platform(Libc::Glibc(2, 36), "amd64").unwrap(), "x86_64-manylinux_2_36");
        assert_eq!(platform(Libc::Glibc(2, 41), "arm64").unwrap(), "aarch64-manylinux_2_40");
        assert_eq!(platform(Libc::Glibc(2, 27), "amd64").unwrap(), "x86_64-manylinux_2_17");
        assert_eq!(platform(Libc::Musl(1, 2), "amd64").unwrap(), "x86_64-unknown-linux-musl");
        assert_eq!(platform(Libc::Glibc(2, 12), "amd64"), None);
        assert_eq!(platform(Libc::Glibc(2, 36), "s390x"), None);
    }
}
