//! Reads `ociforge.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::regular::{open_regular, read_limited};
use ociforge_manifests::lint::{LintCode, UnknownCode};
use ociforge_manifests::{ConfigEdit, Digest, ImageName, Platform, Reference};
use serde_json::json;

use super::runtime;
use super::types::{Base, Libc, Plan, PythonVersion, StatedPython};
use crate::layer::{self, Step};
use crate::store::dir::directory_of;
use crate::tables::PlanError;
use crate::tables::fields::{Table, Text, Value};
use crate::tables::values::{absolute, absolute_or_variable, env, path};

/// The file name of the recipe in a directory.
pub const FILE_NAME: &str = "ociforge.toml";

/// Largest recipe, in bytes.
const MAX_RECIPE: u64 = 16 << 20;

const TOP: &[&str] = &["name", "base", "platforms", "python", "config", "layer", "runtime", "lint", "build"];
const CONFIG: &[&str] = &["workdir", "cmd", "entrypoint", "user", "labels", "expose", "volumes", "stop-signal", "env"];
const PYTHON: &[&str] = &["version", "site-packages", "executable", "libc"];
const LINT: &[&str] = &["allow"];
const BUILD: &[&str] = &["max-layers"];

/// Every table and its keys, for hints.
fn places() -> Vec<(&'static str, &'static [&'static str])> {
    let above: [(_, &[_]); 3] = [("the recipe", TOP), ("[config]", CONFIG), ("[python]", PYTHON)];
    let below: [(_, &[_]); 3] = [("[runtime]", runtime::KEYS), ("[lint]", LINT), ("[build]", BUILD)];
    above.into_iter().chain(layer::tables()).chain(below).collect()
}

/// Reads the recipe at `path`, a file or its directory. `arguments` are those of `--build-arg`: any argument is an
/// error.
///
/// # Errors
/// When the file cannot be read, or has a fault. Whether the files and images that it names exist is not checked.
pub fn read(path: &Path, arguments: &BTreeMap<String, String>) -> Result<Plan, PlanError> {
    let is_directory = path.is_dir();
    let file = if is_directory { path.join(FILE_NAME) } else { path.to_owned() };
    // A pipe may be named, but one that is found in a directory would keep the caller waiting.
    let opened = if is_directory { open_regular(&file) } else { fs::File::open(&file) };
    let read = opened.and_then(|input| {
        let is_file = input.metadata()?.is_file();
        Ok((is_file, read_limited(input, MAX_RECIPE)?))
    });
    let (is_file, bytes) = read.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PlanError::Missing(file.clone()),
        _ => PlanError::Read { what: "the recipe", file: file.clone(), source },
    })?;
    if let Some(argument) = arguments.keys().next() {
        return Err(PlanError::Argument { file, argument: argument.clone() });
    }
    let mut plan = parse(&file, &bytes)?;
    if !is_file {
        // A pipe is in no directory of the caller's.
        plan.directory = PathBuf::from(".");
    }
    Ok(plan)
}

/// Reads the text of a recipe. `file` is its path, for errors.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Plan, PlanError> {
    Text::read(bytes, file, &places(), |recipe| plan(recipe, file))
}

fn plan(recipe: &Table<'_>, file: &Path) -> Result<Plan, PlanError> {
    let base = base(&recipe.require("base", "base = \"nvcr.io/nvidia/pytorch:22.12-py3\"")?)?;
    let name = recipe.get("name").map(|value| name(&value)).transpose()?;
    let platforms = recipe.get("platforms").map_or_else(|| Ok(vec![Platform::default()]), |v| platforms(&v))?;
    let config = recipe.get("config").map_or_else(|| Ok(ConfigEdit::default()), |value| config(&value))?;
    let python = recipe.get("python").map(|value| python(&value)).transpose()?;
    let steps = recipe.get("layer").map_or_else(|| Ok(Vec::new()), |value| layer::steps(&value))?;
    let runtime = recipe.get("runtime").map_or_else(|| Ok(Default::default()), |v| runtime::settings(&v))?;
    let allow = recipe.get("lint").map_or_else(|| Ok(Vec::new()), |value| allow(&value))?;
    let max_layers = recipe.get("build").map(|value| max_layers(&value)).transpose()?.flatten();
    // The parent of a plain file name is empty.
    let directory = directory_of(file).to_owned();
    let inputs = inputs(&base, &platforms, python.as_ref(), &steps);
    Ok(Plan { directory, name, base, platforms, config, python, steps, runtime, allow, max_layers, inputs })
}

