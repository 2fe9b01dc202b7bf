//! `GET`, `PATCH`, `DELETE /auth/users/{id}`, `PUT …/password`, `DELETE …/sessions`

use crate::support::{
    PASSWORD, Reply, SignedIn, TestApp,
    app::{REFRESH_KEY, SIGNING_KEY},
    eventually_within,
    process::run,
    token::take_apart,
};
use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use signet::domain::{Timestamp, UserId};

/// The subject of a request: who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Anonymous,
    User,
    Staff,
    Superuser,
}

/// The user that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Caller,
    User,
    Staff,
    Superuser,
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Get,
    PatchName,
    PatchRights,
    PatchClaims,
    Delete,
    SetPassword,
    EndSessions,
}

const SUBJECTS: [Subject; 4] = [Subject::Anonymous, Subject::User, Subject::Staff, Subject::Superuser];

/// Route, target, and the status for each of [`SUBJECTS`].
const OUTCOMES: &[(Route, Target, [u16; 4])] = &[
    (Route::Get, Target::Caller, [401, 403, 200, 200]),
    (Route::Get, Target::User, [401, 404, 200, 200]),
    (Route::Get, Target::Staff, [401, 404, 200, 200]),
    (Route::Get, Target::Superuser, [401, 404, 200, 200]),
    (Route::Get, Target::Missing, [401, 404, 404, 404]),
    (Route::PatchName, Target::Caller, [401, 403, 403, 200]),
    (Route::PatchName, Target::User, [401, 404, 200, 200]),
    (Route::PatchName, Target::Staff, [401, 404, 403, 200]),
    (Route::PatchName, Target::Superuser, [401, 404, 403, 200]),
    (Route::PatchName, Target::Missing, [401, 404, 404, 404]),
    (Route::PatchRights, Target::Caller, [401, 403, 403, 200]),
    (Route::PatchRights, Target::User, [401, 404, 403, 200]),
    (Route::PatchRights, Target::Staff, [401, 404, 403, 200]),
    (Route::PatchRights, Target::Superuser, [401, 404, 403, 200]),
    (Route::PatchRights, Target::Missing, [401, 404, 404, 404]),
    (Route::PatchClaims, Target::Caller, [401, 403, 403, 200]),
    (Route::PatchClaims, Target::User, [401, 404, 403, 200]),
    (Route::PatchClaims, Target::Staff, [401, 404, 403, 200]),
    (Route::PatchClaims, Target::Superuser, [401, 404, 403, 200]),
    (Route::PatchClaims, Target::Missing, [401, 404, 404, 404]),
    (Route::Delete, Target::Caller, [401, 403, 403, 204]),
    (Route::Delete, Target::User, [401, 404, 204, 204]),
    (Route::Delete, Target::Staff, [401, 404, 403, 204]),
    (Route::Delete, Target::Superuser, [401, 404, 403, 204]),
    (Route::Delete, Target::Missing, [401, 404, 404, 404]),
    (Route::SetPassword, Target::Caller, [401, 403, 403, 204]),
    (Route::SetPassword, Target::User, [401, 404, 403, 204]),
    (Route::SetPassword, Target::Staff, [401, 404, 403, 204]),
    (Route::SetPassword, Target::Superuser, [401, 404, 403, 204]),
    (Route::SetPassword, Target::Missing, [401, 404, 403, 404]),
    (Route::EndSessions, Target::Caller, [401, 403, 403, 204]),
    (Route::EndSessions, Target::User, [401, 404, 204, 204]),
    (Route::EndSessions, Target::Staff, [401, 404, 403, 204]),
    (Route::EndSessions, Target::Superuser, [401, 404, 403, 204]),
    (Route::EndSessions, Target::Missing, [401, 404, 404, 404]),
];

async fn someone(app: &TestApp, subject: Subject) -> SignedIn {
    match subject {
        Subject::Anonymous | Subject::User => app.user().await,
        Subject::Staff => app.staff().await,
        Subject::Superuser => app.superuser().await,
    }
}

async fn call(app: &TestApp, subject: Subject, caller: &SignedIn, route: Route, id: i64) -> Reply {
    let path = format!("/auth/users/{id}");
    let anonymous = app.anon();
    let actor = if subject == Subject::Anonymous { &anonymous } else { &caller.actor };
    match route {
        Route::Get => actor.get(&path).await,
        Route::PatchName => actor.patch(&path, &json!({"first_name": "Ann"})).await,
        Route::PatchRights => actor.patch(&path, &json!({"is_staff": true})).await,
        Route::PatchClaims => actor.patch(&path, &json!({"claims": {"plan": "pro"}})).await,
        Route::Delete => actor.delete(&path).await,
        Route::EndSessions => actor.delete(&format!("{path}/sessions")).await,
        Route::SetPassword => {
            let body = json!({"new_password": "another horse battery"});
            actor.send(Method::PUT, &format!("{path}/password"), |request| request.json(&body)).await
        }
    }
}

