//! What the name of a key file says: `<kid>.<made>.<activates_at>.<algorithm>.pem`, with times such as `20261124T120000Z`
//! and `.secret` in place of `.pem` for a shared secret.
//!
//! | third word | the key |
//! |---|---|
//! | `next` | is published and waits |
//! | a time | is activated then, at least five minutes after it was made |
//! | `now` | is activated as soon as a replica reads it; `rotate --now` writes the time of the rotation as `<made>` |
//!
//! Names without `<kid>` and `<made>` are for keys made by hand and skip the five minutes: `<activates_at>.…`,
//! `<activates_at>.now.…`, `next.<made>.…`. A file of any other name that ends in `.pem` or `.secret` is the oldest key.

use super::{Activation, PUBLISHED_BEFORE, SigningKey};
use crate::domain::{Algorithm, Timestamp};
use std::time::UNIX_EPOCH;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    pub kid: Option<String>,
    pub made: Option<Timestamp>,
    pub activation: Activation,
    pub algorithm: Option<Algorithm>,
}

const WRONG_NAME: &str = "must be named as `signet keys` does it: <kid>.20261124T115500Z.20261124T120000Z.ES256.pem";

impl FileName {
    /// `None` for a file that is not a key.
    ///
    /// # Errors
    /// The name resembles one of those above: a guess at its meaning could activate the wrong key.
    pub fn parse(name: &str) -> Result<Option<Self>, &'static str> {
        let Some((stem, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
            return Ok(None);
        };
        if name.starts_with('.') || !["pem", "secret"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            return Ok(None);
        }
        let mut words: Vec<&str> = stem.split('.').collect();
        let algorithm = words.pop_if(|last| is_like_an_algorithm(last)).map(Algorithm::parse);
        let algorithm = algorithm.map(|known| known.ok_or("names an unknown algorithm")).transpose()?;
        let has_time = words.iter().any(|word| is_like_a_time(word));
        let (kid, made, activation) = match words[..] {
            [kid, made, when] if is_like_a_time(made) => {
                let made = parse_time(made)?;
                let activation = match when {
                    "next" => Activation::Waiting,
                    "now" => Activation::Now(made),
                    at => planned(made, parse_time(at)?)?,
                };
                (Some(kid.to_owned()), Some(made), activation)
            }
            ["next"] => (None, None, Activation::Waiting),
            ["next", made] => (None, Some(parse_time(made)?), Activation::Waiting),
            [at] if has_time => (None, None, Activation::At(parse_time(at)?)),
            [at, "now"] => (None, None, Activation::Now(parse_time(at)?)),
            ["next", ..] | [_, .., "next" | "now"] => return Err(WRONG_NAME),
            _ if has_time => return Err(WRONG_NAME),
            _ => (None, None, Activation::ALWAYS),
        };
        Ok(Some(Self { kid, made, activation, algorithm }))
    }

    /// The name for the file of a key.
    pub fn write(key: &SigningKey, made: Timestamp, activation: Activation) -> Result<String, &'static str> {
        let when = match activation {
            Activation::Waiting => "next".to_owned(),
            Activation::Now(_) => "now".to_owned(),
            Activation::At(at) => planned(made, at).map(|_| write_time(at))?,
        };
        let kind = if key.algorithm().secret_length().is_some() { "secret" } else { "pem" };
        Ok(format!("{}.{}.{when}.{}.{kind}", key.kid(), write_time(made), key.algorithm().name()))
    }
}

/// Checks the rule for activation times.
fn planned(made: Timestamp, activates_at: Timestamp) -> Result<Activation, &'static str> {
    if activates_at < made + PUBLISHED_BEFORE {
        return Err("must be activated at least five minutes after it was made; `now` in place of the time skips that");
    }
    Ok(Activation::At(activates_at))
}

fn is_like_an_algorithm(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let number = ["HS", "RS", "PS", "ES"].iter().find_map(|family| word.strip_prefix(family));
    word == "EDDSA" || number.is_some_and(|number| number.parse::<u32>().is_ok())
}

fn is_like_a_time(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 8 && word.as_bytes().get(digits).is_none_or(|byte| byte.eq_ignore_ascii_case(&b'T'))
}

/// Writes `20261124T120000Z`, the basic form of ISO 8601: a name with colons cannot be a key of a Kubernetes secret.
fn write_time(time: Timestamp) -> String {
    time.to_string().replace(['-', ':'], "")
}

