//! What settings must be beyond the form of each value, and what is allowed but deserves a warning.

use super::{
    Listing, MaxStaleness, Problem, Profile, Settings,
    sources::{Fault, Reader, Sources},
    values::is_plain,
};
use crate::domain::{Algorithm, Password, Seconds, UserIdField};
use secrecy::{ExposeSecret, SecretString};
use std::{net::SocketAddr, time::Duration};
use tracing_subscriber::EnvFilter;
use url::Url;

/// Every problem that these settings have.
pub(super) fn problems(settings: &Settings) -> Vec<Problem> {
    let mut rules = Rules::default();
    keys(settings, &mut rules);
    ranges(settings, &mut rules);
    orders(settings, &mut rules);
    server(settings, &mut rules);
    tokens(settings, &mut rules);
    bootstrap(settings, &mut rules);
    let is_level = EnvFilter::try_new(&settings.telemetry.log).is_ok();
    rules.check(
        is_level,
        &["telemetry.log"],
        "must be a level such as info, or targets such as signet=debug,sqlx=warn",
    );
    rules.0
}

#[derive(Default)]
struct Rules(Vec<Problem>);

impl Rules {
    /// Adds `problem` unless the rule holds.
    fn check(&mut self, holds: bool, keys: &'static [&'static str], problem: impl Into<String>) {
        if !holds {
            self.0.push(Problem(keys, problem.into()));
        }
    }
}

/// Refuses the variables by which the driver of PostgreSQL would use TLS in another way than `database.url` says.
pub(super) fn check_environment(settings: &Settings, sources: &Sources, reader: &mut Reader) {
    let is_postgres = settings.database.sqlite_path().is_none();
    let is_set = |name: &&str| !sources.variable(name).is_empty();
    let variables = ["PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];
    for name in variables.into_iter().filter(|name| is_postgres && is_set(name)) {
        let parameter = name.trim_start_matches("PG").to_lowercase();
        reader.fault(Fault::new(name, "the environment", format!("say it in database.url: {parameter}=…")));
    }
}

fn keys(settings: &Settings, rules: &mut Rules) {
    const NOT_SIGNING: &str =
        "must not be the signing key: a service that verifies access tokens could make refresh tokens";
    let jwt = &settings.jwt;
    let (signs, has_folder) = (jwt.signing_key.is_some(), jwt.keys_dir.is_some());
    rules.check(!(signs && has_folder), &["jwt.keys_dir"], "must not be set together with jwt.signing_key");
    if settings.profile == Profile::Production {
        let how = |algorithm: Algorithm| match algorithm.secret_length() {
            Some(_) => "must be set in production; `openssl rand -base64 48` makes one",
            None => {
                "must be set in production; `openssl genpkey` makes one, and `signet keys generate` one in jwt.keys_dir"
            }
        };
        rules.check(signs || has_folder, &["jwt.signing_key"], how(jwt.algorithm));
        rules.check(jwt.refresh_key.is_some(), &["jwt.refresh_key"], how(Algorithm::Hs256));
    }
    let has_use = jwt.verifying_key.is_none() || signs || jwt.algorithm.secret_length().is_some();
    rules.check(has_use, &["jwt.verifying_key"], "must be set together with jwt.signing_key, whose public half it is");
    let differ = |one: &Option<SecretString>, other: &Option<SecretString>| match (one, other) {
        (Some(one), Some(other)) => one.expose_secret().trim() != other.expose_secret().trim(),
        _ => true,
    };
    rules.check(differ(&jwt.signing_key, &jwt.refresh_key), &["jwt.refresh_key"], NOT_SIGNING);
    rules.check(differ(&jwt.signing_key, &jwt.refresh_key_previous), &["jwt.refresh_key_previous"], NOT_SIGNING);
    let differs = differ(&jwt.refresh_key, &jwt.refresh_key_previous);
    rules.check(differs, &["jwt.refresh_key_previous"], "must not be jwt.refresh_key");
}

/// Checks settings against ranges: a line each.
macro_rules! check_ranges {
    ($settings:ident, $rules:ident; $($section:ident.$key:ident: $range:expr, $what:literal;)*) => {$(
        $rules.check(
            $range.contains(&$settings.$section.$key),
            &[concat!(stringify!($section), ".", stringify!($key))],
            concat!("must be ", $what),
        );
    )*};
}

fn ranges(settings: &Settings, rules: &mut Rules) {
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_hours(1);
    const MAX_KIB: u32 = 4 * 1024 * 1024;
    // RFC 9106 §3.1: at least 8 KiB for each lane.
    let min_kib = settings.passwords.parallelism.saturating_mul(8);
    check_ranges! { settings, rules;
        // actix-http counts this one in half seconds.
        server.request_timeout: (SECOND..=HOUR), "from 1s to 1h";
        server.keep_alive: (SECOND..=HOUR), "from 1s to 1h";
        server.shutdown_timeout: (..=HOUR), "at most 1h";
        database.max_connections: (1..=10_000), "from 1 to 10000";
        database.acquire_timeout: (SECOND / 100..=HOUR / 60), "from 10ms to 1m";
        jwt.access_token_lifetime: (Seconds(1)..), "at least 1s";
        jwt.refresh_token_lifetime: (Seconds(1)..), "at least 1s";
        jwt.leeway: (..=Seconds(60)), "at most 60s";
        passwords.parallelism: (1..=16), "from 1 to 16";
        passwords.iterations: (1..=1000), "from 1 to 1000";
        passwords.memory_kib: (min_kib..=MAX_KIB), "from 8 for each lane to 4194304";
        passwords.max_memory_kib: (..=MAX_KIB), "at most 4194304";
        passwords.queue_timeout: (SECOND / 100..=HOUR), "from 10ms to 1h";
        passwords.min_length: (1..), "at least 1";
        // The longest password, four bytes a character, fits into the 16 KiB of a request.
        passwords.max_length: (..=2048), "at most 2048";
        users.max_sessions: (1..), "at least 1";
        users.max_api_keys: (..=10_000), "at most 10000";
        rate_limit.account_failures: (1..), "at least 1";
        rate_limit.account_delay_max: (SECOND..=HOUR * 24), "from 1s to 1d";
        revocation.poll_interval: (SECOND / 1000..=HOUR), "from 1ms to 1h";
    }
    let Settings { server, passwords, .. } = settings;
    rules.check(server.workers() <= super::Server::MAX_WORKERS, &["server.workers"], "must be at most 512");
    rules.check(passwords.hash_threads() <= 1024, &["passwords.hash_threads"], "must be at most 1024");
    rules.check(passwords.queue() <= 1_000_000, &["passwords.queue"], "must be at most 1000000");
}

/// Checks pairs of settings of which one must be at most the other.
fn orders(settings: &Settings, rules: &mut Rules) {
    let Settings { jwt, passwords, revocation, .. } = settings;
    let mut at_most = |holds: bool, keys: &'static [&'static str; 2]| {
        rules.check(holds, keys, format!("{} must be at most {}", keys[0], keys[1]));
    };
    let is_polled = match revocation.max_staleness {
        MaxStaleness::After(max) => revocation.poll_interval <= max,
        MaxStaleness::Never => true,
    };
    at_most(is_polled, &["revocation.poll_interval", "revocation.max_staleness"]);
    let Seconds(refresh) = jwt.refresh_token_lifetime;
    at_most(refresh <= jwt.session_lifetime.0, &["jwt.refresh_token_lifetime", "jwt.session_lifetime"]);
    at_most(jwt.refresh_grace.0 <= refresh, &["jwt.refresh_grace", "jwt.refresh_token_lifetime"]);
    let has_memory = passwords.memory_kib <= passwords.max_memory_kib;
    at_most(has_memory, &["passwords.memory_kib", "passwords.max_memory_kib"]);
    at_most(passwords.min_length <= passwords.max_length, &["passwords.min_length", "passwords.max_length"]);
}

