//! Every way to end a session, concurrent with refreshes and sign-ins: in any order, no token that a client holds
//! afterwards is accepted, on this replica or another.

use crate::support::{PASSWORD, Reply, SignedIn, TestApp, app::Replica, eventually};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use signet::{
    auth::UserAdmin,
    domain::{Password, Timestamp, UserId},
};

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

/// A service, a replica, and the commands of the operator.
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
    let settings = [
        ("JWT__ROTATE_REFRESH_TOKENS", rotates),
        ("REVOCATION__POLL_INTERVAL", "50ms"),
        ("DATABASE__ACQUIRE_TIMEOUT", "10s"),
    ];
    let replica = app.replica(&settings).await;
    let user_admin = app.user_admin().await;
    Scene { app, replica, user_admin }
}

impl Scene {
    /// Ends `victim`; `other` is another session of its user.
    async fn end(&self, ending: Ending, victim: &SignedIn, other: &SignedIn) {
        let (id, now) = (UserId(victim.id), Timestamp(self.app.now()));
        let status = |reply: Reply| assert_eq!(reply.status, 204, "{ending:?}: {reply:?}");
        match ending {
            Ending::SignOut => status(self.app.sign_out(&victim.refresh).await),
            Ending::SignOutAll => status(other.actor.post("/auth/signout-all", &json!({})).await),
            Ending::EndOne => {
                let path = format!("/auth/sessions/{}", victim.sid());
                status(other.actor.send(Method::DELETE, &path, |request| request).await);
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
                self.user_admin.set_password(id, Password::parse(NEW).unwrap(), &now.into(), |_| Ok(())).await.unwrap();
            }
            Ending::Deactivation => {
                self.user_admin.set_active(id, false, &now.into()).await.unwrap();
            }
            Ending::Deletion => {
                self.user_admin.delete(id, &now.into(), |_| Ok(())).await.unwrap();
            }
        }
    }

    /// Asserts that neither replica accepts any of these tokens.
    async fn assert_refused(&self, refresh: &[String], access: &[String], what: &str) {
        for token in refresh {
            let reply = self.app.refresh(token).await;
            assert_eq!(reply.status, 401, "{what}: a refresh token is still accepted: {reply:?}");
        }
        for token in access {
            assert_eq!(
                self.app.bearer(token).get("/auth/users/me").await.status,
                401,
                "{what}: an access token is still accepted"
            );
            eventually(401, async || self.app.verify(token).await).await;
            eventually(401, async || self.replica.verify(token).await).await;
        }
    }
}

/// All refresh and access tokens in these replies.
fn tokens(replies: &[Reply]) -> (Vec<String>, Vec<String>) {
    let all = |name: &str| -> Vec<String> {
        replies.iter().filter_map(|reply| reply.json[name].as_str().map(str::to_owned)).collect()
    };
    (all("refresh_token"), all("access_token"))
}

async fn race_endings_against_refreshes(rotates: &str) {
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
            scene.app.advance(1);
            let other = scene.app.sign_in(&victim.email).await;
            // Clients that refresh with the newest token they have, before, while and after the session ends.
            let client = async |start_after: usize| {
                for _ in 0..start_after {
                    tokio::task::yield_now().await;
                }
                let (mut token, mut replies) = (victim.refresh.clone(), Vec::new());
                for n in 0..6 {
                    let is_first = (n + start_after).is_multiple_of(2);
                    let reply =
                        if is_first { scene.app.refresh(&token).await } else { scene.replica.refresh(&token).await };
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
            scene.assert_refused(&refresh, &access, &format!("{ending:?}")).await;
        }
    }
    let count = endings.len();
    println!("{count} endings, {ROUNDS} rounds each, against refreshes: {answered} answered, {refused} refused");
    assert!(answered > 0 && refused > 0, "the race needs both outcomes");
}

#[tokio::test]
async fn with_rotation_no_refresh_survives_a_concurrent_end_of_its_session() {
    race_endings_against_refreshes("true").await;
}

#[tokio::test]
async fn without_rotation_no_refresh_survives_a_concurrent_end_of_its_session() {
    race_endings_against_refreshes("false").await;
}

/// During a rolling update that changes the cost of a hash, each half of the replicas rehashes what the other hashed.
#[tokio::test]
async fn sign_ins_succeed_while_replicas_hash_at_different_costs() {
    let threads = ("PASSWORDS__HASH_THREADS", "4");
    let app = TestApp::with(&[threads]).await;
    let replica = app.replica(&[threads, ("PASSWORDS__ITERATIONS", "2")]).await;
    app.create("ann@example.com").await;
    let sign_in = async |number: usize| {
        let service = if number.is_multiple_of(2) { &app } else { &*replica };
        service.try_sign_in("ann@example.com", PASSWORD).await.status
    };
    let mut good = 0;
    for _ in 0..10 * ROUNDS {
        let statuses = join_all((0..8).map(sign_in)).await;
        assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
        good += statuses.iter().filter(|status| **status == 200).count();
    }
    println!("{good} of {} signed in, the others got 503", 80 * ROUNDS);
    assert!(good > 72 * ROUNDS);
}

/// The other endings end only existing sessions: a sign-in that is still hashing may begin its session afterwards.
#[tokio::test]
async fn no_sign_in_survives_a_concurrent_password_change_deactivation_or_deletion() {
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
            scene.assert_refused(&refresh, &access, &format!("{ending:?}")).await;
        }
    }
    println!("4 endings, {ROUNDS} rounds each, against sign-ins: {answered} answered, {refused} refused");
    assert!(answered > 0 && refused > 0, "the race needs both outcomes");
}
