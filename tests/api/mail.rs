//! `POST /auth/email`, `POST /auth/password/reset`, `POST /auth/verify-email`, and the mails

use crate::support::{Endpoint, PASSWORD, Reply, SignedIn, TestApp, email, eventually_within, token::take_apart};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use signet::domain::{Password, Timestamp, UserId};
use std::{collections::HashSet, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

const NEW: &str = "another horse battery";
const LINK_BASE: &str = "https://app.example.com/account";

/// A service whose mails become files.
pub(super) struct MailApp {
    pub(super) app: TestApp,
    folder: TempDir,
    seen: HashSet<PathBuf>,
}

/// What a mail says.
#[derive(Debug)]
pub(super) struct Mail {
    to: String,
    subject: String,
    text: String,
    raw: String,
}

impl Mail {
    fn parse(raw: &str) -> Self {
        let header = |name: &str| {
            let line = raw.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().to_owned()
        };
        let text =
            raw.split("text/plain").nth(1).unwrap().split("\r\n\r\n").skip(1).collect::<Vec<_>>().join("\r\n\r\n");
        let text = text.split("\r\n--").next().unwrap().replace("=\r\n", "").replace("=3D", "=");
        Self { to: header("To:"), subject: header("Subject:"), text, raw: raw.to_owned() }
    }

    pub(super) fn token(&self) -> &str {
        self.text.split("#token=").nth(1).unwrap_or_else(|| panic!("{self:?}")).split_whitespace().next().unwrap()
    }

    fn code(&self) -> &str {
        self.text.split("code: ").nth(1).unwrap_or_else(|| panic!("{self:?}")).split_whitespace().next().unwrap()
    }
}

impl MailApp {
    pub(super) async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().display());
        let settings = [
            ("MAIL__SMTP_URL", url.as_str()),
            ("MAIL__LINK_BASE", LINK_BASE),
            ("SERVER__PUBLIC_URL", "https://id.example.com"),
        ];
        let app = TestApp::with(&[&settings, more].concat()).await;
        Self { app, folder, seen: HashSet::new() }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some() && !self.seen.contains(path)).collect()
    }

    /// Waits for this many new mails.
    async fn mails(&mut self, count: usize) -> Vec<Mail> {
        eventually_within(10, true, async || self.files().len() >= count).await;
        let files = self.files();
        self.seen.extend(files.iter().cloned());
        let mails: Vec<Mail> = files.iter().map(|file| Mail::parse(&fs::read_to_string(file).unwrap())).collect();
        assert_eq!(mails.len(), count, "{mails:?}");
        mails
    }

    async fn mail(&mut self) -> Mail {
        self.mails(1).await.remove(0)
    }

    /// Asserts that no mail was sent, after every queued one is done.
    async fn no_mail(&self) {
        let open = "SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE NOT is_done";
        eventually_within(10, "0".to_owned(), async || self.app.database.value(open).await).await;
        assert_eq!(self.files(), [] as [PathBuf; 0]);
    }

    /// A signed-in user whose first mail was read.
    pub(super) async fn user(&mut self) -> (SignedIn, Mail) {
        let user = self.app.user().await;
        let mail = self.mail().await;
        (user, mail)
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.app.anon().post(path, &body).await
    }

    pub(super) async fn reset_mail(&mut self, email: &str) -> Mail {
        assert_eq!(self.post("/auth/password/reset", json!({"email": email})).await.status, 202);
        self.mail().await
    }

    pub(super) async fn reset(&self, proof: Value, password: &str) -> Reply {
        let mut body = proof;
        body["new_password"] = password.into();
        self.post("/auth/password/reset/confirm", body).await
    }
}

