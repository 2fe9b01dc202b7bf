//! Keys in files: those of `jwt.keys_dir`, whose names say when each begins to sign, and those that the development
//! profile makes for itself.
//!
//! `20261124T120000Z.ES256.pem` signs from then on; `next.20261124T115500Z.ES256.pem` was made then and waits. A file of
//! any other name that ends in `.pem` or `.secret` has always signed.

use super::{
    keys::{self, KeyFault, SigningKey},
    ring::{ALWAYS, MAX_AGE},
};
use crate::domain::{Algorithm, Seconds, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
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
    signs_from: Option<Timestamp>,
    /// When it was made, of one that is next.
    made: Timestamp,
    algorithm: Option<Algorithm>,
}

impl Name {
    /// `None` for a file that is none of ours.
    fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".pem").or_else(|| name.strip_suffix(".secret"))?;
        if name.starts_with('.') {
            return None;
        }
        let algorithm = stem.rsplit('.').next().and_then(Algorithm::parse);
        Some(match stem.strip_prefix("next").filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            Some(rest) => {
                let made = rest.strip_prefix('.').and_then(moment).unwrap_or(ALWAYS);
                Self { signs_from: None, made, algorithm }
            }
            None => Self { signs_from: Some(moment(stem).unwrap_or(ALWAYS)), made: ALWAYS, algorithm },
        })
    }

    fn write(self, algorithm: Algorithm) -> String {
        let kind = if algorithm.secret_length().is_some() { "secret" } else { "pem" };
        let (prefix, moment) = self.signs_from.map_or(("next.", self.made), |from| ("", from));
        // The basic form of ISO 8601: a name with colons cannot be a key of a Kubernetes secret.
        let moment = moment.to_string().replace(['-', ':'], "");
        format!("{prefix}{moment}.{}.{kind}", algorithm.name())
    }
}

/// Reads `20261124T120000Z`, which a dot may follow.
fn moment(text: &str) -> Option<Timestamp> {
    let text = text.split('.').next().filter(|text| text.len() == 16 && text.is_ascii())?;
    let (date, time) = text.strip_suffix('Z')?.split_once('T').filter(|(date, _)| date.len() == 8)?;
    let extended =
        format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]);
    let time = humantime::parse_rfc3339(&extended).ok()?;
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    i64::try_from(since_1970).ok().map(Timestamp)
}

/// A key of a folder.
pub struct KeyFile {
    path: PathBuf,
    made: Timestamp,
    pub key: SigningKey,
    /// `None` for one that is next.
    pub signs_from: Option<Timestamp>,
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
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|fault| error(folder, format!("the folder cannot be read: {fault}")))?;
    let mut keys = Vec::new();
    for path in entries.iter().map(fs::DirEntry::path) {
        let Some(name) = path.file_name().and_then(|name| Name::parse(&name.to_string_lossy())) else { continue };
        let text = read(&path)?;
        let key = match name.algorithm {
            Some(named) => SigningKey::parse(&text, named),
            None => of_any_algorithm(&text, algorithm),
        };
        let key = key.map_err(|fault| error(&path, fault.0))?;
        keys.push(KeyFile { path, made: name.made, key, signs_from: name.signs_from });
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
    let cannot = |fault: io::Error| error(path, format!("cannot be read: {fault}"));
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(error(path, "is not a file"));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others can read this key: `chmod 600` it, and make a new one if they did");
    }
    Ok(fs::read_to_string(path).map_err(cannot)?.trim().into())
}

/// Makes a key in a folder: one that signs from now on, if it is the first; otherwise the next.
///
/// # Errors
/// When there is a next one already, or the file cannot be written.
pub fn generate(folder: &Path, algorithm: Algorithm, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    make_folder(folder)?;
    let keys = read_folder(folder, algorithm)?;
    if let Some(next) = keys.iter().find(|key| key.signs_from.is_none()) {
        return Err(error(&next.path, "is next already; `signet keys rotate` has it sign"));
    }
    let is_first = keys.is_empty();
    let name = Name { signs_from: is_first.then_some(now), made: now, algorithm: Some(algorithm) };
    let path = folder.join(name.write(algorithm));
    let text = keys::generate(algorithm).map_err(|fault| error(&path, fault.0))?;
    write_new(&path, &text)?;
    let key = SigningKey::parse(&read(&path)?, algorithm).map_err(|fault| error(&path, fault.0))?;
    Ok(KeyFile { path, made: now, key, signs_from: name.signs_from })
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
    let pending = keys.iter().find(|key| key.signs_from.is_some_and(|from| from > now));
    if let Some(pending) = pending.filter(|_| !at_once) {
        return Err(error(&pending.path, "begins to sign soon; rotate again after that, or with --now"));
    }
    // Two do not begin in the same second: one would have the other's name.
    let youngest = keys.iter().filter_map(|key| key.signs_from).filter(|from| *from <= now).max();
    let earliest = youngest.map_or(now, |youngest| now.max(youngest + Seconds(1)));
    let mut next = match keys.into_iter().find(|key| key.signs_from.is_none_or(|from| from > now)) {
        Some(next) => next,
        None => generate(folder, algorithm, now)?,
    };
    let from = if at_once { earliest } else { earliest.max(next.made + PUBLISHED_FOR) };
    let name = Name { signs_from: Some(from), made: next.made, algorithm: None };
    let path = folder.join(name.write(next.key.algorithm()));
    // Not renamed: that would take the place of another file without a word.
    let moved = fs::hard_link(&next.path, &path).and_then(|()| fs::remove_file(&next.path));
    moved.map_err(|fault| error(&path, format!("cannot be written: {fault}")))?;
    next.path = path;
    next.signs_from = Some(from);
    Ok(next)
}

