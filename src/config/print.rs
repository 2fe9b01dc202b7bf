//! `signet config print`: every setting, its value, and where it came from.

use std::fmt::Write;

/// One setting as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub key: &'static str,
    /// Value, masked if it is a secret, and place; `None` if it is not set.
    pub shown: Option<(String, String)>,
}

pub(super) fn print(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { key, shown } in lines {
        // Writing to a string cannot fail.
        let _ = match shown {
            Some((value, place)) => writeln!(text, "{key} = {value}  # {place}"),
            None => writeln!(text, "# {key} is not set"),
        };
    }
    text
}