#[tokio::test]
async fn a_lost_password_is_replaced_by_the_token_of_a_mail() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    let mail = app.reset_mail(&ann.email.to_uppercase()).await;
    assert_eq!((mail.to.as_str(), mail.subject.as_str()), (ann.email.as_str(), "Set a new password"));
    assert!(mail.text.contains(&format!("{LINK_BASE}/reset-password#token=")), "{mail:?}");
    assert!(mail.raw.contains("Auto-Submitted: auto-generated") && mail.raw.contains("text/html"), "{mail:?}");
    let token = json!({"token": mail.token()});
    assert_eq!(app.reset(token.clone(), "password1").await.code(), "weak-password");
    assert_eq!(app.reset(token.clone(), "short").await.code(), "weak-password");
    assert_eq!(app.reset(token.clone(), NEW).await.status, 204, "after a weak password the token is still good");
    assert_eq!(app.app.refresh(&ann.refresh).await.status, 401, "every session has ended");
    assert_eq!(app.app.verify(&ann.access).await, 401);
    assert_eq!(app.app.try_sign_in(&ann.email, PASSWORD).await.status, 401);
    let signed_in = app.app.try_sign_in(&ann.email, NEW).await;
    let me = app.app.bearer(signed_in.string("access_token")).get("/auth/users/me").await;
    assert_eq!(me.json["is_verified"], true, "the address counts as verified");
    let used = app.reset(token, "a third horse battery").await;
    assert_eq!((used.status, used.code()), (401, "invalid-token"), "a token is used once");
    let notice = app.mail().await;
    assert_eq!((notice.to.as_str(), notice.subject.as_str()), (ann.email.as_str(), "Your password was changed"));
}

#[tokio::test]
async fn a_lost_password_is_replaced_by_the_code_of_a_mail() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    let mail = app.reset_mail(&ann.email).await;
    let with = |code: &str| json!({"email": ann.email, "code": code});
    assert_eq!(app.reset(with("0000-0000"), NEW).await.code(), "invalid-token");
    let typed = mail.code().to_lowercase().replace('-', " ");
    let other = email();
    assert_eq!(app.reset(json!({"email": other, "code": typed}), NEW).await.code(), "invalid-token");
    for odd in ["\0", "", "no address", &"x".repeat(9000)] {
        assert_eq!(app.reset(json!({"email": odd, "code": typed}), NEW).await.code(), "invalid-token", "{odd:?}");
        assert_eq!(app.reset(json!({"email": ann.email, "code": odd}), NEW).await.code(), "invalid-token", "{odd:?}");
        assert_eq!(app.reset(json!({"token": odd}), NEW).await.code(), "invalid-token", "{odd:?}");
    }
    assert_eq!(app.reset(with(&typed), NEW).await.status, 204);
    assert_eq!(
        app.reset(with(mail.code()), "a third horse battery").await.code(),
        "invalid-token",
        "a code is used once"
    );
    assert_eq!(app.app.try_sign_in(&ann.email, NEW).await.status, 200);
}

#[tokio::test]
async fn a_reset_does_not_reveal_whether_there_is_an_account() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    let mut replies = Vec::new();
    for address in [ann.email.clone(), email(), "no address".to_owned(), "\0".to_owned(), "x".repeat(5000)] {
        let mut reply = app.post("/auth/password/reset", json!({"email": address})).await;
        reply.headers.remove("x-request-id");
        reply.headers.remove("date");
        replies.push((reply.status, reply.text, format!("{:?}", reply.headers)));
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    assert_eq!(app.mail().await.to, ann.email);
    app.no_mail().await;
    let rows = app.app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE kind = 'reset-password'").await;
    assert_eq!(rows, "3", "a row for each address that can be stored, with or without an account");
}

#[tokio::test]
async fn an_address_gets_one_mail_a_minute() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    for _ in 0..50 {
        assert_eq!(app.post("/auth/password/reset", json!({"email": ann.email})).await.status, 202);
    }
    let first = app.mail().await;
    app.no_mail().await;
    app.app.advance(61);
    let second = app.reset_mail(&ann.email).await;
    assert_ne!(first.token(), second.token());
    let proof = json!({"token": first.token()});
    assert_eq!(app.reset(proof, NEW).await.status, 204, "the earlier mail is valid for its hour");
    assert_eq!(app.reset(json!({"token": second.token()}), NEW).await.status, 401, "the use of one ends the other");
}

