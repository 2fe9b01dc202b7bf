//! Settings: compiled-in defaults < config/{profile}.toml < config/local.toml < `SIGNET__SECTION__KEY` < `…_FILE`.
//!
//! `sections` lists the settings, `values` says how each type is written, `sources` merges the layers, and `validate`
//! checks what no single value shows. Loading reports every fault at once. Nothing here knows what settings are used for.

mod database_url;
mod print;
mod sections;
mod sources;
mod validate;
mod values;

pub use sections::{
    Audit, Bootstrap, Database, Jwt, Mail, Passwords, RateLimit, Registration, Revocation, Server, Settings, Telemetry,
    Users,
};
pub use sources::{Fault, Faults, Sources};
pub use values::{Listing, LogFormat, MaxStaleness, Origin, Rate, RegistrationMode, TokenType};

use crate::domain::{Email, PasswordRules};
use secrecy::SecretString;
use sources::Reader;
use std::{num::NonZero, path::PathBuf, sync::LazyLock, thread::available_parallelism};
use url::Url;

/// Where the service runs. It decides what is refused at the start and how log lines look, and changes no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    #[default]
    Development,
    Production,
}

/// A problem, reported at the first of these keys that is set.
pub struct Problem(pub &'static [&'static str], pub String);

impl Settings {
    /// Merges the layers and reads every setting. `check` finds the problems that only the code which uses a setting can
    /// find.
    ///
    /// # Errors
    /// Every fault of every layer, each with the place that it came from.
    pub fn load(sources: &Sources, check: impl FnOnce(&Self) -> Vec<Problem>) -> Result<Self, Faults> {
        let mut reader = Reader::merge(sources);
        let settings = Self::read(&mut reader);
        reader.refuse_unknown_keys();
        // A value that could not be read is the default here, so that the rules find all other problems.
        validate::check_environment(&settings, sources, &mut reader);
        reader.report(validate::problems(&settings));
        reader.report(check(&settings));
        reader.finish(settings)
    }

    /// The `iss` of every token.
    pub fn issuer(&self) -> &str {
        self.jwt.issuer.as_deref().or(self.server.public_url.as_deref()).unwrap_or("signet")
    }

    /// The issuer, if it is an absolute URL of HTTP or HTTPS. Only then does Signet serve metadata (RFC 8414).
    pub fn issuer_url(&self) -> Option<Url> {
        let has_host = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        Url::parse(self.issuer()).ok().filter(has_host)
    }

    /// The folder of the keys that the development profile makes: the folder of the database.
    pub fn data_dir(&self) -> PathBuf {
        let of_database = self.database.sqlite_path().and_then(|file| Some(file.parent()?.to_owned()));
        of_database.unwrap_or_else(|| PathBuf::from("data"))
    }

    /// The first superuser, when one is configured.
    pub fn first_superuser(&self) -> Option<(Email, SecretString)> {
        self.bootstrap.superuser_email.clone().zip(self.bootstrap.superuser_password.clone())
    }
}

/// The number of cores that this process may use.
static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, NonZero::get));

impl Server {
    /// The most that actix-server accepts.
    pub const MAX_WORKERS: usize = 512;

    pub fn workers(&self) -> usize {
        self.workers.map_or_else(|| (*CORES).min(Self::MAX_WORKERS), NonZero::get)
    }
}

impl Database {
    /// The file of an SQLite address; `None` for PostgreSQL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        self.url.sqlite_path.clone()
    }
}

impl Passwords {
    pub fn hash_threads(&self) -> usize {
        self.hash_threads.map_or(*CORES, NonZero::get)
    }

    /// How many requests may wait for a hash thread.
    pub fn queue(&self) -> usize {
        self.queue.map_or_else(|| 32 * self.hash_threads(), NonZero::get)
    }

    pub fn rules(&self) -> PasswordRules {
        PasswordRules { min_length: self.min_length as usize, max_length: self.max_length as usize }
    }
}
