//! Compares sessions with a simple model, over random histories of sign-ins, refreshes, retries, thefts and endings.
//! `SIGNET_TEST_SEED` repeats a run.

use crate::support::{
    PASSWORD, TestDatabase,
    app::{settings, use_cases},
    email, runner, seed,
};
use proptest::{prelude::*, sample::Index, test_runner::Config};
use signet::{
    auth::{Auth, AuthError, PasswordChange, Presented, SignIn, SignInSource},
    domain::{Email, LoginName, Name, Password, SessionId, Timestamp, UserId, Username},
    random::random,
    storage::{Expiring, Follower, Storage},
};
use std::cell::Cell;

/// Lifetimes in seconds.
#[derive(Debug, Clone, Copy)]
struct Lifetimes {
    access: i64,
    refresh: i64,
    session: i64,
}

const USUAL: Lifetimes = Lifetimes { access: 300, refresh: 3600, session: 4 * 3600 };
/// Access tokens outlive refresh tokens by more than a day.
const LONG_ACCESS: Lifetimes = Lifetimes { access: 48 * 3600, refresh: 3600, session: 72 * 3600 };
/// The lifetime of access tokens exceeds even that of the session, which limits it.
const LONGEST_ACCESS: Lifetimes = Lifetimes { access: 48 * 3600, refresh: 3600, session: 28 * 3600 };

const GRACE: i64 = 30;
const SUPERSEDED: i64 = 10;
const MAX_SESSIONS: usize = 3;
const START: i64 = 1_795_000_000;

#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    SignIn {
        user: Index,
        knows_password: bool,
    },
    /// Refreshes with the token of `behind` generations ago: a client uses 0, a retry or a thief 1, a slow browser tab
    /// or a thief 2 or more.
    Refresh {
        session: Index,
        behind: usize,
    },
    SignOut {
        session: Index,
        behind: usize,
    },
    SignOutAll(Index),
    EndOther {
        session: Index,
        other: Index,
    },
    ChangePassword(Index),
    SetPassword(Index),
    Deactivate(Index),
    Activate(Index),
    Delete(Index),
    Housekeeping,
}

fn step(lifetimes: Lifetimes) -> impl Strategy<Value = Step> {
    let any = any::<Index>;
    let mut lengths = vec![1, 2, 9, 10, 11, 29, 30, 31, 60, 299, 300, 301, 1800, 3599, 3600, 3661];
    if lifetimes.access > lifetimes.refresh {
        lengths.extend([4000, 40_000, 86_399, 86_400, 90_001, 100_799, 100_800, 172_799, 172_800]);
    }
    prop_oneof![
        6 => prop::sample::select(lengths).prop_map(Step::Pass),
        4 => (any(), prop::bool::weighted(0.9)).prop_map(|(user, knows_password)| Step::SignIn { user, knows_password }),
        9 => any().prop_map(|session| Step::Refresh { session, behind: 0 }),
        4 => any().prop_map(|session| Step::Refresh { session, behind: 1 }),
        2 => (any(), 2..4usize).prop_map(|(session, behind)| Step::Refresh { session, behind }),
        1 => (any(), 0..3usize).prop_map(|(session, behind)| Step::SignOut { session, behind }),
        1 => any().prop_map(Step::SignOutAll),
        1 => (any(), any()).prop_map(|(session, other)| Step::EndOther { session, other }),
        1 => any().prop_map(Step::ChangePassword),
        1 => any().prop_map(Step::SetPassword),
        1 => any().prop_map(Step::Deactivate),
        2 => any().prop_map(Step::Activate),
        1 => any().prop_map(Step::Delete),
        2 => Just(Step::Housekeeping),
    ]
}

/// A user in the model.
struct User {
    id: UserId,
    email: String,
    password: String,
    is_active: bool,
    is_deleted: bool,
}

/// A session in the model, with every token that was issued.
struct Session {
    user: usize,
    id: SessionId,
    has_ended: bool,
    rotated_at: i64,
    expires_at: i64,
    absolute_end: i64,
    /// One for each generation, with its expiry.
    refresh: Vec<(String, i64)>,
    access: Vec<(String, i64)>,
}