#[tokio::test]
async fn tokens_and_codes_end_after_an_hour() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    let mail = app.reset_mail(&ann.email).await;
    app.app.advance(3600);
    assert_eq!(app.reset(json!({"token": mail.token()}), NEW).await.code(), "invalid-token");
    assert_eq!(app.reset(json!({"email": ann.email, "code": mail.code()}), NEW).await.code(), "invalid-token");
}

#[tokio::test]
async fn a_token_is_good_for_its_purpose_and_account_only() {
    let mut app = MailApp::start().await;
    let (ann, verify) = app.user().await;
    let (bob, _) = app.user().await;
    let reset = app.reset_mail(&ann.email).await;
    let (id, dated) = reset.token().split_once('.').unwrap();
    let mac = dated.split_once('.').unwrap().1;
    let rows = [
        verify.token().to_owned(),
        format!("{}.{dated}", bob.id),
        format!("0{id}.{dated}"),
        format!("{id}.{}.{mac}", app.app.now() + 10),
        format!("{id}.{dated}x"),
        format!("{id}.{dated}."),
        reset.token()[..reset.token().len() - 1].to_owned(),
        take_apart(&ann.access).claims.to_string(),
        ann.access.clone(),
        String::new(),
        "..".to_owned(),
        "1.9223372036854775807.x".to_owned(),
        "1.-9223372036854775808.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
    ];
    for token in &rows {
        let refused = app.reset(json!({ "token": token }), NEW).await;
        assert_eq!((refused.status, refused.code()), (401, "invalid-token"), "{token}");
    }
    println!("tokens: {} cases", rows.len());
    let confirm = async |token: &str| app.post("/auth/verify-email/confirm", json!({ "token": token })).await.status;
    assert_eq!(confirm(reset.token()).await, 401);
    let password = json!({"current_password": PASSWORD, "new_password": NEW});
    assert_eq!(ann.actor.post("/auth/password", &password).await.status, 204);
    assert_eq!(app.reset(json!({"token": reset.token()}), NEW).await.status, 401, "the password has changed");
    assert_eq!(confirm(verify.token()).await, 204, "a verification survives a new password");
    assert_eq!(confirm(verify.token()).await, 401, "it is used once");
}

#[tokio::test]
async fn an_email_is_verified_by_a_token_or_a_code() {
    let mut app = MailApp::start().await;
    let (ann, first) = app.user().await;
    assert_eq!((first.to.as_str(), first.subject.as_str()), (ann.email.as_str(), "Confirm your e-mail address"));
    assert!(first.text.contains(&format!("{LINK_BASE}/verify-email#token=")));
    assert_eq!(app.post("/auth/verify-email", json!({})).await.status, 401);
    app.app.advance(61);
    assert_eq!(ann.actor.send(Method::POST, "/auth/verify-email", |request| request).await.status, 202);
    let second = app.mail().await;
    let code = json!({"code": second.code()});
    assert_eq!(app.post("/auth/verify-email/confirm", code.clone()).await.code(), "token-missing");
    let (bob, _) = app.user().await;
    assert_eq!(bob.actor.post("/auth/verify-email/confirm", &code).await.code(), "invalid-token", "of another user");
    assert_eq!(ann.actor.post("/auth/verify-email/confirm", &code).await.status, 204);
    assert_eq!(ann.actor.get("/auth/users/me").await.json["is_verified"], true);
    assert_eq!(ann.actor.post("/auth/verify-email/confirm", &code).await.code(), "invalid-token", "it is used once");
    app.app.advance(61);
    assert_eq!(ann.actor.send(Method::POST, "/auth/verify-email", |request| request).await.status, 202);
    app.no_mail().await;
    for body in [json!({}), json!({"token": "a", "code": "b"}), json!({"code": 7})] {
        assert_eq!(ann.actor.post("/auth/verify-email/confirm", &body).await.status, 400, "{body}");
    }
    for path in ["/auth/verify-email/confirm", "/auth/password/reset/confirm"] {
        let path = format!("{path}?token={}", second.token());
        assert_eq!(app.app.anon().get(&path).await.status, 405, "a mail scanner that opens links confirms nothing");
    }
}

