//! Keys in files: those of `jwt.keys_dir`, whose names say when each is activated, and those that the development profile
//! makes for itself.
//!
//! A name is `<kid>.<made>.<activates_at>.<algorithm>.pem`, with times such as `20261124T120000Z` and `.secret` in place
//! of `.pem` for a shared secret:
//!
//! | third word | the key |
//! |---|---|
//! | `next` | is published and waits |
//! | a time | is activated then, at least five minutes after it was made |
//! | `now` | is activated by every replica that reads it; `rotate --now` writes its own time as `<made>` |
//!
//! Names without `<kid>` and `<made>` are still read, for keys made by hand or by earlier versions, and skip the five
//! minutes: `<activates_at>.…`, `<activates_at>.now.…`, `next.<made>.…`. A file of any other name that ends in `.pem` or
//! `.secret` is the oldest key.

use super::{Activation, KeyFault, PUBLISHED_BEFORE, SigningKey, generate as generate_key, is_monotonous};
use crate::{
    domain::{Algorithm, Seconds, Timestamp},
    os::secret_file,
    random::random,
};
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// A key file that cannot be used, or a folder of them.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct KeyFileError {
    path: String,
    fault: String,
}

fn error(path: &Path, fault: impl Into<String>) -> KeyFileError {
    KeyFileError { path: path.display().to_string(), fault: fault.into() }
}

/// What the name of a file says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    kid: Option<String>,
    made: Option<Timestamp>,
    activation: Activation,
    algorithm: Option<Algorithm>,
}

impl Name {
    /// `None` for a file that is not a key.
    ///
    /// # Errors
    /// The name is nearly one of ours: a guess could activate the wrong key.
    fn parse(name: &str) -> Result<Option<Self>, &'static str> {
        let Some((stem, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
            return Ok(None);
        };
        if name.starts_with('.') || !["pem", "secret"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            return Ok(None);
        }
        let mut words: Vec<&str> = stem.split('.').collect();
        let algorithm = words.last().and_then(|last| Algorithm::parse(last));
        if algorithm.is_some() {
            words.pop();
        } else if words.last().is_some_and(|last| is_like_an_algorithm(last)) {
            return Err("names an unknown algorithm");
        }
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
}

const WRONG_NAME: &str = "must be named as `signet keys` does: <kid>.20261124T115500Z.20261124T120000Z.ES256.pem";

/// Checks the rule for activation times, for names that are read and for names that are written.
fn planned(made: Timestamp, activates_at: Timestamp) -> Result<Activation, &'static str> {
    if activates_at < made + PUBLISHED_BEFORE {
        return Err("must be activated at least five minutes after it was made; `now` in place of the time skips that");
    }
    Ok(Activation::At(activates_at))
}

/// The name of the file of a key.
fn file_name(key: &SigningKey, made: Timestamp, activation: Activation) -> Result<String, &'static str> {
    let when = match activation {
        Activation::Waiting => "next".to_owned(),
        Activation::Now(_) => "now".to_owned(),
        Activation::At(at) => planned(made, at).map(|_| write_time(at))?,
    };
    let kind = if key.algorithm().secret_length().is_some() { "secret" } else { "pem" };
    Ok(format!("{}.{}.{when}.{}.{kind}", key.kid(), write_time(made), key.algorithm().name()))
}

