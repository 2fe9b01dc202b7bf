//! Settings: compiled-in defaults < config/{profile}.toml < config/local.toml < `SIGNET__SECTION__KEY` < `…_FILE`.
//!
//! Everything is parsed into what it means here, and every fault is found at once: the merged layers are walked key by
//! key, and what no section asked for is unknown.

mod database_url;
mod print;
mod rules;
mod source;
mod value;

pub use source::{Fault, Faults, Sources};
pub use value::{Listing, LogFormat, MaxStaleness, Origin, Rate, RegistrationMode};

use crate::domain::{Algorithm, Email, PasswordRules, Seconds, UserIdField};
use database_url::DatabaseUrl;
use ipnet::IpNet;
use secrecy::SecretString;
use source::Reader;
use std::{net::SocketAddr, num::NonZero, path::PathBuf, thread::available_parallelism, time::Duration};
use value::{BasePath, HeaderName, MemberName};

/// Where the service runs: what is refused at the start and the log format depend on it, no answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Development,
    Production,
}

/// Declares a section as a struct, and how it is read: one line for each key, in one place.
macro_rules! section {
    ($(#[$about:meta])* $name:ident in $section:literal { $($(#[$doc:meta])* $key:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone)]
        pub struct $name { $($(#[$doc])* pub $key: $type,)* }

        impl $name {
            fn read(reader: &mut Reader) -> Self {
                Self { $($key: reader.read(concat!($section, ".", stringify!($key))),)* }
            }
        }
    };
}

section! {
    /// How the service listens.
    Server in "server" {
        bind: SocketAddr,
        /// HTTP threads.
        workers: Option<NonZero<usize>>,
        public_url: Option<String>,
        /// "" or "/path": goes before every route.
        base_path: BasePath,
        metrics_bind: Option<SocketAddr>,
        docs: bool,
        cors_allowed_origins: Vec<Origin>,
        forwarded_header: HeaderName,
        trusted_proxies: Vec<IpNet>,
        keep_alive: Duration,
        request_timeout: Duration,
        shutdown_timeout: Duration,
    }
}

section! {
    /// Where users and sessions are kept.
    Database in "database" {
        url: DatabaseUrl,
        max_connections: u32,
        acquire_timeout: Duration,
        migrate_on_start: bool,
    }
}

section! {
    /// Tokens: keys, lifetimes and names.
    Jwt in "jwt" {
        signing_key: Option<SecretString>,
        verifying_key: Option<SecretString>,
        algorithm: Algorithm,
        keys_dir: Option<PathBuf>,
        refresh_key: Option<SecretString>,
        refresh_key_previous: Option<SecretString>,
        access_token_lifetime: Seconds,
        refresh_token_lifetime: Seconds,
        session_lifetime: Seconds,
        rotate_refresh_tokens: bool,
        refresh_grace: Seconds,
        access_token_name: MemberName,
        refresh_token_name: MemberName,
        authorization_header: HeaderName,
        auth_header_types: Vec<String>,
        issuer: Option<String>,
        audience: Option<String>,
        leeway: Seconds,
        jti_claim: MemberName,
        user_id_claim: MemberName,
        user_id_field: UserIdField,
    }
}

section! {
    /// What a hash costs, and what a password must be. Memory in KiB, lengths in characters.
    Passwords in "passwords" {
        memory_kib: u32,
        iterations: u32,
        parallelism: u32,
        max_memory_kib: u32,
        hash_threads: Option<NonZero<usize>>,
        queue: Option<NonZero<usize>>,
        queue_timeout: Duration,
        min_length: u32,
        max_length: u32,
    }
}

section! {
    /// Who may see users, what they may call themselves, and how many sessions one may have.
    Users in "users" {
        list: Listing,
        max_sessions: u32,
        reserved_usernames: Vec<String>,
    }
}

section! {
    /// Who may create users.
    Registration in "registration" {
        mode: RegistrationMode,
    }
}

section! {
    /// How often one address, or one account, may try.
    RateLimit in "rate_limit" {
        enabled: bool,
        signin_per_address: Rate,
        create_per_address: Rate,
        refresh_per_address: Rate,
        account_failures: u32,
        account_delay_max: Duration,
    }
}

section! {
    /// How ended sessions reach every replica.
    Revocation in "revocation" {
        poll_interval: Duration,
        max_staleness: MaxStaleness,
    }
}

section! {
    /// Logs and traces.
    Telemetry in "telemetry" {
        log: String,
        format: LogFormat,
        otlp_endpoint: Option<String>,
    }
}

section! {
    /// How mail is sent.
    Mail in "mail" {
        smtp_url: Option<SecretString>,
        from: Option<String>,
        link_base: Option<String>,
    }
}

section! {
    /// How long the audit trail is kept.
    Audit in "audit" {
        keep: Duration,
    }
}

section! {
    /// The first superuser; used once, while there is none.
    Bootstrap in "bootstrap" {
        superuser_email: Option<Email>,
        superuser_password: Option<SecretString>,
    }
}

/// Every setting, parsed and checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub profile: Profile,
    pub server: Server,
    pub database: Database,
    pub jwt: Jwt,
    pub passwords: Passwords,
    pub users: Users,
    pub registration: Registration,
    pub rate_limit: RateLimit,
    pub revocation: Revocation,
    pub telemetry: Telemetry,
    pub mail: Mail,
    pub audit: Audit,
    pub bootstrap: Bootstrap,
    printable: Vec<print::Line>,
}

impl Settings {
    /// Merges the layers and reads every setting.
    ///
    /// # Errors
    /// Every fault of every layer, each with the place it came from.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        let mut reader = Reader::merge(sources);
        let settings = Self {
            profile: reader.profile(sources),
            server: Server::read(&mut reader),
            database: Database::read(&mut reader),
            jwt: Jwt::read(&mut reader),
            passwords: Passwords::read(&mut reader),
            users: Users::read(&mut reader),
            registration: Registration::read(&mut reader),
            rate_limit: RateLimit::read(&mut reader),
            revocation: Revocation::read(&mut reader),
            telemetry: Telemetry::read(&mut reader),
            mail: Mail::read(&mut reader),
            audit: Audit::read(&mut reader),
            bootstrap: Bootstrap::read(&mut reader),
            printable: reader.printable(),
        };
        reader.refuse_unknown_keys();
        // A value that could not be read is its default here, so that the rules find whatever else is wrong.
        rules::check(&settings, sources, &mut reader);
        reader.finish(settings)
    }

    /// What is allowed and yet worth a line at the start.
    pub fn warnings(&self) -> Vec<String> {
        rules::warnings(self)
    }

    /// Each setting with its value and where it came from, secrets masked: what `signet config print` shows.
    pub fn print(&self) -> String {
        print::print(&self.printable)
    }
}

/// Cores, as a container's quota counts them.
fn cores() -> NonZero<usize> {
    available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

impl Server {
    /// The most that the framework takes.
    pub const MAX_WORKERS: usize = 512;

    pub fn workers(&self) -> usize {
        self.workers.map_or_else(|| cores().get().min(Self::MAX_WORKERS), NonZero::get)
    }
}

impl Database {
    /// The file of an SQLite address; `None` for PostgreSQL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        self.url.sqlite_path()
    }
}

impl Settings {
    /// The `iss` of every token.
    pub fn issuer(&self) -> &str {
        self.jwt.issuer.as_deref().or(self.server.public_url.as_deref()).unwrap_or("signet")
    }

    /// Where keys are kept that the development profile makes: beside the database.
    pub fn data_dir(&self) -> PathBuf {
        let beside = self.database.sqlite_path().and_then(|file| Some(file.parent()?.to_owned()));
        beside.unwrap_or_else(|| PathBuf::from("data"))
    }

    /// The first superuser, when one is configured.
    pub fn first_superuser(&self) -> Option<(Email, SecretString)> {
        self.bootstrap.superuser_email.clone().zip(self.bootstrap.superuser_password.clone())
    }
}

impl Passwords {
    pub fn hash_threads(&self) -> usize {
        self.hash_threads.unwrap_or_else(cores).get()
    }

    /// How many may wait for a hash thread.
    pub fn queue(&self) -> usize {
        self.queue.map_or_else(|| 32 * self.hash_threads(), NonZero::get)
    }

    pub fn rules(&self) -> PasswordRules {
        PasswordRules { min_length: self.min_length as usize, max_length: self.max_length as usize }
    }
}
