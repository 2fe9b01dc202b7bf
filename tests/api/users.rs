//! `GET /auth/users`, `GET` and `PATCH /auth/users/me`

use crate::support::{PASSWORD, TestApp, all_replies};
use serde_json::{Value, json};

fn emails(users: &Value) -> Vec<&str> {
    users.as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap()).collect()
}

fn next(link: &str) -> Option<&str> {
    link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")
}

#[tokio::test]
async fn users_come_in_pages_by_id() {
    let app = TestApp::start().await;
    let ann = app.user_with_email("e@example.com").await;
    for name in ["d", "c", "b", "a"] {
        app.create(&format!("{name}@example.com")).await;
    }
    let whole = ann.actor.get("/auth/users").await;
    assert_eq!(whole.status, 200);
    assert_eq!(
        emails(&whole.json),
        ["e@example.com", "d@example.com", "c@example.com", "b@example.com", "a@example.com"]
    );
    assert_eq!(whole.header("link"), "");
    let mut pages = Vec::new();
    let mut path = "/auth/users?limit=2".to_owned();
    loop {
        let page = ann.actor.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        pages.push(emails(&page.json).len());
        let Some(more) = next(page.header("link")) else { break };
        path = more.to_owned();
    }
    assert_eq!(pages, [2, 2, 1]);
    let full = ann.actor.get("/auth/users?limit=5").await;
    assert_eq!((emails(&full.json).len(), full.header("link")), (5, ""), "a full last page has no next page");
    assert_eq!(ann.actor.get("/auth/users?after=999999").await.json, json!([]));
}

#[tokio::test]
async fn a_search_by_prefix_comes_in_pages_by_email() {
    let app = TestApp::start().await;
    let ann = app.user_with_email("anna@example.com").await;
    for email in [
        "ann@example.com",
        "annika@example.com",
        "bob@example.com",
        "a_n@example.com",
        "an%n@example.com",
        "ann+x@example.com",
        "änn@example.com",
    ] {
        assert_eq!(app.create(email).await.status, 201, "{email}");
    }
    let search = |q: &str, more: &str| {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("q", q).finish();
        format!("/auth/users?{query}{more}")
    };
    let all = ["ann+x@example.com", "ann@example.com", "anna@example.com", "annika@example.com"];
    assert_eq!(emails(&ann.actor.get(&search("ann", "")).await.json), all);
    assert_eq!(emails(&ann.actor.get(&search("ANN", "")).await.json), all);
    assert_eq!(emails(&ann.actor.get(&search("a_", "")).await.json), ["a_n@example.com"], "_ is not a wildcard");
    assert_eq!(emails(&ann.actor.get(&search("an%", "")).await.json), ["an%n@example.com"]);
    assert_eq!(emails(&ann.actor.get(&search("a\u{308}nn", "")).await.json), ["änn@example.com"]);
    assert_eq!(ann.actor.get(&search("'; --", "")).await.json, json!([]));
    let (mut path, mut seen) = (search("ann", "&limit=1"), Vec::new());
    loop {
        let page = ann.actor.get(&path).await;
        seen.extend(emails(&page.json).into_iter().map(str::to_owned));
        let Some(more) = next(page.header("link")) else { break };
        path = more.to_owned();
    }
    assert_eq!(seen, all);
    assert_eq!(
        ann.actor.get("/auth/users?q=").await.json.as_array().unwrap().len(),
        8,
        "the empty prefix matches every user"
    );
}

