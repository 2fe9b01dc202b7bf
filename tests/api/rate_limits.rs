//! Limits on guessing, by client address and by account.

use crate::support::{Endpoint, PASSWORD, Reply, TestApp, actor::http_client, email, process::run};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use signet::{
    domain::Timestamp,
    limits::{AddressLimit, AddressLimits, AddressRates},
    storage::Expiring,
};
use std::{num::NonZero, path::Path, time::Duration};

/// Limits are on, and clients come through a trusted proxy that names their address.
const LIMITS: &[(&str, &str)] = &[("RATE_LIMIT__ENABLED", "true"), ("SERVER__TRUSTED_PROXIES", "127.0.0.1")];
const OWNER: &str = "198.51.100.1";
const STRANGER: &str = "203.0.113.66";

async fn send(service: &Endpoint, path: &str, address: &str, body: &Value) -> Reply {
    let send = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", address).json(body);
    service.anon().send(Method::POST, path, send).await
}

async fn sign_in(service: &Endpoint, address: &str, email: &str, password: &str) -> Reply {
    send(service, "/auth/signin", address, &json!({"email": email, "password": password})).await
}

/// The passwords that the service has hashed so far.
async fn hashes(service: &Endpoint) -> usize {
    let metrics = service.anon().get("/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("signet_hash_wait_seconds_count "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_address_beyond_its_limit_is_refused_before_any_hash() {
    let app = TestApp::with(&[LIMITS, &[("RATE_LIMIT__SIGNIN_PER_ADDRESS", "3/h")]].concat()).await;
    let ann = app.user_with_email(&email()).await;
    for _ in 0..3 {
        assert_eq!(sign_in(&app, STRANGER, &email(), "a wrong password").await.status, 401);
    }
    let before = hashes(&app).await;
    for address in [STRANGER, "203.0.113.66:4711", "6.6.6.6, 203.0.113.66", "::ffff:203.0.113.66"] {
        let refused = sign_in(&app, address, &ann.email, PASSWORD).await;
        assert_eq!((refused.status, refused.code()), (429, "rate-limited"), "{address}");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1100..=1200).contains(&wait), "3 an hour refill one in 20 minutes, not {wait} s");
    }
    assert_eq!(hashes(&app).await, before);
    assert_eq!(sign_in(&app, OWNER, &ann.email, PASSWORD).await.status, 200, "other addresses are not limited");
    let metrics = app.anon().get("/metrics").await.text;
    assert!(metrics.contains("signet_rate_limited_total{limit=\"signin_per_address\"} 4"), "{metrics}");
}

#[tokio::test]
async fn each_limit_by_address_counts_the_requests_of_its_routes() {
    let limits = [
        ("RATE_LIMIT__SIGNIN_PER_ADDRESS", "2/h"),
        ("RATE_LIMIT__CREATE_PER_ADDRESS", "2/h"),
        ("RATE_LIMIT__REFRESH_PER_ADDRESS", "2/h"),
    ];
    let app = TestApp::with(&[LIMITS, &limits].concat()).await;
    // From another address than those below.
    let ann = app.user().await;
    let bearer = format!("Bearer {}", ann.access);
    let authorized = |method: Method, path: &'static str, body: Value| {
        let (bearer, app) = (bearer.clone(), &app);
        async move {
            let send = |request: reqwest::RequestBuilder| {
                request.header("x-forwarded-for", STRANGER).header("authorization", bearer).json(&body)
            };
            app.anon().send(method, path, send).await.status
        }
    };
    let change = json!({"current_password": "a wrong password", "new_password": "another password of Ann"});
    let statuses = [
        sign_in(&app, STRANGER, &email(), "a wrong password").await.status,
        authorized(Method::POST, "/auth/password", change.clone()).await,
        authorized(Method::POST, "/auth/password", change).await,
        sign_in(&app, STRANGER, &email(), "a wrong password").await.status,
    ];
    assert_eq!(statuses, [401, 401, 429, 429], "every route that checks a password counts as a sign-in");
    let create = || json!({"email": email(), "password": PASSWORD});
    let statuses = [
        send(&app, "/auth/create", STRANGER, &create()).await.status,
        authorized(Method::PATCH, "/auth/users/me", json!({"first_name": "Ann"})).await,
        authorized(Method::PATCH, "/auth/users/me", json!({"username": "ann-1"})).await,
        authorized(Method::PATCH, "/auth/users/me", json!({"username": "ann-2"})).await,
        send(&app, "/auth/create", STRANGER, &create()).await.status,
    ];
    assert_eq!(statuses, [201, 200, 200, 429, 429], "every route that reveals a taken name counts as a creation");
    let refresh = json!({"refresh_token": ann.refresh});
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(send(&app, "/auth/refresh-access", STRANGER, &refresh).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(send(&app, "/auth/signout", STRANGER, &refresh).await.status, 204, "a sign-out is never limited");
}

