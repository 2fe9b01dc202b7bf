//! `POST /auth/create`

use crate::support::{PASSWORD, TestApp, all_replies, email};
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn a_new_user_is_returned_without_password_and_has_no_rights() {
    let app = TestApp::start().await;
    let body = json!({"email": "Ann@Example.com", "password": PASSWORD, "username": "Ann_B", "first_name": "Ann", "last_name": "Ashe"});
    let reply = app.anon().post("/auth/create", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("location"), "/auth/users/1");
    assert_eq!(reply.header("content-type"), "application/json");
    let created_at = signet::domain::Timestamp(app.now()).to_string();
    let expected = json!({
        "id": 1, "email": "ann@example.com", "username": "Ann_B", "first_name": "Ann", "last_name": "Ashe",
        "is_active": true, "is_staff": false, "is_superuser": false, "is_verified": false,
        "created_at": created_at, "last_login": null,
    });
    assert_eq!(reply.json, expected);
}

#[tokio::test]
async fn the_username_defaults_to_the_email() {
    let app = TestApp::start().await;
    let reply = app.create("ann@example.com").await;
    assert_eq!(
        (reply.json["username"].as_str(), reply.json["first_name"].as_str()),
        (Some("ann@example.com"), Some(""))
    );
}

#[tokio::test]
async fn an_email_or_username_in_another_spelling_is_taken() {
    let app = TestApp::start().await;
    let first = json!({"email": "jos\u{e9}@example.com", "password": PASSWORD, "username": "Jos\u{e9}"});
    assert_eq!(app.anon().post("/auth/create", &first).await.status, 201);
    let rows = [
        (json!({"email": "jos\u{e9}@example.com"}), "email-taken"),
        (json!({"email": "JOS\u{c9}@EXAMPLE.COM"}), "email-taken"),
        (json!({"email": "jose\u{301}@example.com"}), "email-taken"),
        (json!({"email": "JOSE\u{301}@Example.com"}), "email-taken"),
        (json!({"email": "other@example.com", "username": "JOS\u{c9}"}), "username-taken"),
        (json!({"email": "other@example.com", "username": "jose\u{301}"}), "username-taken"),
        (json!({"email": "jos\u{e9}@example.com", "username": "jos\u{e9}"}), "email-taken"),
    ];
    for (mut body, code) in rows.clone() {
        body["password"] = PASSWORD.into();
        let reply = app.anon().post("/auth/create", &body).await;
        assert_eq!((reply.status, reply.code()), (409, code), "{body}");
    }
    println!("taken names: {} cases", rows.len());
}

#[tokio::test]
async fn of_sixteen_concurrent_creations_one_succeeds() {
    let app = TestApp::with(&[("SERVER__WORKERS", "2"), ("PASSWORDS__HASH_THREADS", "2")]).await;
    for _ in 0..3 {
        let email = email();
        let replies = join_all((0..16).map(|_| app.create(&email))).await;
        let of = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
        assert_eq!((of(201), of(409)), (1, 15), "{replies:?}");
        let rows =
            app.database.value(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM users WHERE email = '{email}'")).await;
        assert_eq!(rows, "1");
    }
}

#[tokio::test]
async fn the_email_of_another_user_is_refused_as_a_username() {
    let app = TestApp::start().await;
    app.create("ann@example.com").await;
    for username in ["ann@example.com", "ANN@example.com", "nobody@example.com", "a@", "@"] {
        let body = json!({"email": "bob@example.com", "password": PASSWORD, "username": username});
        let reply = app.anon().post("/auth/create", &body).await;
        assert_eq!(
            (reply.status, reply.code(), reply.pointers()),
            (400, "invalid-request", vec!["/username"]),
            "{username}"
        );
    }
    let body = json!({"email": "bob@example.com", "password": PASSWORD, "username": "Bob@Example.com"});
    assert_eq!(app.anon().post("/auth/create", &body).await.json["username"], "bob@example.com");
}

#[tokio::test]
async fn a_password_has_8_to_256_characters() {
    let app = TestApp::start().await;
    // Ends in other characters, because one repeated character is refused as weak.
    let text = |c: &str, length: usize| c.repeat(length - 3) + "#q%";
    let rows: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "weak-password"),
        (text("a", 7), 400, "weak-password"),
        (text("é", 7), 400, "weak-password"),
        ("e\u{301}".repeat(7), 400, "weak-password"),
        (text("a", 8), 201, ""),
        (text("é", 8), 201, ""),
        (text("👩", 8), 201, ""),
        (text("a", 256), 201, ""),
        (text("👩", 256), 201, ""),
        (text("a", 257), 400, "weak-password"),
        ("a".repeat(1024 * 1024), 413, "payload-too-large"),
        ("a".repeat(9) + "\0", 400, "invalid-request"),
        ("   a    ".to_owned(), 201, ""),
        ("' OR 1=1 --".to_owned(), 201, ""),
        ("\u{202e}abcdefgh".to_owned(), 201, ""),
    ];
    let create =
        async |password: &str| app.anon().post("/auth/create", &json!({"email": email(), "password": password})).await;
    let fault =
        async |(password, status, code): &(String, u16, &str)| create(password).await.differs_from(*status, code);
    all_replies("passwords", rows, |(password, ..)| format!("{password:?}"), fault).await;
    let short = create("a").await;
    assert!(short.string("detail").contains("at least 8 characters"), "{short:?}");
}