fn is_like_an_algorithm(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let digits = ["HS", "RS", "PS", "ES"].iter().find_map(|family| word.strip_prefix(family));
    word == "EDDSA"
        || digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_like_a_time(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 8 && word.as_bytes().get(digits).is_none_or(|byte| byte.eq_ignore_ascii_case(&b'T'))
}

/// Writes `20261124T120000Z`, the basic form of ISO 8601: a name with colons cannot be a key of a Kubernetes secret.
fn write_time(time: Timestamp) -> String {
    time.to_string().replace(['-', ':'], "")
}

/// Reads `20261124T120000Z`.
fn parse_time(word: &str) -> Result<Timestamp, &'static str> {
    const WRONG: &str = "must have a time in UTC such as 20261124T120000Z";
    let is_digit = |at: &usize| word.as_bytes().get(*at).is_some_and(u8::is_ascii_digit);
    if word.len() != 16 || !(0..8).chain(9..15).all(|at| is_digit(&at)) {
        return Err(WRONG);
    }
    let (date, time) =
        word.split_once('T').filter(|(date, time)| date.len() == 8 && time.ends_with('Z')).ok_or(WRONG)?;
    let extended =
        format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..6]);
    // humantime reads 30 February as a day of March, so the result is written again and compared.
    let time = humantime::parse_rfc3339(&extended)
        .ok()
        .filter(|time| humantime::format_rfc3339_seconds(*time).to_string() == extended);
    let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).ok_or(WRONG)?;
    i64::try_from(since_1970.as_secs()).map(Timestamp).map_err(|_| WRONG)
}

/// A key of a folder.
pub struct KeyFile {
    path: PathBuf,
    /// When it was made, if its name says.
    made: Option<Timestamp>,
    pub key: SigningKey,
    pub activation: Activation,
    warnings: Vec<&'static str>,
}

impl KeyFile {
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Logs what an operator should change about this file. Reading does not: the service reads every ten seconds.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!(file = %self.path.display(), "{warning}");
        }
    }
}

/// Reads every key of a folder. A file whose name has no algorithm is a key for `algorithm`, or for the first that fits.
///
/// # Errors
/// The folder or a file cannot be read, or a file is not a key. One bad file is enough: the ring would lack a key.
pub fn read_folder(folder: &Path, algorithm: Algorithm) -> Result<Vec<KeyFile>, KeyFileError> {
    let mut tries_left = 3;
    loop {
        match read_once(folder, algorithm) {
            // `rotate` renamed the file after the folder was listed.
            Err(fault) if tries_left > 0 && folder.exists() && !Path::new(&fault.path).exists() => tries_left -= 1,
            read => break read,
        }
    }
}

fn read_once(folder: &Path, algorithm: Algorithm) -> Result<Vec<KeyFile>, KeyFileError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|fault| error(folder, format!("the folder cannot be read: {fault}")))?;
    let mut keys = Vec::new();
    for path in entries.iter().map(fs::DirEntry::path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = Name::parse(&name).map_err(|fault| error(&path, fault))? else { continue };
        let is_secret = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("secret"));
        let text = read(&path)?;
        let key = match name.algorithm {
            Some(named) => SigningKey::parse(&text, named),
            None if is_secret && algorithm.secret_length().is_none() => {
                return Err(error(&path, "must say in its name what it is for, such as mine.HS256.secret"));
            }
            None => of_any_algorithm(&text, algorithm),
        };
        let key = key.map_err(|fault| error(&path, fault.0))?;
        if name.kid.as_ref().is_some_and(|kid| kid != key.kid()) {
            return Err(error(&path, format!("holds another key than its name says: {}", key.kid())));
        }
        let mut warnings = Vec::from_iter(others_can_read(&path).then_some(OTHERS_CAN_READ));
        if key.algorithm().secret_length().is_some() && is_monotonous(&text) {
            warnings.push("does not look random; `signet keys generate` makes a key that is");
        }
        keys.push(KeyFile { path, made: name.made, key, activation: name.activation, warnings });
    }
    Ok(keys)
}

/// A key for `algorithm`, or for the first that it fits.
fn of_any_algorithm(text: &SecretString, algorithm: Algorithm) -> Result<SigningKey, KeyFault> {
    SigningKey::parse(text, algorithm).or_else(|fault| {
        let others = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];
        others.into_iter().find_map(|other| SigningKey::parse(text, other).ok()).ok_or(fault)
    })
}

const OTHERS_CAN_READ: &str = "others can read this key: `chmod 600` it, and make a new one if they did";