#[tokio::test]
async fn an_untrusted_client_cannot_choose_its_address() {
    let limits = [("RATE_LIMIT__ENABLED", "true"), ("RATE_LIMIT__SIGNIN_PER_ADDRESS", "3/h")];
    let app = TestApp::with(&limits).await;
    let mut statuses = Vec::new();
    for number in 0..5 {
        statuses.push(sign_in(&app, &format!("203.0.113.{number}"), &email(), "a wrong password").await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn after_five_failures_strangers_wait_and_the_owner_signs_in() {
    let app = TestApp::with(LIMITS).await;
    let ann = email();
    app.create(&ann).await;
    assert_eq!(sign_in(&app, OWNER, &ann, PASSWORD).await.status, 200);
    for number in 0..5 {
        // Each from another address: strangers count together.
        assert_eq!(sign_in(&app, &format!("203.0.113.{number}"), &ann, "a wrong password").await.status, 401);
    }
    let before = hashes(&app).await;
    let refused = sign_in(&app, STRANGER, &ann, PASSWORD).await;
    assert_eq!((refused.status, refused.code(), refused.header("retry-after")), (429, "rate-limited", "2"));
    assert_eq!(hashes(&app).await, before, "a delayed attempt is not hashed");
    assert_eq!(sign_in(&app, OWNER, &ann, PASSWORD).await.status, 200, "the owner's address has a count of its own");
    assert_eq!(
        sign_in(&app, STRANGER, &ann, PASSWORD).await.status,
        429,
        "the owner's success clears that count alone"
    );

    let mut waits = Vec::new();
    for _ in 0..10 {
        let refused = sign_in(&app, STRANGER, &ann, PASSWORD).await;
        let wait: i64 = refused.header("retry-after").parse().unwrap();
        waits.push(wait);
        app.advance(wait);
        assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 401);
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900]);
    app.advance(900);
    assert_eq!(sign_in(&app, STRANGER, &ann, PASSWORD).await.status, 200);
    assert_eq!(app.database.count("sign_in_failures").await, "0", "a success clears the count");
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_locks_no_account() {
    let app = TestApp::with(LIMITS).await;
    let ann = email();
    app.advance(30 * 24 * 60 * 60);
    for _ in 0..6 {
        sign_in(&app, STRANGER, &ann, "a wrong password").await;
    }
    app.advance(-30 * 24 * 60 * 60);
    // The service may have purged the failures of the future already; `limits::delay` has the rule.
    assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 401);
    app.advance(4);
    assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 401);

    let app = TestApp::with(LIMITS).await;
    app.advance(30 * 24 * 60 * 60);
    sign_in(&app, STRANGER, &ann, "a wrong password").await;
    app.advance(-30 * 24 * 60 * 60);
    purge(&app, Expiring::FutureFailures).await;
    assert_eq!(app.database.count("sign_in_failures").await, "0");
}

