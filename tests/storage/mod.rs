//! The storage contract and its races, on real connections.

use crate::support::{TestDatabase, app::settings, email, eventually};
use futures_util::future::join_all;
use signet::{
    domain::{
        Action, Email, Limit, LoginName, Name, NewSession, NewUser, PasswordHash, RefreshToken, SessionId, Timestamp,
        User, UserChange, UserCursor, UserId, Username,
    },
    random::random,
    storage::{Changed, Created, Expiring, Storage, StorageError, UserRef},
};
use std::time::Duration;
use tokio::time::timeout;

const NOW: Timestamp = Timestamp(1_795_000_000);

struct Fixture {
    storage: Storage,
    /// Kept because the SQLite file is deleted, or the proxy closes, when this is dropped.
    database: TestDatabase,
}

async fn fixture() -> Fixture {
    let database = TestDatabase::create().await;
    let storage = Storage::open(&settings(&database, &[("DATABASE__ACQUIRE_TIMEOUT", "10s")]), 1).await.unwrap();
    storage.migrate().await.unwrap();
    Fixture { storage, database }
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash::new(text.to_owned())
}

fn with_password(text: &str) -> UserChange {
    UserChange { password_hash: Some(hash(text)), ..UserChange::default() }
}

fn with_active(is_active: bool) -> UserChange {
    UserChange { is_active: Some(is_active), ..UserChange::default() }
}

fn new_user(address: &str) -> NewUser {
    let email = Email::parse(address).unwrap();
    let username = Username::of_email(&email);
    NewUser { email, username, first_name: Name::default(), last_name: Name::default(), is_superuser: false }
}

fn new_session() -> NewSession {
    let id = SessionId::from_random(random());
    NewSession {
        id,
        expires_at: Timestamp(NOW.0 + 100),
        absolute_expires_at: Timestamp(NOW.0 + 200),
        user_agent: None,
        ip: None,
        network: None,
    }
}

impl Fixture {
    async fn user(&self) -> User {
        match self.storage.create_user(&new_user(&email()), &hash("old"), &NOW.into()).await.unwrap() {
            Created::User(user) => user,
            other => panic!("{other:?}"),
        }
    }

    /// Begins a session as a sign-in does that has verified the password hash "old".
    async fn begin(&self, user: &User, session: &NewSession) -> Result<Option<User>, StorageError> {
        self.storage.begin_session(user.id, &hash("old"), None, session, None, &NOW.into()).await
    }

    /// Returns when a statement of the storage waits for a lock. On SQLite every writer waits.
    async fn until_a_statement_waits(&self) {
        const WAITING: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND application_name = 'signet' AND datname = current_database()";
        if self.database.is_sqlite() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else {
            eventually("1".to_owned(), async || self.database.value(WAITING).await).await;
        }
    }

    /// Begins a session of `user` and returns its refresh token.
    async fn session(&self, user: &User) -> RefreshToken {
        let session = new_session();
        assert!(self.begin(user, &session).await.unwrap().is_some());
        token(user, &session)
    }

    async fn change(&self, user: &User, change: UserChange) -> Changed<()> {
        self.storage.change_user(user.id, &NOW.into(), |_| Ok(change.clone())).await.unwrap()
    }

    /// Returns whether there was such a user.
    async fn delete(&self, user: &User) -> bool {
        let deleted = self.storage.delete_user::<()>(user.id, &NOW.into(), |_| Ok(())).await.unwrap();
        matches!(deleted, Changed::User(_))
    }

    async fn is_alive(&self, token: &RefreshToken) -> bool {
        let refreshable = self.storage.live_session(token, NOW).await.unwrap().is_some();
        let bearer = self.storage.active_user_of_session(token.user, token.session).await.unwrap().is_some();
        assert_eq!(refreshable, bearer, "refresh and access tokens end together");
        bearer
    }
}

fn token(user: &User, session: &NewSession) -> RefreshToken {
    RefreshToken { user: user.id, session: session.id, generation: 0, issued_at: NOW, expires_at: session.expires_at }
}

