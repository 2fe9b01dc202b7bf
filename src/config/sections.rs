//! Every setting, one line each. `config/default.toml` documents them and has their defaults.

use super::{
    Profile,
    database_url::DatabaseUrl,
    print::Line,
    sources::Reader,
    values::{
        BasePath, HeaderName, HttpUrl, Listing, LogFormat, MaxStaleness, MemberName, Origin, Rate, RegistrationMode,
        TokenType,
    },
};
use crate::domain::{Algorithm, Email, Seconds, UserIdField};
use ipnet::IpNet;
use secrecy::SecretString;
use std::{net::SocketAddr, num::NonZero, path::PathBuf, time::Duration};

/// Declares each section as a struct, all of them as [`Settings`], and how they are read.
macro_rules! sections {
    ($($(#[$about:meta])* $section:ident: $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty,)* })*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone)]
            pub struct $name { $($(#[$doc])* pub $key: $type,)* }
        )*

        /// Every setting, parsed and checked.
        #[derive(Debug, Clone)]
        pub struct Settings {
            pub profile: Profile,
            $(pub $section: $name,)*
            pub(super) printable: Vec<Line>,
        }

        impl Settings {
            pub(super) fn read(reader: &mut Reader) -> Self {
                Self {
                    profile: reader.profile,
                    $($section: $name {
                        $($key: reader.read(concat!(stringify!($section), ".", stringify!($key))),)*
                    },)*
                    printable: Vec::new(),
                }
            }
        }
    };
}

sections! {
    /// How the service listens.
    server: Server {
        bind: SocketAddr,
        /// HTTP threads.
        workers: Option<NonZero<usize>>,
        public_url: Option<HttpUrl>,
        /// Empty or "/path": the prefix of every route.
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

    /// Where users and sessions are stored.
    database: Database {
        url: DatabaseUrl,
        max_connections: u32,
        acquire_timeout: Duration,
        migrate_on_start: bool,
    }

    /// Tokens: keys, lifetimes and names.
    jwt: Jwt {
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
        audiences: Vec<String>,
        access_token_type: TokenType,
        leeway: Seconds,
        jti_claim: MemberName,
        user_id_claim: MemberName,
        user_id_field: UserIdField,
    }

    /// The cost of a hash, and the rules for passwords. Memory in KiB, lengths in characters.
    passwords: Passwords {
        memory_kib: u32,
        iterations: u32,
        parallelism: u32,
        max_memory_kib: u32,
        hash_threads: Option<NonZero<usize>>,
        queue: Option<NonZero<usize>>,
        queue_timeout: Duration,
        min_length: u32,
        max_length: u32,
        blocklist_file: Option<PathBuf>,
    }

    /// Who may list users, which usernames are reserved, and how many sessions and API keys a user may have.
    users: Users {
        list: Listing,
        max_sessions: u32,
        max_api_keys: u32,
        reserved_usernames: Vec<String>,
    }

    /// Who may create users.
    registration: Registration {
        mode: RegistrationMode,
    }

    /// Limits for each client address and each account.
    rate_limit: RateLimit {
        enabled: bool,
        signin_per_address: Rate,
        create_per_address: Rate,
        refresh_per_address: Rate,
        account_failures: u32,
        account_delay_max: Duration,
    }

    /// How ended sessions reach every replica.
    revocation: Revocation {
        poll_interval: Duration,
        max_staleness: MaxStaleness,
    }

    /// Logs and traces.
    telemetry: Telemetry {
        log: String,
        format: LogFormat,
        otlp_endpoint: Option<HttpUrl>,
    }

    /// How mail is sent.
    mail: Mail {
        smtp_url: Option<SecretString>,
        from: Option<String>,
        link_base: Option<HttpUrl>,
        templates_dir: Option<PathBuf>,
    }

    /// How long the audit trail is kept.
    audit: Audit {
        keep: Duration,
    }

    /// The first superuser; used once, while there is none.
    bootstrap: Bootstrap {
        superuser_email: Option<Email>,
        superuser_password: Option<SecretString>,
    }
}
