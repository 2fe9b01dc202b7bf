//! Loads the keys that the settings name: at the start, when `jwt.keys_dir` changes, and at SIGHUP. Checks keys and claims
//! when settings are loaded.

use crate::{
    auth::Auth,
    clock::Clock,
    config::{Faults, Problem, Settings, Sources},
    domain::{Algorithm, Seconds, Timestamp},
    http,
    keys::{
        Activation, KeyFault, KeyRing, SigningKey,
        files::{self, KeyFile, KeyFileError},
        is_monotonous,
    },
    tokens::{AddedClaims, Issuer, Keys, RefreshKeys, is_registered},
};
use secrecy::SecretString;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("the keys of tokens: {0}")]
    Setting(#[from] KeyFault),
    #[error("jwt.keys_dir, {0}: {1}")]
    Folder(String, KeyFault),
}

/// Loads the settings.
///
/// # Errors
/// Every fault at once, those of keys and claims included.
pub fn load_settings(sources: &Sources) -> Result<Settings, Faults> {
    Settings::load(sources, problems)
}

fn problems(settings: &Settings) -> Vec<Problem> {
    let jwt = &settings.jwt;
    let mut problems = Vec::new();
    for (name, key, algorithm) in secrets(settings) {
        match key.as_ref().map(|key| SigningKey::parse(key, algorithm)) {
            Some(Err(fault)) => problems.push(Problem(name, fault.to_string())),
            Some(Ok(key)) if name == SIGNING_KEY && algorithm.secret_length().is_none() => {
                let fault = jwt.verifying_key.as_ref().and_then(|public| key.check_public_half(public).err());
                problems.extend(fault.map(|fault| Problem(&["jwt.verifying_key"], fault.to_string())));
            }
            _ => {}
        }
    }
    let claims: [(&[&str; 1], _, _); 2] =
        [(&["jwt.jti_claim"], &*jwt.jti_claim, "jti"), (&["jwt.user_id_claim"], &*jwt.user_id_claim, "sub")];
    for (name, claim, own) in claims {
        if claim != own && is_registered(claim) {
            problems.push(Problem(name, "must not be the name of a claim with another meaning".to_owned()));
        }
    }
    problems
}

const SIGNING_KEY: &[&str; 1] = &["jwt.signing_key"];

/// The settings that are keys.
fn secrets(settings: &Settings) -> [(&'static [&'static str; 1], &Option<SecretString>, Algorithm); 3] {
    let jwt = &settings.jwt;
    [
        (SIGNING_KEY, &jwt.signing_key, jwt.algorithm),
        (&["jwt.refresh_key"], &jwt.refresh_key, Algorithm::Hs256),
        (&["jwt.refresh_key_previous"], &jwt.refresh_key_previous, Algorithm::Hs256),
    ]
}

/// What the settings allow but deserves a line at the start.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let guessable = secrets(settings).into_iter().filter(|(_, key, _)| key.as_ref().is_some_and(is_monotonous));
    let guessable = guessable
        .map(|([name], ..)| format!("{name} does not look random; `openssl rand -base64 48` makes one that is"));
    guessable.chain(settings.warnings()).collect()
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

/// The keys of both kinds of token. The development profile makes those that are missing.
///
/// # Errors
/// A key is missing or cannot be used.
pub(super) fn load(settings: &Settings, token_lifetime: Seconds, now: Timestamp) -> Result<Keys, KeysError> {
    let made = |name: &str, algorithm| files::load_or_create(&settings.data_dir(), name, algorithm);
    let access = match access_keys(settings, token_lifetime, now)? {
        Some(ring) => ring,
        // Only in development: the production profile refuses settings without a key.
        None => single_key(settings, &made(&made_signing_key(settings), settings.jwt.algorithm)?, token_lifetime)?,
    };
    let refresh = match &settings.jwt.refresh_key {
        Some(key) => key.clone(),
        None => made(MADE_REFRESH_KEY, Algorithm::Hs256)?,
    };
    both(settings, access, &refresh, now)
}

