//! `GET /auth/audit`

use crate::support::{PASSWORD, SignedIn, TestApp, app::settings, email};
use reqwest::Method;
use serde_json::{Value, json};
use signet::{
    domain::Timestamp,
    storage::{Expiring, Storage},
};

const DAY: i64 = 24 * 60 * 60;

/// Action, outcome, actor and subject of each entry, the oldest first.
async fn entries(root: &SignedIn, query: &str) -> Vec<(String, String, Option<i64>, Option<i64>)> {
    let reply = root.actor.get(&format!("/auth/audit{query}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut entries: Vec<Value> = reply.json.as_array().unwrap().clone();
    entries.reverse();
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap().to_owned();
    let entry = |entry: &Value| {
        (text(entry, "action"), text(entry, "outcome"), entry["actor"].as_i64(), entry["subject"].as_i64())
    };
    entries.iter().map(entry).collect()
}

#[tokio::test]
async fn every_change_has_an_entry() {
    let app = TestApp::with(&[("JWT__ROTATE_REFRESH_TOKENS", "true"), ("JWT__REFRESH_GRACE", "0s")]).await;
    let root = app.superuser().await;
    let ann = app.user().await;
    let path = format!("/auth/users/{}", ann.id);
    let mut expected = vec![("user-create", "ok", None, Some(ann.id)), ("signin", "ok", Some(ann.id), Some(ann.id))];
    ann.actor.patch("/auth/users/me", &json!({"first_name": "Ann"})).await;
    expected.push(("user-update", "ok", Some(ann.id), Some(ann.id)));
    ann.actor.patch("/auth/users/me", &json!({"first_name": "Ann"})).await;
    let password = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    assert_eq!(ann.actor.post("/auth/password", &password).await.status, 204);
    expected.push(("password-change", "ok", Some(ann.id), Some(ann.id)));
    assert_eq!(ann.actor.post("/auth/password", &password).await.status, 401);
    expected.push(("password-change", "failed", Some(ann.id), Some(ann.id)));
    assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    app.advance(20);
    assert_eq!(app.refresh(&ann.refresh).await.code(), "refresh-reused");
    expected.push(("refresh-reuse", "failed", None, Some(ann.id)));
    let by_root = |action| (action, "ok", Some(root.id), Some(ann.id));
    for (body, actions) in [
        (json!({"is_staff": true, "last_name": "Ashe"}), vec!["user-update", "rights-change"]),
        (json!({"is_staff": true}), vec![]),
        (json!({"is_active": false}), vec!["user-deactivate"]),
        (json!({"is_active": true, "is_staff": false}), vec!["rights-change", "user-activate"]),
        (json!({}), vec![]),
    ] {
        assert_eq!(root.actor.patch(&path, &body).await.status, 200);
        expected.extend(actions.into_iter().map(by_root));
    }
    let body = json!({"new_password": PASSWORD});
    root.actor.send(Method::PUT, &format!("{path}/password"), |request| request.json(&body)).await;
    expected.push(by_root("password-set"));
    let ann_again = app.sign_in(&ann.email).await;
    app.sign_out(&ann_again.refresh).await;
    app.sign_out(&ann_again.refresh).await;
    expected.extend([("signin", "ok", Some(ann.id), Some(ann.id)), ("signout", "ok", Some(ann.id), Some(ann.id))]);
    root.actor.delete(&format!("{path}/sessions")).await;
    expected.push(by_root("signout-all"));
    root.actor.delete(&path).await;
    expected.push(by_root("user-delete"));
    let seen = entries(&root, &format!("?user={}", ann.id)).await;
    let seen: Vec<_> =
        seen.iter().map(|(action, outcome, actor, subject)| (&**action, &**outcome, *actor, *subject)).collect();
    assert_eq!(seen, expected);
    println!("audit: {} entries", expected.len());
}

#[tokio::test]
async fn failed_sign_ins_of_a_minute_share_an_entry_without_the_name_that_was_sent() {
    let limits = [("RATE_LIMIT__ENABLED", "true"), ("SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    for limits in [&limits[..], &limits[1..]] {
        let app = TestApp::with(limits).await;
        let (root, ann) = (app.superuser().await, app.user().await);
        app.advance(60 - app.now() % 60);
        let try_in = async |address: &str, email: &str| {
            let body = json!({"email": email, "password": "a wrong secret"});
            let send = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", address).json(&body);
            app.anon().send(Method::POST, "/auth/signin", send).await.status
        };
        for address in ["203.0.113.1", "203.0.113.2", "203.0.113.2"] {
            assert_eq!(try_in(address, &ann.email).await, 401);
        }
        let unknown = email();
        for _ in 0..2 {
            assert_eq!(try_in("203.0.113.3", &unknown).await, 401);
        }
        assert_eq!(try_in("203.0.113.4", &unknown).await, 401);
        app.advance(60);
        assert_eq!(try_in("203.0.113.2", &ann.email).await, 401);
        let reply = root.actor.get("/auth/audit?limit=4").await;
        let seen: Vec<_> = reply
            .json
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(|entry| (entry["subject"].as_i64(), entry["ip"].as_str().unwrap(), entry["count"].as_i64().unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                (Some(ann.id), "203.0.113.2", 3),
                (None, "203.0.113.3", 2),
                (None, "203.0.113.4", 1),
                (Some(ann.id), "203.0.113.2", 1),
            ]
        );
        let stored = app.database.value("SELECT COUNT(*) || '' FROM audit WHERE bucket LIKE '%@%'").await;
        assert_eq!(stored, "0", "no name is stored");
        assert!(!reply.text.contains(&unknown) && !reply.text.contains("secret"));
    }
}

#[tokio::test]
async fn the_audit_comes_in_pages_and_is_for_superusers() {
    let app = TestApp::start().await;
    let (root, staff) = (app.superuser().await, app.staff().await);
    for _ in 0..5 {
        app.sign_in(&staff.email).await;
    }
    for (actor, status) in [(&staff.actor, 403), (&app.user().await.actor, 403), (&app.anon(), 401)] {
        assert_eq!(actor.get("/auth/audit").await.status, status);
    }
    let whole = root.actor.get("/auth/audit").await.json;
    let ids =
        |page: &Value| page.as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()).collect::<Vec<_>>();
    assert!(ids(&whole).is_sorted_by(|one, next| one > next), "the newest first");
    for (query, all) in [(String::new(), ids(&whole).len()), (format!("&user={}", staff.id), 7)] {
        let (mut path, mut seen) = (format!("/auth/audit?limit=3{query}"), Vec::new());
        loop {
            let page = root.actor.get(&path).await;
            seen.extend(ids(&page.json));
            let Some(next) = page.header("link").strip_prefix('<') else { break };
            path = next.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        }
        assert!(seen.is_sorted_by(|one, next| one > next));
        assert_eq!(seen.len(), all, "{query}");
    }
    for query in ["limit=0", "limit=201", "user=x", "user=-1", "after=x", "before=1", "user=1&user=2"] {
        assert_eq!(root.actor.get(&format!("/auth/audit?{query}")).await.status, 400, "{query}");
    }
    let entry = &root.actor.get("/auth/audit?limit=1").await.json[0];
    assert!(entry["ip"] == "127.0.0.1" && entry["request_id"].as_str().unwrap().len() == 32, "{entry}");
}

#[tokio::test]
async fn entries_are_kept_for_as_long_as_the_setting_says() {
    let app = TestApp::start().await;
    app.user().await;
    let storage = Storage::open(&settings(&app.database, &[("AUDIT__KEEP", "2d")]), 1).await.unwrap();
    let now = app.now();
    let purge = async |seconds: i64| {
        let later = Timestamp(now + seconds);
        storage.purge(Expiring::Audit, 10, Timestamp(i64::MIN), later).await.unwrap().rows
    };
    assert_eq!((purge(2 * DAY).await, purge(2 * DAY + 1).await), (0, 2), "the creation and the sign-in");
}
