//! The script entry points of entry_points.txt.

use std::collections::HashSet;

use super::archive::check_component;
use super::error::WheelFault;

/// The script of an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryPointScript {
    /// The script's file name.
    pub(super) name: String,
    /// The module to import from.
    pub(super) module: String,
    /// The function to call, which may have dots.
    pub(super) function: String,
}

/// The entry points of a wheel that become scripts: names and values, each name once per group.
#[derive(Debug, Clone, Default)]
pub(super) struct EntryPoints {
    console: Vec<(String, String)>,
    gui: Vec<(String, String)>,
}

impl EntryPoints {
    /// Parses entry_points.txt; the last entry of a name counts.
    pub(super) fn parse(text: &str) -> Result<Self, WheelFault> {
        let mut points = Self::default();
        let mut group = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') && line.ends_with(']') {
                group = line.trim_matches(['[', ']']);
                continue;
            }
            let entries = match group {
                "console_scripts" => &mut points.console,
                "gui_scripts" => &mut points.gui,
                _ => continue,
            };
            let refuse = || WheelFault::EntryPoint { entry: line.to_owned(), reason: "has no `=`" };
            let (name, value) = line.split_once('=').ok_or_else(refuse)?;
            entries.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(Self { console: last_of_each(points.console), gui: last_of_each(points.gui) })
    }

    /// Whether a file of `.data/scripts` is a build's script for an entry point, which the installer's own script
    /// replaces.
    pub(super) fn replaces(&self, file_name: &str) -> bool {
        let lower = file_name.to_lowercase();
        let stem = [".exe", "-script.py", ".pya"].iter().find(|suffix| lower.ends_with(**suffix));
        let name = stem.and_then(|suffix| file_name.get(..file_name.len() - suffix.len())).unwrap_or(file_name);
        self.console.iter().chain(&self.gui).any(|(entry, _)| entry == name)
    }

    /// The scripts to create; later ones replace earlier ones of the same name.
    ///
    /// pip and easy_install are built with one Python and installed with others, so their versioned names use the
    /// version of the target.
    pub(super) fn scripts(&self, python: (u32, u32)) -> Result<Vec<EntryPointScript>, WheelFault> {
        let mut entries: Vec<(String, &str)> = Vec::new();
        let (major, minor) = python;
        let value = |name| self.console.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if let Some(value) = value("pip") {
            entries
                .extend(["pip".into(), format!("pip{major}"), format!("pip{major}.{minor}")].map(|name| (name, value)));
        }
        if let Some(value) = value("easy_install") {
            entries.extend(["easy_install".into(), format!("easy_install-{major}.{minor}")].map(|name| (name, value)));
        }
        let (pip, easy_install) = (value("pip").is_some(), value("easy_install").is_some());
        let versioned = |name: &str| (pip && is_pip(name)) || (easy_install && is_easy_install(name));
        let others = self.console.iter().filter(|(name, _)| !versioned(name)).chain(&self.gui);
        entries.extend(others.map(|(name, value)| (name.clone(), value.as_str())));
        entries.into_iter().map(|(name, value)| script(name, value)).collect()
    }
}

/// The last entry of each name, in their order.
fn last_of_each(entries: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> = entries.into_iter().rev().filter(|(name, _)| seen.insert(name.clone())).collect();
    last.reverse();
    last
}

/// `pip`, `pip3`, `pip3.11`.
fn is_pip(name: &str) -> bool {
    name.strip_prefix("pip").is_some_and(|version| version.is_empty() || is_number(version) || is_release(version))
}

/// `easy_install`, `easy_install-3.11`.
fn is_easy_install(name: &str) -> bool {
    let version = name.strip_prefix("easy_install");
    version.is_some_and(|version| version.is_empty() || version.strip_prefix('-').is_some_and(is_release))
}