#[tokio::test]
async fn migrations_can_run_concurrently_and_repeatedly() {
    let database = TestDatabase::create().await;
    let open = async || Storage::open(&settings(&database, &[]), 1).await.unwrap();
    let storages = join_all((0..4).map(|_| open())).await;
    for _ in 0..2 {
        join_all(storages.iter().map(Storage::migrate)).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    }
    assert!(storages[0].is_migrated().await.unwrap());
    let files = std::fs::read_dir("migrations/sqlite").unwrap().count().to_string();
    assert_eq!(database.count("_sqlx_migrations").await, files);
}

/// Earlier versions compared e-mails in lower case only. Such users were created before migration 6, or by an old
/// replica during an update.
#[tokio::test]
async fn of_two_users_with_equal_emails_one_keeps_it_and_migrate_reports_the_other() {
    let Fixture { storage, database } = fixture().await;
    let rows = [
        ("straße@example.com", "straße@example.com"),
        ("strasse@example.com", "für_alle"),
        ("anna@example.com", "anna"),
        ("νίκος@xn--mnchen-3ya.example", "νίκος"),
        ("a1@example.com", "fuß"),
        ("a2@example.com", "fuss"),
    ];
    for (email, username) in rows {
        let sql = format!(
            "INSERT INTO users (email, username, username_key, password_hash, first_name, last_name, is_active, is_staff, \
             is_superuser, is_verified, created_at) \
             VALUES ('{email}', '{username}', '{username}', 'old', '', '', TRUE, FALSE, FALSE, FALSE, 0)"
        );
        database.execute(&sql).await;
    }
    let find = async |email: &str| {
        let found = storage.find_user(&UserRef::Name(LoginName::email(email))).await.unwrap();
        found.map(|user| user.email.as_str().to_owned())
    };
    assert_eq!(find("anna@example.com").await.as_deref(), Some("anna@example.com"), "its key is already right");
    assert_eq!(storage.migrate().await.unwrap(), [UserId(1), UserId(5)], "only these users conflict with another");
    assert_eq!(find("ΝΊΚΟΣ@münchen.example").await.as_deref(), Some("νίκος@xn--mnchen-3ya.example"));
    let named = async |email: &str| {
        let found = storage.credentials(&LoginName::email(email), 10, NOW).await.unwrap();
        found.map(|account| account.id)
    };
    assert_eq!(named("straße@example.com").await, Some(UserId(1)), "its own spelling still finds it");
    assert_eq!(named("STRASSE@example.com").await, Some(UserId(2)));
    // In pages of one user, the list shows each user once.
    let (mut after, mut listed) = (None, Vec::new());
    loop {
        let cursor = UserCursor::parse(Some("s"), after.as_deref()).unwrap();
        let page = storage.list_users(&cursor, Limit::parse("1").unwrap()).await.unwrap();
        let Some(last) = page.items.last() else { break };
        listed.push(last.id.0);
        after = Some(cursor.next_after(last));
    }
    assert_eq!(listed, [2, 1]);
    assert_eq!(find("STRASSE@example.com").await.as_deref(), Some("strasse@example.com"));
    let by_name = storage.find_user(&UserRef::Name(LoginName::username("FÜR_ALLE"))).await.unwrap();
    assert_eq!(by_name.map(|user| user.id), Some(UserId(2)), "the other username still finds it");
    assert_eq!(storage.migrate().await.unwrap(), [UserId(1), UserId(5)], "each migration reports them");
    storage.delete_user::<()>(UserId(6), &NOW.into(), |_| Ok(())).await.unwrap();
    storage.delete_user::<()>(UserId(2), &NOW.into(), |_| Ok(())).await.unwrap();
    assert_eq!(storage.migrate().await.unwrap(), []);
    assert_eq!(find("STRASSE@example.com").await.as_deref(), Some("straße@example.com"));
}

#[tokio::test]
async fn of_concurrent_creations_of_one_email_one_succeeds() {
    let Fixture { storage, database: _database } = fixture().await;
    let user = new_user("ann@example.com");
    let (old, context) = (hash("old"), NOW.into());
    let outcomes = join_all((0..16).map(|_| storage.create_user(&user, &old, &context))).await;
    let outcomes: Vec<Created> = outcomes.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Created::User(_))).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Created::EmailTaken).count(), 15);
}

