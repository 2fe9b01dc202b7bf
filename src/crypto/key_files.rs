//! Keys in files: those of `jwt.keys_dir`, whose names say when each begins to sign, and those that the development
//! profile makes for itself.
//!
//! `20261124T120000Z.ES256.pem` signs from then on, `20261124T120000Z.now.ES256.pem` even where it has not been published
//! yet; `next.20261124T115500Z.ES256.pem` was made then and waits. A file of any other name that ends in `.pem` or
//! `.secret` has always signed.

use super::{
    keys::{self, KeyFault, SigningKey},
    ring::{ALWAYS, Beginning, MAX_AGE},
};
use crate::{
    domain::{Algorithm, Seconds, Timestamp},
    secret_file,
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

/// How long a key that was made is in the key set before it signs: long enough for an operator to have every replica
/// reload, and for everybody else to fetch the key set again.
const PUBLISHED_FOR: Seconds = Seconds(2 * MAX_AGE.0);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    /// `None` for one that is next.
    begins: Option<Beginning>,
    /// When it was made, of one that is next.
    made: Timestamp,
    algorithm: Option<Algorithm>,
}

impl Name {
    /// `None` for a file that is none of ours.
    ///
    /// # Errors
    /// When it is nearly a name of ours: to guess what was meant could have the wrong key sign.
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
            return Err("names an algorithm that there is not");
        }
        let at = words.iter().find(|word| is_like_a_moment(word)).map(|word| moment(word)).transpose()?;
        let name = match (&words[..], at) {
            (["next"], _) => Self { begins: None, made: ALWAYS, algorithm },
            (["next", _], Some(made)) => Self { begins: None, made, algorithm },
            ([_], Some(at)) => Self { begins: Some(Beginning::planned(at)), made: ALWAYS, algorithm },
            ([_, "now"], Some(at)) => Self { begins: Some(Beginning::at_once(at)), made: ALWAYS, algorithm },
            (["next", ..], _) | (_, Some(_)) => {
                return Err("must be named as `signet keys` does: [next.]20261124T120000Z.ES256.pem");
            }
            _ => Self { begins: Some(Beginning::LONG_AGO), made: ALWAYS, algorithm },
        };
        Ok(Some(name))
    }

    fn write(self, algorithm: Algorithm) -> String {
        let kind = if algorithm.secret_length().is_some() { "secret" } else { "pem" };
        let (prefix, moment, suffix) = match self.begins {
            None => ("next.", self.made, ""),
            Some(Beginning { at, at_once }) => ("", at, if at_once { ".now" } else { "" }),
        };
        // The basic form of ISO 8601: a name with colons cannot be a key of a Kubernetes secret.
        let moment = moment.to_string().replace(['-', ':'], "");
        format!("{prefix}{moment}{suffix}.{}.{kind}", algorithm.name())
    }
}

fn is_like_an_algorithm(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let digits = ["HS", "RS", "PS", "ES"].iter().find_map(|family| word.strip_prefix(family));
    word == "EDDSA"
        || digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_like_a_moment(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    digits >= 8 && word.as_bytes().get(digits).is_none_or(|byte| byte.eq_ignore_ascii_case(&b'T'))
}

/// Reads `20261124T120000Z`.
fn moment(word: &str) -> Result<Timestamp, &'static str> {
    const WRONG: &str = "must name a moment in UTC such as 20261124T120000Z";
    let is_digit = |at: &usize| word.as_bytes().get(*at).is_some_and(u8::is_ascii_digit);
    if word.len() != 16 || !(0..8).chain(9..15).all(|at| is_digit(&at)) {
        return Err(WRONG);
    }
    let (date, time) =
        word.split_once('T').filter(|(date, time)| date.len() == 8 && time.ends_with('Z')).ok_or(WRONG)?;
    let extended =
        format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..6]);
    // It takes 30 February for a day of March; what is written is what is meant.
    let time = humantime::parse_rfc3339(&extended)
        .ok()
        .filter(|time| humantime::format_rfc3339_seconds(*time).to_string() == extended);
    let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).ok_or(WRONG)?;
    i64::try_from(since_1970.as_secs()).map(Timestamp).map_err(|_| WRONG)
}