/// A group may be what lets the service read a mounted secret (`fsGroup` of Kubernetes), so it is not an "other".
fn others_can_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

fn read(path: &Path) -> Result<SecretString, KeyFileError> {
    let text = secret_file::read(path).map_err(|fault| error(path, fault.to_string()))?;
    Ok(text.expose_secret().trim().into())
}

/// Makes a key in a folder. The first is active at once; another is the next.
///
/// # Errors
/// There is a next key already, or the file cannot be written.
pub fn generate(folder: &Path, algorithm: Algorithm, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    make_folder(folder)?;
    let keys = read_folder(folder, algorithm)?;
    if let Some(next) = keys.iter().find(|key| key.activation == Activation::Waiting) {
        return Err(error(&next.path, "is next already; `signet keys rotate` activates it"));
    }
    let activation = if keys.is_empty() { Activation::Now(now) } else { Activation::Waiting };
    let text = generate_key(algorithm).map_err(|fault| error(folder, fault.0))?;
    let key = SigningKey::parse(&text, algorithm).map_err(|fault| error(folder, fault.0))?;
    let path = folder.join(file_name(&key, now, activation).map_err(|fault| error(folder, fault))?);
    write_new(&path, &text)?;
    Ok(KeyFile { path, made: Some(now), key, activation, warnings: Vec::new() })
}

/// Activates the next key: five minutes after it was made at the earliest, or at once. Makes one when there is none.
///
/// # Errors
/// There is no key at all, a rotation is under way, or a file cannot be read or written.
pub fn rotate(folder: &Path, algorithm: Algorithm, at_once: bool, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    let keys = read_folder(folder, algorithm)?;
    if keys.is_empty() {
        return Err(error(folder, "there is no key to rotate; `signet keys generate` makes the first"));
    }
    let is_pending = |key: &&KeyFile| matches!(key.activation, Activation::At(at) if at > now);
    if let Some(pending) = keys.iter().find(is_pending).filter(|_| !at_once) {
        return Err(error(&pending.path, "is activated soon; rotate again after that, or with --now"));
    }
    let active = keys.iter().filter(|key| key.activation.has_passed(now));
    let active = active.filter_map(|key| key.activation.activates_at()).max();
    // Two keys cannot activate in the same second.
    let earliest = active.map_or(now, |active| now.max(active + Seconds(1)));
    // A key that other replicas know already, if there is one.
    let waiting = keys.into_iter().filter(|key| !key.activation.has_passed(now));
    let next = match waiting.min_by_key(|key| key.activation == Activation::Waiting) {
        Some(next) => next,
        None => generate(folder, algorithm, now)?,
    };
    let (made, activation) = if at_once {
        (earliest, Activation::Now(earliest))
    } else {
        // A key made by hand has no time in its name: its five minutes begin now.
        let made = next.made.unwrap_or(now);
        (made, Activation::At(earliest.max(made + PUBLISHED_BEFORE)))
    };
    let path = folder.join(file_name(&next.key, made, activation).map_err(|fault| error(&next.path, fault))?);
    if path != next.path {
        rename_new(&next.path, &path).map_err(|fault| error(&path, format!("cannot be written: {fault}")))?;
    }
    Ok(KeyFile { path, made: Some(made), activation, ..next })
}

/// Reads the key in `folder/name`, or makes one that only its owner can read: what the development profile does.
///
/// # Errors
/// When the file can be neither read nor made, or holds no key for `algorithm`.
pub fn load_or_create(folder: &Path, name: &str, algorithm: Algorithm) -> Result<SecretString, KeyFileError> {
    let path = folder.join(name);
    if let Some(key) = load(folder, name, algorithm)? {
        return Ok(key);
    }
    make_folder(folder)?;
    write_new(&path, &generate_key(algorithm).map_err(|fault| error(&path, fault.0))?)?;
    tracing::warn!(file = %path.display(), "made a key for development; set jwt.{name} for anything else");
    read(&path)
}