fn base(value: &Value<'_>) -> Result<Base, PlanError> {
    match value.line_of_text()? {
        "scratch" => Ok(Base::Scratch),
        text => match text.parse::<ImageName>() {
            Ok(name) => Ok(Base::Image(name)),
            Err(error) => Err(value.unexpected(IMAGE, Some(error.why))),
        },
    }
}

const IMAGE: &str = "an image name such as `debian:12`, `nvcr.io/nvidia/pytorch:22.12-py3`, `oci:DIR:TAG` or `scratch`";

fn name(value: &Value<'_>) -> Result<Reference, PlanError> {
    let expected = "a name in a registry, such as `registry.example.com/ml/train`";
    match value.line_of_text()?.parse::<ImageName>() {
        Ok(ImageName::Registry(name)) if name.digest().is_none() => Ok(name),
        Ok(ImageName::Registry(_)) => {
            Err(value.unexpected(expected, Some("leave the digest out; it comes of the build".into())))
        }
        Ok(_) => Err(value.unexpected(expected, Some("to write a layout or an archive use `-o`".into()))),
        Err(error) => Err(value.unexpected(expected, Some(error.why))),
    }
}

pub(super) fn platforms(value: &Value<'_>) -> Result<Vec<Platform>, PlanError> {
    let items = value.items()?;
    if items.is_empty() {
        return Err(value.unexpected("at least one platform, such as `linux/amd64`", None));
    }
    let mut platforms: Vec<Platform> = Vec::with_capacity(items.len());
    for item in items {
        let expected = "os/architecture or os/architecture/variant, such as `linux/amd64`";
        let platform = item.text()?.parse().map_err(|_| item.unexpected(expected, None))?;
        if platforms.iter().any(|other| other.serves(&platform)) {
            return Err(item.unfit(format!("`{platform}` twice"), "each platform once", None));
        }
        platforms.push(platform);
    }
    Ok(platforms)
}

fn python(value: &Value<'_>) -> Result<StatedPython, PlanError> {
    let table = value.table("[python]")?.only(PYTHON)?;
    let version = table.require("version", "version = \"3.11\"")?;
    let site_packages =
        table.require("site-packages", "site-packages = \"/usr/local/lib/python3.11/dist-packages\"")?;
    let executable = table.require("executable", "executable = \"/usr/bin/python3\"")?;
    let parsed = version.text()?.parse::<PythonVersion>();
    Ok(StatedPython {
        version: parsed.map_err(|()| version.unexpected("a version such as `3.11` or `3.11.4`", None))?,
        site_packages: path(&site_packages)?,
        executable: absolute(&executable)?.to_owned(),
        libc: table.get("libc").map(|value| libc(&value)).transpose()?,
    })
}

fn libc(value: &Value<'_>) -> Result<Libc, PlanError> {
    let expected = "a C library and its version, such as `glibc 2.36` or `musl 1.2`";
    value.text()?.parse().map_err(|()| value.unexpected(expected, None))
}

fn config(value: &Value<'_>) -> Result<ConfigEdit, PlanError> {
    let table = value.table("[config]")?.only(CONFIG)?;
    let words = |key: &str| -> Result<Option<Vec<String>>, PlanError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        value.items()?.iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_, _>>().map(Some)
    };
    let text = |key: &str, read: fn(&Value<'_>) -> Result<String, PlanError>| {
        table.get(key).map(|value| read(&value)).transpose()
    };
    let all = |key: &str, read: fn(&Value<'_>) -> Result<String, PlanError>| -> Result<Vec<String>, PlanError> {
        let Some(value) = table.get(key) else { return Ok(Vec::new()) };
        value.items()?.iter().map(read).collect()
    };
    Ok(ConfigEdit {
        env: table.get("env").map_or_else(|| Ok(Vec::new()), |value| env(&value))?,
        workdir: text("workdir", |value| absolute_or_variable(value).map(str::to_owned))?,
        entrypoint: words("entrypoint")?,
        cmd: words("cmd")?,
        user: text("user", |value| value.line_of_text().map(str::to_owned))?,
        labels: table.get("labels").map_or_else(|| Ok(BTreeMap::new()), |value| labels(&value))?,
        expose: all("expose", port)?,
        volumes: all("volumes", |value| absolute(value).map(str::to_owned))?,
        stop_signal: text("stop-signal", signal)?,
    })
}

