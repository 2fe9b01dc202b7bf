//! What makes a new password easy to guess (NIST SP 800-63B-4 §3.1.1.2): it is a common password, or a name of its user.
//! There are no rules about kinds of characters.
//!
//! The crate `zxcvbn` finds the patterns. A password is refused when one pattern covers all of it; the crate's score is not
//! used, because it would also refuse uncommon short words and accept common long ones.

use crate::domain::{Password, WeakPassword, folded};
use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufRead, BufReader},
    path::Path,
};
use zxcvbn::matching::patterns::MatchPattern;

/// The longest text that `zxcvbn` examines, in characters: no common password is as long.
const MAX_CHARS: usize = 32;

/// The symbols that `zxcvbn` takes for letters. It tries all combinations of them, which takes half a second for a text with
/// all of them; a text with more than [`MAX_LETTER_LIKE`] is no common password.
const LETTER_LIKE: &str = "@({[<&#!|$+%";
const MAX_LETTER_LIKE: usize = 8;

/// The operator's list of passwords that no user may choose. Of each line it keeps a hash of 64 bits.
#[derive(Debug, Clone, Default)]
pub struct Blocklist(HashSet<u64>);

impl Blocklist {
    /// Reads a file with a password a line, in any letter case. Blanks around it do not count.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        // Before it is opened: to open a pipe waits for a writer, and a device could be read for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut blocked = HashSet::new();
        for line in BufReader::new(fs::File::open(path)?).lines() {
            let line = line?;
            // Editors on Windows begin a file with a byte order mark.
            let text = line.trim_start_matches('\u{feff}').trim();
            if !text.is_empty() {
                blocked.insert(Self::hash_of(text));
            }
        }
        Ok(Self(blocked))
    }

    fn contains(&self, text: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&Self::hash_of(text))
    }

    fn hash_of(text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        folded(text).hash(&mut hasher);
        hasher.finish()
    }
}

/// Checks that `password` is not easy to guess. `personal` are the e-mail, the username and the names of its user.
///
/// # Errors
/// The reason, which is also what the user is told.
pub fn check(password: &Password, personal: &[String], blocklist: &Blocklist) -> Result<(), WeakPassword> {
    let text = folded(&String::from_utf8_lossy(password.expose()));
    let personal: Vec<String> = personal.iter().flat_map(|name| with_local_part(&folded(name))).collect();
    for candidate in without_digits(&text) {
        let unit = repeated_unit(candidate);
        if unit.chars().nth(1).is_none() {
            return Err(WeakPassword::Repeated);
        }
        if blocklist.contains(candidate) || blocklist.contains(unit) {
            return Err(WeakPassword::Common);
        }
        if personal.iter().any(|name| name == unit) {
            return Err(WeakPassword::Personal);
        }
        if let Some(weakness) = pattern_of(unit) {
            return Err(weakness);
        }
    }
    Ok(())
}

/// A name, and the part before the `@` where it is an e-mail.
fn with_local_part(name: &str) -> Vec<String> {
    let local = name.split_once('@').map(|(local, _)| local);
    local.into_iter().chain([name]).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The text, and the text without one and without two digits at its end.
fn without_digits(text: &str) -> impl Iterator<Item = &str> {
    fn shorter(text: &str) -> Option<&str> {
        text.strip_suffix(|c: char| c.is_ascii_digit()).filter(|text| !text.is_empty())
    }
    let one = shorter(text);
    [Some(text), one, one.and_then(shorter)].into_iter().flatten()
}

/// The weakness of a text that one pattern covers completely.
fn pattern_of(text: &str) -> Option<WeakPassword> {
    let mut symbols: Vec<char> = text.chars().filter(|c| LETTER_LIKE.contains(*c)).collect();
    symbols.sort_unstable();
    symbols.dedup();
    if text.chars().count() > MAX_CHARS || symbols.len() > MAX_LETTER_LIKE {
        return None;
    }
    let found = zxcvbn::zxcvbn(text, &[]);
    let [only] = found.sequence() else { return None };
    match &only.pattern {
        MatchPattern::Dictionary(_) => Some(WeakPassword::Common),
        MatchPattern::Spatial(_) | MatchPattern::Sequence(_) => Some(WeakPassword::Run),
        _ => None,
    }
}

/// The shortest text whose repetition is `text`; `text` itself if it repeats nothing.
fn repeated_unit(text: &str) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.filter(|end| text.len().is_multiple_of(*end))
        .map(|end| &text[..end])
        .find(|unit| text.as_bytes().chunks(unit.len()).all(|chunk| chunk == unit.as_bytes()))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weakness(password: &str) -> Option<WeakPassword> {
        let blocklist = Blocklist(HashSet::from([Blocklist::hash_of("Our Product 2026")]));
        let personal = ["Ann.Ashe@example.com", "ann_the_great", "Annabelle", ""].map(str::to_owned);
        check(&Password::attempt(password), &personal, &blocklist).err()
    }

    #[test]
    fn a_password_that_one_pattern_covers_is_refused() {
        use WeakPassword::{Common, Personal, Repeated, Run};
        let long = "a".repeat(256);
        let rows = [
            (
                Common,
                vec![
                    "password",
                    "PassWord",
                    "password1",
                    "password12",
                    "passwordpassword",
                    "letmein",
                    "iloveyou",
                    "sunshine1",
                ],
            ),
            (Common, vec!["our product 2026", "OUR PRODUCT 20267", "p4ssw0rd", "development"]),
            (Repeated, vec!["aaaaaaaa", "AAAAAAAA7", "........", &long]),
            (Common, vec!["our product 2026our product 2026", "passwordpasswordpasswordpasswordpassword"]),
            (Run, vec!["abcdefgh", "hgfedcba", "abcabcabc", "23456789", "asdfghjkl;'", "zxcvbnm,./1"]),
            (Personal, vec!["ann.ashe@example.com", "Ann.Ashe", "ann.ashe7", "ANN_THE_GREAT", "annabelle99"]),
        ];
        let mut count = 0;
        for (weak, passwords) in rows {
            for password in passwords {
                assert_eq!(weakness(password), Some(weak), "{password}");
                count += 1;
            }
        }
        println!("weak passwords: {count} cases");
    }

    #[test]
    fn a_blocklist_is_a_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&*pipe, folder.path()] {
            let fault = Blocklist::read(path).unwrap_err();
            assert_eq!(fault.to_string(), "it is not a regular file");
        }
    }

    #[test]
    fn other_passwords_are_accepted() {
        let long = format!("{}, and then a sentence", "a".repeat(100));
        // Texts for which `zxcvbn` would take long.
        let symbols = "4@8({[<369&#!1|0$5+7%2".repeat(11);
        let accepted = [
            &symbols[..22],
            &symbols,
            &symbols[..241],
            "correct horse battery",
            "password123x",
            "annabelle in a boat",
            "пароль для работы",
            &long,
        ];
        for password in accepted {
            assert_eq!(weakness(password), None, "{password}");
        }
    }
}
