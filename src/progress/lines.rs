//! Splits the output of a program into printable lines.

use std::collections::VecDeque;

use super::Progress;

/// Maximum length of a line in bytes; longer ones are truncated.
const LONGEST: usize = 4 << 10;

/// The number of last lines that are kept for error messages.
const KEPT: usize = 20;

/// Reads the output of a program byte by byte, and reports it line by line. The lines are UTF-8 without control
/// characters except tabs, and without the escape sequences of terminals (ECMA-48). If `\r` overwrites a line, as in
/// progress bars, only its last state counts.
#[derive(Debug, Default)]
pub struct Lines {
    /// The first [`LONGEST`] bytes of the incomplete line.
    open: Vec<u8>,
    /// Whether bytes of it were dropped.
    cut: bool,
    /// Whether the next byte overwrites the line.
    returned: bool,
    last: VecDeque<String>,
}

impl Lines {
    /// Adds `bytes`, and reports to `progress` the completed lines and the incomplete one.
    pub fn push(&mut self, bytes: &[u8], progress: &dyn Progress) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            match piece.split_last() {
                Some((b'\n', text)) => {
                    self.add(text);
                    self.end(progress);
                }
                Some((b'\r', text)) => {
                    self.add(text);
                    self.returned = true;
                }
                _ => self.add(piece),
            }
        }
        if !self.open.is_empty() {
            progress.unfinished(&self.text());
        }
    }

    /// Ends the output: text without a newline is the last line.
    pub fn finish(&mut self, progress: &dyn Progress) {
        if !self.open.is_empty() {
            self.end(progress);
        }
    }

    /// The last lines, 20 at most.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }

    fn add(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.returned) {
            self.open.clear();
            self.cut = false;
        }
        let taken = text.len().min(LONGEST - self.open.len());
        self.open.extend_from_slice(&text[..taken]);
        self.cut |= taken < text.len();
    }

    fn end(&mut self, progress: &dyn Progress) {
        let text = self.text();
        progress.output(&text);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(text);
        self.open.clear();
        (self.cut, self.returned) = (false, false);
    }

    fn text(&self) -> String {
        let mut bytes = self.open.as_slice();
        if self.cut {
            // The truncation may have split a character.
            while let [before @ .., byte] = bytes
                && !byte.is_ascii()
            {
                bytes = before;
                if byte & 0xc0 == 0xc0 {
                    break;
                }
            }
        }
        let mut text = visible(&String::from_utf8_lossy(bytes));
        if self.cut {
            text.push('…');
        }
        text
    }
}

/// Text without control characters except tabs, and without escape sequences (ECMA-48, 5.3 to 5.6).
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut rest),
            '\t' => shown.push(c),
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown
}

/// Skips the sequence after an escape character.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        // A control sequence ends with a character from `@` to `~`.
        Some('[') => drop(rest.find(|c| ('@'..='~').contains(c))),
        // A control string, such as a window title, ends with a bell or another sequence.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let end = rest.find(|c| matches!(c, '\u{7}' | '\u{1b}'));
            if end == Some('\u{1b}') {
                skip_sequence(rest);
            }
        }
        Some(' '..='/') => drop(rest.find(|c| ('0'..='~').contains(c))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// The reported lines; incomplete ones begin with `~`.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn advance(&self, _: u64) {}
        fn restart(&self, _: u64) {}
        fn done(&self, _: &str) {}
        fn output(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
        fn unfinished(&self, line: &str) {
            self.0.lock().unwrap().push(format!("~{line}"));
        }
    }

    fn told(pieces: &[&[u8]]) -> Vec<String> {
        let (told, mut lines) = (Told::default(), Lines::default());
        pieces.iter().for_each(|piece| lines.push(piece, &told));
        lines.finish(&told);
        told.0.into_inner().unwrap()
    }

    #[test]
    fn bytes_become_lines() {
        assert_eq!(told(&[b"a\nb\n", b"", b"\n"]), ["a", "b", ""]);
        assert_eq!(told(&[b"a", b"b\nc"]), ["~a", "ab", "~c", "c"]);
        assert_eq!(told(&[b"\xc3", b"\xa9\xff\n"]), ["~\u{fffd}", "é\u{fffd}"]);
        assert_eq!(told(&[]), [] as [&str; 0]);
    }

    #[test]
    fn of_an_overwritten_line_the_last_state_counts() {
        assert_eq!(told(&[b"10%\r20%\r100%\nok\n"]), ["100%", "ok"]);
        assert_eq!(told(&[b"10%\r", b"20%\r", b"\n"]), ["~10%", "~20%", "20%"]);
        assert_eq!(told(&[b"\r10%", b"\r\r\nb"]), ["~10%", "10%", "~b", "b"]);
        assert_eq!(told(&[b"a\r\n\r\n"]), ["a", ""]);
        let long = [b"x".repeat(LONGEST + 1), b"\ry\n".to_vec()].concat();
        assert_eq!(told(&[&long]), ["y"]);
    }

    #[test]
    fn terminals_are_not_steered() {
        for (bytes, expected) in [
            (&b"\x1b[1;31mred\x1b[0m\n"[..], "red"),
            (b"\x1b]0;title\x07a\x1b]8;;https://example.com\x1b\\b\n", "ab"),
            (b"\x1bPq\x1b[1ma\x1b\\b\n", "ab"),
            (b"\x1b(Ba\x1b=b\x1b7c\n", "abc"),
            (b"a\x08\x07\x0e\x7f\xc2\x9b2Jb\tc\n", "a2Jb\tc"),
            (b"a\x1b[31\n", "a"),
            (b"a\x1b]0;title without an end\n", "a"),
            (b"a\x1b\n", "a"),
        ] {
            assert_eq!(told(&[bytes]), [expected], "{}", bytes.escape_ascii());
        }
        for n in 0..4096_u32 {
            let bytes: Vec<u8> = (0..24).map(|k| (n.wrapping_mul(2_654_435_761 + 97 * k) >> 13) as u8).collect();
            let bytes = [b"\x1b", bytes.as_slice()].concat();
            for line in told(&[&bytes]) {
                assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn lines_have_a_bound() {
        let long = "é".repeat(LONGEST);
        for lead in ["", "a"] {
            let text = format!("{lead}{long}\nb\n");
            // In pieces with arbitrary ends.
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
            let whole: Vec<_> = told(&pieces).into_iter().filter(|line| !line.starts_with('~')).collect();
            assert_eq!(whole.len(), 2);
            let line = whole[0].strip_suffix('…').unwrap();
            assert!((LONGEST - 4..=LONGEST).contains(&line.len()) && line.ends_with('é'), "{}", line.len());
            assert_eq!(whole[1], "b");
        }
        assert_eq!(told(&["x".repeat(LONGEST).as_bytes(), b"\n"])[1].len(), LONGEST);
    }

    #[test]
    fn the_last_lines_are_kept() {
        let mut lines = Lines::default();
        (0..50).for_each(|n| lines.push(format!("{n}\n").as_bytes(), &()));
        lines.push(b"end", &());
        lines.finish(&());
        let last: Vec<_> = lines.last().collect();
        assert_eq!((last.len(), last[0], last[19]), (KEPT, "31", "end"));
    }
}