fn parse_time(word: &str) -> Result<Timestamp, &'static str> {
    let part = |range| word.get(range).unwrap_or_default();
    let (date, hour, rest) = (part(6..11), part(11..13), word.get(13..).unwrap_or_default());
    let extended = format!("{}-{}-{date}:{hour}:{rest}", part(0..4), part(4..6));
    let time = humantime::parse_rfc3339(&extended).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let time = time.and_then(|since_1970| i64::try_from(since_1970.as_secs()).ok()).map(Timestamp);
    // humantime also accepts 30 February, as a day of March, and fractions of a second.
    time.filter(|time| write_time(*time) == word).ok_or("must have a time in UTC such as 20261124T120000Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Seconds, keys::generate};

    const NOW: Timestamp = Timestamp(1_795_305_600);

    fn at(seconds: i64) -> Activation {
        Activation::At(NOW + Seconds(seconds))
    }

    const AT_ONCE: Activation = Activation::Now(NOW);

    #[test]
    fn a_name_says_when_its_key_is_activated() {
        use Activation::Waiting;
        const ALWAYS: Activation = Activation::ALWAYS;
        let es256 = Some(Algorithm::Es256);
        // The file; the kid, the time at which it was made, the activation and the algorithm that it names.
        let rows = [
            ("k.20261122T000000Z.next.ES256.pem", Some("k"), Some(NOW), Waiting, es256),
            ("k.20261122T000000Z.now.ES256.pem", Some("k"), Some(NOW), AT_ONCE, es256),
            ("k.20261122T000000Z.20261122T000500Z.ES256.pem", Some("k"), Some(NOW), at(300), es256),
            ("-_9.20261122T000000Z.20261123T000000Z.ES256.pem", Some("-_9"), Some(NOW), at(86_400), es256),
            ("k.20261122T000000Z.now.HS512.secret", Some("k"), Some(NOW), AT_ONCE, Some(Algorithm::Hs512)),
            ("k.20261122T000000Z.next.pem", Some("k"), Some(NOW), Waiting, None),
            // Made by hand, or by an earlier version: the five minutes are not checked.
            ("20261122T000000Z.ES256.pem", None, None, at(0), es256),
            ("20261122T000000Z.pem", None, None, at(0), None),
            ("20261122T000000Z.PEM", None, None, at(0), None),
            ("20261122T000000Z.now.ES256.pem", None, None, AT_ONCE, es256),
            ("next.20261122T000000Z.ES256.pem", None, Some(NOW), Waiting, es256),
            ("next.pem", None, None, Waiting, None),
            ("next.ES256.pem", None, None, Waiting, es256),
            ("nextcloud.pem", None, None, ALWAYS, None),
            ("signing.RS512.pem", None, None, ALWAYS, Some(Algorithm::Rs512)),
            ("id_ed25519.pem", None, None, ALWAYS, None),
            ("2026-11-22.pem", None, None, ALWAYS, None),
            ("\u{660}\u{660}\u{660}\u{660}T\u{660}\u{660}\u{660}.pem", None, None, ALWAYS, None),
        ];
        for (text, kid, made, activation, algorithm) in rows {
            let name = FileName { kid: kid.map(str::to_owned), made, activation, algorithm };
            assert_eq!(FileName::parse(text), Ok(Some(name)), "{text}");
        }
        for text in ["README.md", "tls.crt", ".draft.pem", ".pem", "pem", ""] {
            assert_eq!(FileName::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_name_with_a_typing_error_is_refused() {
        let rows = [
            ("k.20261122T000000Z.20261122T000459Z.ES256.pem", "five minutes"),
            ("k.20261122T000000Z.20261121T000000Z.ES256.pem", "five minutes"),
            ("k.20261122T000000Z.20261122.ES256.pem", "a time in UTC"),
            ("k.20261122T000000Z.later.ES256.pem", "a time in UTC"),
            ("k.20261322T000000Z.next.ES256.pem", "a time in UTC"),
            ("k.20261122.next.ES256.pem", "a time in UTC"),
            ("20261322T000000Z.ES256.pem", "a time in UTC"),
            ("20270229T000000Z.ES256.pem", "a time in UTC"),
            ("20261122T250000Z.ES256.pem", "a time in UTC"),
            ("20261122T0000000.pem", "a time in UTC"),
            ("20261122t000000z.pem", "a time in UTC"),
            ("20261122T000000.pem", "a time in UTC"),
            ("20261122.pem", "a time in UTC"),
            ("19691122T000000Z.pem", "a time in UTC"),
            ("next.20261322T000000Z.ES256.pem", "a time in UTC"),
            ("next.mine.pem", "a time in UTC"),
            ("mine.now.ES256.pem", "a time in UTC"),
            ("20261122T000000Z.RS257.pem", "unknown algorithm"),
            ("mine.es256.pem", "unknown algorithm"),
            ("mine.eddsa.pem", "unknown algorithm"),
            ("next.ES512.pem", "unknown algorithm"),
            ("20261122T000000Z.later.ES256.pem", "as `signet keys` does"),
            ("mine.20261122T000000Z.ES256.pem", "as `signet keys` does"),
            ("mine.yours.next.ES256.pem", "as `signet keys` does"),
            ("next.k.20261122T000000Z.ES256.pem", "as `signet keys` does"),
            ("k.20261122T000000Z.20261122T000500Z.now.ES256.pem", "as `signet keys` does"),
        ];
        for (text, fault) in rows {
            assert!(
                FileName::parse(text).is_err_and(|said| said.contains(fault)),
                "{text}: {:?}",
                FileName::parse(text)
            );
        }
    }

    #[test]
    fn a_written_name_survives_the_round_trip() {
        let key = SigningKey::parse(&generate(Algorithm::EdDsa).unwrap(), Algorithm::EdDsa).unwrap();
        for activation in [Activation::Waiting, AT_ONCE, at(300), at(86_400)] {
            let name = FileName::write(&key, NOW, activation).unwrap();
            let (kid, algorithm) = (Some(key.kid().to_owned()), Some(Algorithm::EdDsa));
            assert_eq!(
                FileName::parse(&name),
                Ok(Some(FileName { kid, made: Some(NOW), activation, algorithm })),
                "{name}"
            );
        }
        for activation in [at(299), at(0), at(-1), Activation::ALWAYS] {
            assert!(FileName::write(&key, NOW, activation).unwrap_err().contains("five minutes"), "{activation:?}");
        }
    }
}