#[tokio::test]
async fn of_concurrent_changes_to_one_username_one_succeeds() {
    let fixture = fixture().await;
    let users = [fixture.user().await, fixture.user().await, fixture.user().await, fixture.user().await];
    let outcomes = join_all(users.iter().map(|user| {
        let username = Some(Username::parse("ann", &user.email).unwrap());
        fixture.change(user, UserChange { username, ..UserChange::default() })
    }));
    let outcomes = outcomes.await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Changed::User(_))).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Changed::UsernameTaken).count(), 3);
}

#[tokio::test]
async fn a_user_id_is_never_reused() {
    let fixture = fixture().await;
    let first = fixture.user().await;
    assert!(fixture.delete(&first).await);
    assert!(fixture.user().await.id > first.id);
}

#[tokio::test]
async fn a_password_change_during_hashing_prevents_the_session() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    // The sign-in has verified "old" and has not begun its session when the password changes.
    fixture.change(&user, with_password("new")).await;
    let session = new_session();
    assert_eq!(fixture.begin(&user, &session).await.unwrap(), None);
    assert!(!fixture.is_alive(&token(&user, &session)).await);
    let stored = fixture.database.value("SELECT password_hash FROM users").await;
    assert_eq!(stored, "new", "the old hash is not stored again");
}

#[tokio::test]
async fn a_deactivation_or_deletion_during_hashing_prevents_the_session() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    fixture.change(&user, with_active(false)).await;
    assert_eq!(fixture.begin(&user, &new_session()).await.unwrap(), None);
    assert!(fixture.delete(&user).await);
    assert_eq!(fixture.begin(&user, &new_session()).await.unwrap(), None);
}

/// Sign-ins and a password change run concurrently; in any order, no session of the old password is live afterwards.
#[tokio::test]
async fn no_session_of_the_old_password_survives_a_concurrent_change() {
    let fixture = fixture().await;
    for round in 0..10 {
        let user = fixture.user().await;
        let sessions: Vec<NewSession> = (0..8).map(|_| new_session()).collect();
        let sign_in = |session| fixture.begin(&user, session);
        // Four sign-ins before and four after the change, in the order in which SQLite's single writer executes them.
        let (before, changed, after) = tokio::join!(
            join_all(sessions[..4].iter().map(sign_in)),
            fixture.change(&user, with_password("new")),
            join_all(sessions[4..].iter().map(sign_in)),
        );
        assert!(matches!(changed, Changed::User(_)));
        before.into_iter().chain(after).collect::<Result<Vec<_>, _>>().unwrap();
        for session in &sessions {
            assert!(!fixture.is_alive(&token(&user, session)).await, "round {round}");
        }
    }
}

/// An attacker who knows the password changes the e-mail while the owner resets the password by a mail.
#[tokio::test]
async fn an_email_change_and_a_reset_do_not_both_succeed() {
    let fixture = fixture().await;
    for _ in 0..20 {
        let (user, context) = (fixture.user().await, NOW.into());
        let (old, new, other) = (hash("old"), hash("new"), Email::parse(&email()).unwrap());
        let (changed, is_reset) = tokio::join!(
            fixture.storage.change_email(&user, &old, &other, &context),
            fixture.storage.reset_password(&user, &old, &new, &context),
        );
        let is_changed = matches!(changed.unwrap(), Changed::User(_));
        assert_ne!(is_changed, is_reset.unwrap());
    }
}

/// SQLite begins these sessions in one transaction. One user signs in twice; the password of another has changed.
#[tokio::test]
async fn each_of_several_concurrent_sign_ins_gets_its_own_outcome() {
    let fixture = fixture().await;
    let (ann, bob, eve) = (fixture.user().await, fixture.user().await, fixture.user().await);
    fixture.change(&eve, with_password("new")).await;
    let sessions = [new_session(), new_session(), new_session(), new_session()];
    let users = [&bob, &eve, &ann, &bob];
    let begun = join_all(users.iter().zip(&sessions).map(|(user, session)| fixture.begin(user, session)));
    let begun: Vec<_> = begun.await.into_iter().map(|begun| begun.unwrap().map(|user| user.id)).collect();
    assert_eq!(begun, [Some(bob.id), None, Some(ann.id), Some(bob.id)]);
    for (user, session) in users.iter().zip(&sessions) {
        assert_eq!(fixture.is_alive(&token(user, session)).await, user.id != eve.id);
    }
}