#[tokio::test]
async fn an_owner_who_comes_back_after_weeks_is_no_stranger() {
    const DAY: i64 = 24 * 60 * 60;
    let app = TestApp::with(LIMITS).await;
    let ann = email();
    app.create(&ann).await;
    assert_eq!(sign_in(&app, OWNER, &ann, PASSWORD).await.status, 200);
    app.advance(60 * DAY);
    purge(&app, Expiring::Sessions).await;
    assert_eq!(
        (app.database.count("sessions").await, app.database.count("known_networks").await),
        ("0".into(), "1".into())
    );
    for _ in 0..6 {
        sign_in(&app, STRANGER, &ann, "a wrong password").await;
    }
    assert_eq!(sign_in(&app, STRANGER, &ann, PASSWORD).await.status, 429);
    assert_eq!(sign_in(&app, OWNER, &ann, PASSWORD).await.status, 200, "the network outlives its sessions");
    app.advance(60 * DAY);
    purge(&app, Expiring::Sessions).await;
    purge(&app, Expiring::KnownNetworks).await;
    assert_eq!(app.database.count("known_networks").await, "1", "a later sign-in keeps it");
    app.advance(60 * DAY);
    purge(&app, Expiring::KnownNetworks).await;
    assert_eq!(app.database.count("known_networks").await, "0", "90 days without a session");
}

/// Purges all expired rows of a table, as the service does at times of its own.
async fn purge(app: &TestApp, table: Expiring) {
    let (storage, now) = (app.storage().await, Timestamp(app.now()));
    let mut from = Timestamp(i64::MIN);
    loop {
        let purged = storage.purge(table, 200, from, now).await.unwrap();
        from = purged.up_to;
        if purged.rows == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn failures_are_forgotten_after_a_day() {
    let app = TestApp::with(LIMITS).await;
    // The purge, which goes by the database's clock, deletes failures that are a day ahead.
    app.advance(-30);
    let ann = email();
    for _ in 0..5 {
        sign_in(&app, STRANGER, &ann, "a wrong password").await;
    }
    app.advance(24 * 60 * 60);
    for _ in 0..5 {
        assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 401);
    }
    assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 429);
}

/// Every attempt of each account, as a client sees it, apart from the id of the request.
#[tokio::test]
async fn an_unknown_account_is_limited_like_a_known_one() {
    let app = TestApp::with(LIMITS).await;
    let (known, inactive, unknown) = (email(), email(), email());
    app.create(&known).await;
    app.create(&inactive).await;
    app.database.execute(&format!("UPDATE users SET is_active = FALSE WHERE email = '{inactive}'")).await;
    let mut seen = Vec::new();
    for account in [&known, &inactive, &unknown] {
        let mut replies = Vec::new();
        for _ in 0..12 {
            let mut reply = sign_in(&app, STRANGER, account, "a wrong password").await;
            reply.json.as_object_mut().unwrap().remove("request_id");
            replies.push((reply.status, reply.header("retry-after").to_owned(), reply.json.to_string()));
        }
        seen.push(replies);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[0].iter().filter(|reply| reply.0 == 429).count(), 7);
    let rows = app.database.count("sign_in_failures").await;
    assert_eq!(rows, "3", "a row for each name that was sent");
}

#[tokio::test]
async fn spellings_of_one_name_have_one_count() {
    let app = TestApp::with(LIMITS).await;
    let spellings = [
        "stra\u{df}e@b\u{fc}cher.example",
        "STRASSE@B\u{dc}CHER.EXAMPLE",
        "strasse@bu\u{308}cher.example",
        "strasse@xn--bcher-kva.example",
    ];
    for spelling in spellings {
        assert_eq!(sign_in(&app, STRANGER, spelling, "a wrong password").await.status, 401, "{spelling}");
    }
    assert_eq!(sign_in(&app, STRANGER, spellings[0], "a wrong password").await.status, 401);
    for spelling in spellings {
        assert_eq!(sign_in(&app, STRANGER, spelling, "a wrong password").await.status, 429, "{spelling}");
    }
    let odd = ["\0", "a\0b@example.com", &"a".repeat(10_000), "", "@", " "];
    for name in odd {
        assert_eq!(sign_in(&app, STRANGER, name, "a wrong password").await.status, 401, "{name:?}");
    }
}

