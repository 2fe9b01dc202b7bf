//! Reads and writes key files: those of `jwt.keys_dir`, and the keys that the development profile generates.

use super::{
    Activation, KeyFault, PUBLISHED_BEFORE, SigningKey, file_name::FileName, generate as generate_key, is_monotonous,
};
use crate::{
    domain::{Algorithm, Seconds, Timestamp},
    os::secret_file,
    random::random,
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Why a key file, or a folder of key files, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct KeyFileError {
    path: String,
    fault: String,
}

fn error(path: &Path, fault: impl Into<String>) -> KeyFileError {
    KeyFileError { path: path.display().to_string(), fault: fault.into() }
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

    /// Logs what an operator should change about this file. Reading the file does not log it, because the service reads
    /// the folder every ten seconds.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!(file = %self.path.display(), "{warning}");
        }
    }
}

/// Reads every key of a folder. A file whose name has no algorithm is a key for `algorithm`, or for the first algorithm
/// that it fits.
///
/// # Errors
/// The folder or a file cannot be read, or a file is not a key. One bad file is enough, because the ring would lack a
/// key.
pub fn read_folder(folder: &Path, algorithm: Algorithm) -> Result<Vec<KeyFile>, KeyFileError> {
    let read_all = || {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|fault| error(folder, format!("the folder cannot be read: {fault}")))?;
        entries.iter().filter_map(|entry| read_file(entry.path(), algorithm).transpose()).collect()
    };
    match read_all() {
        // `rotate` renamed the file after the folder was listed.
        Err(fault) if !Path::new(&fault.path).exists() => read_all(),
        read => read,
    }
}

/// Reads a file of a folder; `None` for a file that is not a key.
fn read_file(path: PathBuf, algorithm: Algorithm) -> Result<Option<KeyFile>, KeyFileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(name) = FileName::parse(&name).map_err(|fault| error(&path, fault))? else { return Ok(None) };
    let text = read(&path)?;
    let is_secret = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("secret"));
    let key = match name.algorithm {
        Some(named) => SigningKey::parse(&text, named),
        None if is_secret && algorithm.secret_length().is_none() => {
            Err("must have its algorithm in its name, such as mine.HS256.secret".into())
        }
        None => of_any_algorithm(&text, algorithm),
    };
    let key = key.map_err(|fault| error(&path, fault.0))?;
    if name.kid.is_some_and(|kid| kid != key.kid()) {
        return Err(error(&path, format!("holds another key than its name says: {}", key.kid())));
    }
    let mut warnings = Vec::from_iter(others_can_read(&path).then_some(OTHERS_CAN_READ));
    if key.algorithm().secret_length().is_some() && is_monotonous(&text) {
        warnings.push("does not look random; `signet keys generate` creates a random one");
    }
    Ok(Some(KeyFile { path, made: name.made, key, activation: name.activation, warnings }))
}

/// A key for `algorithm`, or for the first algorithm that it fits.
fn of_any_algorithm(text: &SecretString, algorithm: Algorithm) -> Result<SigningKey, KeyFault> {
    SigningKey::parse(text, algorithm).or_else(|fault| {
        let others = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];
        others.into_iter().find_map(|other| SigningKey::parse(text, other).ok()).ok_or(fault)
    })
}

const OTHERS_CAN_READ: &str =
    "others can read this key: run `chmod 600`, and replace the key if another user may have read it";

/// Whether users outside the file's group can read it. The group may be how the service reads a mounted secret (`fsGroup`
/// of Kubernetes).
fn others_can_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

fn read(path: &Path) -> Result<SecretString, KeyFileError> {
    let text = secret_file::read(path).map_err(|fault| error(path, fault.to_string()))?;
    Ok(text.expose_secret().trim().into())
}

/// Generates a key in a folder. The first key is active at once; a later one is next.
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
    let path = folder.join(FileName::write(&key, now, activation).map_err(|fault| error(folder, fault))?);
    write_new(&path, &text)?;
    Ok(KeyFile { path, made: Some(now), key, activation, warnings: Vec::new() })
}

