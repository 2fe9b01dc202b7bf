//! What settings must be together, and what this version does not have yet.

use super::{
    MaxStaleness, Profile, Server, Settings,
    source::{DEFAULT, Fault, Reader, Sources},
    value::is_plain,
};
use crate::{
    domain::{Algorithm, Password, Seconds, UserIdField},
    keys::{SigningKey, is_monotonous},
    tokens::REGISTERED,
};
use secrecy::{ExposeSecret, SecretString};
use std::{net::SocketAddr, time::Duration};
use url::Url;

/// Notes whatever is wrong with settings beyond how each is written.
pub(super) fn check(settings: &Settings, sources: &Sources, reader: &mut Reader) {
    database(settings, sources, reader);
    keys(settings, reader);
    numbers(settings, reader);
    names(settings, reader);
    bootstrap(settings, reader);
    claims(settings, reader);
    let is_loopback = settings.server.bind.ip().is_loopback();
    if settings.profile == Profile::Development && !is_loopback {
        reader.fault_at(
            "server.bind",
            "the development profile serves this machine only: bind 127.0.0.1, or set SIGNET_PROFILE=production",
        );
    }
}

/// Variables that the driver of PostgreSQL reads beside the address, and by which TLS would be other than the address says.
const LIBPQ_TLS: [&str; 4] = ["PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];

fn database(settings: &Settings, sources: &Sources, reader: &mut Reader) {
    if settings.database.sqlite_path().is_some() {
        return;
    }
    for name in LIBPQ_TLS {
        if sources.environment.iter().any(|(known, value)| known == name && !value.is_empty()) {
            let parameter = name.trim_start_matches("PG").to_lowercase();
            reader.fault(Fault::new(name, "the environment", format!("say it in database.url: {parameter}=…")));
        }
    }
}

fn keys(settings: &Settings, reader: &mut Reader) {
    let jwt = &settings.jwt;
    let is_production = settings.profile == Profile::Production;
    if jwt.signing_key.is_some() && jwt.keys_dir.is_some() {
        reader.fault_at("jwt.keys_dir", "must not be set together with jwt.signing_key: which of them signs?");
    }
    let signs = [
        ("jwt.signing_key", &jwt.signing_key, jwt.algorithm, is_production && jwt.keys_dir.is_none()),
        ("jwt.refresh_key", &jwt.refresh_key, Algorithm::Hs256, is_production),
        ("jwt.refresh_key_previous", &jwt.refresh_key_previous, Algorithm::Hs256, false),
    ];
    for (name, key, algorithm, is_needed) in signs {
        let Some(key) = key else {
            if is_needed {
                let how = match algorithm.secret_length() {
                    Some(_) => "`openssl rand -base64 48` makes one",
                    None => "`openssl genpkey` makes one, and `signet keys generate` one in jwt.keys_dir",
                };
                reader.fault_at(name, format!("must be set in production; {how}"));
            }
            continue;
        };
        match SigningKey::parse(key, algorithm) {
            Err(fault) => reader.fault_at(name, fault.to_string()),
            Ok(key) if name == "jwt.signing_key" => {
                if let Some(Err(fault)) = jwt.verifying_key.as_ref().map(|public| key.check_public_half(public))
                    && algorithm.secret_length().is_none()
                {
                    reader.fault_at("jwt.verifying_key", fault.to_string());
                }
            }
            Ok(_) => {}
        }
    }
    if jwt.verifying_key.is_some() && jwt.signing_key.is_none() && algorithm_has_pairs(settings) {
        reader.fault_at("jwt.verifying_key", "must be set together with jwt.signing_key, whose public half it is");
    }
    let same = |one: &Option<SecretString>, other: &Option<SecretString>| match (one, other) {
        (Some(one), Some(other)) => one.expose_secret().trim() == other.expose_secret().trim(),
        _ => false,
    };
    for (name, key) in [("jwt.refresh_key", &jwt.refresh_key), ("jwt.refresh_key_previous", &jwt.refresh_key_previous)]
    {
        if same(&jwt.signing_key, key) {
            reader.fault_at(name, "must not be the signing key: who verifies access tokens could make refresh tokens");
        }
    }
    if same(&jwt.refresh_key, &jwt.refresh_key_previous) {
        reader.fault_at("jwt.refresh_key_previous", "must not be jwt.refresh_key");
    }
}

fn algorithm_has_pairs(settings: &Settings) -> bool {
    settings.jwt.algorithm.secret_length().is_none()
}

fn numbers(settings: &Settings, reader: &mut Reader) {
    let Settings { server, database, jwt, passwords, revocation, .. } = settings;
    let mut must = |is_right: bool, key: &str, what: &str| {
        if !is_right {
            reader.fault_at(key, format!("must be {what}"));
        }
    };
    // The framework counts this one in half seconds.
    let request_timeout = Duration::from_secs(1)..=Duration::from_hours(1);
    must(request_timeout.contains(&server.request_timeout), "server.request_timeout", "from 1s to 1h");
    let keep_alive = Duration::from_secs(1)..=Duration::from_hours(1);
    must(keep_alive.contains(&server.keep_alive), "server.keep_alive", "from 1s to 1h");
    must(server.shutdown_timeout <= Duration::from_hours(1), "server.shutdown_timeout", "at most 1h");
    must(server.workers() <= Server::MAX_WORKERS, "server.workers", "at most 512");
    must((1..=10_000).contains(&database.max_connections), "database.max_connections", "from 1 to 10000");
    let acquire = Duration::from_millis(10)..=Duration::from_mins(1);
    must(acquire.contains(&database.acquire_timeout), "database.acquire_timeout", "from 10ms to 1m");
    must(jwt.access_token_lifetime > Seconds(0), "jwt.access_token_lifetime", "at least 1s");
    must(jwt.refresh_token_lifetime > Seconds(0), "jwt.refresh_token_lifetime", "at least 1s");
    must(jwt.leeway <= Seconds(60), "jwt.leeway", "at most 60s");
    must((1..=16).contains(&passwords.parallelism), "passwords.parallelism", "from 1 to 16");
    must((1..=1000).contains(&passwords.iterations), "passwords.iterations", "from 1 to 1000");
    // RFC 9106 §3.1: at least 8 KiB for each lane.
    let memory = passwords.parallelism.saturating_mul(8)..=4 * 1024 * 1024;
    must(memory.contains(&passwords.memory_kib), "passwords.memory_kib", "from 8 for each lane to 4194304");
    must(passwords.max_memory_kib <= 4 * 1024 * 1024, "passwords.max_memory_kib", "at most 4194304");
    must(passwords.hash_threads() <= 1024, "passwords.hash_threads", "at most 1024");
    let queue_timeout = Duration::from_millis(10)..=Duration::from_hours(1);
    must(queue_timeout.contains(&passwords.queue_timeout), "passwords.queue_timeout", "from 10ms to 1h");
    must(passwords.queue() <= 1_000_000, "passwords.queue", "at most 1000000");
    must(passwords.min_length >= 1, "passwords.min_length", "at least 1");
    // The longest password, four bytes a character, fits into the 16 KiB of a request.
    must(passwords.max_length <= 2048, "passwords.max_length", "at most 2048");
    must(settings.users.max_sessions >= 1, "users.max_sessions", "at least 1");
    let poll_interval = Duration::from_millis(1)..=Duration::from_hours(1);
    must(poll_interval.contains(&revocation.poll_interval), "revocation.poll_interval", "from 1ms to 1h");
    if let MaxStaleness::After(max) = revocation.max_staleness
        && revocation.poll_interval > max
    {
        reader.fault_at_one_of(
            ["revocation.poll_interval", "revocation.max_staleness"],
            "revocation.poll_interval must be at most revocation.max_staleness",
        );
    }
    let mut at_most = |is_right: bool, less: &str, more: &str| {
        if !is_right {
            reader.fault_at_one_of([less, more], format!("{less} must be at most {more}"));
        }
    };
    at_most(jwt.refresh_token_lifetime <= jwt.session_lifetime, "jwt.refresh_token_lifetime", "jwt.session_lifetime");
    at_most(jwt.refresh_grace <= jwt.refresh_token_lifetime, "jwt.refresh_grace", "jwt.refresh_token_lifetime");
    at_most(passwords.memory_kib <= passwords.max_memory_kib, "passwords.memory_kib", "passwords.max_memory_kib");
    at_most(passwords.min_length <= passwords.max_length, "passwords.min_length", "passwords.max_length");
}

/// Headers that cannot carry a token.
const OF_HTTP: &[&str] = &["host", "connection", "content-length", "content-type", "transfer-encoding", "x-request-id"];

fn names(settings: &Settings, reader: &mut Reader) {
    let Settings { server, jwt, telemetry, .. } = settings;
    let schemes = &jwt.auth_header_types;
    if schemes.is_empty() || schemes.iter().any(|scheme| scheme.is_empty() || !scheme.chars().all(is_plain)) {
        reader.fault_at("jwt.auth_header_types", "must be one or more words such as Bearer");
    }
    if OF_HTTP.iter().any(|name| jwt.authorization_header.eq_ignore_ascii_case(name)) {
        reader.fault_at("jwt.authorization_header", "must not be a header that means something else");
    }
    for (key, text) in [("jwt.issuer", &jwt.issuer), ("jwt.audience", &jwt.audience)] {
        // A token is at most 8 KiB long, and has room for a user's own claims.
        if text.as_ref().is_some_and(|text| text.len() > 500 || text.chars().any(char::is_control)) {
            reader.fault_at(key, "must have at most 500 bytes, none of them a control character");
        }
    }
    let overlaps = |bind: SocketAddr| {
        let is_any = bind.ip().is_unspecified() || server.bind.ip().is_unspecified();
        bind.port() == server.bind.port() && bind.port() != 0 && (is_any || bind.ip() == server.bind.ip())
    };
    if server.metrics_bind.is_some_and(overlaps) {
        reader.fault_at("server.metrics_bind", "must not be server.bind");
    }
    let taken = ["token_type", "expires_in", "refresh_expires_in"];
    for (key, name) in
        [("jwt.access_token_name", &jwt.access_token_name), ("jwt.refresh_token_name", &jwt.refresh_token_name)]
    {
        if taken.contains(&&**name) {
            reader.fault_at(key, "must not be the name of another member of the reply");
        }
    }
    if jwt.access_token_name == jwt.refresh_token_name {
        reader.fault_at_one_of(
            ["jwt.refresh_token_name", "jwt.access_token_name"],
            "jwt.access_token_name and jwt.refresh_token_name must differ",
        );
    }
    if let Some(url) = &server.public_url
        && !((url.starts_with("https://") || url.starts_with("http://"))
            && url.len() <= 500
            && url.chars().all(|c| c.is_ascii_graphic())
            && Url::parse(url).is_ok_and(|url| {
                url.has_host() && url.username().is_empty() && url.query().is_none() && url.fragment().is_none()
            }))
    {
        reader.fault_at("server.public_url", "must be a URL such as https://id.example.com");
    }
    // The exporter reads it more strictly than a browser would.
    let is_http = |text: &String| {
        let is_url = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        is_url && text.chars().all(|c| c.is_ascii_graphic())
    };
    if telemetry.otlp_endpoint.as_ref().is_some_and(|url| !is_http(url)) {
        reader.fault_at("telemetry.otlp_endpoint", "must be the URL of a collector such as http://127.0.0.1:4318");
    }
    if tracing_subscriber::EnvFilter::try_new(&telemetry.log).is_err() {
        reader.fault_at("telemetry.log", "must be a level such as info, or targets such as signet=debug,sqlx=warn");
    }
}

/// Where added claims may stand: not in the place of one that means something.
fn claims(settings: &Settings, reader: &mut Reader) {
    let jwt = &settings.jwt;
    for (key, name, own) in
        [("jwt.jti_claim", &*jwt.jti_claim, "jti"), ("jwt.user_id_claim", &*jwt.user_id_claim, "sub")]
    {
        if name != own && REGISTERED.contains(&name) {
            reader.fault_at(key, "must not be the name of a claim that means something else");
        }
    }
    if jwt.jti_claim == jwt.user_id_claim {
        reader
            .fault_at_one_of(["jwt.user_id_claim", "jwt.jti_claim"], "jwt.jti_claim and jwt.user_id_claim must differ");
    }
    if jwt.user_id_field != UserIdField::Id && &*jwt.user_id_claim == "sub" {
        reader.fault_at(
            "jwt.user_id_field",
            "needs a claim of its own: set jwt.user_id_claim; `sub` is always the user's id",
        );
    }
}

fn bootstrap(settings: &Settings, reader: &mut Reader) {
    let first = &settings.bootstrap;
    if first.superuser_email.is_some() != first.superuser_password.is_some() {
        reader.fault_at("bootstrap.superuser_email", "must be set together with bootstrap.superuser_password");
    }
    let Some((_, password)) = settings.first_superuser() else { return };
    match Password::parse(password.expose_secret()) {
        Err(fault) => reader.fault_at("bootstrap.superuser_password", fault.to_string()),
        Ok(password) => {
            if let Err(weak) = settings.passwords.rules().check(&password) {
                reader.fault_at("bootstrap.superuser_password", weak.to_string());
            }
        }
    }
}

/// Settings that this version knows and that have no effect yet: keys, or how they begin.
const WITHOUT_EFFECT: &[&str] = &["rate_limit.", "mail.", "audit."];

/// What is allowed and yet worth a line.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.profile == Profile::Production {
        if !settings.jwt.rotate_refresh_tokens {
            warnings.push(
                "jwt.rotate_refresh_tokens is off: a copied refresh token is not noticed (RFC 9700 §4.14.2)".to_owned(),
            );
        }
        if settings.users.list == super::Listing::Authenticated {
            warnings.push("users.list = \"authenticated\": every user may list all users".to_owned());
        }
        if settings.rate_limit.enabled {
            warnings.push("there are no rate limits in this version: limit sign-ins in your proxy".to_owned());
        }
    }
    let jwt = &settings.jwt;
    if jwt.access_token_lifetime > Seconds(3600) {
        warnings.push(
            "jwt.access_token_lifetime is longer than 1h: services that verify tokens by themselves take one for so long \
             after its session has ended"
                .to_owned(),
        );
    }
    if jwt.access_token_lifetime > jwt.refresh_token_lifetime {
        warnings.push("jwt.access_token_lifetime is longer than jwt.refresh_token_lifetime".to_owned());
    }
    for (name, key) in [
        ("jwt.signing_key", &jwt.signing_key),
        ("jwt.refresh_key", &jwt.refresh_key),
        ("jwt.refresh_key_previous", &jwt.refresh_key_previous),
    ] {
        if key.as_ref().is_some_and(is_monotonous) {
            warnings.push(format!("{name} does not look random; `openssl rand -base64 48` makes one that is"));
        }
    }
    if settings.jwt.verifying_key.is_some() && !algorithm_has_pairs(settings) {
        warnings.push(format!("jwt.verifying_key has no meaning under {}", settings.jwt.algorithm.name()));
    }
    let set = settings.printable.iter().filter_map(|line| line.shown.as_ref().map(|(_, place)| (line.key, place)));
    for (key, place) in set.filter(|(_, place)| *place != DEFAULT) {
        if WITHOUT_EFFECT.iter().any(|known| key.starts_with(known)) {
            warnings.push(format!("{key} ({place}) has no effect in this version"));
        }
    }
    warnings
}