fn is_release(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn script(name: String, value: &str) -> Result<EntryPointScript, WheelFault> {
    let refuse = |reason| WheelFault::EntryPoint { entry: format!("{name} = {value}"), reason };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    // Brackets belong to the text after the value. Other names are file names below the directory of scripts, as in
    // pip.
    if name.contains(['[', ']']) || name.split('/').any(|component| check_component(component).is_err()) {
        return Err(refuse("has a name that no script can have"));
    }
    // Text after the object reference, such as extras in brackets, is ignored.
    let end = value.find(|c: char| !is_word(c) && c != ':' && c != '.').unwrap_or(value.len());
    let reference = &value[..end];
    let (module, function) = reference.split_once(':').ok_or_else(|| refuse("names no function"))?;
    let dotted = |text: &str| text.split('.').all(|part| !part.is_empty());
    if !dotted(module) || !dotted(function) || function.contains(':') {
        return Err(refuse("is not of the form `module:function`"));
    }
    let (module, function) = (module.to_owned(), function.to_owned());
    Ok(EntryPointScript { name, module, function })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let points = EntryPoints::parse(text).unwrap();
        points.scripts((3, 11)).unwrap().into_iter().map(|script| script.name).collect()
    }

    #[test]
    fn groups_and_forms() {
        let text =
            "x = y:z\n[console_scripts]\n# no\na=m:f\n b = m.n:C.f [extra]\na = m:g\n[other]\nq\n[gui_scripts]\nc=m:f";
        let scripts = EntryPoints::parse(text).unwrap().scripts((3, 11)).unwrap();
        let seen: Vec<_> = scripts.iter().map(|s| format!("{} {} {}", s.name, s.module, s.function)).collect();
        assert_eq!(seen, ["b m.n C.f", "a m g", "c m f"]);
    }

    #[test]
    fn many_entries_take_no_time() {
        let text: String = (0..60_000).map(|n| format!("a{}=m:f\n", n % 50_000)).collect();
        let names = names(&format!("[console_scripts]\n{text}"));
        assert_eq!((names.len(), names[0].as_str(), names[49_999].as_str()), (50_000, "a10000", "a9999"));
    }

    #[test]
    fn pip_has_the_names_of_this_python() {
        let text = "[console_scripts]\npip=p:m\npip3=p:m\npip3.8=p:m\npipx=p:m";
        assert_eq!(names(text), ["pip", "pip3", "pip3.11", "pipx"]);
        assert_eq!(names("[console_scripts]\npip3=p:m"), ["pip3"]);
        let text = "[console_scripts]\neasy_install=s:m\neasy_install-2.7=s:m\neasy_install3.8=s:m";
        assert_eq!(names(text), ["easy_install", "easy_install-3.11", "easy_install3.8"]);
    }

    #[test]
    fn scripts_of_the_build_are_replaced() {
        let points = EntryPoints::parse("[console_scripts]\nfoo=m:f").unwrap();
        for name in ["foo", "foo.exe", "foo-script.py", "foo.EXE", "foo.pya"] {
            assert!(points.replaces(name), "{name}");
        }
        assert!(!points.replaces("foo.sh") && !points.replaces("bar"));
    }

    #[test]
    fn names_that_pip_takes() {
        for name in
            ["a@b", "a:b", "a,b", "a~b", "$x", "a#b", "C++", "-x", ".x", "a\\b", "it's", "100%", "a b", "ü", "a/b"]
        {
            assert_eq!(names(&format!("[console_scripts]\n{name} = m:f\n")), [name]);
        }
    }

    #[test]
    fn what_no_script_can_be_made_of() {
        let values = ["a", "a=m", "a=", "a=:f", "a=m:", "a=m:f:g", "a=m..n:f"];
        let names =
            ["../a=m:f", "/a=m:f", "a/../b=m:f", "a/=m:f", "..=m:f", "=m:f", "a[b=m:f", ".wh.a=m:f", "a\0b=m:f"];
        for bad in values.into_iter().chain(names) {
            let points = EntryPoints::parse(&format!("[console_scripts]\n{bad}"));
            let scripts = points.and_then(|points| points.scripts((3, 11)));
            assert!(matches!(scripts, Err(WheelFault::EntryPoint { .. })), "{bad}");
        }
    }
}
