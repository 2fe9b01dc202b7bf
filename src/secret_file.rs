//! Secrets that are kept in files: whatever `…_FILE` and `jwt.keys_dir` name.

use secrecy::SecretString;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The longest secret that is read, in bytes: a chain of keys and certificates is far shorter.
const MAX_LENGTH: u64 = 64 * 1024;

/// Why a file holds no secret that can be read. Never repeats what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot be read: {}", .0.kind())]
    Read(#[from] io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("is longer than 64 KiB")]
    TooLong,
}

/// Reads a secret as it stands there.
///
/// # Errors
/// When there is none to read. What is no regular file is not even opened: a pipe would be waited for, and the service
/// with it.
pub fn read(path: &Path) -> Result<SecretString, SecretFileError> {
    if !path.metadata()?.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
    // A file of /proc has a length of 0, and none at all.
    if text.len() as u64 > MAX_LENGTH {
        return Err(SecretFileError::TooLong);
    }
    Ok(text.into())
}