/// Bodies that are invalid as a whole or in some members, with the pointers that the reply must have.
fn invalid_bodies() -> Vec<(String, Vec<&'static str>)> {
    let with = |member: &str, value: &str| {
        let others = [("email", "\"ann@example.com\""), ("password", "\"correct horse battery\"")];
        let others =
            others.iter().filter(|(name, _)| *name != member).map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{\"{member}\":{value},{}}}", others.collect::<Vec<_>>().join(","))
    };
    let mut rows: Vec<(String, Vec<&str>)> = [
        "",
        " ",
        "null",
        "true",
        "1",
        "\"a\"",
        "[]",
        "[{}]",
        "{",
        "}",
        "{}}",
        "{]",
        "{\"email\"}",
        "{'email':1}",
        "{\"email\":}",
        "{\"email\":\"a\",}",
        "\u{feff}{}",
        "{\"email\":\"\\ud800\"}",
        "{\"email\":\"\\udc00\\ud800\"}",
        "{\"email\":\"\\x\"}",
        "{\"email\":\"a\nb\"}",
        "{\"a\":01}",
        "{\"a\":1e999}",
        "{\"a\":NaN}",
        "{} {}",
        "/* */{}",
        "email=a&password=b",
        "<email/>",
    ]
    .into_iter()
    .map(|body| (body.to_owned(), vec![]))
    .collect();
    rows.push(("[".repeat(12_000), vec![]));
    rows.push((format!("{{\"email\":{}", "[".repeat(12_000)), vec![]));
    rows.push((format!("{{\"email\":{}{}}}", "[".repeat(4_000), "]".repeat(4_000)), vec![]));
    rows.push(("{}".to_owned(), vec!["/email", "/password"]));
    for (member, pointer) in [
        ("email", "/email"),
        ("password", "/password"),
        ("username", "/username"),
        ("first_name", "/first_name"),
        ("last_name", "/last_name"),
    ] {
        for value in ["1", "1.5", "true", "[]", "{}", "[\"ann@example.com\"]", "{\"$ne\":null}"] {
            rows.push((with(member, value), vec![pointer]));
        }
    }
    // `null` counts as absent, and these two members are required.
    for (member, pointer) in [("email", "/email"), ("password", "/password")] {
        rows.push((with(member, "null"), vec![pointer]));
    }
    let emails = [
        "",
        " ",
        "@",
        "a",
        "a@b",
        "a@b.",
        "@b.cd",
        "a b@c.de",
        " a@b.cd",
        "a@b.cd ",
        "a@b.cd\\n",
        "a@b.cd\\u0000",
        "a\\u0000@b.cd",
        "a@@b.cd",
        "a@b@c.de",
        "a@-b.cd",
        "a..b@c.de",
        ".a@b.cd",
        "\\u202ea@b.cd",
        "a\\u200b@b.cd",
        "\\u0301a@b.cd",
        "a\\u3164@b.cd",
        "a@b\\u00adc.de",
        "a@b.cd,e@f.gh",
    ];
    rows.extend(emails.iter().map(|email| (with("email", &format!("\"{email}\"")), vec!["/email"])));
    rows.push((with("email", &format!("\"{}@example.com\"", "a".repeat(243))), vec!["/email"]));
    for username in [
        "",
        " ",
        "a b",
        "a/b",
        "a\\u0000",
        "a\\n",
        "\\u202eab",
        "a\\u200bb",
        "<script>",
        "a;--",
        "ａｄｍｉｎ",
        "a\\uffa0",
        "Root",
        "SUPPORT",
    ] {
        rows.push((with("username", &format!("\"{username}\"")), vec!["/username"]));
    }
    rows.push((with("username", &format!("\"{}\"", "a".repeat(151))), vec!["/username"]));
    for name in ["a\\u0000", "a\\nb", "\\u001b[31m", "\\u0085", "\\u202ea", "a\\u2029b", &"a".repeat(151)] {
        rows.push((with("first_name", &format!("\"{name}\"")), vec!["/first_name"]));
        rows.push((with("last_name", &format!("\"{name}\"")), vec!["/last_name"]));
    }
    // Mass assignment: the names of columns, and other members that the contract does not have.
    for member in [
        "id",
        "is_staff",
        "is_superuser",
        "is_active",
        "is_verified",
        "password_hash",
        "roles",
        "claims",
        "created_at",
        "",
        "Email",
        "__proto__",
    ] {
        rows.push((with(member, "true"), vec![""]));
    }
    let twice = |member: &str, one: &str, other: &str| {
        format!(
            "{{\"email\":\"ann@example.com\",\"password\":\"correct horse battery\",\"{member}\":{one},\"{member}\":{other}}}"
        )
    };
    rows.push((twice("first_name", "\"a\"", "\"a\""), vec!["/first_name"]));
    rows.push((twice("username", "null", "\"a\""), vec!["/username"]));
    rows.push((
        "{\"email\":\"ann@example.com\",\"email\":\"bob@example.com\",\"password\":\"correct horse battery\"}"
            .to_owned(),
        vec!["/email"],
    ));
    rows.push((
        "{\"email\":\"ann@example.com\",\"password\":\"correct horse battery\",\"\\u0065mail\":\"bob@example.com\"}"
            .to_owned(),
        vec!["/email"],
    ));
    rows.push((
        "{\"email\":1,\"password\":2,\"username\":3,\"first_name\":4,\"last_name\":5,\"more\":6}".to_owned(),
        vec!["/email", "/password", "/username", "/first_name", "/last_name", ""],
    ));
    rows
}

