//! What makes a new password easy to guess (NIST SP 800-63B-4 §3.1.1.2): it is a common password, or a name of its user. There are no rules about kinds of characters.
//!
//! The crate `zxcvbn` finds the patterns. A password is refused when one pattern covers all of it; the crate's score is not
//! used, because it would also refuse uncommon short words and accept common long ones.

use crate::domain::{Password, WeakPassword};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufRead, BufReader},
    path::Path,
};
use zxcvbn::matching::patterns::MatchPattern;

/// How many characters `zxcvbn` reads. A longer password is refused only if it is one character repeated.
const MAX_CHARS: usize = 100;

/// The operator's list of passwords that no user may choose. Of each line it keeps a hash of 64 bits.
#[derive(Debug, Clone, Default)]
pub struct Blocklist(HashSet<u64>);

impl Blocklist {
    /// Reads a file with a password a line, in any letter case.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub fn read(path: &Path) -> io::Result<Self> {
        let lines = BufReader::new(std::fs::File::open(path)?).lines();
        lines.map(|line| Ok(Self::hash_of(line?.trim_end_matches('\r')))).collect::<io::Result<_>>().map(Self)
    }

    fn contains(&self, text: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&Self::hash_of(text))
    }

    fn hash_of(text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        text.to_lowercase().hash(&mut hasher);
        hasher.finish()
    }
}

/// Checks that `password` is not easy to guess. `personal` are the e-mail, the username and the names of its user.
///
/// # Errors
/// The reason, which is also what the user is told.
pub fn check(password: &Password, personal: &[String], blocklist: &Blocklist) -> Result<(), WeakPassword> {
    let text = String::from_utf8_lossy(password.expose()).to_lowercase();
    let personal: Vec<String> = personal.iter().flat_map(|name| with_local_part(&name.to_lowercase())).collect();
    for candidate in without_digits(&text) {
        if blocklist.contains(candidate) {
            return Err(WeakPassword::Common);
        }
        if personal.iter().any(|name| name == candidate) {
            return Err(WeakPassword::Personal);
        }
        if let Some(weakness) = pattern_of(candidate) {
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
    let mut chars = text.chars();
    let first = chars.next()?;
    if chars.all(|c| c == first) {
        return Some(WeakPassword::Repeated);
    }
    if text.chars().count() > MAX_CHARS {
        return None;
    }
    let found = zxcvbn::zxcvbn(text, &[]);
    let [only] = found.sequence() else { return None };
    let pattern = match &only.pattern {
        // `zxcvbn` reports what is repeated, too.
        MatchPattern::Repeat(repeat) => match repeat.base_matches.as_slice() {
            [base] => &base.pattern,
            _ => return None,
        },
        pattern => pattern,
    };
    match pattern {
        MatchPattern::Dictionary(_) => Some(WeakPassword::Common),
        MatchPattern::Spatial(_) | MatchPattern::Sequence(_) => Some(WeakPassword::Run),
        _ => None,
    }
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
    fn other_passwords_are_accepted() {
        let long = format!("{}, and then a sentence", "a".repeat(100));
        let accepted = ["correct horse battery", "password123x", "annabelle in a boat", "пароль для работы", &long];
        for password in accepted {
            assert_eq!(weakness(password), None, "{password}");
        }
    }
}