/// Activates the next key: five minutes after it was made at the earliest, or at once. Generates one if there is none.
///
/// # Errors
/// There is no key at all, a rotation is under way, or a file cannot be read or written.
pub fn rotate(folder: &Path, algorithm: Algorithm, at_once: bool, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    let keys = read_folder(folder, algorithm)?;
    if keys.is_empty() {
        return Err(error(folder, "there is no key to rotate; `signet keys generate` creates the first"));
    }
    let is_pending = |key: &&KeyFile| matches!(key.activation, Activation::At(at) if at > now);
    if let Some(pending) = keys.iter().find(is_pending).filter(|_| !at_once) {
        return Err(error(&pending.path, "is activated soon; rotate again after that, or with --now"));
    }
    let (active, waiting): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.activation.has_passed(now));
    let activated = active.iter().filter_map(|key| key.activation.activates_at()).max();
    // Two keys cannot be activated in the same second.
    let earliest = activated.map_or(now, |activated| now.max(activated + Seconds(1)));
    // A pending key first: other replicas know it already.
    let next = match waiting.into_iter().min_by_key(|key| key.activation == Activation::Waiting) {
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
    let path = folder.join(FileName::write(&next.key, made, activation).map_err(|fault| error(&next.path, fault))?);
    // This may replace a file of this name, but only by the same key: the `kid` is part of the name.
    fs::rename(&next.path, &path).map_err(|fault| error(&path, format!("cannot be written: {fault}")))?;
    Ok(KeyFile { path, made: Some(made), activation, ..next })
}

/// Reads a key of the development profile. `None` where there is no file and `make` is false.
pub fn development_key(
    folder: &Path,
    name: &str,
    algorithm: Algorithm,
    make: bool,
) -> Result<Option<SecretString>, KeyFileError> {
    let path = folder.join(name);
    if !path.exists() {
        if !make {
            return Ok(None);
        }
        make_folder(folder)?;
        write_new(&path, &generate_key(algorithm).map_err(|fault| error(&path, fault.0))?)?;
        tracing::warn!(file = %path.display(), "generated a key for development; set jwt.{name} for any other use");
    } else if others_can_read(&path) {
        tracing::warn!(file = %path.display(), "{OTHERS_CAN_READ}");
    }
    let text = read(&path)?;
    let key = SigningKey::parse(&text, algorithm);
    key.map(|_| Some(text)).map_err(|fault| error(&path, format!("{fault}; delete it to have a new one generated")))
}

fn make_folder(folder: &Path) -> Result<(), KeyFileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|fault| error(folder, format!("the folder cannot be created: {fault}")))
}

/// Writes a file that only its owner can read. The file appears whole or not at all, and never replaces another: two
/// processes that start at the same time end with the same key.
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
    written.map_err(|fault| error(path, format!("cannot be created: {fault}")))
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
        // A second rotation in the same second makes another key, which is activated a second later.
        assert_eq!(rotate(&folder, Algorithm::Es256, true, NOW + Seconds(60)).unwrap().activation, at_once(61));
        assert_eq!(read_folder(&folder, Algorithm::Es256).unwrap().len(), 3);
        // Without a next key, `rotate` makes one.
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
    fn a_development_key_is_generated_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("data");
        let key = |name, make| development_key(&folder, name, Algorithm::Hs256, make);
        assert!(key("signing_key", false).unwrap().is_none());
        let load = |name| key(name, true).unwrap().unwrap().expose_secret().to_owned();
        let first = load("signing_key");
        assert_eq!((first.as_str(), first.len()), (load("signing_key").as_str(), 86), "512 bits in base64url");
        assert_ne!(first, load("refresh_key"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("signing_key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft stays behind");
        fs::write(folder.join("empty"), "").unwrap();
        let fault = key("empty", true).unwrap_err().to_string();
        assert!(fault.contains("at least 32 bytes") && fault.contains("delete it"), "{fault}");
    }
}