fn server(settings: &Settings, rules: &mut Rules) {
    let server = &settings.server;
    let is_allowed = settings.profile == Profile::Production || server.bind.ip().is_loopback();
    rules.check(
        is_allowed,
        &["server.bind"],
        "the development profile serves this machine only: bind 127.0.0.1, or set SIGNET_PROFILE=production",
    );
    let overlaps = |bind: SocketAddr| {
        let is_any = bind.ip().is_unspecified() || server.bind.ip().is_unspecified();
        bind.port() == server.bind.port() && bind.port() != 0 && (is_any || bind.ip() == server.bind.ip())
    };
    rules.check(!server.metrics_bind.is_some_and(overlaps), &["server.metrics_bind"], "must not be server.bind");
    let is_prefix = |text: &str| {
        let is_plain = |url: Url| url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
        text.len() <= 500 && Url::parse(text).is_ok_and(is_plain)
    };
    let is_right = server.public_url.as_deref().is_none_or(is_prefix);
    rules.check(is_right, &["server.public_url"], "must have at most 500 bytes, and no user, query or fragment");
}

fn tokens(settings: &Settings, rules: &mut Rules) {
    const TAKEN: &str = "must not be the name of another member of the response";
    const SHORT: &str = "must have at most 500 bytes, none of them a control character";
    /// Headers that cannot carry a token.
    const OF_HTTP: &[&str] =
        &["host", "connection", "content-length", "content-type", "transfer-encoding", "x-request-id"];
    let jwt = &settings.jwt;
    let is_scheme = |scheme: &String| !scheme.is_empty() && scheme.chars().all(is_plain);
    let are_schemes = !jwt.auth_header_types.is_empty() && jwt.auth_header_types.iter().all(is_scheme);
    rules.check(are_schemes, &["jwt.auth_header_types"], "must be one or more words such as Bearer");
    let is_free = !OF_HTTP.iter().any(|name| jwt.authorization_header.eq_ignore_ascii_case(name));
    rules.check(is_free, &["jwt.authorization_header"], "must not be a header with another meaning");
    // A token is at most 8 KiB long, and has room for a user's own claims.
    let is_short = |text: &String| text.len() <= 500 && !text.chars().any(char::is_control);
    rules.check(jwt.issuer.as_ref().is_none_or(is_short), &["jwt.issuer"], SHORT);
    rules.check(jwt.audience.as_ref().is_none_or(is_short), &["jwt.audience"], SHORT);
    let are_audiences = jwt.audiences.iter().all(|text| !text.is_empty() && is_short(text));
    rules.check(are_audiences, &["jwt.audiences"], "must be texts of at most 500 bytes, without control characters");
    // The issuer may be a name, such as `signet`. If it is a URL, verifiers add a path (RFC 8414 §3), and compare it as
    // text.
    let is_prefix = |url: &Url| {
        let is_written_so = [settings.issuer(), &format!("{}/", settings.issuer())].contains(&url.as_str());
        let is_bare = url.query().is_none() && url.fragment().is_none();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_plain_path = !url.path().contains("//") && url.path().chars().all(|c| c == '/' || is_plain(c));
        is_written_so && is_bare && !has_user && is_plain_path
    };
    let scheme = settings.issuer().trim_start().split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_name = !matches!(scheme.as_str(), "http" | "https");
    rules.check(
        settings.issuer_url().as_ref().map_or(is_name, is_prefix),
        &["jwt.issuer", "server.public_url"],
        "must be written as https://id.example.com or https://example.com/id: scheme and host in lower case, letters, \
         digits and -_.~ in the path, no default port, and no user, query or fragment",
    );
    let is_free = |name: &str| !["token_type", "expires_in", "refresh_expires_in"].contains(&name);
    rules.check(is_free(&jwt.access_token_name), &["jwt.access_token_name"], TAKEN);
    rules.check(is_free(&jwt.refresh_token_name), &["jwt.refresh_token_name"], TAKEN);
    rules.check(
        jwt.access_token_name != jwt.refresh_token_name,
        &["jwt.refresh_token_name", "jwt.access_token_name"],
        "jwt.access_token_name and jwt.refresh_token_name must differ",
    );
    rules.check(
        jwt.jti_claim != jwt.user_id_claim,
        &["jwt.user_id_claim", "jwt.jti_claim"],
        "jwt.jti_claim and jwt.user_id_claim must differ",
    );
    rules.check(
        jwt.user_id_field == UserIdField::Id || &*jwt.user_id_claim != "sub",
        &["jwt.user_id_field"],
        "needs a claim of its own: set jwt.user_id_claim; `sub` is always the user's id",
    );
}