impl Session {
    fn is_alive(&self, now: i64) -> bool {
        !self.has_ended && now < self.expires_at && now < self.absolute_end
    }

    /// Whether a client may hold a valid access token, if clocks differ by up to a minute.
    fn has_tokens(&self, lifetimes: Lifetimes, now: i64) -> bool {
        !self.has_ended && now < self.expires_at + lifetimes.access + 60
    }
}

/// A history: the service, the model and the clock.
struct History<'a> {
    auth: &'a Auth,
    storage: &'a Storage,
    rotates: bool,
    lifetimes: Lifetimes,
    now: i64,
    users: Vec<User>,
    sessions: Vec<Session>,
}

type Checked = Result<(), TestCaseError>;

impl History<'_> {
    fn at(&self) -> Timestamp {
        Timestamp(self.now)
    }

    async fn sign_up(&mut self) {
        let email = email();
        let parsed = Email::parse(&email).unwrap();
        let sign_up = signet::auth::SignUp {
            username: Username::of_email(&parsed),
            email: parsed,
            first_name: Name::default(),
            last_name: Name::default(),
            password: Password::parse(PASSWORD).unwrap(),
        };
        let user = self.auth.user_admin().create(sign_up, false, &self.at().into()).await.unwrap();
        self.users.push(User { id: user.id, email, password: PASSWORD.into(), is_active: true, is_deleted: false });
    }

    fn end_where(&mut self, ends: impl Fn(usize, &Session) -> bool) {
        for (number, session) in self.sessions.iter_mut().enumerate() {
            session.has_ended |= ends(number, session);
        }
    }

    async fn sign_in(&mut self, user: usize, knows_password: bool) -> Checked {
        // No two sign-ins in one second, so that the oldest session is unambiguous.
        self.now += 1;
        let User { email, password, is_active, is_deleted, .. } = &self.users[user];
        let password = if knows_password { password } else { "wrong" };
        let sign_in = SignIn { login: LoginName::email(email), password: Password::attempt(password), audience: None };
        let outcome = self.auth.sign_in(sign_in, SignInSource { user_agent: None, context: self.at().into() }).await;
        if !knows_password || !is_active || *is_deleted {
            prop_assert_eq!(outcome.unwrap_err(), AuthError::InvalidCredentials);
            return Ok(());
        }
        let pair = outcome.unwrap();
        let now = self.now;
        let id = self.auth.verify(Presented::Token(&pair.access.text), None, self.at()).unwrap().session().unwrap();
        let alive: Vec<usize> = (0..self.sessions.len())
            .filter(|n| self.sessions[*n].user == user && self.sessions[*n].is_alive(now))
            .collect();
        let too_many = (alive.len() + 1).saturating_sub(MAX_SESSIONS);
        self.end_where(|number, _| alive[..too_many].contains(&number));
        self.sessions.push(Session {
            user,
            id,
            has_ended: false,
            rotated_at: now,
            expires_at: now + self.lifetimes.refresh,
            absolute_end: now + self.lifetimes.session,
            refresh: vec![(pair.refresh.text, now + self.lifetimes.refresh)],
            access: vec![(pair.access.text, now + self.lifetimes.access.min(self.lifetimes.session))],
        });
        Ok(())
    }

    /// The table of `signet::domain::refresh_policy`, written independently.
    async fn refresh(&mut self, number: usize, behind: usize) -> Checked {
        let (now, rotates, lifetimes) = (self.now, self.rotates, self.lifetimes);
        let session = &mut self.sessions[number];
        let newest = session.refresh.len() - 1;
        let behind = behind.min(newest);
        let (token, token_end) = session.refresh[newest - behind].clone();
        let outcome = self.auth.refresh(&token, None, &Timestamp(now).into()).await;
        let age = now - session.rotated_at;
        let access_end = session.absolute_end.min(now + lifetimes.access);
        if now >= token_end || !session.is_alive(now) {
            prop_assert_eq!(outcome.unwrap_err(), AuthError::InvalidToken);
        } else if !rotates {
            let refreshed = outcome.unwrap();
            prop_assert!(refreshed.refresh.is_none());
            session.access.push((refreshed.access.text, access_end));
        } else if behind == 0 {
            let refreshed = outcome.unwrap();
            session.rotated_at = now;
            session.expires_at = session.absolute_end.min(now + lifetimes.refresh);
            session.refresh.push((refreshed.refresh.unwrap().text, session.expires_at));
            session.access.push((refreshed.access.text, access_end));
        } else if behind == 1 && age < GRACE {
            let again = outcome.unwrap();
            prop_assert_eq!(&again.refresh.unwrap().text, &session.refresh[newest].0, "the same pair");
            prop_assert_eq!(&again.access.text, &session.access.last().unwrap().0, "the same pair");
        } else if behind >= 2 && age < SUPERSEDED {
            prop_assert_eq!(outcome.unwrap_err(), AuthError::RefreshSuperseded);
        } else {
            prop_assert_eq!(outcome.unwrap_err(), AuthError::RefreshReused);
            session.has_ended = true;
        }
        Ok(())
    }

    /// The client of this session, if it has a valid access token.
    async fn caller(&self, number: usize) -> Option<signet::auth::Caller> {
        let (access, _) = self.sessions[number].access.last()?;
        self.auth.caller(&self.auth.verify(Presented::Token(access), None, self.at()).ok()?).await.ok()
    }

    async fn take(&mut self, step: &Step) -> Checked {
        let of_session = |index: &Index| (!self.sessions.is_empty()).then(|| index.index(self.sessions.len()));
        let of_user = |index: &Index| index.index(self.users.len());
        let (auth, now) = (self.auth, self.at());
        match step {
            Step::Pass(seconds) => self.now += seconds,
            Step::SignIn { user, knows_password } => {
                let user = of_user(user);
                self.sign_in(user, *knows_password).await?;
            }
            Step::Refresh { session, behind } => {
                if let Some(number) = of_session(session) {
                    self.refresh(number, *behind).await?;
                }
            }
            Step::SignOut { session, behind } => {
                if let Some(number) = of_session(session) {
                    let tokens = &self.sessions[number].refresh;
                    auth.sign_out(&tokens[tokens.len().saturating_sub(1 + behind)].0, &now.into()).await.unwrap();
                    self.sessions[number].has_ended = true;
                }
            }
            Step::SignOutAll(session) => {
                let Some(number) = of_session(session) else { return Ok(()) };
                let Some(caller) = self.caller(number).await else { return Ok(()) };
                auth.sign_out_everywhere(&caller, &now.into()).await.unwrap();
                let user = self.sessions[number].user;
                self.end_where(|_, session| session.user == user);
            }
            Step::EndOther { session, other } => {
                let (Some(number), Some(other)) = (of_session(session), of_session(other)) else { return Ok(()) };
                let Some(caller) = self.caller(number).await else { return Ok(()) };
                let theirs = &self.sessions[other];
                let expected = theirs.user == self.sessions[number].user && theirs.has_tokens(self.lifetimes, self.now);
                let outcome = auth.end_session(&caller, theirs.id, &now.into()).await;
                prop_assert_eq!(outcome, if expected { Ok(()) } else { Err(AuthError::NotFound) });
                self.sessions[other].has_ended |= expected;
            }
            Step::ChangePassword(session) => {
                let Some(number) = of_session(session) else { return Ok(()) };
                let Some(caller) = self.caller(number).await else { return Ok(()) };
                let user = self.sessions[number].user;
                let new = format!("{PASSWORD} {}", self.now);
                let current = Password::attempt(&self.users[user].password);
                let change = PasswordChange { current, new: Password::parse(&new).unwrap() };
                auth.change_password(&caller, change, &now.into()).await.unwrap();
                self.users[user].password = new;
                self.end_where(|other, session| session.user == user && other != number);
            }
            Step::SetPassword(user) => {
                let user = of_user(user);
                let new = format!("{PASSWORD} {} set", self.now);
                let (id, password, context) = (self.users[user].id, Password::parse(&new).unwrap(), now.into());
                let set = auth.user_admin().set_password(id, password, &context, |_| Ok(())).await;
                prop_assert_eq!(set.err(), self.users[user].is_deleted.then_some(AuthError::NotFound));
                self.users[user].password = new;
                self.end_where(|_, session| session.user == user);
            }
            Step::Deactivate(user) => {
                let user = of_user(user);
                let set = auth.user_admin().set_active(self.users[user].id, false, &now.into()).await;
                prop_assert_eq!(set.err(), self.users[user].is_deleted.then_some(AuthError::NotFound));
                self.users[user].is_active = false;
                self.end_where(|_, session| session.user == user);
            }
            Step::Activate(user) => {
                let user = of_user(user);
                let set = auth.user_admin().set_active(self.users[user].id, true, &now.into()).await;
                prop_assert_eq!(set.err(), self.users[user].is_deleted.then_some(AuthError::NotFound));
                self.users[user].is_active = true;
            }
            Step::Delete(user) => {
                let user = of_user(user);
                let deleted = auth.user_admin().delete(self.users[user].id, &now.into(), |_| Ok(())).await;
                prop_assert_eq!(deleted.err(), self.users[user].is_deleted.then_some(AuthError::NotFound));
                self.users[user].is_deleted = true;
                self.end_where(|_, session| session.user == user);
                self.sign_up().await;
            }
            Step::Housekeeping => {
                for what in Expiring::ALL {
                    self.storage.purge(what, 1000, Timestamp(i64::MIN), now).await.unwrap();
                }
                self.storage.forget_revocations(now);
            }
        }
        Ok(())
    }

    /// Every issued access token is accepted exactly as long as the model says, by `verify` and by the database.
    async fn check_access_tokens(&self) -> Checked {
        for session in &self.sessions {
            for (token, end) in &session.access {
                let expected = self.now < *end && !session.has_ended;
                let verified = self.auth.verify(Presented::Token(token), None, self.at());
                prop_assert_eq!(verified.is_ok(), expected);
                if let Ok(token) = verified {
                    prop_assert!(self.auth.caller(&token).await.is_ok());
                }
            }
        }
        Ok(())
    }

    /// After the grace period, a live session accepts its newest refresh token only, and an ended session none.
    async fn check_refresh_tokens(&mut self) -> Checked {
        self.now += GRACE;
        for number in 0..self.sessions.len() {
            let (session, mut good) = (&self.sessions[number], 0);
            for (token, _) in session.refresh.iter().rev() {
                good += usize::from(self.auth.refresh(token, None, &self.at().into()).await.is_ok());
            }
            prop_assert_eq!(good, usize::from(session.is_alive(self.now)));
        }
        Ok(())
    }
}