#[tokio::test]
async fn a_session_that_cannot_begin_fails_no_other() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let (one, other) = (new_session(), new_session());
    assert!(fixture.begin(&user, &one).await.unwrap().is_some());
    let (again, beside) = tokio::join!(fixture.begin(&user, &one), fixture.begin(&user, &other));
    assert!(matches!(again, Err(StorageError::Fault(_))), "its id is taken: {again:?}");
    assert!(beside.unwrap().is_some());
    assert!(fixture.is_alive(&token(&user, &other)).await);
}

#[tokio::test]
async fn a_sign_in_cancelled_in_the_queue_has_no_session() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let (first, cancelled) = (new_session(), new_session());
    let lock = fixture.database.begin("UPDATE users SET first_name = 'locked'").await;
    let mut waiting = Box::pin(fixture.begin(&user, &first));
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    assert!(timeout(Duration::from_millis(100), fixture.begin(&user, &cancelled)).await.is_err());
    lock.commit().await;
    assert!(waiting.await.unwrap().is_some());
    assert!(fixture.begin(&user, &new_session()).await.unwrap().is_some(), "the queue is empty");
    assert!(!fixture.is_alive(&token(&user, &cancelled)).await);
}

/// SQLite has no row locks.
#[tokio::test]
async fn a_locked_user_row_delays_no_other_user() {
    let fixture = fixture().await;
    if fixture.database.is_sqlite() {
        return;
    }
    let (ann, bob) = (fixture.user().await, fixture.user().await);
    let lock = fixture.database.begin(&format!("UPDATE users SET first_name = 'Ann' WHERE id = {}", ann.id)).await;
    let (of_ann, of_bob) = (new_session(), new_session());
    let mut waiting = Box::pin(fixture.begin(&ann, &of_ann));
    let (locked, beside) =
        tokio::join!(timeout(Duration::from_millis(100), &mut waiting), fixture.begin(&bob, &of_bob));
    assert!(locked.is_err() && beside.unwrap().is_some());
    assert!(fixture.begin(&bob, &new_session()).await.unwrap().is_some());
    lock.commit().await;
    assert!(waiting.await.unwrap().is_some());
}

/// The client got 503 and no token, so its session must not remain.
#[tokio::test]
async fn a_sign_in_cancelled_in_a_waiting_transaction_has_no_session() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let session = new_session();
    let lock = fixture.database.begin("UPDATE users SET first_name = 'locked'").await;
    assert!(timeout(Duration::from_millis(100), fixture.begin(&user, &session)).await.is_err());
    lock.commit().await;
    fixture.session(&user).await;
    assert!(!fixture.is_alive(&token(&user, &session)).await);
}

#[tokio::test]
async fn a_second_end_of_a_session_changes_nothing() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let (one, other) = (fixture.session(&user).await, fixture.session(&user).await);
    for at in [NOW, Timestamp(NOW.0 + 50)] {
        fixture.storage.end_session(one.session, user.id, Action::Signout, &at.into()).await.unwrap();
    }
    assert!(!fixture.is_alive(&one).await);
    assert!(fixture.is_alive(&other).await);
    let ended =
        fixture.database.value("SELECT CAST(revoked_at AS TEXT) FROM sessions WHERE revoked_at IS NOT NULL").await;
    assert_eq!(ended, NOW.0.to_string(), "the time of the first end");
}

#[tokio::test]
async fn an_activation_does_not_bring_ended_sessions_back() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let token = fixture.session(&user).await;
    fixture.change(&user, with_active(false)).await;
    assert!(!fixture.is_alive(&token).await);
    fixture.change(&user, with_active(true)).await;
    assert!(!fixture.is_alive(&token).await);
}

#[tokio::test]
async fn deleting_a_user_deletes_its_sessions() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let token = fixture.session(&user).await;
    assert!(fixture.delete(&user).await);
    assert!(!fixture.delete(&user).await);
    assert!(!fixture.is_alive(&token).await);
    assert_eq!(fixture.database.count("sessions").await, "0");
}