/// Whether the keys that the settings name can be used; makes none.
///
/// # Errors
/// As the start of the service.
pub fn check_keys(settings: &Settings, now: Timestamp) -> Result<(), KeysError> {
    let token_lifetime = issuer(settings).access_reach();
    let made = |name: &str, algorithm| files::load(&settings.data_dir(), name, algorithm);
    let access = match access_keys(settings, token_lifetime, now)? {
        Some(ring) => Some(ring),
        None => made(&made_signing_key(settings), settings.jwt.algorithm)?
            .map(|key| single_key(settings, &key, token_lifetime))
            .transpose()?,
    };
    let refresh = match &settings.jwt.refresh_key {
        Some(key) => Some(key.clone()),
        None => made(MADE_REFRESH_KEY, Algorithm::Hs256)?,
    };
    if let (Some(access), Some(refresh)) = (access, refresh) {
        both(settings, access, &refresh, now)?;
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
fn access_keys(settings: &Settings, token_lifetime: Seconds, now: Timestamp) -> Result<Option<KeyRing>, KeysError> {
    match (&settings.jwt.keys_dir, &settings.jwt.signing_key) {
        (Some(folder), _) => {
            let read = read_folder(folder, settings.jwt.algorithm, token_lifetime)?;
            read.check_active(now)?;
            read.files.iter().for_each(KeyFile::log_warnings);
            Ok(Some(read.ring))
        }
        (None, Some(key)) => single_key(settings, key, token_lifetime).map(Some),
        (None, None) => Ok(None),
    }
}

fn single_key(settings: &Settings, text: &SecretString, token_lifetime: Seconds) -> Result<KeyRing, KeysError> {
    let key = SigningKey::parse(text, settings.jwt.algorithm)?;
    Ok(KeyRing::new(Keys::ACCESS, vec![(key, Activation::ALWAYS)], token_lifetime)?)
}

fn both(settings: &Settings, access: KeyRing, refresh: &SecretString, now: Timestamp) -> Result<Keys, KeysError> {
    Ok(Keys::new(access, RefreshKeys::new(refresh, settings.jwt.refresh_key_previous.as_ref())?, now)?)
}

/// What a folder of keys holds.
pub struct KeyFolder {
    path: PathBuf,
    pub files: Vec<KeyFile>,
    pub ring: KeyRing,
}

impl KeyFolder {
    fn check_active(&self, now: Timestamp) -> Result<(), KeysError> {
        self.ring.check_active(now).map_err(|fault| KeysError::Folder(self.path.display().to_string(), fault))
    }
}

/// Reads a folder of keys, whether or not one is active.
///
/// # Errors
/// The folder is empty, or it or one of its keys cannot be used.
pub fn key_folder(settings: &Settings, folder: &Path) -> Result<KeyFolder, KeysError> {
    read_folder(folder, settings.jwt.algorithm, issuer(settings).access_reach())
}

fn read_folder(folder: &Path, algorithm: Algorithm, token_lifetime: Seconds) -> Result<KeyFolder, KeysError> {
    let files = files::read_folder(folder, algorithm)?;
    let keys = files.iter().map(|file| (file.key.clone(), file.activation)).collect();
    let ring = KeyRing::new(Keys::ACCESS, keys, token_lifetime);
    let ring = ring.map_err(|fault| KeysError::Folder(folder.display().to_string(), fault))?;
    Ok(KeyFolder { path: folder.to_owned(), files, ring })
}

/// Replaces the keys of a service that runs. Reads files: not for the threads that answer requests.
#[derive(Clone)]
pub struct KeyReloader {
    auth: Arc<Auth>,
    clock: Clock,
    /// As the service issues tokens, whatever settings say that are read later.
    token_lifetime: Seconds,
    /// The folder of the keys that are in use. Locked during a reload: the last one to begin wins.
    folder: Arc<Mutex<Option<(PathBuf, Algorithm)>>>,
}

impl KeyReloader {
    pub(super) fn new(settings: &Settings, auth: Arc<Auth>, clock: Clock) -> Self {
        let token_lifetime = issuer(settings).access_reach();
        Self { auth, clock, token_lifetime, folder: Arc::new(Mutex::new(folder_of(settings))) }
    }

    /// Loads the keys that these settings name, and uses nothing else of them. Returns the `kid` of the active key.
    ///
    /// # Errors
    /// A key is missing or cannot be used. The service keeps its keys.
    pub fn reload(&self, settings: &Settings) -> Result<String, KeysError> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = load(settings, self.token_lifetime, self.clock.now())?;
        *folder = folder_of(settings);
        Ok(self.auth.replace_keys(keys, self.clock.now()))
    }

    /// Reads `jwt.keys_dir`, if it is set, and takes its keys when they differ from those in use.
    ///
    /// # Errors
    /// As [`KeyReloader::reload`].
    pub fn reload_folder(&self) -> Result<(), KeysError> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((path, algorithm)) = &*folder else { return Ok(()) };
        let read = read_folder(path, *algorithm, self.token_lifetime)?;
        let now = self.clock.now();
        read.check_active(now)?;
        if let Some(kid) = self.auth.replace_access_keys(read.ring, now)? {
            read.files.iter().for_each(KeyFile::log_warnings);
            tracing::info!(kid, "reloaded the keys; this one is active");
        }
        Ok(())
    }
}

fn folder_of(settings: &Settings) -> Option<(PathBuf, Algorithm)> {
    settings.jwt.keys_dir.clone().map(|folder| (folder, settings.jwt.algorithm))
}