/// The use cases without HTTP, with rotation and without, on one database.
struct Service {
    rotating: (Auth, Storage),
    without_rotation: (Auth, Storage),
    _database: TestDatabase,
}

async fn service(lifetimes: Lifetimes) -> Service {
    let [access, refresh, session] =
        [lifetimes.access, lifetimes.refresh, lifetimes.session].map(|seconds| format!("{seconds}s"));
    let database = TestDatabase::create().await;
    let max_sessions = MAX_SESSIONS.to_string();
    let build = async |rotates: &str| {
        let settings = settings(
            &database,
            &[
                ("JWT__ROTATE_REFRESH_TOKENS", rotates),
                ("JWT__ACCESS_TOKEN_LIFETIME", &access),
                ("JWT__REFRESH_TOKEN_LIFETIME", &refresh),
                ("JWT__SESSION_LIFETIME", &session),
                ("USERS__MAX_SESSIONS", &max_sessions),
                ("REVOCATION__MAX_STALENESS", "never"),
            ],
        );
        let storage = Storage::open(&settings, 1).await.unwrap();
        storage.migrate().await.unwrap();
        Follower::new(&storage).catch_up().await.unwrap();
        (use_cases(&settings, storage.clone()), storage)
    };
    Service { rotating: build("true").await, without_rotation: build("false").await, _database: database }
}

