//! `signet config print`: every setting, its value and where it came from.

use super::Settings;
use std::fmt::Write;

/// One setting as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub key: &'static str,
    /// The value, masked if it is a secret, and its place; `None` if it is not set.
    pub shown: Option<(String, String)>,
}

impl Settings {
    /// Each setting with its value and its place, secrets masked.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for Line { key, shown } in &self.printable {
            // Writing to a string cannot fail.
            let _ = match shown {
                Some((value, place)) => writeln!(text, "{key} = {value}  # {place}"),
                None => writeln!(text, "# {key} is not set"),
            };
        }
        text
    }
}
