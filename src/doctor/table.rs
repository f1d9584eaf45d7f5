//! Checks as a table of text.

use std::fmt::Write;

use console::Style;

use super::check::{CheckResult, CheckStatus};

/// The width of lines, in columns.
const WIDTH: usize = 80;
/// The widths in columns of a status and of a name, including the space after it.
const STATUS: usize = 9;
const NAME: usize = 17;
/// The indentation of every line, in columns.
const MARGIN: usize = 2;

/// The checks as a table for a terminal, with an empty line between sections and a final line with totals. Commands are
/// never wrapped, so that they can be copied; other text is at most 80 columns wide.
#[must_use]
pub fn table(checks: &[CheckResult], colours: bool) -> String {
    let mut text = String::new();
    let mut section = None;
    for check in checks {
        if section.replace(check.section) != Some(check.section) {
            let gap = if text.is_empty() { "" } else { "\n" };
            let title = Style::new().bold().force_styling(colours).apply_to(check.section.title());
            let _ = writeln!(text, "{gap}{title}");
        }
        row(&mut text, check, colours);
    }
    let count = |status: CheckStatus| checks.iter().filter(|check| check.status == status).count();
    let (ok, warn, missing) = (count(CheckStatus::Ok), count(CheckStatus::Warn), count(CheckStatus::Missing));
    let _ = writeln!(text, "\n{ok} ok, {warn} {}, {missing} missing", if warn == 1 { "warning" } else { "warnings" });
    text
}

fn row(text: &mut String, check: &CheckResult, colours: bool) {
    let (word, style) = match check.status {
        CheckStatus::Ok => ("ok", Style::new().green()),
        CheckStatus::Warn => ("warn", Style::new().yellow()),
        CheckStatus::Missing => ("missing", Style::new().red().bold()),
    };
    let word = style.force_styling(colours).apply_to(format!("{word:<width$}", width = STATUS - 2));
    let mut lines = wrapped(&check.found, WIDTH - MARGIN - STATUS - NAME).into_iter();
    let first = lines.next().unwrap_or_default();
    let name = format!("{:<width$}", check.name, width = NAME - 1);
    let _ = writeln!(text, "{}", format!("{:MARGIN$}{word}  {name} {first}", "").trim_end());
    let indent = MARGIN + STATUS + NAME;
    for line in lines {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
    let indent = MARGIN + STATUS;
    for line in check.mend.iter().flat_map(|command| command.lines()) {
        let line = Style::new().cyan().force_styling(colours).apply_to(line);
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

/// Wraps `text` into lines of at most `width` characters; longer words stay whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Section;

    #[test]
    fn lines_are_aligned_and_commands_whole() {
        let long = "kernel.unprivileged_userns_clone is 0; without them only root can run containers";
        let checks = [
            CheckResult::ok(Section::System, "kernel", "6.1.0"),
            CheckResult::missing(Section::System, "user namespaces", long)
                .mend("sudo sysctl -w x=1")
                .mend("a |\\\n  b"),
            CheckResult::warn(Section::Programs, "uv", ""),
        ];
        let expected = "\
System
  ok       kernel           6.1.0
  missing  user namespaces  kernel.unprivileged_userns_clone is 0; without them
                            only root can run containers
           sudo sysctl -w x=1
           a |\\
             b

Programs
  warn     uv

1 ok, 1 warning, 1 missing
";
        assert_eq!(table(&checks, false), expected);
        let coloured = table(&checks, true);
        assert!(coloured.contains("\u{1b}[31m") && coloured.contains("\u{1b}[32mok"), "{coloured}");
        assert_eq!(console::strip_ansi_codes(&coloured), expected);
    }
}
