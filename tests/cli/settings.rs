//! Settings: their sources, faults and warnings, and `signet config`

use crate::support::{
    all,
    app::{REFRESH_KEY, SIGNING_KEY},
    keys::PAIRS,
    process::{run, text},
};
use secrecy::ExposeSecret;
use signet::{
    app::{load_settings, warnings},
    config::{Profile, Settings, Sources},
};
use std::fs;
use tempfile::TempDir;

const KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

const OTHER_KEY: &str = "zyxwvutsrqponmlkjihgfedcba9876543210";

fn load(environment: &[(&str, &str)]) -> Result<Settings, String> {
    load_from(None, environment)
}

fn load_from(directory: Option<&TempDir>, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let directory = directory.map(|directory| directory.path().to_owned());
    load_settings(&Sources { directory, environment }).map_err(|faults| faults.to_string())
}

fn production(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let keys =
        [("SIGNET_PROFILE", "production"), ("SIGNET__JWT__SIGNING_KEY", KEY), ("SIGNET__JWT__REFRESH_KEY", OTHER_KEY)];
    keys.iter().chain(more).copied().collect()
}

#[test]
fn without_any_setting_the_defaults_apply() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.profile, Profile::Development);
    assert_eq!(settings.server.bind.to_string(), "127.0.0.1:8000");
    assert_eq!(settings.database.sqlite_path().unwrap().to_str(), Some("data/signet.db"));
    assert_eq!(settings.issuer(), "signet");
    assert_eq!((settings.jwt.access_token_lifetime.0, settings.jwt.refresh_token_lifetime.0), (300, 86_400));
    // The cost that OWASP recommends. Other tests use less; this pins the default.
    let passwords = &settings.passwords;
    assert_eq!((passwords.memory_kib, passwords.iterations, passwords.parallelism), (19_456, 2, 1));
    assert_eq!((passwords.min_length, passwords.max_length), (8, 256));
    assert_eq!(passwords.queue(), 32 * passwords.hash_threads());
}

#[test]
fn each_layer_overrides_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let workers = |environment: &[(&str, &str)]| load_from(Some(&directory), environment).unwrap().server.workers();
    write("development.toml", "[server]\nworkers = 3");
    assert_eq!(workers(&[]), 3);
    write("local.toml", "[server]\nworkers = 4");
    assert_eq!(workers(&[]), 4);
    assert_eq!(workers(&[("SIGNET__SERVER__WORKERS", "5")]), 5);
    write("key", &format!("{KEY}\n"));
    let key = directory.path().join("key");
    let environment =
        [("SIGNET__JWT__SIGNING_KEY", OTHER_KEY), ("SIGNET__JWT__SIGNING_KEY_FILE", key.to_str().unwrap())];
    let settings = load_from(Some(&directory), &environment).unwrap();
    assert_eq!(
        settings.jwt.signing_key.unwrap().expose_secret(),
        KEY,
        "the file overrides the variable, and its line end is removed"
    );
}

