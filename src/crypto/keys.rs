//! Secrets that sign, and the files in which the development profile keeps them.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// A secret for HMAC, with the `kid` that tokens name it by.
pub struct Secret {
    pub(super) kid: String,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    mac: hmac::Key,
}

impl Secret {
    pub fn new(secret: &SecretString) -> Self {
        let bytes = secret.expose_secret().as_bytes();
        let mac = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        // A `kid` that follows from the key needs no bookkeeping, and says no more of the key than a signature does.
        let tag = hmac::sign(&mac, b"signet kid");
        Self {
            kid: URL_SAFE_NO_PAD.encode(&tag.as_ref()[..8]),
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
            mac,
        }
    }

    /// HMAC-SHA256 of `text`: something that only the holder of this secret can make, and makes alike each time.
    pub(super) fn tag(&self, text: &str) -> hmac::Tag {
        hmac::sign(&self.mac, text.as_bytes())
    }
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the key file {path} cannot be {verb}: {error}")]
pub struct KeyFileError {
    path: String,
    verb: &'static str,
    error: io::Error,
}

/// Reads the secret in `folder/name`, or makes one of 256 random bits that only its owner can read.
///
/// The file appears whole or not at all: two processes that start at once end with the same key.
///
/// # Errors
/// When the file can be neither read nor made, or was left empty.
pub fn load_or_create(folder: &Path, name: &str) -> Result<SecretString, KeyFileError> {
    let path = folder.join(name);
    let fault = |verb: &'static str| {
        let path = path.display().to_string();
        move |error: io::Error| KeyFileError { path, verb, error }
    };
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault("made"))?;
        let draft = folder.join(format!(".{name}.{:x}", u64::from_ne_bytes(super::random())));
        let written = write_secret(&draft).and_then(|()| match fs::hard_link(&draft, &path) {
            // Somebody else was quicker; theirs is read below.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        let _ = fs::remove_file(&draft);
        written.map_err(fault("made"))?;
        tracing::warn!(file = %path.display(), "made a key for development; set jwt.{name} for anything else");
    }
    let mode = fs::metadata(&path).map_err(fault("read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others can read this key: `chmod 600` it, and make a new one if they did");
    }
    let text = fs::read_to_string(&path).map_err(fault("read"))?;
    let secret = text.trim();
    if secret.len() < 32 {
        return Err(fault("used")(io::Error::other("it has fewer than 32 bytes; delete it to have a new one made")));
    }
    Ok(secret.into())
}

fn write_secret(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(super::random::<32>()))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("data");
        let first = load_or_create(&folder, "signing_key").unwrap();
        let again = load_or_create(&folder, "signing_key").unwrap();
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert_eq!(first.expose_secret().len(), 43, "256 bits in base64url");
        assert_ne!(first.expose_secret(), load_or_create(&folder, "refresh_key").unwrap().expose_secret());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("signing_key"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft stays behind");
    }

    #[test]
    fn an_empty_key_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("signing_key"), "").unwrap();
        let error = load_or_create(folder.path(), "signing_key").unwrap_err().to_string();
        assert!(error.contains("fewer than 32 bytes"), "{error}");
    }

    #[test]
    fn a_kid_follows_from_the_key() {
        let kid = |secret: &str| Secret::new(&secret.into()).kid;
        assert_eq!(kid("one"), kid("one"));
        assert_ne!(kid("one"), kid("two"));
    }
}