#[tokio::test]
async fn a_new_email_needs_the_password_and_is_not_verified() {
    let mut app = MailApp::start().await;
    let (ann, verify) = app.user().await;
    let reset = app.reset_mail(&ann.email).await;
    let (old, new) = (ann.email.clone(), email());
    let change = async |password: &str, email: &str| {
        ann.actor.post("/auth/email", &json!({"password": password, "email": email})).await
    };
    assert_eq!(change("a wrong horse", &new).await.code(), "invalid-credentials");
    assert_eq!(change(PASSWORD, "no address").await.pointers(), ["/email"]);
    let bob = app.user().await.0;
    assert_eq!(change(PASSWORD, &bob.email).await.code(), "email-taken");
    assert_eq!(change(PASSWORD, &new.to_uppercase()).await.status, 204);
    let me = ann.actor.get("/auth/users/me").await.json;
    assert_eq!((&me["email"], &me["username"], &me["is_verified"]), (&json!(new), &json!(new), &json!(false)));
    let mut mails = app.mails(2).await;
    mails.sort_by(|one, other| one.subject.cmp(&other.subject));
    assert_eq!((mails[0].to.as_str(), mails[0].subject.as_str()), (new.as_str(), "Confirm your e-mail address"));
    assert_eq!((mails[1].to.as_str(), mails[1].subject.as_str()), (old.as_str(), "Your e-mail address was changed"));
    for token in [verify.token(), reset.token()] {
        assert_eq!(app.post("/auth/verify-email/confirm", json!({"token": token})).await.status, 401);
        assert_eq!(app.reset(json!({"token": token}), NEW).await.status, 401, "the e-mail has changed");
    }
    assert_eq!(app.app.try_sign_in(&old, PASSWORD).await.status, 401);
    assert_eq!(app.app.try_sign_in(&new, PASSWORD).await.status, 200);
    let token = mails[0].token().to_owned();
    assert_eq!(app.post("/auth/verify-email/confirm", json!({"token": token})).await.status, 204);
    // A username that the user chose stays.
    ann.actor.patch("/auth/users/me", &json!({"username": "ann"})).await;
    assert_eq!(change(PASSWORD, &email()).await.status, 204);
    assert_eq!(ann.actor.get("/auth/users/me").await.json["username"], "ann");
}

#[tokio::test]
async fn wrong_codes_have_a_limit_of_their_own() {
    let limits = [("RATE_LIMIT__ENABLED", "true"), ("SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let mut app = MailApp::with(&limits).await;
    let (ann, _) = app.user().await;
    let mail = app.reset_mail(&ann.email).await;
    let attempt = async |number: usize, email: &str, code: &str| {
        let body = json!({"email": email, "code": code, "new_password": NEW});
        let address = format!("203.0.113.{number}");
        let send = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", address).json(&body);
        app.app.anon().send(Method::POST, "/auth/password/reset/confirm", send).await
    };
    let unknown = email();
    for address in [&unknown, &ann.email] {
        let mut statuses = Vec::new();
        for number in 0..8 {
            statuses.push(attempt(number, address, "0000-0000").await.status);
        }
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429], "{address}");
    }
    assert_eq!(attempt(100, &ann.email, mail.code()).await.code(), "rate-limited");
    assert_eq!(app.app.try_sign_in(&ann.email, PASSWORD).await.status, 200, "the owner still signs in");
    let metrics = app.app.anon().get("/metrics").await.text;
    assert!(metrics.contains("signet_rate_limited_total{limit=\"code\"} 7"), "{metrics}");
    app.app.advance(2);
    assert_eq!(attempt(101, &ann.email, mail.code()).await.status, 204);
}

#[tokio::test]
async fn without_a_mail_server_these_routes_are_503() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let confirm = json!({"token": "x", "new_password": NEW});
    for reply in [
        app.anon().post("/auth/password/reset", &json!({"email": ann.email})).await,
        app.anon().post("/auth/password/reset/confirm", &confirm).await,
        ann.actor.send(Method::POST, "/auth/verify-email", |request| request).await,
        app.anon().post("/auth/verify-email/confirm", &json!({"token": "x"})).await,
    ] {
        assert_eq!((reply.status, reply.code()), (503, "unavailable"), "{reply:?}");
    }
    let new = email();
    let change = json!({"password": PASSWORD, "email": new});
    assert_eq!(ann.actor.post("/auth/email", &change).await.status, 204, "a new e-mail needs no mail");
    assert_eq!(app.database.count("outbox").await, "0");
}

