//! Every way to end a session against refreshes and sign-ins at the same moment, on real connections: whatever their
//! order, no token that is about afterwards is good, here or on another replica.

use crate::support::{
    PASSWORD, Reply, TestApp,
    app::{Replica, SignedIn, settings},
    eventually,
    token::take_apart,
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use signet::{
    auth::UserAdmin,
    domain::{Password, Timestamp, UserId},
};
use std::sync::Arc;

const NEW: &str = "another horse battery";
const ROUNDS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Ending {
    SignOut,
    SignOutAll,
    EndOne,
    NewPassword,
    TooMany,
    Reset,
    Deactivation,
    Deletion,
}

/// A service under load, another on the same database, and an operator at the command line.
struct Scene {
    app: TestApp,
    replica: Replica,
    user_admin: UserAdmin,
}

async fn scene(rotates: &str) -> Scene {
    let app = TestApp::with(&[
        ("JWT__ROTATE_REFRESH_TOKENS", rotates),
        ("SERVER__WORKERS", "2"),
        ("DATABASE__ACQUIRE_TIMEOUT", "10s"),
        ("PASSWORDS__HASH_THREADS", "2"),
        ("USERS__MAX_SESSIONS", "30"),
    ])
    .await;
    let beside = [
        ("JWT__ROTATE_REFRESH_TOKENS", rotates),
        ("REVOCATION__POLL_INTERVAL", "50ms"),
        ("DATABASE__ACQUIRE_TIMEOUT", "10s"),
    ];
    let replica = app.replica(&beside).await;
    let config = settings(&app.database, &[]);
    let passwords = signet::app::start_passwords(&config.passwords, signet::telemetry::HashWaits::default());
    let user_admin = UserAdmin::new(app.storage().await, Arc::new(passwords.unwrap()), config.passwords.rules());
    Scene { app, replica, user_admin }
}

impl Scene {
    /// Ends `victim`; `other` is another session of the same user.
    async fn end(&self, ending: Ending, victim: &SignedIn, other: &SignedIn) {
        let (id, now) = (UserId(victim.id), Timestamp(self.app.now()));
        let status = |reply: Reply| assert_eq!(reply.status, 204, "{ending:?}: {reply:?}");
        match ending {
            Ending::SignOut => status(self.app.sign_out(&victim.refresh).await),
            Ending::SignOutAll => status(other.actor.post("/auth/signout-all", &json!({})).await),
            Ending::EndOne => {
                let sid = take_apart(&victim.access).claims["sid"].as_str().unwrap().to_owned();
                status(other.actor.send(Method::DELETE, &format!("/auth/sessions/{sid}"), |request| request).await);
            }
            Ending::NewPassword => {
                let change = json!({"current_password": PASSWORD, "new_password": NEW});
                status(other.actor.post("/auth/password", &change).await);
            }
            Ending::TooMany => {
                for _ in 0..29 {
                    self.app.sign_in(&victim.email).await;
                }
            }
            Ending::Reset => {
                self.user_admin.set_password(id, Password::parse(NEW).unwrap(), now).await.unwrap().unwrap();
            }
            Ending::Deactivation => {
                self.user_admin.deactivate(id, now).await.unwrap().unwrap();
            }
            Ending::Deletion => assert!(self.user_admin.delete(id, now).await.unwrap()),
        }
    }

    /// No refresh token refreshes; no access token is good on either replica.
    async fn assert_dead(&self, refresh: &[String], access: &[String], what: &str) {
        for token in refresh {
            let reply = self.app.refresh(token).await;
            assert_eq!(reply.status, 401, "{what}: a refresh token outlived it: {reply:?}");
        }
        for token in access {
            assert_eq!(
                self.app.bearer(token).get("/auth/users/me").await.status,
                401,
                "{what}: an access token outlived it"
            );
            eventually(401, async || self.app.verify(token).await).await;
            eventually(401, async || self.replica.verify(token).await).await;
        }
    }
}

/// The tokens of replies that answered some.
fn tokens(replies: &[Reply]) -> (Vec<String>, Vec<String>) {
    let all = |name: &str| -> Vec<String> {
        replies.iter().filter_map(|reply| reply.json[name].as_str().map(str::to_owned)).collect()
    };
    (all("refresh_token"), all("access_token"))
}

async fn against_refreshes(rotates: &str) {
    let scene = scene(rotates).await;
    let endings = [
        Ending::SignOut,
        Ending::SignOutAll,
        Ending::EndOne,
        Ending::NewPassword,
        Ending::TooMany,
        Ending::Reset,
        Ending::Deactivation,
        Ending::Deletion,
    ];
    let (mut answered, mut refused) = (0, 0);
    for ending in endings {
        for _ in 0..ROUNDS {
            let victim = scene.app.user().await;
            scene.app.pass(1);
            let other = scene.app.sign_in(&victim.email).await;
            // Clients that go on with whatever they get, before, while and after the session ends.
            let client = async |start_after: usize| {
                for _ in 0..start_after {
                    tokio::task::yield_now().await;
                }
                let (mut token, mut replies) = (victim.refresh.clone(), Vec::new());
                for n in 0..6 {
                    // At one replica and at the other.
                    let at_home = (n + start_after).is_multiple_of(2);
                    let reply =
                        if at_home { scene.app.refresh(&token).await } else { scene.replica.refresh(&token).await };
                    if let Some(next) = reply.json["refresh_token"].as_str() {
                        next.clone_into(&mut token);
                    }
                    replies.push(reply);
                }
                replies
            };
            let clients = join_all((0..4).map(client));
            let (replies, ()) = tokio::join!(clients, scene.end(ending, &victim, &other));
            let replies: Vec<Reply> = replies.into_iter().flatten().collect();
            answered += replies.iter().filter(|reply| reply.status == 200).count();
            refused += replies.iter().filter(|reply| reply.status == 401).count();
            let (mut refresh, mut access) = tokens(&replies);
            refresh.push(victim.refresh.clone());
            access.push(victim.access.clone());
            for list in [&mut refresh, &mut access] {
                list.sort();
                list.dedup();
            }
            scene.assert_dead(&refresh, &access, &format!("{ending:?}")).await;
        }
    }
    let count = endings.len();
    println!("{count} endings, {ROUNDS} rounds each, against refreshes: {answered} answered, {refused} refused");
    assert!(answered > 0 && refused > 0, "a race needs both");
}

#[tokio::test]
async fn no_refresh_outlives_the_end_it_raced_with_rotation() {
    against_refreshes("true").await;
}

#[tokio::test]
async fn no_refresh_outlives_the_end_it_raced_without_rotation() {
    against_refreshes("false").await;
}

/// A rolling update that changes what a hash costs: each half makes anew what the other has made.
#[tokio::test]
async fn a_right_password_is_right_while_replicas_differ_in_what_a_hash_costs() {
    let threads = ("PASSWORDS__HASH_THREADS", "4");
    let app = TestApp::with(&[threads]).await;
    let replica = app.replica(&[threads, ("PASSWORDS__ITERATIONS", "2")]).await;
    app.create("ann@example.com").await;
    let sign_in = async |number: usize| {
        let anon = if number.is_multiple_of(2) { app.anon() } else { replica.anon() };
        anon.post("/auth/signin", &json!({"email": "ann@example.com", "password": PASSWORD})).await.status
    };
    let mut good = 0;
    for _ in 0..10 * ROUNDS {
        let statuses = join_all((0..8).map(sign_in)).await;
        assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
        good += statuses.iter().filter(|status| **status == 200).count();
    }
    println!("{good} of {} signed in, the others were asked to try again", 80 * ROUNDS);
    assert!(good > 72 * ROUNDS);
}

/// (The other endings end the sessions that there are: a sign-in that is still hashing knows the password, and begins its
/// session a moment later, as it could have anyway.)
#[tokio::test]
async fn no_sign_in_outlives_the_end_it_raced() {
    let scene = scene("true").await;
    let (mut answered, mut refused) = (0, 0);
    for ending in [Ending::NewPassword, Ending::Reset, Ending::Deactivation, Ending::Deletion] {
        for _ in 0..ROUNDS {
            let victim = scene.app.user().await;
            let other = scene.app.sign_in(&victim.email).await;
            let body = json!({"email": victim.email, "password": PASSWORD});
            let anon = scene.app.anon();
            let sign_in = |_| anon.post("/auth/signin", &body);
            let (before, (), after) = tokio::join!(
                join_all((0..6).map(sign_in)),
                scene.end(ending, &victim, &other),
                join_all((0..6).map(sign_in)),
            );
            let replies: Vec<Reply> = before.into_iter().chain(after).collect();
            answered += replies.iter().filter(|reply| reply.status == 200).count();
            refused += replies.iter().filter(|reply| reply.status == 401).count();
            let (refresh, access) = tokens(&replies);
            scene.assert_dead(&refresh, &access, &format!("{ending:?}")).await;
        }
    }
    println!("4 endings, {ROUNDS} rounds each, against sign-ins: {answered} answered, {refused} refused");
    assert!(answered > 0 && refused > 0, "a race needs both");
}