fn max_layers(value: &Value<'_>) -> Result<Option<usize>, PlanError> {
    let table = value.table("[build]")?.only(BUILD)?;
    let Some(value) = table.get("max-layers") else { return Ok(None) };
    let number = match value.raw() {
        toml::de::DeValue::Integer(number) => number.as_str().parse().ok().filter(|number| *number > 0),
        _ => None,
    };
    number.map(Some).ok_or_else(|| value.unexpected("a number of layers, such as 125", None))
}

fn labels(value: &Value<'_>) -> Result<BTreeMap<String, String>, PlanError> {
    let mut labels = BTreeMap::new();
    for (name, value) in value.table("labels")?.entries() {
        let value = value.called(format!("labels.{name}"));
        if let toml::de::DeValue::Table(_) = value.raw() {
            let hint = "write a label's name in quotes: \"org.example.label\" = \"value\"";
            return Err(value.unexpected("a string", Some(hint.into())));
        }
        if name.trim().is_empty() {
            return Err(value.unfit("no label's name", "a name that is not empty", None));
        }
        labels.insert(name.to_owned(), value.text()?.to_owned());
    }
    Ok(labels)
}

/// Reads a port into the form of image configs, `8080/tcp`.
fn port(value: &Value<'_>) -> Result<String, PlanError> {
    let expected = "a port such as \"8080\", \"8080/tcp\" or \"53/udp\"";
    let text = match value.raw() {
        toml::de::DeValue::Integer(number) => number.to_string(),
        _ => value.text()?.to_owned(),
    };
    let (port, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let number = port.parse::<u16>().ok().filter(|number| *number > 0 && port.bytes().all(|b| b.is_ascii_digit()));
    match (number, protocol) {
        (Some(number), "tcp" | "udp" | "sctp") => Ok(format!("{number}/{protocol}")),
        _ => Err(value.unexpected(expected, None)),
    }
}

fn signal(value: &Value<'_>) -> Result<String, PlanError> {
    let text = value.text()?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b));
    let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let name = text.starts_with("SIG") && word(text);
    if number || name { Ok(text.to_owned()) } else { Err(value.unexpected("a signal such as \"SIGTERM\"", None)) }
}

/// Reads the warnings that `[lint]` silences.
fn allow(value: &Value<'_>) -> Result<Vec<LintCode>, PlanError> {
    let table = value.table("[lint]")?.only(LINT)?;
    let codes = table.get("allow").map_or_else(|| Ok(Vec::new()), |value| value.items())?;
    let code = |item: &Value<'_>| -> Result<LintCode, PlanError> {
        let parsed = item.text()?.parse();
        parsed.map_err(|error: UnknownCode| item.unexpected("the code of a warning", Some(error.hint())))
    };
    codes.iter().map(code).collect()
}

/// Computes [`Plan::inputs`].
fn inputs(base: &Base, platforms: &[Platform], python: Option<&StatedPython>, steps: &[Step]) -> Digest {
    let base = match base {
        Base::Scratch => "scratch".to_owned(),
        Base::Image(name) => name.to_string(),
    };
    let inputs = json!({
        "base": base,
        "platforms": platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "python": python.map(|p| {
            let all = [p.version.to_string(), p.site_packages.to_string(), p.executable.clone()];
            all.into_iter().chain(p.libc.map(|libc| libc.to_string())).collect::<Vec<_>>()
        }),
        "pip": steps.iter().filter_map(|step| step.kind.as_kind().lock_inputs()).collect::<Vec<_>>(),
    });
    Digest::of(inputs.to_string().as_bytes())
}