fn bootstrap(settings: &Settings, rules: &mut Rules) {
    let first = &settings.bootstrap;
    rules.check(
        first.superuser_email.is_some() == first.superuser_password.is_some(),
        &["bootstrap.superuser_email"],
        "must be set together with bootstrap.superuser_password",
    );
    let Some((_, password)) = settings.first_superuser() else { return };
    let fault = match Password::parse(password.expose_secret()) {
        Err(fault) => Some(fault.to_string()),
        Ok(password) => settings.passwords.rules().check(&password).err().map(|weak| weak.to_string()),
    };
    rules.check(fault.is_none(), &["bootstrap.superuser_password"], fault.unwrap_or_default());
}

impl Settings {
    /// What is allowed but deserves a line at the start.
    pub fn warnings(&self) -> Vec<String> {
        let jwt = &self.jwt;
        let is_production = self.profile == Profile::Production;
        let outlives_refresh = jwt.access_token_lifetime > jwt.refresh_token_lifetime;
        let general = [
            (
                is_production && !jwt.rotate_refresh_tokens,
                "jwt.rotate_refresh_tokens is off: the use of a copied refresh token is not noticed (RFC 9700 §4.14.2)",
            ),
            (
                is_production && self.users.list == Listing::Authenticated,
                "users.list = \"authenticated\": every user may list all users",
            ),
            (
                is_production && !self.rate_limit.enabled,
                "rate_limit.enabled is false: clients can guess passwords as fast as they are hashed",
            ),
            (
                jwt.access_token_lifetime > Seconds(3600),
                "jwt.access_token_lifetime is longer than 1h: services that verify tokens by themselves accept a token \
                 for so long after its session has ended",
            ),
            (
                is_production && self.issuer_url().is_some_and(|issuer| issuer.scheme() == "http"),
                "the issuer (jwt.issuer, else server.public_url) begins with http: services fetch the key set without TLS",
            ),
            (outlives_refresh, "jwt.access_token_lifetime is longer than jwt.refresh_token_lifetime"),
            (
                jwt.verifying_key.is_some() && jwt.algorithm.secret_length().is_some(),
                "jwt.verifying_key has no effect: the tokens of this jwt.algorithm have no public key",
            ),
        ];
        general.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text.to_owned()).collect()
    }
}
