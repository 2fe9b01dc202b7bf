//! The keys that the settings name: read at the start, checked by `signet config check`, read again at SIGHUP.

use crate::{
    auth::Auth,
    clock::Clock,
    config::Settings,
    crypto::{
        AddedClaims, Beginning, Issuer, KeyFault, KeyRing, Keys, SigningKey,
        key_files::{self, KeyFileError},
    },
    domain::{Algorithm, Timestamp},
    http,
};
use secrecy::SecretString;
use std::{path::Path, sync::Arc};

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("the keys of tokens: {0}")]
    Setting(#[from] KeyFault),
    #[error("jwt.keys_dir, {0}: {1}")]
    Folder(String, KeyFault),
}

pub(super) fn issuer(settings: &Settings) -> Issuer {
    let jwt = &settings.jwt;
    let added = AddedClaims {
        jti: Some(jwt.jti_claim.to_string()).filter(|name| name != "jti"),
        user_id: Some((jwt.user_id_claim.to_string(), jwt.user_id_field)).filter(|(name, _)| name != "sub"),
    };
    Issuer {
        iss: settings.issuer().to_owned(),
        aud: jwt.audience.clone(),
        names: http::token_names(settings),
        access_lifetime: jwt.access_token_lifetime,
        leeway: jwt.leeway,
        added,
    }
}

/// The keys that the settings name: at the start, and whenever they are read again. The development profile makes those
/// that are missing.
///
/// # Errors
/// When one is missing or cannot be used.
pub fn keys(settings: &Settings, now: Timestamp) -> Result<Keys, KeysError> {
    let made = |name: &str, algorithm| key_files::load_or_create(&settings.data_dir(), name, algorithm);
    let access = match access_keys(settings, now)? {
        Some(ring) => ring,
        // Only in development: production does not get past its settings without a key.
        None => single_key(settings, &made(&made_signing_key(settings), settings.jwt.algorithm)?, now)?,
    };
    let refresh = match &settings.jwt.refresh_key {
        Some(key) => key.clone(),
        None => made(MADE_REFRESH_KEY, Algorithm::Hs256)?,
    };
    Ok(Keys::new(access, &refresh, settings.jwt.refresh_key_previous.as_ref())?)
}

/// Whether the keys that the settings name can be used; makes none.
///
/// # Errors
/// As [`keys`].
pub fn check_keys(settings: &Settings, now: Timestamp) -> Result<(), KeysError> {
    let made = |name: &str, algorithm| key_files::load(&settings.data_dir(), name, algorithm);
    let access = match access_keys(settings, now)? {
        Some(ring) => Some(ring),
        None => made(&made_signing_key(settings), settings.jwt.algorithm)?
            .map(|key| single_key(settings, &key, now))
            .transpose()?,
    };
    let refresh = match &settings.jwt.refresh_key {
        Some(key) => Some(key.clone()),
        None => made(MADE_REFRESH_KEY, Algorithm::Hs256)?,
    };
    if let (Some(access), Some(refresh)) = (access, refresh) {
        Keys::new(access, &refresh, settings.jwt.refresh_key_previous.as_ref())?;
    }
    Ok(())
}

/// The file of the refresh key that the development profile makes.
const MADE_REFRESH_KEY: &str = "refresh_key";

/// The file of the signing key that the development profile makes.
fn made_signing_key(settings: &Settings) -> String {
    match settings.jwt.algorithm {
        Algorithm::Hs256 => "signing_key".to_owned(),
        other => format!("signing_key.{}", other.name()),
    }
}

/// The keys of access tokens; `None` where neither a folder nor a key is set.
fn access_keys(settings: &Settings, now: Timestamp) -> Result<Option<KeyRing>, KeysError> {
    match (&settings.jwt.keys_dir, &settings.jwt.signing_key) {
        (Some(folder), _) => key_ring(settings, folder, now).map(Some),
        (None, Some(key)) => single_key(settings, key, now).map(Some),
        (None, None) => Ok(None),
    }
}

fn single_key(settings: &Settings, text: &SecretString, now: Timestamp) -> Result<KeyRing, KeysError> {
    let key = SigningKey::parse(text, settings.jwt.algorithm)?;
    let reach = issuer(settings).access_reach();
    Ok(KeyRing::new(Keys::ACCESS, vec![(key, Some(Beginning::LONG_AGO))], reach, now)?)
}

/// The keys of `jwt.keys_dir`.
///
/// # Errors
/// When the folder or one of its keys cannot be used.
pub fn key_ring(settings: &Settings, folder: &Path, now: Timestamp) -> Result<KeyRing, KeysError> {
    let files = key_files::read_folder(folder, settings.jwt.algorithm)?;
    let keys = files.into_iter().map(|file| (file.key, file.begins)).collect();
    let ring = KeyRing::new(Keys::ACCESS, keys, issuer(settings).access_reach(), now);
    ring.map_err(|fault| KeysError::Folder(folder.display().to_string(), fault))
}

/// Replaces the keys of a running service.
#[derive(Clone)]
pub struct KeyReloader {
    pub(super) auth: Arc<Auth>,
    pub(super) clock: Clock,
}

impl KeyReloader {
    /// Takes the keys that these settings name, and nothing else of them. Returns the `kid` of the key that signs now.
    ///
    /// Reads files, so an async thread must not call it.
    ///
    /// # Errors
    /// When a key is missing or cannot be used. The service keeps its keys.
    pub fn reload(&self, settings: &Settings) -> Result<String, KeysError> {
        let keys = keys(settings, self.clock.now())?;
        // Read the clock again: the keys are published from now on, and reading them took time.
        Ok(self.auth.replace_keys(keys, self.clock.now())?)
    }
}
