//! `signet config print`: every setting, its value, and where it came from.

use std::fmt::Write;

/// One setting as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub key: &'static str,
    /// Value and place, if it is set.
    pub shown: Option<(String, String)>,
    pub is_secret: bool,
}

pub(super) fn print(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { key, shown, is_secret } in lines {
        // Writing to a string cannot fail.
        let _ = match shown {
            Some((_, place)) if *is_secret => writeln!(text, "{key} = ********  # {place}"),
            Some((value, place)) => writeln!(text, "{key} = {value}  # {place}"),
            None => writeln!(text, "# {key} is not set"),
        };
    }
    text
}