#[test]
fn environment_variables_set_every_kind_of_value() {
    let settings = load(&[
        ("SIGNET__SERVER__DOCS", "false"),
        ("SIGNET__JWT__AUTH_HEADER_TYPES", "Bearer, JWT"),
        ("SIGNET__JWT__AUDIENCE", "123"),
        ("SIGNET__JWT__LEEWAY", "5s"),
        ("SIGNET__DATABASE__ACQUIRE_TIMEOUT", "500ms"),
        ("SIGNET__JWT__ISSUER", ""),
        ("SIGNET__REVOCATION__MAX_STALENESS", "never"),
        ("SIGNET_OTHER", "is ignored"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert!(!settings.server.docs);
    assert_eq!(settings.jwt.auth_header_types, ["Bearer", "JWT"]);
    assert_eq!(settings.jwt.audience.as_deref(), Some("123"), "digits stay a string");
    assert_eq!(settings.jwt.leeway.0, 5);
    assert_eq!(settings.database.acquire_timeout.as_millis(), 500);
    assert_eq!(settings.issuer(), "signet", "an empty value counts as absent");
}

#[test]
fn every_fault_is_reported_at_once_with_its_source() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("local.toml"),
        "typo = 1\n[server]\nbnid = \"a\"\nworkers = \"many\"\n[sever]\nbind = \"x\"",
    )
    .unwrap();
    let faults = load_from(
        Some(&directory),
        &[
            ("SIGNET__JWT__ACCESS_TOKEN_LIFETIME", "5"),
            ("SIGNET__JWT__SIGNING_KEY", "hunter2"),
            ("SIGNET__USERS__LIST", "everybody"),
            ("SIGNET__FOO", "1"),
            ("SIGNET__JWT__REFRESH_KEY_FILE", "/nowhere/refresh_key"),
            ("SIGNET__JWT__VERIFYING_KEY_FILE", "/dev/null"),
        ],
    )
    .unwrap_err();
    println!("{faults}");
    let local = directory.path().join("local.toml").display().to_string();
    let rows = [
        format!("typo ({local}): there is no such section"),
        format!("server.bnid ({local}): there is no such key; [server] has bind, workers"),
        format!("server.workers ({local}): must be a whole number from 1"),
        format!("sever.bind ({local}): there is no such section"),
        "jwt.access_token_lifetime (SIGNET__JWT__ACCESS_TOKEN_LIFETIME): must be a duration such as".to_owned(),
        "users.list (SIGNET__USERS__LIST): must be one of authenticated, staff".to_owned(),
        "foo (SIGNET__FOO): there is no such section".to_owned(),
        "jwt.signing_key (SIGNET__JWT__SIGNING_KEY): must have at least 32 bytes".to_owned(),
        "jwt.refresh_key (SIGNET__JWT__REFRESH_KEY_FILE): the file that it names cannot be read".to_owned(),
        "jwt.verifying_key (SIGNET__JWT__VERIFYING_KEY_FILE): the file that it names is not a regular file".to_owned(),
    ];
    all("faults", &rows, Clone::clone, |row| (!faults.contains(row.as_str())).then(|| "is not reported".to_owned()));
    assert!(!faults.contains("hunter2"), "no secret is repeated");
}

const LONG: &str = match std::str::from_utf8(&[b'a'; 501]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn an_invalid_value_is_refused_with_its_source() {
    let rows = [
        ("SERVER__BIND", "8000"),
        ("SERVER__BIND", "localhost"),
        ("SERVER__BIND", "127.0.0.1:99999"),
        ("SERVER__BIND", "0.0.0.0:8000"),
        ("SERVER__BIND", ""),
        ("SERVER__WORKERS", "0"),
        ("SERVER__WORKERS", "-1"),
        ("SERVER__WORKERS", "2.5"),
        ("SERVER__WORKERS", "513"),
        ("SERVER__DOCS", "yes"),
        ("SERVER__BASE_PATH", "id"),
        ("SERVER__BASE_PATH", "/id/"),
        ("SERVER__BASE_PATH", "/"),
        ("SERVER__BASE_PATH", "/a b"),
        ("SERVER__BASE_PATH", "/{id}"),
        ("SERVER__CORS_ALLOWED_ORIGINS", "app.example.com"),
        ("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com/"),
        ("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com/path"),
        ("SERVER__CORS_ALLOWED_ORIGINS", "https://*.example.com"),
        ("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com,null"),
        ("SERVER__CORS_ALLOWED_ORIGINS", "HTTPS://APP.EXAMPLE.COM"),
        ("SERVER__TRUSTED_PROXIES", "10.0.0.0/33"),
        ("SERVER__TRUSTED_PROXIES", "proxy"),
        ("SERVER__TRUSTED_PROXIES", "10.0.0.1, 10.0.0.x"),
        ("SERVER__FORWARDED_HEADER", "x forwarded"),
        ("SERVER__PUBLIC_URL", "id.example.com"),
        ("SERVER__REQUEST_TIMEOUT", "999ms"),
        ("SERVER__REQUEST_TIMEOUT", "10"),
        ("SERVER__REQUEST_TIMEOUT", "1000000y"),
        ("SERVER__KEEP_ALIVE", "0s"),
        ("SERVER__KEEP_ALIVE", "2h"),
        ("SERVER__SHUTDOWN_TIMEOUT", "-1s"),
        ("SERVER__SHUTDOWN_TIMEOUT", "1d"),
        ("SERVER__METRICS_BIND", "127.0.0.1:8000"),
        ("DATABASE__URL", "mysql://localhost/a"),
        ("DATABASE__URL", ""),
        ("DATABASE__URL", "signet.db"),
        ("DATABASE__URL", "sqlite::memory:"),
        ("DATABASE__URL", "sqlite://a.db?mode=ro"),
        ("DATABASE__URL", "postgres://host:port/a"),
        ("DATABASE__URL", "postgres://u:p@host/a?sslmod=verify-full"),
        ("DATABASE__URL", "postgres://u:p@host/a?sslmode=prefer&sslrootcert=/etc/passwd"),
        ("DATABASE__URL", "postgres://u:p@host/a?sslmode=verify-full&sslrootcert=/nowhere.pem"),
        ("DATABASE__URL", "postgres://u:p@host/a?channel_binding=require"),
        ("DATABASE__MAX_CONNECTIONS", "0"),
        ("DATABASE__ACQUIRE_TIMEOUT", "1h"),
        ("JWT__SIGNING_KEY", "short"),
        ("JWT__SIGNING_KEY", "a-string-secret-at-least-256-bits-long"),
        ("JWT__SIGNING_KEY", "changeme-changeme-changeme-changeme"),
        ("JWT__SIGNING_KEY", "passwordpasswordpasswordpassword1234"),
        ("JWT__SIGNING_KEY", "your_jwt_secret_key_change_me_in_production"),
        ("JWT__REFRESH_KEY", "django-insecure-0123456789abcdefghijklmnop"),
        ("JWT__ALGORITHM", "none"),
        ("JWT__ALGORITHM", "hs256"),
        ("JWT__ALGORITHM", "ES512"),
        ("JWT__ALGORITHM", "EdDSA "),
        ("MAIL__SMTP_URL", "mail.example.com"),
        ("MAIL__SMTP_URL", "smtp://127.0.0.1:25"),
        ("MAIL__FROM", "no address"),
        ("MAIL__LINK_BASE", "app.example.com"),
        ("MAIL__TEMPLATES_DIR", "/nowhere"),
        ("RATE_LIMIT__ACCOUNT_FAILURES", "0"),
        ("RATE_LIMIT__ACCOUNT_DELAY_MAX", "500ms"),
        ("RATE_LIMIT__ACCOUNT_DELAY_MAX", "2d"),
        ("RATE_LIMIT__SIGNIN_PER_ADDRESS", "0/m"),
        ("PASSWORDS__BLOCKLIST_FILE", "/nowhere"),
        ("PASSWORDS__BLOCKLIST_FILE", "/dev/zero"),
        ("JWT__ACCESS_TOKEN_LIFETIME", "0s"),
        ("JWT__ACCESS_TOKEN_LIFETIME", "500ms"),
        ("JWT__ACCESS_TOKEN_LIFETIME", "1000y"),
        ("JWT__SESSION_LIFETIME", "1h"),
        ("JWT__REFRESH_GRACE", "2d"),
        ("JWT__LEEWAY", "2m"),
        ("JWT__AUTH_HEADER_TYPES", ""),
        ("JWT__AUTH_HEADER_TYPES", "Bearer token"),
        ("JWT__AUTHORIZATION_HEADER", "a b"),
        ("JWT__AUTHORIZATION_HEADER", "Host"),
        ("JWT__AUTHORIZATION_HEADER", "content-length"),
        ("JWT__ISSUER", LONG),
        ("JWT__AUDIENCE", LONG),
        ("JWT__AUDIENCES", LONG),
        ("JWT__AUDIENCES", "a,b\u{7f}"),
        ("JWT__ACCESS_TOKEN_TYPE", "at+JWT"),
        ("JWT__ACCESS_TOKEN_TYPE", "jwt"),
        ("JWT__ISSUER", "https://id.example.com/?tenant=1"),
        ("JWT__ISSUER", "https://id.example.com/#a"),
        ("JWT__ISSUER", "https://user:secret@id.example.com"),
        ("JWT__ISSUER", " https://id.example.com"),
        ("JWT__ISSUER", "https:id.example.com"),
        ("JWT__ISSUER", "HTTPS://ID.example.com"),
        ("JWT__ISSUER", "https://id.example.com/a/../b"),
        ("JWT__ISSUER", "https://id.example.com/{x}"),
        ("JWT__ISSUER", "https://id.example.com/a%20b"),
        ("JWT__ISSUER", "https://id.example.com:443"),
        ("JWT__ISSUER", "https://"),
        ("JWT__ISSUER", "https://id.example.com//"),
        ("JWT__ISSUER", "https://id.example.com/a//b"),
        ("USERS__MAX_API_KEYS", "-1"),
        ("USERS__MAX_API_KEYS", "10001"),
        ("JWT__ISSUER", "signet\r\nx"),
        ("SERVER__PUBLIC_URL", LONG),
        ("JWT__ACCESS_TOKEN_NAME", "expires_in"),
        ("JWT__ACCESS_TOKEN_NAME", "refresh_token"),
        ("JWT__USER_ID_FIELD", "password"),
        ("JWT__USER_ID_FIELD", "email"),
        ("JWT__JTI_CLAIM", "exp"),
        ("JWT__JTI_CLAIM", "sub"),
        ("JWT__USER_ID_CLAIM", "iss"),
        ("JWT__USER_ID_CLAIM", "jti"),
        ("JWT__USER_ID_CLAIM", "roles"),
        ("JWT__USER_ID_CLAIM", "a b"),
        ("PASSWORDS__MEMORY_KIB", "7"),
        ("PASSWORDS__MEMORY_KIB", "70000"),
        ("PASSWORDS__ITERATIONS", "0"),
        ("PASSWORDS__PARALLELISM", "0"),
        ("PASSWORDS__HASH_THREADS", "0"),
        ("PASSWORDS__QUEUE_TIMEOUT", "0s"),
        ("PASSWORDS__QUEUE_TIMEOUT", "2h"),
        ("PASSWORDS__MIN_LENGTH", "0"),
        ("PASSWORDS__MIN_LENGTH", "300"),
        ("PASSWORDS__MAX_LENGTH", "100000"),
        ("USERS__MAX_SESSIONS", "0"),
        ("REGISTRATION__MODE", "Open"),
        ("RATE_LIMIT__SIGNIN_PER_ADDRESS", "30"),
        ("RATE_LIMIT__SIGNIN_PER_ADDRESS", "0/m"),
        ("REVOCATION__POLL_INTERVAL", "0s"),
        ("TELEMETRY__OTLP_ENDPOINT", "collector:4318"),
        ("TELEMETRY__OTLP_ENDPOINT", " http://127.0.0.1:4318"),
        ("TELEMETRY__OTLP_ENDPOINT", "http://ü.example"),
        ("SERVER__PUBLIC_URL", "https://"),
        ("SERVER__PUBLIC_URL", "https://[::1"),
        ("SERVER__PUBLIC_URL", "https://x:99999/"),
        ("SERVER__PUBLIC_URL", "https://id.example.com/?q"),
        ("SERVER__BASE_PATH", "/.."),
        ("SERVER__METRICS_BIND", "0.0.0.0:8000"),
        ("DATABASE__URL", "sqlite://file:signet.db"),
        ("DATABASE__URL", "sqlite://data/"),
        ("TELEMETRY__FORMAT", "xml"),
        ("TELEMETRY__LOG", "signet=loud"),
        ("BOOTSTRAP__SUPERUSER_EMAIL", "root"),
        ("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"),
        ("BOOTSTRAP__SUPERUSER_PASSWORD", "correct horse"),
    ];
    all(
        "settings",
        &rows,
        |(name, value)| format!("{name}={value}"),
        |(name, value)| {
            let variable = format!("SIGNET__{name}");
            match load(&[(&variable, value)]) {
                Ok(_) => Some("was accepted".to_owned()),
                Err(faults) if faults.contains(&variable) || faults.contains("not set") => None,
                Err(faults) => Some(format!("does not name the source: {faults}")),
            }
        },
    );
}

/// The driver also reads these variables, and would not connect as the URL says.
#[test]
fn tls_is_configured_only_in_the_database_url() {
    let postgres = ("SIGNET__DATABASE__URL", "postgres://u:p@host/a");
    let faults = load(&[postgres, ("PGSSLMODE", "verify-full")]).unwrap_err();
    assert!(faults.contains("PGSSLMODE (the environment): say it in database.url: sslmode="), "{faults}");
    assert!(load(&[postgres]).is_ok());
    assert!(load(&[("PGSSLMODE", "verify-full")]).is_ok(), "SQLite has no TLS");
}

#[test]
fn the_line_end_of_a_value_is_removed() {
    let settings = load(&[
        ("SIGNET__DATABASE__URL", "postgres://u:p@host/a\n"),
        ("SIGNET__JWT__ISSUER", "https://id.example.com\r\n"),
        ("SIGNET__SERVER__WORKERS", "3\n"),
        ("SIGNET__JWT__REFRESH_KEY", &format!("{KEY}\n")),
    ])
    .unwrap();
    assert_eq!(settings.database.url.expose_secret(), "postgres://u:p@host/a");
    assert_eq!(settings.issuer(), "https://id.example.com");
    assert_eq!(settings.jwt.refresh_key.unwrap().expose_secret(), KEY);
}

#[test]
fn long_access_token_lifetimes_give_warnings() {
    let count = |lifetime: &str| warnings(&load(&[("SIGNET__JWT__ACCESS_TOKEN_LIFETIME", lifetime)]).unwrap()).len();
    assert_eq!((count("1h"), count("61m"), count("2d")), (0, 1, 2));
}

#[test]
fn production_requires_the_keys_that_development_generates() {
    let rows = vec![
        ("valid", production(&[]), None),
        ("bound everywhere", production(&[("SIGNET__SERVER__BIND", "0.0.0.0:8000")]), None),
        ("no keys", vec![("SIGNET_PROFILE", "production")], Some("jwt.refresh_key")),
        (
            "no refresh key",
            vec![("SIGNET_PROFILE", "production"), ("SIGNET__JWT__SIGNING_KEY", KEY)],
            Some("jwt.refresh_key"),
        ),
        ("an empty key", production(&[("SIGNET__JWT__SIGNING_KEY", "")]), Some("jwt.signing_key")),
        (
            "31 bytes",
            production(&[("SIGNET__JWT__SIGNING_KEY", "0123456789abcdefghijklmnopqrstu")]),
            Some("at least 32 bytes"),
        ),
        ("equal keys", production(&[("SIGNET__JWT__REFRESH_KEY", KEY)]), Some("must not be the signing key")),
        (
            "a known key",
            production(&[("SIGNET__JWT__SIGNING_KEY", "a-string-secret-at-least-256-bits-long")]),
            Some("published"),
        ),
        ("no such profile", vec![("SIGNET_PROFILE", "staging")], Some("SIGNET_PROFILE")),
    ];
    all(
        "production",
        &rows,
        |row| row.0.to_owned(),
        |(_, environment, fault)| match (load(environment), fault) {
            (Ok(_), None) => None,
            (Err(faults), Some(fault)) if faults.contains(fault) => None,
            (loaded, _) => Some(format!("{:?}", loaded.map(|_| ()))),
        },
    );
}

#[test]
fn risky_settings_give_warnings() {
    let text = warnings(&load(&production(&[])).unwrap()).join("\n");
    assert!(text.contains("rotate_refresh_tokens") && text.contains("users.list"), "{text}");
    assert!(warnings(&load(&[]).unwrap()).is_empty());
    let monotonous = load(&[("SIGNET__JWT__SIGNING_KEY", "abababababababababababababababababab")]).unwrap();
    assert!(warnings(&monotonous)[0].contains("does not look random"));
    let issuer = [("SIGNET__SERVER__PUBLIC_URL", "http://id.example.com")];
    assert!(warnings(&load(&production(&issuer)).unwrap()).join("\n").contains("begins with http"));
    let unlimited = warnings(&load(&production(&[("SIGNET__RATE_LIMIT__ENABLED", "false")])).unwrap()).join("\n");
    assert!(unlimited.contains("rate_limit.enabled is false"), "{unlimited}");
}

#[test]
fn printed_settings_show_their_source_and_no_secret() {
    let mut environment = production(&[("SIGNET__SERVER__WORKERS", "3")]);
    environment.push(("SIGNET__DATABASE__URL", "postgres://signet:hunter2@db/signet"));
    let text = load(&environment).unwrap().print();
    for line in [
        "server.workers = \"3\"  # SIGNET__SERVER__WORKERS",
        "server.bind = \"127.0.0.1:8000\"  # default",
        "telemetry.format = \"json\"  # production",
        "jwt.signing_key = ********  # SIGNET__JWT__SIGNING_KEY",
        "database.url = ********  # SIGNET__DATABASE__URL",
        "# jwt.audience is not set",
    ] {
        assert!(text.lines().any(|printed| printed == line), "no line {line}\n{text}");
    }
    for secret in [KEY, OTHER_KEY, "hunter2"] {
        assert!(!text.contains(secret));
    }
    let debug = format!("{:?}", load(&environment).unwrap());
    assert!(!debug.contains(KEY) && !debug.contains("hunter2"));
}

#[test]
fn a_broken_file_is_reported_without_quoting_it() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("local.toml"), "[jwt]\nsigning_key = \"hunter2\nx").unwrap();
    let faults = load_from(Some(&directory), &[]).unwrap_err();
    assert!(faults.contains("local.toml") && faults.contains("is not TOML") && faults.contains("line 3"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn every_command_exits_with_78_on_invalid_settings_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let environment =
        [("SIGNET__SERVER__BIND", "nowhere"), ("SIGNET__JWT__SIGNING_KEY", "hunter2"), ("SIGNET__TYPO__KEY", "1")];
    for arguments in [
        &["serve"][..],
        &[],
        &["config", "check"],
        &["config", "print"],
        &["migrate"],
        &["user", "list"],
        &["healthcheck"],
    ] {
        let output = run(folder.path(), &environment, arguments, "");
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {output:?}");
        let error = text(&output.stderr);
        assert!(
            error.contains("SIGNET__SERVER__BIND") && error.contains("SIGNET__TYPO__KEY") && !error.contains("hunter2"),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file was created");
    let output = run(folder.path(), &[], &["config", "check"], "");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "Configuration OK.\n"));
}

#[test]
fn config_check_reports_every_fault_that_serve_reports() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("text"), "no database, but more than sixteen bytes").unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/signing_key"), "short").unwrap();
    let rows = [
        ("DATABASE__URL", format!("sqlite://{}", path("folder")), "not a regular file"),
        ("DATABASE__URL", format!("sqlite://{}", path("text")), "another kind of file"),
        ("DATABASE__URL", format!("sqlite://{}", path("text/signet.db")), "cannot be created"),
        ("DATABASE__URL", "postgres://u:p@127.0.0.1:1/a?sslmod=require".to_owned(), "unknown parameter"),
        ("SERVER__BASE_PATH", String::new(), "signing_key: must have at least 32 bytes"),
    ];
    for (name, value, fault) in &rows {
        let environment = [(&*format!("SIGNET__{name}"), &**value), ("SIGNET__SERVER__BIND", "127.0.0.1:0")];
        for command in [&["config", "check"][..], &["serve"]] {
            let output = run(folder.path(), &environment, command, "");
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(78) && said.contains(fault), "{command:?}, {value}: {output:?}");
        }
    }
}