/// Some clients send `null` for members that are not set.
#[tokio::test]
async fn null_counts_as_absent() {
    let app = TestApp::start().await;
    let body = json!({"email": "ann@example.com", "password": PASSWORD, "username": null, "first_name": null, "last_name": null});
    let created = app.anon().post("/auth/create", &body).await;
    assert_eq!((created.status, &created.json["username"]), (201, &json!("ann@example.com")));
    let body = json!({"email": null, "username": "ann@example.com", "password": PASSWORD});
    assert_eq!(app.anon().post("/auth/signin", &body).await.status, 200);
    let body = json!({"email": null, "username": null, "password": PASSWORD});
    assert_eq!(app.anon().post("/auth/signin", &body).await.pointers(), ["/email"]);
}

#[tokio::test]
async fn an_international_email_has_one_account_in_every_spelling() {
    let app = TestApp::start().await;
    let one_account = [
        ["संपर्क@डाटामेल.भारत", "संपर्क@डाटामेल.भारत"],
        ["ผู้ใช้@เครื่องหมาย.ไทย", "ผู้ใช้@เครื่องหมาย.ไทย"],
        ["ಬೆಂಬಲ@ಡೇಟಾಮೇಲ್.ಭಾರತ", "ಬೆಂಬಲ@ಡೇಟಾಮೇಲ್.ಭಾರತ"],
        ["மின்னஞ்சல்@உதாரணம்.இந்தியா", "மின்னஞ்சல்@உதாரணம்.இந்தியா"],
        ["İbrahim@example.com", "i\u{307}brahim@example.com"],
        ["user@münchen.example", "USER@xn--mnchen-3ya.example"],
        ["straße@example.com", "STRASSE@example.com"],
        ["νίκος@example.com", "ΝΊΚΟΣ@example.com"],
    ];
    for [one, other] in one_account {
        let created = app.create(one).await;
        assert_eq!(created.status, 201, "{one}: {created:?}");
        app.sign_in(one).await;
        let again = app.create(other).await;
        assert_eq!((again.status, again.code()), (409, "email-taken"), "{other}");
        let ann = app.sign_in(other).await;
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("q", other).finish();
        let found = ann.actor.get(&format!("/auth/users?{query}")).await;
        assert_eq!(found.json.as_array().map(Vec::len), Some(1), "{other}: {found:?}");
        assert_eq!(found.json[0]["id"], created.json["id"]);
    }
    let body = json!({"email": "k@example.com", "password": PASSWORD, "username": "क्षितिज"});
    assert_eq!(app.anon().post("/auth/create", &body).await.status, 201);
}