/// Runs `test` on `cases` random values and prints the seed.
fn check<S: Strategy>(name: &str, cases: u32, strategy: &S, test: impl Fn(S::Value) -> Checked) {
    let seed = seed().unwrap_or_else(|| u64::from_ne_bytes(random()));
    let mut runner = runner(seed, Config { cases, max_shrink_iters: 2000, ..Config::default() });
    runner.run(strategy, test).unwrap_or_else(|failure| panic!("{name}, SIGNET_TEST_SEED={seed}: {failure}"));
    println!("{name}: {cases} cases, seed {seed}");
}

#[test]
fn sessions_behave_as_the_model_says() {
    histories_of_sessions("histories of sessions", USUAL, 150);
}

/// The end of a session ends its access tokens, even those that outlive its refresh tokens by days.
#[test]
fn sessions_behave_as_the_model_says_with_access_tokens_that_last_longer_than_refresh_tokens() {
    histories_of_sessions("long access tokens", LONG_ACCESS, 100);
    histories_of_sessions("access tokens as long as the session", LONGEST_ACCESS, 100);
}

fn histories_of_sessions(name: &str, lifetimes: Lifetimes, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let service = runtime.block_on(service(lifetimes));
    let steps = Cell::new(0);
    let histories = (any::<bool>(), prop::collection::vec(step(lifetimes), 1..40));
    check(name, cases, &histories, |(rotates, history)| {
        runtime.block_on(async {
            let (auth, storage) = if rotates { &service.rotating } else { &service.without_rotation };
            let (users, sessions) = (Vec::new(), Vec::new());
            let mut model = History { auth, storage, rotates, lifetimes, now: START, users, sessions };
            model.sign_up().await;
            model.sign_up().await;
            for step in &history {
                model.take(step).await?;
                model.check_access_tokens().await?;
            }
            steps.set(steps.get() + history.len());
            model.check_refresh_tokens().await
        })
    });
    println!("{} steps", steps.get());
}