/// 105 guesses at once over two replicas, each from another address, while the owner signs in.
#[tokio::test]
async fn of_105_guesses_at_once_two_replicas_hash_no_more_than_the_delay_allows() {
    let app = TestApp::with(LIMITS).await;
    let replica = app.replica(LIMITS).await;
    let ann = email();
    app.create(&ann).await;
    assert_eq!(sign_in(&app, OWNER, &ann, PASSWORD).await.status, 200);
    let before = hashes(&app).await + hashes(&replica).await;
    let guesses = (0..105).map(|number| {
        let service: &Endpoint = if number % 2 == 0 { &app } else { &replica };
        let (address, ann) = (format!("203.0.{}.{}", number / 200, number % 200), &ann);
        async move { sign_in(service, &address, ann, &format!("guess number {number}")).await.status }
    });
    let owner = async {
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(sign_in(&replica, OWNER, &ann, PASSWORD).await.status);
        }
        statuses
    };
    let (statuses, owner) = futures_util::future::join(join_all(guesses), owner).await;
    assert_eq!(owner, [200; 5]);
    let hashed = hashes(&app).await + hashes(&replica).await - before - owner.len();
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    println!("guesses: 105 sent, {hashed} hashed, {} refused; the owner signed in 5 times", count(429));
    assert_eq!((count(401), count(401) + count(429)), (hashed, 105));
    // The clock of both stands still: no delay passes.
    assert!((5..=5 + 2).contains(&hashed), "{hashed}");
}

#[tokio::test]
async fn failures_count_in_memory_while_they_cannot_be_written() {
    let app = TestApp::with(&[LIMITS, &[("DATABASE__ACQUIRE_TIMEOUT", "300ms")]].concat()).await;
    let ann = email();
    let lock = if app.database.is_sqlite() {
        app.database.begin("DELETE FROM sign_in_failures").await
    } else {
        app.database.begin("LOCK TABLE sign_in_failures IN SHARE MODE").await
    };
    for _ in 0..5 {
        assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 401);
    }
    assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 429);
    lock.commit().await;
    app.advance(2);
    assert_eq!(sign_in(&app, STRANGER, &ann, "a wrong password").await.status, 401);
    assert_eq!(app.database.value("SELECT CAST(failures AS TEXT) FROM sign_in_failures").await, "6");
}

#[tokio::test]
async fn a_failure_counts_although_its_client_disconnects_while_it_is_written() {
    let app = TestApp::with(&[LIMITS, &[("DATABASE__ACQUIRE_TIMEOUT", "10s")]].concat()).await;
    let ann = email();
    app.create(&ann).await;
    let lock = if app.database.is_sqlite() {
        app.database.begin("DELETE FROM sign_in_failures").await
    } else {
        app.database.begin("LOCK TABLE sign_in_failures IN SHARE MODE").await
    };
    let impatient = http_client().timeout(Duration::from_millis(500)).build().unwrap();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let body = json!({"email": ann, "password": "a wrong password"});
        let request = impatient.post(format!("http://{}/auth/signin", app.address)).json(&body);
        let reply = request.header("x-forwarded-for", STRANGER).send().await;
        statuses.push(reply.map_or(0, |reply| reply.status().as_u16()));
    }
    lock.commit().await;
    // 0: the client gave up. The first one may do so before its password is hashed.
    let given_up = statuses.iter().filter(|status| **status == 0).count();
    assert!((5..=6).contains(&given_up) && statuses[given_up..].iter().all(|status| *status == 429), "{statuses:?}");
}