#[test]
fn config_print_shows_the_source_of_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[("SIGNET__USERS__LIST", "staff")], &["config", "print"], "");
    assert!(text(&output.stdout).contains("users.list = \"staff\"  # SIGNET__USERS__LIST"), "{output:?}");
}

#[tokio::test]
async fn a_key_must_match_the_algorithm_and_the_verifying_key() {
    let load = |pairs: &[(&str, &str)]| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (format!("SIGNET__JWT__{name}"), *value)).collect();
        load(&pairs.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>())
    };
    let (p256, rsa, public) = (PAIRS[6].1, PAIRS[0].1, PAIRS[6].2);
    let rows = [
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256)], None),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256), ("VERIFYING_KEY", public)], None),
        (vec![("SIGNING_KEY", SIGNING_KEY), ("VERIFYING_KEY", "anything")], None),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256), ("VERIFYING_KEY", PAIRS[7].2)], Some("verifying_key")),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256), ("VERIFYING_KEY", p256)], Some("is a private key")),
        (vec![("ALGORITHM", "ES256"), ("VERIFYING_KEY", public)], Some("together with jwt.signing_key")),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", public)], Some("the private key belongs here")),
        (vec![("ALGORITHM", "RS256"), ("SIGNING_KEY", p256)], Some("is not an RSA key")),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", rsa)], Some("curve P-256")),
        (vec![("ALGORITHM", "HS256"), ("SIGNING_KEY", rsa)], Some("is PEM")),
        (vec![("ALGORITHM", "HS512"), ("SIGNING_KEY", SIGNING_KEY)], Some("at least 64 bytes")),
        (vec![("ALGORITHM", "RS256"), ("SIGNING_KEY", include_str!("../interop/keys/rsa-1024.pem"))], Some("2048")),
        (vec![("SIGNING_KEY", SIGNING_KEY), ("KEYS_DIR", "keys")], Some("must not be set together")),
        (
            vec![("REFRESH_KEY", REFRESH_KEY), ("REFRESH_KEY_PREVIOUS", REFRESH_KEY)],
            Some("must not be jwt.refresh_key"),
        ),
        (
            vec![("SIGNING_KEY", SIGNING_KEY), ("REFRESH_KEY_PREVIOUS", SIGNING_KEY)],
            Some("must not be the signing key"),
        ),
        (vec![("REFRESH_KEY_PREVIOUS", "short")], Some("at least 32 bytes")),
        (vec![("REFRESH_KEY", rsa)], Some("is PEM")),
    ];
    all(
        "keys in settings",
        &rows,
        |(pairs, _)| format!("{:?}", pairs.iter().map(|(name, _)| name).collect::<Vec<_>>()),
        |(pairs, fault)| match (load(pairs), fault) {
            (Ok(_), None) => None,
            (Err(faults), Some(fault)) if faults.contains(fault) && !faults.contains("BEGIN") => None,
            (loaded, fault) => Some(format!("{:?} instead of {fault:?}", loaded.map(|_| ()))),
        },
    );
}