#[tokio::test]
async fn an_invalid_query_is_400_with_a_pointer_to_the_fault() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let mut rows: Vec<(String, &str)> =
        ["0", "-1", "201", "abc", "", "1.0", "1e2", "%20", "+1%20", "99999999999999999999", "%00", "null"]
            .map(|limit| (format!("limit={limit}"), "/limit"))
            .into();
    for after in [
        "",
        "abc",
        "-1",
        "1.0",
        "007",
        "%2B1",
        "99999999999999999999",
        "%00",
        "ann@example.com",
        "1%20",
        "%D9%A1",
        "%FF",
    ] {
        rows.push((format!("after={after}"), "/after"));
    }
    for after in ["1", "", "no address", "%00", "a@%0A"] {
        rows.push((format!("q=a&after={after}"), "/after"));
    }
    rows.push(("q=a%00".to_owned(), "/q"));
    rows.push((format!("q={}", "a".repeat(255)), "/q"));
    rows.push(("limit=1&limit=2".to_owned(), "/limit"));
    rows.push(("after=1&after=2".to_owned(), "/after"));
    rows.push(("limt=1".to_owned(), ""));
    rows.push(("page=1".to_owned(), ""));
    let fault = async |(query, pointer): &(String, &str)| {
        let reply = ann.actor.get(&format!("/auth/users?{query}")).await;
        let is_right = (reply.status, reply.code(), reply.pointers()) == (400, "invalid-request", vec![*pointer]);
        (!is_right).then(|| format!("{} {}", reply.status, reply.text))
    };
    all_replies("queries", rows, |(query, _)| query.clone(), fault).await;
    for query in ["limit=1", "limit=200", "after=0", "after=1", "q=a&after=a@b.cd"] {
        assert_eq!(ann.actor.get(&format!("/auth/users?{query}")).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn the_user_list_can_be_limited_to_staff() {
    let app = TestApp::with(&[("USERS__LIST", "staff")]).await;
    let (ann, staff) = (app.user().await, app.staff().await);
    let reply = ann.actor.get("/auth/users").await;
    assert_eq!((reply.status, reply.code()), (403, "forbidden"));
    assert_eq!(staff.actor.get("/auth/users").await.status, 200);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn no_reply_about_users_contains_a_password_or_hash() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for path in ["/auth/users", "/auth/users?q=u", "/auth/users/me"] {
        let reply = ann.actor.get(path).await;
        assert!(!reply.text.contains("argon2") && !reply.text.contains("password"), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn a_user_changes_their_own_names() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let reply = ann.actor.patch("/auth/users/me", &json!({"first_name": "Ann", "username": "Ann.B"})).await;
    assert_eq!(
        (reply.status, &reply.json["first_name"], &reply.json["username"]),
        (200, &json!("Ann"), &json!("Ann.B"))
    );
    let reply = ann.actor.patch("/auth/users/me", &json!({"last_name": "Ashe"})).await;
    assert_eq!((&reply.json["first_name"], &reply.json["last_name"]), (&json!("Ann"), &json!("Ashe")));
    assert_eq!(ann.actor.get("/auth/users/me").await.json, reply.json);
    assert_eq!(ann.actor.patch("/auth/users/me", &json!({})).await.json, reply.json, "an empty change changes nothing");
    let sign_in = json!({"username": "ann.b", "password": PASSWORD});
    assert_eq!(app.anon().post("/auth/signin", &sign_in).await.status, 200);
    let back =
        ann.actor.patch("/auth/users/me", &json!({"username": ann.email.to_uppercase(), "first_name": ""})).await;
    assert_eq!((&back.json["username"], &back.json["first_name"]), (&json!(ann.email), &json!("")));
}

#[tokio::test]
async fn a_user_can_change_only_their_own_names() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    bob.actor.patch("/auth/users/me", &json!({"username": "bob"})).await;
    let before = ann.actor.get("/auth/users/me").await.json;
    let rows = [
        (json!({"email": "new@example.com"}), 400, vec![""]),
        (json!({"is_staff": true}), 400, vec![""]),
        (json!({"is_superuser": true, "first_name": "Ann"}), 400, vec![""]),
        (json!({"id": 7}), 400, vec![""]),
        (json!({"password": "correct horse"}), 400, vec![""]),
        (json!({"claims": {}}), 400, vec![""]),
        (json!({"username": ""}), 400, vec!["/username"]),
        (json!({"username": "a b"}), 400, vec!["/username"]),
        (json!({"username": bob.email}), 400, vec!["/username"]),
        (json!({"username": "Admin"}), 400, vec!["/username"]),
        (json!({"username": 1, "first_name": 2}), 400, vec!["/first_name", "/username"]),
        (json!({"first_name": []}), 400, vec!["/first_name"]),
        (json!({"first_name": "a\0"}), 400, vec!["/first_name"]),
        (json!({"last_name": "a".repeat(151)}), 400, vec!["/last_name"]),
        (json!([]), 400, vec![]),
        (json!({"username": "BOB"}), 409, vec![]),
    ];
    let fault = async |(body, status, pointers): &(Value, u16, Vec<&str>)| {
        let reply = ann.actor.patch("/auth/users/me", body).await;
        let code = if *status == 409 { "username-taken" } else { "invalid-request" };
        let is_right = (reply.status, reply.code(), &reply.pointers()) == (*status, code, pointers);
        (!is_right).then(|| format!("{} {}", reply.status, reply.text))
    };
    all_replies("changes", rows, |(body, ..)| body.to_string(), fault).await;
    assert_eq!(ann.actor.get("/auth/users/me").await.json, before);
}