#[tokio::test]
async fn a_session_is_refreshable_until_it_expires() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let token = fixture.session(&user).await;
    let at =
        async |seconds: i64| fixture.storage.live_session(&token, Timestamp(NOW.0 + seconds)).await.unwrap().is_some();
    assert!(at(0).await && at(99).await);
    assert!(!at(100).await);
    let other = RefreshToken { user: fixture.user().await.id, ..token };
    assert!(fixture.storage.live_session(&other, NOW).await.unwrap().is_none(), "the session belongs to another user");
}

#[tokio::test]
async fn only_the_first_superuser_is_promoted() {
    let fixture = fixture().await;
    let (ann, bob) = (fixture.user().await, fixture.user().await);
    let token = fixture.session(&ann).await;
    assert!(!fixture.storage.has_superuser().await.unwrap());
    let promoted = fixture.storage.promote(&ann.email, &hash("new"), &NOW.into()).await.unwrap().unwrap();
    assert!(promoted.is_superuser && promoted.is_staff && promoted.is_active);
    assert!(!fixture.is_alive(&token).await, "the sessions of the earlier user have ended");
    assert!(fixture.storage.has_superuser().await.unwrap());
    assert_eq!(fixture.storage.promote(&bob.email, &hash("new"), &NOW.into()).await.unwrap(), None);
    // A deactivated superuser still counts: no restart reactivates it with the configured password.
    fixture.database.execute("UPDATE users SET is_active = FALSE").await;
    assert!(fixture.storage.has_superuser().await.unwrap());
    assert_eq!(fixture.storage.promote(&ann.email, &hash("new"), &NOW.into()).await.unwrap(), None);
}

#[tokio::test]
async fn users_are_ordered_and_searched_by_bytes() {
    let Fixture { storage, database: _database } = fixture().await;
    let names = ["b", "a", "z", "ä", "a_", "a-", "a.b", "aa", "ab"];
    for name in names {
        storage.create_user(&new_user(&format!("{name}@example.com")), &hash("old"), &NOW.into()).await.unwrap();
    }
    let listed = async |prefix: &str| -> Vec<String> {
        let cursor = UserCursor::ByEmail { prefix: prefix.to_owned(), after: None };
        let page = storage.list_users(&cursor, Limit::default()).await.unwrap();
        page.items.iter().map(|user| user.email.as_str().trim_end_matches("@example.com").to_owned()).collect()
    };
    assert_eq!(listed("").await, ["a-", "a.b", "a", "a_", "aa", "ab", "b", "z", "ä"]);
    assert_eq!(listed("a").await, ["a-", "a.b", "a", "a_", "aa", "ab"]);
    assert_eq!(listed("ä").await, ["ä"]);
}

#[tokio::test]
async fn a_row_that_is_renewed_while_a_purge_waits_for_it_stays() {
    let fixture = fixture().await;
    let user = fixture.user().await;
    let account = if fixture.database.is_sqlite() { "x'01'" } else { "'\\x01'::bytea" };
    let failed = format!("({account}, TRUE, 1, 0), ({account}, FALSE, 1, 0)");
    let known = format!("({0}, 'new', 0), ({0}, 'old', 0)", user.id);
    fixture.database.execute(&format!("INSERT INTO sign_in_failures VALUES {failed}")).await;
    fixture.database.execute(&format!("INSERT INTO known_networks VALUES {known}")).await;
    for (table, renew) in [
        (Expiring::SignInFailures, "UPDATE sign_in_failures SET last_failed_at = 1795000000 WHERE is_known"),
        (Expiring::KnownNetworks, "UPDATE known_networks SET last_seen_at = 1795000000 WHERE network = 'new'"),
    ] {
        let renewing = fixture.database.begin(renew).await;
        let mut purge = Box::pin(fixture.storage.purge(table, 10, Timestamp(i64::MIN), NOW));
        tokio::select! {
            purged = &mut purge => panic!("{table:?}: it did not wait: {purged:?}"),
            () = fixture.until_a_statement_waits() => {}
        }
        renewing.commit().await;
        assert_eq!(purge.await.unwrap().rows, 1, "{table:?}");
        assert_eq!(fixture.database.count(table.name()).await, "1", "{table:?}");
    }
}
