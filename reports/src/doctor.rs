//! What the doctor found, for a terminal.

use crate::terminal::Paint;
use crate::words::clean;
use std::fmt::Write as _;
use switchmark_schema::{Finding, FindingStatus};

/// A line a finding; what is not fine says in further lines what it does and what helps. Then how many there are of each.
pub fn doctor_text(findings: &[Finding], width: usize, color: bool) -> String {
    let paint = Paint { on: color };
    let named = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0).min(40);
    let indent = " ".repeat("unknown".len() + named + 4);
    let room = width.saturating_sub(indent.len()).max(30);
    let mut out = String::new();
    for finding in findings {
        let (word, style) = status(finding.status);
        let check = clean(&finding.check, 40);
        let mut lines = vec![(clean(&finding.evidence, 400), "")];
        if matches!(finding.status, FindingStatus::Bad | FindingStatus::Warn) {
            lines.push((clean(&finding.effect, 400), "2"));
            lines.push((format!("do: {}", clean(&finding.remedy, 400)), "2"));
        }
        let mut head = format!("{}  {check:named$}  ", paint.with(style, &format!("{word:7}")));
        for (text, style) in lines {
            for line in wrapped(&text, room) {
                let _ = writeln!(out, "{head}{}", paint.with(style, &line));
                head.clone_from(&indent);
            }
        }
    }
    let of = |status| findings.iter().filter(|finding| finding.status == status).count();
    let counts = [FindingStatus::Ok, FindingStatus::Warn, FindingStatus::Bad, FindingStatus::Unknown]
        .map(|s| format!("{} {}", of(s), status(s).0));
    let _ = writeln!(out, "\n{} checks: {}", findings.len(), counts.join(", "));
    out
}

fn status(status: FindingStatus) -> (&'static str, &'static str) {
    match status {
        FindingStatus::Ok => ("ok", "32"),
        FindingStatus::Warn => ("warn", "33"),
        FindingStatus::Bad => ("bad", "1;31"),
        FindingStatus::Unknown => ("unknown", "2"),
    }
}

/// Lines of at most so many characters, broken between words; a longer word has a line of its own.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
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

    #[test]
    fn what_is_not_fine_says_what_it_does_and_what_helps() {
        let finding = |check: &str, status| Finding {
            check: check.into(),
            status,
            evidence: "/proc/x: 7".into(),
            effect: "everything is slow, and nobody can say of it why that should be so".into(),
            remedy: "echo 8".into(),
        };
        let text = doctor_text(
            &[finding("one", FindingStatus::Ok), finding("another", FindingStatus::Bad)],
            60,
            false,
        );
        let expected = "\
ok       one      /proc/x: 7
bad      another  /proc/x: 7
                  everything is slow, and nobody can say of
                  it why that should be so
                  do: echo 8

2 checks: 1 ok, 0 warn, 1 bad, 0 unknown
";
        assert_eq!(text, expected);
        assert!(doctor_text(&[finding("one", FindingStatus::Warn)], 60, true).contains("\u{1b}[33mwarn"));
    }
}
