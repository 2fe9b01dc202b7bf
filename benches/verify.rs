//! The cost of verifying an access token with a million revocations in memory: time, memory and allocations, each compared
//! with a lower bound that is measured in the same run. `cargo bench --bench verify`

#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark counts allocations and takes times; when it cannot go on it stops"
)]

use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use signet::{
    app,
    auth::{Auth, Presented, SignIn, SignInSource, SignUp},
    config::{Settings, Sources},
    domain::{AccessToken, Email, LoginName, Name, Password, SessionId, Subject, Timestamp, TokenId, UserId, Username},
    storage::{Follower, Storage, Trust},
};
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashSet,
    hint::black_box,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};
use uuid::Uuid;

const ENTRIES: usize = 1_000_000;
const NOW: Timestamp = Timestamp(1_795_000_000);
const KEY: &str = "a key that only this benchmark knows";

/// The system's allocator, with counters.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nanoseconds for each call of `work`, the minimum of five runs.
fn nanoseconds(calls: usize, mut work: impl FnMut(usize)) -> f64 {
    let run = |work: &mut dyn FnMut(usize)| {
        let began = Instant::now();
        (0..calls).for_each(work);
        began.elapsed().as_nanos() as f64 / calls as f64
    };
    (0..5).map(|_| run(&mut work)).fold(f64::INFINITY, f64::min)
}

fn row(what: &str, value: f64, unit: &str, limit: &str, of_limit: f64) {
    println!("{what:<58} {value:>9.1} {unit:<14} {limit:<34} {:>7.2}", value / of_limit);
}

fn settings(folder: &Path) -> Settings {
    let pairs = [
        ("DATABASE__URL", format!("sqlite://{}", folder.join("signet.db").display())),
        ("JWT__SIGNING_KEY", KEY.to_owned()),
        ("JWT__REFRESH_KEY", KEY.chars().rev().collect()),
        ("PASSWORDS__MEMORY_KIB", "8".to_owned()),
        ("PASSWORDS__HASH_THREADS", "1".to_owned()),
    ];
    let environment = pairs.into_iter().map(|(name, value)| (format!("SIGNET__{name}"), value)).collect();
    app::load_settings(&Sources { directory: None, environment }).unwrap()
}

/// The access token of a new session.
async fn token(auth: &Auth) -> String {
    let email = Email::parse("ann@example.com").unwrap();
    let sign_up = SignUp {
        username: Username::of_email(&email),
        email,
        first_name: Name::default(),
        last_name: Name::default(),
        password: Password::parse("correct horse").unwrap(),
    };
    auth.user_admin().create(sign_up, false, &NOW.into()).await.unwrap();
    let login = LoginName::email("ann@example.com");
    let sign_in = SignIn { login, password: Password::attempt("correct horse"), audience: None };
    auth.sign_in(sign_in, SignInSource { user_agent: None, context: NOW.into() }).await.unwrap().access.text
}

