//! Loads the keys that the settings name: at the start, when `jwt.keys_dir` changes, and at SIGHUP.

use super::settings::issuer;
use crate::{
    auth::Auth,
    clock::Clock,
    config::{Settings, TokenType},
    domain::{Algorithm, Timestamp},
    keys::{
        Activation, KeyFault, KeyRing, KeyState, SigningKey,
        files::{self, KeyFile, KeyFileError},
    },
    telemetry::LogOnce,
    tokens::{Keys, RefreshKeys},
};
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::spawn_blocking, time::sleep};

/// How often the service reads the folder of keys.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("the keys that sign tokens: {0}")]
    Setting(#[from] KeyFault),
    #[error("jwt.keys_dir, {0}: {1}")]
    Folder(String, KeyFault),
}

/// The keys of access and refresh tokens. The development profile generates those that are missing.
///
/// # Errors
/// A key is missing or cannot be used.
pub(super) fn load(settings: &Settings, now: Timestamp) -> Result<Keys, KeysError> {
    load_or_make(settings, true, now)?.ok_or_else(|| KeyFault("a key is missing".to_owned()).into())
}

/// Checks that the keys that the settings name can be used. Generates none.
///
/// # Errors
/// When the service would not start with these keys.
pub fn check_keys(settings: &Settings, now: Timestamp) -> Result<(), KeysError> {
    load_or_make(settings, false, now).map(drop)
}

/// Loads the keys. With `make`, generates those that no setting names; without it, returns `None` if one of them does
/// not exist yet.
fn load_or_make(settings: &Settings, make: bool, now: Timestamp) -> Result<Option<Keys>, KeysError> {
    let jwt = &settings.jwt;
    let unset = |name: &str, algorithm| files::development_key(&settings.data_dir(), name, algorithm, make);
    let access = if let Some(folder) = &jwt.keys_dir {
        let (files, ring) = read_folder(folder, jwt.algorithm, jwt.access_token_type)?;
        files.iter().for_each(KeyFile::log_warnings);
        Some(ring)
    } else {
        let file = match jwt.algorithm {
            Algorithm::Hs256 => "signing_key".to_owned(),
            other => format!("signing_key.{}", other.name()),
        };
        let key = jwt.signing_key.clone().map_or_else(|| unset(&file, jwt.algorithm), |key| Ok(Some(key)))?;
        let key = key.map(|key| SigningKey::parse(&key, jwt.algorithm)).transpose()?;
        key.map(|key| KeyRing::new(jwt.access_token_type.into(), vec![(key, Activation::ALWAYS)])).transpose()?
    };
    let refresh =
        jwt.refresh_key.clone().map_or_else(|| unset("refresh_key", Algorithm::Hs256), |key| Ok(Some(key)))?;
    let (Some(access), Some(refresh)) = (access, refresh) else { return Ok(None) };
    let refresh = RefreshKeys::new(&refresh, jwt.refresh_key_previous.as_ref())?;
    Ok(Some(Keys::new(access, refresh, now)?))
}

/// The files of a folder and the state of each key, even if no key is active.
///
/// # Errors
/// The folder is empty, or it or one of its keys cannot be used.
pub fn key_states(settings: &Settings, folder: &Path, now: Timestamp) -> Result<Vec<(KeyFile, KeyState)>, KeysError> {
    let (mut files, ring) = read_folder(folder, settings.jwt.algorithm, settings.jwt.access_token_type)?;
    let states = ring.states(now, issuer(settings).max_access_age()).filter_map(|(key, state)| {
        let place = files.iter().position(|file| file.key.kid() == key.signing.kid())?;
        Some((files.swap_remove(place), state))
    });
    Ok(states.collect())
}

fn read_folder(path: &Path, algorithm: Algorithm, typ: TokenType) -> Result<(Vec<KeyFile>, KeyRing), KeysError> {
    let files = files::read_folder(path, algorithm)?;
    let keys = files.iter().map(|file| (file.key.clone(), file.activation)).collect();
    let ring = KeyRing::new(typ.into(), keys);
    Ok((files, ring.map_err(|fault| KeysError::Folder(path.display().to_string(), fault))?))
}

/// Replaces the keys of a running service. It reads files, so HTTP workers must not call it.
#[derive(Clone)]
pub struct KeyReloader {
    auth: Arc<Auth>,
    clock: Clock,
    /// The folder of the keys in use. It is locked during a reload, so that an older reload does not overwrite a newer
    /// one.
    folder: Arc<Mutex<Option<(PathBuf, Algorithm, TokenType)>>>,
}

impl KeyReloader {
    pub(super) fn new(settings: &Settings, auth: Arc<Auth>, clock: Clock) -> Self {
        Self { auth, clock, folder: Arc::new(Mutex::new(folder_of(settings))) }
    }

    /// Loads the keys and `jwt.access_token_type` from these settings; ignores all other settings. Returns the `kid` of
    /// the active key.
    ///
    /// # Errors
    /// A key is missing or cannot be used. The service then keeps its keys.
    pub fn reload(&self, settings: &Settings) -> Result<String, KeysError> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = load(settings, self.clock.now())?;
        *folder = folder_of(settings);
        Ok(self.auth.replace_keys(keys, self.clock.now()))
    }

    /// Reads `jwt.keys_dir`, if it is set, and replaces the keys if they changed.
    ///
    /// # Errors
    /// As [`KeyReloader::reload`].
    pub fn reload_folder(&self) -> Result<(), KeysError> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((path, algorithm, typ)) = &*folder else { return Ok(()) };
        let (files, ring) = read_folder(path, *algorithm, *typ)?;
        if let Some(kid) = self.auth.replace_access_keys(ring, self.clock.now())? {
            files.iter().for_each(KeyFile::log_warnings);
            tracing::info!(kid, "reloaded the keys; this one is active");
        }
        Ok(())
    }

    /// Calls [`Self::reload_folder`] every ten seconds.
    pub(super) async fn watch_folder(self) -> Infallible {
        let log = LogOnce::default();
        loop {
            sleep(WATCH_INTERVAL).await;
            let reloader = self.clone();
            // One at a time: a disk that does not answer must not block more than one thread.
            match spawn_blocking(move || reloader.reload_folder()).await {
                Ok(Ok(())) if log.recovers() => tracing::info!("the keys can be read again"),
                Ok(Err(fault)) if log.fails() => tracing::error!("the keys stay as they are: {fault}"),
                Err(panic) if log.fails() => tracing::error!("the keys stay as they are: {panic}"),
                _ => {}
            }
        }
    }
}

fn folder_of(settings: &Settings) -> Option<(PathBuf, Algorithm, TokenType)> {
    let jwt = &settings.jwt;
    jwt.keys_dir.clone().map(|folder| (folder, jwt.algorithm, jwt.access_token_type))
}