#[tokio::test]
async fn the_rights_of_every_subject_at_every_route() {
    let app = TestApp::start().await;
    // One active superuser stays, whatever happens to the others.
    app.superuser().await;
    let (mut faults, mut count) = (Vec::new(), 0);
    for (route, target, statuses) in OUTCOMES {
        for (subject, expected) in SUBJECTS.into_iter().zip(statuses) {
            for is_active in [true, false] {
                let caller = someone(&app, subject).await;
                let id = match target {
                    Target::Caller => caller.id,
                    Target::User => app.user().await.id,
                    Target::Staff => app.staff().await.id,
                    Target::Superuser => app.superuser().await.id,
                    Target::Missing => 9_000_000,
                };
                if !is_active {
                    let sql = format!("UPDATE users SET is_active = FALSE WHERE id = {}", caller.id);
                    app.database.execute(&sql).await;
                }
                let expected = if is_active || subject == Subject::Anonymous { *expected } else { 401 };
                let reply = call(&app, subject, &caller, *route, id).await;
                count += 1;
                if reply.status != expected {
                    faults.push(format!(
                        "{route:?} of {target:?} by {subject:?}, active: {is_active}: {} instead of {expected}",
                        reply.status
                    ));
                }
            }
        }
    }
    println!("subject x route x target: {count} cases");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn only_superusers_see_claims() {
    let app = TestApp::start().await;
    let (root, staff, ann) = (app.superuser().await, app.staff().await, app.user().await);
    let path = format!("/auth/users/{}", ann.id);
    let changed = root.actor.patch(&path, &json!({"claims": {"plan": "pro"}})).await;
    assert_eq!((changed.status, &changed.json["claims"]), (200, &json!({"plan": "pro"})));
    assert_eq!(root.actor.get(&path).await.json["claims"], json!({"plan": "pro"}));
    let seen = staff.actor.patch(&path, &json!({"last_name": "Ashe"})).await;
    assert_eq!((seen.status, seen.json.get("claims")), (200, None));
    assert_eq!(ann.actor.get("/auth/users/me").await.json.get("claims"), None);
    let refreshed = app.refresh(&ann.refresh).await;
    assert_eq!(take_apart(refreshed.string("access_token")).claims["plan"], "pro", "from the next refresh on");
    assert_eq!(root.actor.patch(&path, &json!({"claims": {}})).await.json["claims"], json!({}), "{{}} clears");
    let refreshed = app.refresh(&ann.refresh).await;
    assert_eq!(take_apart(refreshed.string("access_token")).claims.get("plan"), None);
}

#[tokio::test]
async fn invalid_changes_of_a_user_are_refused() {
    let app = TestApp::start().await;
    let (root, ann) = (app.superuser().await, app.user().await);
    let path = format!("/auth/users/{}", ann.id);
    let long: String = "x".repeat(4090);
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let rows: Vec<(Value, u16, &str)> = vec![
        (json!({"email": "new@example.com"}), 400, ""),
        (json!({"id": 7}), 400, ""),
        (json!({"password": PASSWORD}), 400, ""),
        (json!({"last_login": "2026-11-22T14:28:53Z"}), 400, ""),
        (json!({"is_active": "false"}), 400, "/is_active"),
        (json!({"is_staff": 1}), 400, "/is_staff"),
        (json!({"first_name": "a\u{202e}b"}), 400, "/first_name"),
        (json!({"username": "other@example.com"}), 400, "/username"),
        (json!({"username": "admin"}), 400, "/username"),
        (json!({"claims": []}), 400, "/claims"),
        (json!({"claims": "plan"}), 400, "/claims"),
        (json!({"claims": {"x": long}}), 400, "/claims"),
        (json!({"claims": {"x": &long[..4080]}}), 200, ""),
        (json!({"claims": {"x": deep}}), 400, ""),
        (json!({"claims": {"a": {"b": [1, 2.5, null, "\u{0}", "\u{1f980}"]}}}), 200, ""),
        (json!({"claims": null}), 200, ""),
        (json!({}), 200, ""),
    ];
    let registered = "iss sub aud exp nbf iat jti sid gen client_id token_type roles scope preferred_username azp act may_act \
                 cnf acr amr auth_time";
    let named = registered.split(' ').map(|name| (json!({"claims": {name: "x"}}), 400, "/claims"));
    let rows: Vec<_> = rows.into_iter().chain(named).collect();
    for (body, status, pointer) in &rows {
        let reply = root.actor.patch(&path, body).await;
        assert_eq!(reply.status, *status, "{body}: {reply:?}");
        if *status == 400 && !reply.pointers().is_empty() {
            assert_eq!(reply.pointers(), [*pointer], "{body}");
        }
    }
    println!("changes: {} cases", rows.len());
    for claims in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#] {
        let body = format!("{{\"claims\":{claims}}}");
        let send = |request: reqwest::RequestBuilder| request.header("content-type", "application/json").body(body);
        assert_eq!(root.actor.send(Method::PATCH, &path, send).await.status, 400, "{claims}");
    }
    for id in ["-1", "0", "9223372036854775808", "18446744073709551616", "text", "1.0", "01", "%00"] {
        for reply in [
            root.actor.get(&format!("/auth/users/{id}")).await,
            root.actor.patch(&format!("/auth/users/{id}"), &json!({})).await,
            root.actor.delete(&format!("/auth/users/{id}")).await,
            root.actor.delete(&format!("/auth/users/{id}/sessions")).await,
        ] {
            assert_eq!((reply.status, reply.code()), (404, "not-found"), "{id}");
        }
    }
    let weak = json!({"new_password": "password1"});
    let refused = root.actor.send(Method::PUT, &format!("{path}/password"), |request| request.json(&weak)).await;
    assert_eq!(refused.code(), "weak-password");
}