/// A key of a folder.
pub struct KeyFile {
    path: PathBuf,
    made: Timestamp,
    pub key: SigningKey,
    /// `None` for one that is next.
    pub begins: Option<Beginning>,
}

impl KeyFile {
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Reads every key of a folder. A file whose name does not say is a key for `algorithm`, or for what else it can be.
///
/// # Errors
/// When the folder or a file cannot be read, or is no key. One bad file is reason enough: the ring would lack a key.
pub fn read_folder(folder: &Path, algorithm: Algorithm) -> Result<Vec<KeyFile>, KeyFileError> {
    let mut tries_left = 3;
    loop {
        match read_once(folder, algorithm) {
            // It was renamed between the list and the reading, as `rotate` does.
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
        if key.algorithm().secret_length().is_some() && keys::is_monotonous(&text) {
            tracing::warn!(file = %path.display(), "does not look random; `signet keys generate` makes a key that is");
        }
        keys.push(KeyFile { path, made: name.made, key, begins: name.begins });
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

fn read(path: &Path) -> Result<SecretString, KeyFileError> {
    let text = secret_file::read(path).map_err(|fault| error(path, fault.to_string()))?;
    // A group may be what lets the service read a mounted secret (`fsGroup` of Kubernetes).
    let others_can = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
    if others_can {
        tracing::warn!(file = %path.display(), "others can read this key: `chmod 600` it, and make a new one if they did");
    }
    Ok(text.expose_secret().trim().into())
}

/// Makes a key in a folder: one that signs from now on, if it is the first; otherwise the next.
///
/// # Errors
/// When there is a next one already, or the file cannot be written.
pub fn generate(folder: &Path, algorithm: Algorithm, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    make_folder(folder)?;
    let keys = read_folder(folder, algorithm)?;
    if let Some(next) = keys.iter().find(|key| key.begins.is_none()) {
        return Err(error(&next.path, "is next already; `signet keys rotate` has it sign"));
    }
    let begins = keys.is_empty().then_some(Beginning::planned(now));
    let name = Name { begins, made: now, algorithm: Some(algorithm) };
    let path = folder.join(name.write(algorithm));
    let text = keys::generate(algorithm).map_err(|fault| error(&path, fault.0))?;
    write_new(&path, &text)?;
    let key = SigningKey::parse(&read(&path)?, algorithm).map_err(|fault| error(&path, fault.0))?;
    Ok(KeyFile { path, made: now, key, begins })
}

/// Has the next key sign: when it has been in the key set for long enough, or at once. Makes one when there is none.
///
/// # Errors
/// When there is no key at all, a rotation is under way, or a file cannot be read or written.
pub fn rotate(folder: &Path, algorithm: Algorithm, at_once: bool, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    let keys = read_folder(folder, algorithm)?;
    if keys.is_empty() {
        return Err(error(folder, "there is no key to rotate; `signet keys generate` makes the first"));
    }
    let begins = |key: &KeyFile| key.begins.map(|begin| begin.at);
    // The one that signs: the youngest that has begun, or the first that will. It cannot take its own place.
    let begun = keys.iter().filter_map(begins).filter(|at| *at <= now).max();
    let active = begun.or_else(|| keys.iter().filter_map(begins).min());
    let is_pending = |key: &&KeyFile| begins(key).is_some_and(|at| at > now && Some(at) != active);
    if let Some(pending) = keys.iter().find(is_pending).filter(|_| !at_once) {
        return Err(error(&pending.path, "begins to sign soon; rotate again after that, or with --now"));
    }
    // Two do not begin in the same second: which of them would sign?
    let earliest = active.map_or(now, |active| now.max(active + Seconds(1)));
    // One that others know already, if there is one.
    let waiting = keys.into_iter().filter(|key| begins(key).is_none_or(|at| at > now && Some(at) != active));
    let mut next = match waiting.min_by_key(|key| key.begins.is_none()) {
        Some(next) => next,
        None => generate(folder, algorithm, now)?,
    };
    let begins = if at_once {
        Beginning::at_once(earliest)
    } else {
        Beginning::planned(earliest.max(next.made + PUBLISHED_FOR))
    };
    let name = Name { begins: Some(begins), made: next.made, algorithm: None };
    let path = folder.join(name.write(next.key.algorithm()));
    if path != next.path {
        rename_new(&next.path, &path).map_err(|fault| error(&path, format!("cannot be written: {fault}")))?;
    }
    next.path = path;
    next.begins = Some(begins);
    Ok(next)
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
    write_new(&path, &keys::generate(algorithm).map_err(|fault| error(&path, fault.0))?)?;
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
    let draft = path.with_file_name(format!(".draft.{:x}", u64::from_ne_bytes(super::random())));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}", text.expose_secret().trim())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            // Somebody else was quicker; theirs is what is read.
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

    #[test]
    fn a_name_says_when_its_key_signs() {
        let always = Name { begins: Some(Beginning::LONG_AGO), made: ALWAYS, algorithm: None };
        let next = Name { begins: None, ..always };
        let planned = Name { begins: Some(Beginning::planned(NOW)), ..always };
        let at_once = Name { begins: Some(Beginning::at_once(NOW)), ..always };
        let rows = [
            ("20261122T000000Z.ES256.pem", Name { algorithm: Some(Algorithm::Es256), ..planned }),
            ("20261122T000000Z.pem", planned),
            ("20261122T000000Z.PEM", planned),
            ("20261122T000000Z.now.ES256.pem", Name { algorithm: Some(Algorithm::Es256), ..at_once }),
            ("next.20261122T000000Z.HS512.secret", Name { made: NOW, algorithm: Some(Algorithm::Hs512), ..next }),
            ("next.pem", next),
            ("next.RS256.pem", Name { algorithm: Some(Algorithm::Rs256), ..next }),
            ("nextcloud.pem", always),
            ("signing.RS512.pem", Name { algorithm: Some(Algorithm::Rs512), ..always }),
            ("id_ed25519.pem", always),
            ("2026-11-22.pem", always),
            ("\u{660}\u{660}\u{660}\u{660}T\u{660}\u{660}\u{660}.pem", always),
        ];
        for (text, name) in rows {
            assert_eq!(Name::parse(text), Ok(Some(name)), "{text}");
        }
        for text in ["README.md", "tls.crt", ".draft.pem", ".pem", "pem", ""] {
            assert_eq!(Name::parse(text), Ok(None), "{text}");
        }
        let rows = [
            ("20261322T000000Z.ES256.pem", "a moment in UTC"),
            ("20270229T000000Z.ES256.pem", "a moment in UTC"),
            ("20261122T250000Z.ES256.pem", "a moment in UTC"),
            ("20261122T0000000.pem", "a moment in UTC"),
            ("20261122t000000z.pem", "a moment in UTC"),
            ("20261122T000000.pem", "a moment in UTC"),
            ("20261122.pem", "a moment in UTC"),
            ("19691122T000000Z.pem", "a moment in UTC"),
            ("next.20261322T000000Z.ES256.pem", "a moment in UTC"),
            ("20261122T000000Z.RS257.pem", "an algorithm that there is not"),
            ("mine.es256.pem", "an algorithm that there is not"),
            ("mine.eddsa.pem", "an algorithm that there is not"),
            ("next.ES512.pem", "an algorithm that there is not"),
            ("next.mine.pem", "as `signet keys` does"),
            ("20261122T000000Z.later.ES256.pem", "as `signet keys` does"),
            ("mine.20261122T000000Z.ES256.pem", "as `signet keys` does"),
        ];
        for (text, fault) in rows {
            assert!(Name::parse(text).is_err_and(|said| said.contains(fault)), "{text}: {:?}", Name::parse(text));
        }
        for (name, text) in [(planned, "20261122T000000Z.RS256.pem"), (at_once, "20261122T000000Z.now.RS256.pem")] {
            assert_eq!(name.write(Algorithm::Rs256), text);
            assert_eq!(Name::parse(text), Ok(Some(Name { algorithm: Some(Algorithm::Rs256), ..name })));
        }
    }

    #[test]
    fn a_key_is_made_published_and_then_signs() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let first = generate(&folder, Algorithm::Es256, NOW).unwrap();
        assert_eq!(first.begins, Some(Beginning::planned(NOW)), "the first signs at once");
        let next = generate(&folder, Algorithm::EdDsa, NOW).unwrap();
        assert_eq!((next.begins, next.name().starts_with("next.")), (None, true));
        assert!(generate(&folder, Algorithm::EdDsa, NOW).err().unwrap().to_string().contains("is next already"));
        let rotated = rotate(&folder, Algorithm::Es256, false, NOW + Seconds(50)).unwrap();
        let published = Some(Beginning::planned(NOW + PUBLISHED_FOR));
        assert_eq!((rotated.key.kid(), rotated.begins), (next.key.kid(), published));
        let fault = rotate(&folder, Algorithm::Es256, false, NOW + Seconds(60)).err().unwrap().to_string();
        assert!(fault.contains("begins to sign soon"), "{fault}");
        let at_once = rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap();
        let at = |seconds| Some(Beginning::at_once(NOW + Seconds(seconds)));
        assert_eq!((at_once.key.kid(), at_once.begins), (next.key.kid(), at(60)));
        // In the same second as the one before, which keeps its name.
        assert_eq!(rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap().begins, at(61));
        assert_eq!(rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap().begins, at(61), "once more");
        assert_eq!(read_folder(&folder, Algorithm::Es256).unwrap().len(), 3);
        // Without a next one, one is made.
        let third = rotate(&folder, Algorithm::Hs256, false, NOW + Seconds(1000)).unwrap();
        assert_eq!(third.begins, Some(Beginning::planned(NOW + Seconds(1000) + PUBLISHED_FOR)));
        let keys = read_folder(&folder, Algorithm::Es256).unwrap();
        assert_eq!(keys.len(), 4);
        for key in &keys {
            assert_eq!(fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.name());
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "no draft stays behind");
    }

    /// The only key there is will begin later, by its name: it signs meanwhile, and when it leaked another takes its place.
    #[test]
    fn a_key_does_not_take_its_own_place() {
        let folder = tempfile::tempdir().unwrap();
        let ahead = generate(folder.path(), Algorithm::Es256, NOW + Seconds(100)).unwrap();
        for at_once in [false, true] {
            let next = rotate(folder.path(), Algorithm::Es256, at_once, NOW).unwrap();
            assert_ne!(next.key.kid(), ahead.key.kid());
            assert!(next.begins.unwrap().at > ahead.begins.unwrap().at);
        }
        assert_eq!(read_folder(folder.path(), Algorithm::Es256).unwrap().len(), 2);
    }

    #[test]
    fn a_folder_with_one_bad_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fault = rotate(folder.path(), Algorithm::Es256, false, NOW).err().unwrap().to_string();
        assert!(fault.contains("keys generate"), "{fault}");
        generate(folder.path(), Algorithm::Es256, NOW).unwrap();
        fs::write(folder.path().join("notes.txt"), "not a key").unwrap();
        assert_eq!(read_folder(folder.path(), Algorithm::Es256).unwrap().len(), 1);
        fs::write(folder.path().join("other.ES384.pem"), keys::generate(Algorithm::Es256).unwrap().expose_secret())
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