/// Reads the key in `folder/name`, or makes one that only its owner can read: what the development profile does.
///
/// # Errors
/// When the file can be neither read nor made, or holds no key for `algorithm`.
pub fn load_or_create(folder: &Path, name: &str, algorithm: Algorithm) -> Result<SecretString, KeyFileError> {
    let path = folder.join(name);
    if !path.exists() {
        make_folder(folder)?;
        write_new(&path, &keys::generate(algorithm).map_err(|fault| error(&path, fault.0))?)?;
        tracing::warn!(file = %path.display(), "made a key for development; set jwt.{name} for anything else");
    }
    let text = read(&path)?;
    match SigningKey::parse(&text, algorithm) {
        Ok(_) => Ok(text),
        Err(fault) => Err(error(&path, format!("{fault}; delete it to have a new one made"))),
    }
}

fn make_folder(folder: &Path) -> Result<(), KeyFileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|fault| error(folder, format!("the folder cannot be made: {fault}")))
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
        let always = Name { signs_from: Some(ALWAYS), made: ALWAYS, algorithm: None };
        let rows = [
            (
                "20261122T000000Z.ES256.pem",
                Some(Name { signs_from: Some(NOW), algorithm: Some(Algorithm::Es256), ..always }),
            ),
            ("20261122T000000Z.pem", Some(Name { signs_from: Some(NOW), ..always })),
            (
                "next.20261122T000000Z.HS512.secret",
                Some(Name { signs_from: None, made: NOW, algorithm: Some(Algorithm::Hs512) }),
            ),
            ("next.pem", Some(Name { signs_from: None, ..always })),
            ("nextcloud.pem", Some(always)),
            ("next.mine.pem", Some(Name { signs_from: None, ..always })),
            ("signing.RS512.pem", Some(Name { algorithm: Some(Algorithm::Rs512), ..always })),
            ("id_ed25519.pem", Some(always)),
            ("20261322T000000Z.pem", Some(always)),
            ("20261122T0000000.pem", Some(always)),
            ("\u{660}\u{660}\u{660}\u{660}T\u{660}\u{660}\u{660}.pem", Some(always)),
            ("README.md", None),
            ("tls.crt", None),
            (".draft.pem", None),
            (".pem", None),
        ];
        for (text, name) in rows {
            assert_eq!(Name::parse(text), name, "{text}");
        }
        let name = Name { signs_from: Some(NOW), made: NOW, algorithm: Some(Algorithm::Rs256) };
        assert_eq!(name.write(Algorithm::Rs256), "20261122T000000Z.RS256.pem");
    }

    #[test]
    fn a_key_is_made_published_and_then_signs() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let first = generate(&folder, Algorithm::Es256, NOW).unwrap();
        assert_eq!(first.signs_from, Some(NOW), "the first signs at once");
        let next = generate(&folder, Algorithm::EdDsa, NOW).unwrap();
        assert_eq!((next.signs_from, next.name().starts_with("next.")), (None, true));
        assert!(generate(&folder, Algorithm::EdDsa, NOW).err().unwrap().to_string().contains("is next already"));
        let rotated = rotate(&folder, Algorithm::Es256, false, NOW + Seconds(50)).unwrap();
        assert_eq!((rotated.key.kid(), rotated.signs_from), (next.key.kid(), Some(NOW + PUBLISHED_FOR)));
        let fault = rotate(&folder, Algorithm::Es256, false, NOW + Seconds(60)).err().unwrap().to_string();
        assert!(fault.contains("begins to sign soon"), "{fault}");
        let at_once = rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap();
        assert_eq!((at_once.key.kid(), at_once.signs_from), (next.key.kid(), Some(NOW + Seconds(60))));
        // In the same second as the one before, which keeps its name.
        assert_eq!(
            rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap().signs_from,
            Some(NOW + Seconds(61))
        );
        assert_eq!(read_folder(&folder, Algorithm::Es256).unwrap().len(), 3);
        // Without a next one, one is made.
        let third = rotate(&folder, Algorithm::Hs256, false, NOW + Seconds(1000)).unwrap();
        assert_eq!(third.signs_from, Some(NOW + Seconds(1000) + PUBLISHED_FOR));
        let keys = read_folder(&folder, Algorithm::Es256).unwrap();
        assert_eq!(keys.len(), 4);
        for key in &keys {
            assert_eq!(fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.name());
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "no draft stays behind");
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
        assert!(fault.contains("folder.pem: is not a file"), "{fault}");
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