#[tokio::test]
async fn a_mail_in_a_folder_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data/mail");
    let app = TestApp::with(&[("MAIL__SMTP_URL", &format!("file:{}", folder.display()))]).await;
    app.user().await;
    let mails = || fs::read_dir(&folder).map(Iterator::count).unwrap_or_default();
    eventually_within(10, 1, async || mails()).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert!(fs::read_dir(&folder).unwrap().all(|entry| mode(&entry.unwrap().path()) == 0o600));
}

#[tokio::test]
async fn of_two_replicas_one_sends() {
    let mut app = MailApp::start().await;
    let url = format!("file:{}", app.folder.path().display());
    let replica = app.app.replica(&[("MAIL__SMTP_URL", &url)]).await;
    for _ in 0..10 {
        app.app.create(&email()).await;
    }
    app.mails(10).await;
    let ann = email();
    let ask = |number: usize| {
        let service: &Endpoint = if number.is_multiple_of(2) { &app.app } else { &replica };
        let ann = &ann;
        async move { service.anon().post("/auth/password/reset", &json!({"email": ann})).await.status }
    };
    let statuses = join_all((0..40).map(ask)).await;
    assert!(statuses.iter().all(|status| *status == 202));
    let rows = "SELECT CAST(COUNT(*) AS TEXT) FROM outbox WHERE kind = 'reset-password'";
    assert_eq!(app.app.database.value(rows).await, "1", "one mail a minute, also when both queue it at once");
    tokio::time::sleep(Duration::from_secs(2)).await;
    app.no_mail().await;
}

#[tokio::test]
async fn every_new_password_has_a_notice() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    let password = json!({"current_password": PASSWORD, "new_password": NEW});
    assert_eq!(ann.actor.post("/auth/password", &password).await.status, 204);
    let user_admin = app.app.user_admin().await;
    let (id, new) = (UserId(ann.id), Password::parse("a third horse battery").unwrap());
    let context = Timestamp(app.app.now()).into();
    user_admin.set_password(id, new, &context, |_| Ok(())).await.unwrap();
    // This one is set as by a command, whose settings have no mail.
    assert_eq!(app.mail().await.subject, "Your password was changed");
    let root = app.user().await.0;
    app.app.database.execute(&format!("UPDATE users SET is_superuser = TRUE WHERE id = {}", root.id)).await;
    for _ in 0..2 {
        let body = json!({"new_password": NEW});
        let path = format!("/auth/users/{}/password", ann.id);
        assert_eq!(root.actor.send(Method::PUT, &path, |request| request.json(&body)).await.status, 204);
    }
    assert!(app.mails(2).await.iter().all(|mail| mail.subject == "Your password was changed"));
}

#[tokio::test]
async fn a_new_api_key_is_notified_by_mail_and_a_reset_ends_it() {
    let mut app = MailApp::start().await;
    let (ann, _) = app.user().await;
    let made = ann.actor.post("/auth/api-keys", &json!({"name": "export", "password": PASSWORD})).await;
    let key = made.string("key");
    let notice = app.mail().await;
    assert_eq!((notice.to.as_str(), notice.subject.as_str()), (ann.email.as_str(), "A new API key for your account"));
    assert!(notice.text.contains(&ann.email) && !notice.raw.contains(&key[4..12]), "{notice:?}");
    let token = app.post("/auth/refresh-access", json!({"api_key": key})).await.string("access_token").to_owned();
    let mail = app.reset_mail(&ann.email).await;
    assert_eq!(app.reset(json!({"token": mail.token()}), NEW).await.status, 204);
    assert_eq!(app.post("/auth/refresh-access", json!({"api_key": key})).await.code(), "invalid-token");
    assert_eq!((app.app.verify(&token).await, app.app.bearer(&token).get("/auth/users/me").await.status), (401, 401));
}