/// Replies get lost, and the client retries with the token that it has, always within the grace period.
#[test]
fn an_honest_client_is_never_signed_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let service = runtime.block_on(service(USUAL));
    // How long the client waits, then the gaps between its tries.
    let histories = prop::collection::vec((0..USUAL.refresh - 200, prop::collection::vec(0..GRACE, 0..4)), 1..12);
    check("honest clients", 100, &histories, |refreshes| {
        runtime.block_on(async {
            let (auth, storage) = &service.rotating;
            let (users, sessions) = (Vec::new(), Vec::new());
            let mut client = History { auth, storage, rotates: true, lifetimes: USUAL, now: START, users, sessions };
            client.sign_up().await;
            client.sign_in(0, true).await?;
            let end = client.sessions[0].absolute_end;
            let mut token = client.sessions[0].refresh[0].0.clone();
            for (wait, retries) in refreshes {
                client.now += wait;
                let mut first_try = None;
                let mut answer = Err(AuthError::InvalidToken);
                // Only the last reply arrives. Every try is within the grace period of the first.
                for gap in std::iter::once(0).chain(retries) {
                    if client.now + gap - first_try.unwrap_or(client.now) >= GRACE {
                        break;
                    }
                    client.now += gap;
                    first_try.get_or_insert(client.now);
                    if client.now >= end {
                        return Ok(());
                    }
                    answer = auth.refresh(&token, None, &client.at().into()).await;
                }
                let refreshed = answer.map_err(|error| TestCaseError::fail(format!("signed out: {error}")))?;
                prop_assert!(auth.verify(Presented::Token(&refreshed.access.text), None, client.at()).is_ok());
                token = refreshed.refresh.unwrap().text;
            }
            Ok(())
        })
    });
}