#[tokio::test]
async fn claims_of_the_configured_names_are_refused() {
    let app = TestApp::with(&[("JWT__JTI_CLAIM", "token_id"), ("JWT__USER_ID_CLAIM", "uid")]).await;
    let root = app.superuser().await;
    for name in ["token_id", "uid"] {
        let body = json!({"claims": {name: "x"}});
        let refused = root.actor.patch(&format!("/auth/users/{}", root.id), &body).await;
        assert_eq!((refused.status, refused.pointers()), (400, vec!["/claims"]), "{name}");
    }
}

#[tokio::test]
async fn a_change_by_another_administrator_is_not_lost() {
    let app = TestApp::start().await;
    let (one, other, ann) = (app.superuser().await, app.superuser().await, app.user().await);
    let path = format!("/auth/users/{}", ann.id);
    let change = async |admin: &SignedIn, tag: &str, body: Value| {
        admin.actor.send(Method::PATCH, &path, |request| request.header("if-match", tag).json(&body)).await
    };
    let read = one.actor.get(&path).await;
    let tag = read.header("etag").to_owned();
    assert_eq!(other.actor.get(&path).await.header("etag"), tag);
    let changed = change(&one, &tag, json!({"claims": {"plan": "pro"}})).await;
    assert_eq!(changed.status, 200);
    let newer = changed.header("etag").to_owned();
    assert_ne!(newer, tag);
    let stale = change(&other, &tag, json!({"claims": {"seat": 7}})).await;
    assert_eq!((stale.status, stale.code()), (412, "precondition-failed"));
    let delete = |tag: String| move |request: reqwest::RequestBuilder| request.header("if-match", tag);
    let stale = other.actor.send(Method::DELETE, &path, delete(tag.clone())).await;
    assert_eq!(stale.status, 412);
    assert_eq!(one.actor.get(&path).await.json["claims"], json!({"plan": "pro"}), "nothing is lost");
    for (tag, status) in [
        (newer.as_str(), 200),
        ("*", 200),
        ("\"x\"", 412),
        (&format!("W/{newer}"), 412),
        ("x", 400),
        ("", 400),
        ("\"x\", *", 400),
    ] {
        assert_eq!(change(&other, tag, json!({})).await.status, status, "{tag}");
    }
    // A sign-in is no change.
    app.sign_in(&ann.email).await;
    assert_eq!(one.actor.get(&path).await.header("etag"), newer);
    assert_eq!(one.actor.patch(&path, &json!({"is_verified": true})).await.status, 200, "without If-Match");
    ann.actor.patch("/auth/users/me", &json!({"first_name": "Ann"})).await;
    assert_eq!(change(&one, &newer, json!({})).await.status, 412, "a change by the user counts, too");
    let many = join_all((0..8).map(|number| {
        let (path, one) = (&path, &one);
        async move {
            let tag = one.actor.get(path).await.header("etag").to_owned();
            let body = json!({"claims": {"number": number}});
            one.actor.send(Method::PATCH, path, |request| request.header("if-match", tag).json(&body)).await.status
        }
    }));
    let statuses = many.await;
    assert!(statuses.iter().all(|status| [200, 412].contains(status)) && statuses.contains(&200), "{statuses:?}");
}

#[tokio::test]
async fn a_deactivation_ends_the_sessions_at_once() {
    let app = TestApp::start().await;
    let (staff, ann) = (app.staff().await, app.user().await);
    let path = format!("/auth/users/{}", ann.id);
    assert_eq!(staff.actor.patch(&path, &json!({"is_active": false})).await.json["is_active"], false);
    assert_eq!(app.verify(&ann.access).await, 401);
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
    staff.actor.patch(&path, &json!({"is_active": true})).await;
    assert_eq!(app.refresh(&ann.refresh).await.status, 401, "an activation brings no session back");
    let ann = app.sign_in(&ann.email).await;
    assert_eq!(staff.actor.delete(&format!("{path}/sessions")).await.status, 204);
    assert_eq!((app.verify(&ann.access).await, app.refresh(&ann.refresh).await.status), (401, 401));
}