/// A token of this session; its other fields do not matter.
fn of_session(id: Uuid) -> AccessToken {
    let token = TokenId(Uuid::from_u128(!id.as_u128()));
    let subject = Subject::User { id: UserId(1), session: SessionId(id), username: String::new(), roles: Vec::new() };
    AccessToken { id: token, subject }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (storage, ended, loading, bytes) = runtime.block_on(async {
        let storage = Storage::open(&settings, 1).await.unwrap();
        storage.migrate().await.unwrap();
        let mut database = SqliteConnection::connect(settings.database.url.expose_secret()).await.unwrap();
        let fill = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ENTRIES}) \
             INSERT INTO revocations SELECT n, randomblob(16), 'sid', {} FROM numbers",
            NOW.0
        );
        database.execute(AssertSqlSafe(fill)).await.unwrap();
        let count = format!("UPDATE revocation_feed SET seq = {ENTRIES}");
        database.execute(AssertSqlSafe(count)).await.unwrap();
        let ended: Vec<Uuid> =
            sqlx::query_scalar("SELECT value FROM revocations").fetch_all(&mut database).await.unwrap();
        let (before, began) = (BYTES.load(Ordering::Relaxed), Instant::now());
        Follower::new(&storage).catch_up().await.unwrap();
        let loading = began.elapsed();
        (storage, ended, loading, BYTES.load(Ordering::Relaxed) - before)
    });
    assert_eq!(storage.revoked_count(), ENTRIES);
    println!("{ENTRIES} revocations, loaded from SQLite in {:.2} s\n", loading.as_secs_f64());
    println!("{:<58} {:>9} {:<14} {:<34} {:>7}", "what", "", "", "limit of the same run", "ratio");
    row("memory of an entry", bytes as f64 / ENTRIES as f64, "bytes", "an id and its end: 24 bytes", 24.0);

    // The ids are random, so no cache predicts the place of the next one. `other` makes an id that is not in the set.
    let other = |id: &Uuid| Uuid::from_u128(id.as_u128() ^ 0xff00);
    let set: HashSet<Uuid> = ended.iter().copied().collect();
    let limit = "the same in a HashSet of one thread";
    let asked_set = nanoseconds(ENTRIES, |n| {
        let token = of_session(other(&ended[n]));
        black_box(set.contains(&token.session().unwrap().0) || set.contains(&token.id.0));
    });
    let trust = |id: Uuid| black_box(storage.trust(&of_session(id)));
    let good = nanoseconds(ENTRIES, |n| assert_eq!(trust(other(&ended[n])), Trust::Good));
    row("look-up, neither sid nor jti is there", good, "ns", limit, asked_set);
    let set_has_it =
        nanoseconds(ENTRIES, |n| assert!(black_box(set.contains(&of_session(ended[n]).session().unwrap().0))));
    let revoked = nanoseconds(ENTRIES, |n| assert_eq!(trust(ended[n]), Trust::Revoked));
    row("look-up, the session has ended", revoked, "ns", limit, set_has_it);
    let done = AtomicBool::new(false);
    let while_written = thread::scope(|scope| {
        scope.spawn(|| {
            let writer = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            writer.block_on(async {
                while !done.load(Ordering::Relaxed) {
                    Follower::new(&storage).catch_up().await.unwrap();
                    storage.forget_revocations(NOW);
                }
            });
        });
        let time = nanoseconds(ENTRIES, |n| assert_eq!(trust(other(&ended[n])), Trust::Good));
        done.store(true, Ordering::Relaxed);
        time
    });
    row("look-up, while all entries are read again and swept", while_written, "ns", limit, asked_set);
    let began = Instant::now();
    storage.forget_revocations(Timestamp(NOW.0 + 359));
    println!("{:<58} {:>9.1} ms", "one sweep for what has expired", began.elapsed().as_secs_f64() * 1000.0);

    let passwords = app::start_passwords(&settings.passwords, signet::telemetry::HashWaits::default()).unwrap();
    let auth = app::auth(&settings, storage, passwords, signet::clock::Clock::System.now()).unwrap();
    let token = runtime.block_on(token(&auth));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let key = DecodingKey::from_secret(KEY.as_bytes());
    let signed = nanoseconds(100_000, |_| {
        assert!(crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256).unwrap());
    });
    let verified = nanoseconds(100_000, |_| {
        black_box(auth.verify(Presented::Token(&token), None, NOW).unwrap());
    });
    let limit = "the signature alone, jsonwebtoken";
    row("a token verified, from text to trust (HS256)", verified, "ns", limit, signed);
    let allocations = |work: &dyn Fn()| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        work();
        (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64
    };
    let of_signature =
        allocations(&|| drop(black_box(crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256))));
    let of_token = allocations(&|| drop(black_box(auth.verify(Presented::Token(&token), None, NOW))));
    row("allocations for it", of_token, "", limit, of_signature);
}