#[tokio::test]
async fn invalid_input_is_400_with_a_pointer_to_each_fault() {
    let app = TestApp::start().await;
    let mut rows: Vec<(Vec<u8>, Vec<&str>)> =
        invalid_bodies().into_iter().map(|(body, pointers)| (body.into_bytes(), pointers)).collect();
    rows.push((b"{\"email\":\"\xff\xfe\"}".to_vec(), vec![]));
    let fault = async |(body, pointers): &(Vec<u8>, Vec<&str>)| {
        let reply = app.anon().post_raw("/auth/create", body.clone()).await;
        let is_right = (reply.status, reply.code()) == (400, "invalid-request") && reply.pointers() == *pointers;
        (!is_right).then(|| format!("{pointers:?} expected, {} {}", reply.status, reply.text))
    };
    all_replies("invalid bodies", rows, |(body, _)| String::from_utf8_lossy(body).into_owned(), fault).await;
    let users = app.database.count("users").await;
    assert_eq!(users, "0", "nothing was stored");
}

#[tokio::test]
async fn no_error_reply_repeats_the_request() {
    let app = TestApp::start().await;
    let bodies = [
        json!({"email": "canary-1", "password": "canary-2", "canary-3": "canary-4"}),
        json!({"email": ["canary-1"], "password": {"canary-2": 1}}),
        json!({"email": "a@b.cd", "password": "canary"}),
        Value::String("canary".to_owned()),
    ];
    for body in bodies {
        for path in ["/auth/create", "/auth/signin", "/auth/refresh-access", "/auth/signout"] {
            let reply = app.anon().post(path, &body).await;
            assert!(reply.status >= 400 && !reply.text.contains("canary"), "{path} {body}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn an_email_of_254_characters_and_names_of_150_are_accepted() {
    let app = TestApp::start().await;
    let body = json!({
        "email": format!("{}@example.com", "a".repeat(242)), "password": PASSWORD,
        "username": "u".repeat(150), "first_name": "é".repeat(150), "last_name": "עברית ".repeat(25),
    });
    let reply = app.anon().post("/auth/create", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[tokio::test]
async fn closed_registration_refuses_every_sign_up() {
    let app = TestApp::with(&[("REGISTRATION__MODE", "closed")]).await;
    let reply = app.create("ann@example.com").await;
    assert_eq!((reply.status, reply.code()), (403, "registration-closed"));
}

#[tokio::test]
async fn staff_registration_requires_a_staff_token() {
    let app = TestApp::with(&[
        ("REGISTRATION__MODE", "staff"),
        ("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"),
        ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD),
    ])
    .await;
    let reply = app.create("ann@example.com").await;
    assert_eq!((reply.status, reply.code()), (401, "token-missing"));
    let root = app.sign_in("root@example.com").await;
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    assert_eq!(root.actor.post("/auth/create", &body).await.status, 201);
    let ann = app.sign_in("ann@example.com").await;
    let reply = ann.actor.post("/auth/create", &json!({"email": "bob@example.com", "password": PASSWORD})).await;
    assert_eq!((reply.status, reply.code()), (403, "forbidden"));
    let reply =
        app.bearer("x.y.z").post("/auth/create", &json!({"email": "bob@example.com", "password": PASSWORD})).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
}