#[tokio::test]
async fn a_password_that_a_superuser_sets_ends_every_session() {
    let app = TestApp::start().await;
    let (root, ann) = (app.superuser().await, app.user().await);
    let body = json!({"new_password": "another horse battery"});
    let path = format!("/auth/users/{}/password", ann.id);
    assert_eq!(root.actor.send(Method::PUT, &path, |request| request.json(&body)).await.status, 204);
    assert_eq!((app.verify(&ann.access).await, app.refresh(&ann.refresh).await.status), (401, 401));
    let sign_in = json!({"email": ann.email, "password": "another horse battery"});
    assert_eq!(app.anon().post("/auth/signin", &sign_in).await.status, 200);
}

/// A superuser who is demoted has requests in flight whose rights were checked before.
#[tokio::test]
async fn a_demoted_superuser_cannot_undo_it_by_requests_in_flight() {
    let app = TestApp::start().await;
    let root = app.superuser().await;
    for change in [json!({"is_superuser": false, "is_staff": false}), json!({"is_active": false})] {
        let eve = app.superuser().await;
        let path = format!("/auth/users/{}", eve.id);
        let undo = json!({"is_superuser": true, "is_active": true});
        let flood = join_all((0..8).map(|_| async {
            let mut statuses = Vec::new();
            for _ in 0..15 {
                statuses.push(eve.actor.patch(&path, &undo).await.status);
            }
            statuses
        }));
        let demotion = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            root.actor.patch(&path, &change).await.status
        };
        let (statuses, demoted) = join(flood, demotion).await;
        assert_eq!(demoted, 200);
        let statuses = statuses.concat();
        assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 401, 403].contains(status)));
        let user = root.actor.get(&path).await.json;
        assert!(user["is_superuser"] == false || user["is_active"] == false, "{user}");
    }
}

/// 16 demotions at once, over HTTP and by commands, of four superusers.
#[tokio::test]
async fn the_last_active_superuser_stays() {
    let app = TestApp::start().await;
    let root = app.superuser().await;
    let path = format!("/auth/users/{}", root.id);
    for body in [json!({"is_superuser": false}), json!({"is_active": false})] {
        let refused = root.actor.patch(&path, &body).await;
        assert_eq!((refused.status, refused.code()), (409, "last-superuser"), "{body}");
    }
    assert_eq!(root.actor.delete(&path).await.code(), "last-superuser");

    let mut roots = vec![root];
    for _ in 0..3 {
        roots.push(app.superuser().await);
    }
    let over_http = (0..8).map(|number| {
        let (caller, target) = (&roots[number % 4], &roots[(number / 2 + number) % 4]);
        async move {
            let path = format!("/auth/users/{}", target.id);
            match number % 3 {
                0 => caller.actor.delete(&path).await.status,
                1 => caller.actor.patch(&path, &json!({"is_superuser": false})).await.status,
                _ => caller.actor.patch(&path, &json!({"is_active": false})).await.status,
            }
        }
    });
    let commands = (0..8).map(|number| {
        let (id, url) = (roots[number % 4].id.to_string(), app.database.url());
        tokio::task::spawn_blocking(move || {
            let environment = [
                ("SIGNET__DATABASE__URL", url.as_str()),
                ("SIGNET__JWT__SIGNING_KEY", SIGNING_KEY),
                ("SIGNET__JWT__REFRESH_KEY", REFRESH_KEY),
            ];
            let arguments: &[&str] = match number % 3 {
                0 => &["user", "delete", &id],
                1 => &["user", "update", &id, "--superuser", "false"],
                _ => &["user", "deactivate", &id],
            };
            run(tempfile::tempdir().unwrap().path(), &environment, arguments, "").status.success()
        })
    });
    let (statuses, commands) = join(join_all(over_http), join_all(commands)).await;
    println!("over HTTP: {statuses:?}");
    println!("by commands: {commands:?}");
    let left = app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM users WHERE is_superuser AND is_active").await;
    assert_eq!(left, "1");
}

#[tokio::test]
async fn what_a_command_ends_is_ended_on_every_replica_within_a_second() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let (ann, user_admin) = (app.user().await, app.user_admin().await);
    assert_eq!(replica.verify(&ann.access).await, 200);
    user_admin.set_active(UserId(ann.id), false, &Timestamp(app.now()).into()).await.unwrap();
    let took = eventually_within(1, 401, async || replica.verify(&ann.access).await).await;
    println!("refused after {took:?}");
}