/// Reads the key in `folder/name`; `None` where there is none yet.
///
/// # Errors
/// When the file cannot be read, or holds no key for `algorithm`.
pub fn load(folder: &Path, name: &str, algorithm: Algorithm) -> Result<Option<SecretString>, KeyFileError> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = read(&path)?;
    if others_can_read(&path) {
        tracing::warn!(file = %path.display(), "{OTHERS_CAN_READ}");
    }
    match SigningKey::parse(&text, algorithm) {
        Ok(_) => Ok(Some(text)),
        Err(fault) => Err(error(&path, format!("{fault}; delete it to have a new one made"))),
    }
}

fn make_folder(folder: &Path) -> Result<(), KeyFileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|fault| error(folder, format!("the folder cannot be made: {fault}")))
}

/// Renames a file, and never in place of another.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that knows no such thing: for a moment the file has both names.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Writes a file that only its owner can read. It appears whole or not at all, and never in place of another: two
/// processes that start at once end with the same key.
fn write_new(path: &Path, text: &SecretString) -> Result<(), KeyFileError> {
    let draft = path.with_file_name(format!(".draft.{:x}", u64::from_ne_bytes(random())));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}", text.expose_secret().trim())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            // Another process was quicker; its file is read.
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    let _ = fs::remove_file(&draft);
    written.map_err(|fault| error(path, format!("cannot be made: {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let name = Name { kid: kid.map(str::to_owned), made, activation, algorithm };
            assert_eq!(Name::parse(text), Ok(Some(name)), "{text}");
        }
        for text in ["README.md", "tls.crt", ".draft.pem", ".pem", "pem", ""] {
            assert_eq!(Name::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_nearly_one_of_ours_is_refused() {
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
            assert!(Name::parse(text).is_err_and(|said| said.contains(fault)), "{text}: {:?}", Name::parse(text));
        }
    }

    #[test]
    fn a_name_that_is_written_is_read_as_the_same() {
        let key = SigningKey::parse(&generate_key(Algorithm::EdDsa).unwrap(), Algorithm::EdDsa).unwrap();
        for activation in [Activation::Waiting, AT_ONCE, at(300), at(86_400)] {
            let name = file_name(&key, NOW, activation).unwrap();
            let (kid, algorithm) = (Some(key.kid().to_owned()), Some(Algorithm::EdDsa));
            assert_eq!(Name::parse(&name), Ok(Some(Name { kid, made: Some(NOW), activation, algorithm })), "{name}");
        }
        for activation in [at(299), at(0), at(-1), Activation::ALWAYS] {
            assert!(file_name(&key, NOW, activation).unwrap_err().contains("five minutes"), "{activation:?}");
        }
    }

    #[test]
    fn a_key_is_made_published_and_then_activated() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let first = generate(&folder, Algorithm::Es256, NOW).unwrap();
        assert_eq!(first.activation, AT_ONCE, "the first is active at once");
        let next = generate(&folder, Algorithm::EdDsa, NOW).unwrap();
        assert_eq!((next.activation, next.name().contains(".next.")), (Activation::Waiting, true));
        assert!(generate(&folder, Algorithm::EdDsa, NOW).err().unwrap().to_string().contains("is next already"));
        let rotated = rotate(&folder, Algorithm::Es256, false, NOW + Seconds(50)).unwrap();
        assert_eq!((rotated.key.kid(), rotated.activation), (next.key.kid(), at(300)));
        let fault = rotate(&folder, Algorithm::Es256, false, NOW + Seconds(60)).err().unwrap().to_string();
        assert!(fault.contains("is activated soon"), "{fault}");
        let at_once = |seconds| Activation::Now(NOW + Seconds(seconds));
        let now = rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap();
        assert_eq!((now.key.kid(), now.activation), (next.key.kid(), at_once(60)));
        // In the same second as the one before, which keeps its name: another key, a second later.
        assert_eq!(rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap().activation, at_once(61));
        assert_eq!(read_folder(&folder, Algorithm::Es256).unwrap().len(), 3);
        // Without a next one, one is made.
        let third = rotate(&folder, Algorithm::Hs256, false, NOW + Seconds(1000)).unwrap();
        assert_eq!(third.activation, at(1300));
        let keys = read_folder(&folder, Algorithm::Es256).unwrap();
        assert_eq!(keys.len(), 4);
        for key in &keys {
            assert_eq!(fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.name());
            assert!(key.warnings.is_empty(), "{}", key.name());
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "no draft stays behind");
    }

    /// Keys of an earlier version, or made by `openssl`: they are renamed when they are rotated.
    #[test]
    fn a_next_key_without_a_time_waits_five_minutes_from_the_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            fs::write(folder.path().join(name), generate_key(Algorithm::Es256).unwrap().expose_secret()).unwrap();
        };
        write("20261120T000000Z.ES256.pem");
        write("next.pem");
        let rotated = rotate(folder.path(), Algorithm::Es256, false, NOW).unwrap();
        assert_eq!((rotated.made, rotated.activation), (Some(NOW), at(300)));
        assert!(rotated.name().ends_with(".20261122T000000Z.20261122T000500Z.ES256.pem"), "{}", rotated.name());
        assert!(!folder.path().join("next.pem").exists());
    }

    #[test]
    fn a_file_that_holds_another_key_than_its_name_says_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = generate(folder.path(), Algorithm::Es256, NOW).unwrap();
        fs::write(&file.path, generate_key(Algorithm::Es256).unwrap().expose_secret()).unwrap();
        let fault = read_folder(folder.path(), Algorithm::Es256).err().unwrap().to_string();
        assert!(fault.contains("another key than its name says"), "{fault}");
    }

    #[test]
    fn a_folder_with_one_bad_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fault = rotate(folder.path(), Algorithm::Es256, false, NOW).err().unwrap().to_string();
        assert!(fault.contains("keys generate"), "{fault}");
        generate(folder.path(), Algorithm::Es256, NOW).unwrap();
        fs::write(folder.path().join("notes.txt"), "not a key").unwrap();
        assert_eq!(read_folder(folder.path(), Algorithm::Es256).unwrap().len(), 1);
        fs::write(folder.path().join("other.ES384.pem"), generate_key(Algorithm::Es256).unwrap().expose_secret())
            .unwrap();
        let fault = read_folder(folder.path(), Algorithm::Es256).err().unwrap().to_string();
        assert!(fault.contains("other.ES384.pem") && fault.contains("curve P-384"), "{fault}");
        fs::remove_file(folder.path().join("other.ES384.pem")).unwrap();
        fs::create_dir(folder.path().join("folder.pem")).unwrap();
        let fault = read_folder(folder.path(), Algorithm::Es256).err().unwrap().to_string();
        assert!(fault.contains("folder.pem: is not a regular file"), "{fault}");
        let fault = read_folder(&folder.path().join("none"), Algorithm::Es256).err().unwrap().to_string();
        assert!(fault.contains("the folder cannot be read"), "{fault}");
    }

    #[test]
    fn a_development_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("data");
        let load = |name| load_or_create(&folder, name, Algorithm::Hs256).unwrap().expose_secret().to_owned();
        let first = load("signing_key");
        assert_eq!((first.as_str(), first.len()), (load("signing_key").as_str(), 86), "512 bits in base64url");
        assert_ne!(first, load("refresh_key"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("signing_key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft stays behind");
        fs::write(folder.join("empty"), "").unwrap();
        let fault = load_or_create(&folder, "empty", Algorithm::Hs256).unwrap_err().to_string();
        assert!(fault.contains("at least 32 bytes") && fault.contains("delete it"), "{fault}");
    }
}
