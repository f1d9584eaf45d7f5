//! The scripts that pip makes for entry points (entry points specification, "Use for scripts").

/// Maximum length of the first line that a Linux kernel before 5.1 accepts, with `#!` and the newline.
const MAX_SHEBANG: usize = 127;

/// The form of scripts for entry points. It depends on the version of pip, and affects the hashes in RECORD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Launcher {
    /// The form of pip up to 25.1 (Debian 12 and 13 have such a version).
    #[default]
    Pip23,
    /// The form of pip 25.2 and 25.3.
    Pip25,
    /// The form of pip from 26.0.
    Pip26,
}

impl Launcher {
    /// The form for a version of pip, major and minor.
    #[must_use]
    pub fn of_pip(version: (u32, u32)) -> Self {
        match version {
            (26.., _) => Self::Pip26,
            (25, 2..) => Self::Pip25,
            _ => Self::Pip23,
        }
    }

    /// The script that calls `function` of `module` with the interpreter `executable`.
    pub(super) fn script(self, executable: &str, module: &str, function: &str) -> Vec<u8> {
        let import = function.split('.').next().unwrap_or(function);
        let import = format!("from {module} import {import}\n");
        let main = "if __name__ == '__main__':\n";
        let (head, strip) = match self {
            Self::Pip23 => (
                "# -*- coding: utf-8 -*-\nimport re\nimport sys\n",
                "    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n",
            ),
            Self::Pip25 => {
                ("import sys\n", "    if sys.argv[0].endswith('.exe'):\n        sys.argv[0] = sys.argv[0][:-4]\n")
            }
            Self::Pip26 => ("import sys\n", "    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n"),
        };
        let shebang = shebang(executable);
        format!("{shebang}{head}{import}{main}{strip}    sys.exit({function}())\n").into_bytes()
    }
}

/// The first line of a script, or three lines if the kernel does not accept it in one: then a shell runs the script,
/// and Python sees the shell's lines as a string.
fn shebang(executable: &str) -> String {
    let executable = quoted(executable);
    if !executable.contains(' ') && executable.len() + 3 <= MAX_SHEBANG {
        return format!("#!{executable}\n");
    }
    format!("#!/bin/sh\n'''exec' {executable} \"$0\" \"$@\"\n' '''\n")
}

fn quoted(executable: &str) -> String {
    let (env, program) = match executable.strip_prefix("/usr/bin/env ") {
        Some(program) => ("/usr/bin/env ", program),
        None => ("", executable),
    };
    if program.contains(' ') && !program.starts_with('"') {
        return format!("{env}\"{program}\"");
    }
    executable.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        assert_eq!(shebang("/usr/bin/python3"), "#!/usr/bin/python3\n");
        assert_eq!(shebang("/my venv/p"), "#!/bin/sh\n'''exec' \"/my venv/p\" \"$0\" \"$@\"\n' '''\n");
        let (fits, long) = (format!("/{}", "x".repeat(123)), format!("/{}", "x".repeat(124)));
        assert_eq!(shebang(&fits), format!("#!{fits}\n"));
        assert_eq!(shebang(&long), format!("#!/bin/sh\n'''exec' {long} \"$0\" \"$@\"\n' '''\n"));
    }

    #[test]
    fn versions_of_pip() {
        let of = Launcher::of_pip;
        assert_eq!([of((23, 0)), of((25, 1)), of((25, 2)), of((26, 3))].map(|l| l as u8), [0, 0, 1, 2]);
        let script = Launcher::default().script("/p", "a.b", "c.d");
        assert!(String::from_utf8(script).unwrap().contains("\nfrom a.b import c\n"));
    }
}