#[tokio::test]
async fn unlock_forgets_the_failures_of_a_user() {
    let app = TestApp::with(LIMITS).await;
    let ann = app.user().await;
    for _ in 0..5 {
        assert_eq!(sign_in(&app, STRANGER, &ann.email, "a wrong password").await.status, 401);
    }
    assert_eq!(sign_in(&app, STRANGER, &ann.email, PASSWORD).await.status, 429);
    let folder = tempfile::tempdir().unwrap();
    let url = app.database.url();
    let environment = [
        ("SIGNET__DATABASE__URL", url.as_str()),
        ("SIGNET__JWT__SIGNING_KEY", crate::support::app::SIGNING_KEY),
        ("SIGNET__JWT__REFRESH_KEY", crate::support::app::REFRESH_KEY),
    ];
    let output = run(Path::new(folder.path()), &environment, &["user", "unlock", &ann.email], "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sign_in(&app, STRANGER, &ann.email, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_full_table_of_failures_loses_the_oldest_rows() {
    let app = TestApp::with(LIMITS).await;
    let now = app.now();
    let account = if app.database.is_sqlite() { "CAST(n AS BLOB)" } else { "CAST(CAST(n AS TEXT) AS BYTEA)" };
    let fill = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000500)
         INSERT INTO sign_in_failures (account, is_known, failures, last_failed_at)
         SELECT {account}, FALSE, 9, {} + n / 100 FROM numbers",
        now - 20_000
    );
    app.database.execute(&fill).await;
    purge(&app, Expiring::SignInFailures).await;
    let left: i64 = app.database.count("sign_in_failures").await.parse().unwrap();
    assert!((999_800..=1_000_000).contains(&left), "{left}");
    let oldest = app.database.value("SELECT CAST(MIN(last_failed_at) AS TEXT) FROM sign_in_failures").await;
    assert!(oldest.parse::<i64>().unwrap() > now - 20_000, "the oldest went");
}

#[tokio::test]
async fn an_easily_guessed_password_is_refused_and_the_reply_says_why() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let rows = [
        ("password123", "common password"),
        ("PASSWORDPASSWORD", "common password"),
        ("zzzzzzzzzzzz", "one character repeated"),
        ("abcdefghijkl", "a run of"),
        ("qwertyuiop[]", "a run of"),
        ("grace.hopper@example.com", "its user"),
        ("Grace.Hopper7", "its user"),
        ("rear-admiral", "its user"),
    ];
    for (password, reason) in rows {
        let body = json!({"email": "grace.hopper@example.com", "username": "rear-admiral", "password": password});
        let refused = app.anon().post("/auth/create", &body).await;
        assert_eq!((refused.status, refused.code()), (400, "weak-password"), "{password}");
        assert!(refused.json["detail"].as_str().unwrap().contains(reason), "{password}: {}", refused.text);
    }
    let change = json!({"current_password": PASSWORD, "new_password": ann.email});
    assert_eq!(ann.actor.post("/auth/password", &change).await.code(), "weak-password");
    println!("weak passwords: {} cases", rows.len() + 1);
}

#[tokio::test]
async fn a_password_of_the_operators_list_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocked.txt");
    std::fs::write(
        &path,
        "\u{feff}our product name \r\n\r\n\tzwei W\u{f6}rter\n\u{3a3}\u{399}\u{3a3}\u{3a5}\u{3a6}\u{3a3}\u{39f}\u{3a3}",
    )
    .unwrap();
    let app = TestApp::with(&[("PASSWORDS__BLOCKLIST_FILE", path.to_str().unwrap())]).await;
    for (password, status) in [
        ("Our Product Name1", 400),
        ("ZWEI W\u{d6}RTER", 400),
        ("\u{3c3}\u{3b9}\u{3c3}\u{3c5}\u{3c6}\u{3c3}\u{3bf}\u{3c2}", 400),
        ("our product names", 201),
    ] {
        let body = json!({"email": email(), "password": password});
        assert_eq!(app.anon().post("/auth/create", &body).await.status, status, "{password}");
    }
}

/// The memory of 100,000 addresses, and that the latest ones are kept.
#[test]
fn a_hundred_thousand_addresses_take_at_most_16_mib() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let rate = |count, seconds| signet::config::Rate {
        count: NonZero::new(count).unwrap(),
        per: Duration::from_secs(seconds),
    };
    let before = resident();
    let limits =
        AddressLimits::new(AddressRates { sign_in: rate(30, 60), create: rate(1, 3600), refresh: rate(300, 60) });
    for number in 0..1_000_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(number).into();
        let _ = limits.check(AddressLimit::Create, address);
        let _ = limits.check(AddressLimit::SignIn, address);
    }
    let taken = resident().saturating_sub(before);
    println!("100,000 addresses: {} MiB", taken / 1024);
    assert!(limits.check(AddressLimit::Create, std::net::Ipv4Addr::from_bits(999_999).into()).is_err(), "it is kept");
    assert!(limits.check(AddressLimit::Create, std::net::Ipv4Addr::from_bits(1).into()).is_ok(), "it was forgotten");
}
