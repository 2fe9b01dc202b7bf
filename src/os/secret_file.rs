//! Reads the files that hold secrets: those that `…_FILE` and `jwt.keys_dir` name.

use secrecy::SecretString;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The maximum length of a secret, in bytes.
const MAX_LENGTH: u64 = 64 * 1024;

/// Why a secret cannot be read. Never repeats the content of the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot be read: {}", super::reason(.0))]
    Read(#[from] io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("is longer than 64 KiB")]
    TooLong,
}

/// Reads a file as it is.
///
/// # Errors
/// When it cannot be read. Only a regular file is opened: opening a named pipe would block until another process writes.
pub fn read(path: &Path) -> Result<SecretString, SecretFileError> {
    if !path.metadata()?.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
    // The length that the system reports is not reliable: it is 0 for files in /proc.
    if text.len() as u64 > MAX_LENGTH {
        return Err(SecretFileError::TooLong);
    }
    Ok(text.into())
}
