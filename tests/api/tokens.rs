//! Tokens that attackers make. Most rows are signed with the right key, so that only a check other than that of the
//! signature can refuse them.

use crate::support::{
    SignedIn, TestApp, all_replies,
    app::{REFRESH_KEY, SIGNING_KEY},
    token::{sign_text, sign_with, take_apart},
};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

/// A kind of token under attack.
struct Kind<'a> {
    good: &'a str,
    key: &'static str,
    other_key: &'static str,
}

/// Secrets that attackers try first.
const COMMON_SECRETS: &[&str] = &[
    "secret",
    "Secret",
    "SECRET",
    "password",
    "123456",
    "changeme",
    "jwt",
    "jwt_secret",
    "jwtsecret",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "my secret",
    "mysecret",
    "secretkey",
    "secret_key",
    "secret-key",
    "SECRET_KEY",
    "key",
    "test",
    "dev",
    "default",
    "private",
    "token",
    "qwerty",
    "hello",
    "signet",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "\0",
    "null",
];

/// A name and a token.
type Row = (String, String);

impl Kind<'_> {
    fn rows(&self, now: i64) -> Vec<Row> {
        let mut rows = self.headers();
        rows.extend(self.claims(now));
        rows.extend(self.texts());
        rows
    }

    fn changed(&self, header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
        let mut parts = take_apart(self.good);
        let change = |part: &mut Value, changes: &[(&str, Value)]| {
            for (name, value) in changes {
                part[*name] = value.clone();
            }
        };
        change(&mut parts.header, header);
        change(&mut parts.claims, claims);
        parts.sign(self.key)
    }

    fn without(&self, part: &str, name: &str) -> String {
        let mut parts = take_apart(self.good);
        let object = if part == "header" { &mut parts.header } else { &mut parts.claims };
        object.as_object_mut().unwrap().remove(name).expect("the member exists");
        parts.sign(self.key)
    }

    fn headers(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut header = |name: &str, value: Value| {
            rows.push((format!("header {name}: {value}"), self.changed(&[(name, value.clone())], &[])));
        };
        for alg in [
            "none",
            "None",
            "NONE",
            "nOnE",
            "",
            "HS384",
            "HS512",
            "hs256",
            "RS256",
            "ES256",
            "PS256",
            "EdDSA",
            "HS256 ",
            "HS256\u{0}",
            "dir",
        ] {
            header("alg", alg.into());
        }
        for alg in [json!(null), json!(0), json!(["HS256"]), json!({"alg": "HS256"})] {
            header("alg", alg);
        }
        let typs = [
            "",
            "JWT",
            "jwt",
            "at",
            "AT+JWT",
            "at+jwt ",
            "application/at+jwt",
            "application/rt+jwt",
            "id+jwt",
            "dpop+jwt",
            "secevent+jwt",
        ];
        let other = if take_apart(self.good).header["typ"] == "at+jwt" { "rt+jwt" } else { "at+jwt" };
        for typ in typs.into_iter().chain([other]) {
            header("typ", typ.into());
        }
        for typ in [json!(null), json!(1), json!(["at+jwt", "rt+jwt"])] {
            header("typ", typ);
        }
        for kid in [
            "",
            "/dev/null",
            "../../../../../../dev/null",
            "' UNION SELECT '1",
            "|sleep 10",
            "$(curl 127.0.0.1)",
            "0",
            &"k".repeat(5_000),
        ] {
            header("kid", kid.into());
        }
        for kid in [json!(null), json!(0), json!([]), json!({"a": 1})] {
            header("kid", kid);
        }
        for crit in [
            json!([]),
            json!(["exp"]),
            json!(["b64"]),
            json!(["x"]),
            json!(null),
            json!("exp"),
            json!(1),
            json!({}),
            json!(true),
            json!(["alg"]),
        ] {
            header("crit", crit);
        }
        let jwk = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "a"});
        for (name, value) in [
            ("jwk", jwk),
            ("jku", json!("http://127.0.0.1:9/jwks.json")),
            ("x5u", json!("http://127.0.0.1:9/cert.pem")),
            ("x5c", json!(["MIIB"])),
            ("x5t", json!("a")),
            ("zip", json!("DEF")),
            ("b64", json!(false)),
            ("cty", json!("JWT")),
            ("enc", json!("A128GCM")),
        ] {
            header(name, value);
        }
        for name in ["alg", "typ", "kid"] {
            rows.push((format!("no header {name}"), self.without("header", name)));
        }
        rows
    }

    fn claims(&self, now: i64) -> Vec<Row> {
        let mut rows = Vec::new();
        let good = take_apart(self.good).claims;
        for name in good.as_object().unwrap().keys() {
            rows.push((format!("no claim {name}"), self.without("claims", name)));
            for value in [json!(null), json!([]), json!({}), json!(true)] {
                if good[name] != value {
                    rows.push((format!("claim {name}: {value}"), self.changed(&[], &[(name, value)])));
                }
            }
        }
        let mut claim = |name: &str, value: Value| {
            rows.push((format!("claim {name}: {value}"), self.changed(&[], &[(name, value.clone())])));
        };
        for value in [
            json!(now),
            json!(now - 1),
            json!(0),
            json!(-1),
            json!((now + 300).to_string()),
            json!(now as f64 + 300.0),
            json!(now as f64 + 300.5),
            json!(1e99),
            json!(u64::MAX),
        ] {
            claim("exp", value);
        }
        for value in [
            json!(now + 61),
            json!(now + 1_000_000),
            json!(i64::MAX),
            json!(now.to_string()),
            json!(now as f64),
            json!(1e99),
        ] {
            claim("iat", value);
        }
        for value in [json!(now + 61), json!(now.to_string()), json!(now as f64), json!(null), json!([])] {
            claim("nbf", value);
        }
        for iss in ["", "signe", "signet ", "signett", "Signet", "evil", "signet,evil", "https://signet"] {
            claim("iss", iss.into());
        }
        claim("iss", json!(["signet"]));
        claim("iss", json!(["signet", "evil"]));
        claim("iss", json!(1));
        claim("sub", json!(1));
        for sub in
            ["", "0x1", "01", "+1", "-1", "1 ", " 1", "1.0", "99999999999999999999", "1; DROP TABLE users", "١", "999"]
        {
            claim("sub", sub.into());
        }
        for sid in ["", "0", &"0".repeat(32), &"F".repeat(32), "' OR ''='", "00000000-0000-0000-0000-000000000000"] {
            claim("sid", sid.into());
        }
        for token_type in [
            "",
            "access",
            "refresh",
            "Bearer",
            "Access_Token",
            if good["token_type"] == "access_token" { "refresh_token" } else { "access_token" },
        ] {
            claim("token_type", token_type.into());
        }
        if good.get("client_id").is_some() {
            for client in ["", "Signet", "signet ", "other"] {
                claim("client_id", client.into());
            }
        }
        for (name, twice) in
            [("an unknown claim", r#""x":1,"x":1"#), ("a claim with an escaped name", r#""x":1,"\u0078":1"#)]
        {
            let header = take_apart(self.good).header.to_string();
            let twice = format!("{{{twice},{}", &good.to_string()[1..]);
            rows.push((format!("{name} twice"), sign_text(&header, &twice, self.key)));
        }
        for name in good.as_object().unwrap().keys() {
            let twice = format!("{{{}:{},{}", json!(name), good[name], &good.to_string()[1..]);
            let header = take_apart(self.good).header.to_string();
            rows.push((format!("claim {name} twice"), sign_text(&header, &twice, self.key)));
        }
        let header = take_apart(self.good).header.to_string();
        for name in ["alg", "typ", "kid"] {
            let value = &take_apart(self.good).header[name];
            let twice = format!("{{{}:{value},{}", json!(name), &header[1..]);
            rows.push((format!("header {name} twice"), sign_text(&twice, &good.to_string(), self.key)));
        }
        for text in
            ["", " ", "null", "[]", "{}", "1", "\"a\"", "{", &"[".repeat(3_000), "\u{feff}{}", "{\"exp\":1}{\"exp\":2}"]
        {
            rows.push((format!("claims {text:.20}"), sign_text(&header, text, self.key)));
            rows.push((format!("header {text:.20}"), sign_text(text, &good.to_string(), self.key)));
        }
        rows
    }

    fn texts(&self) -> Vec<Row> {
        let parts = take_apart(self.good);
        let (header, claims) = (parts.header.to_string(), parts.claims.to_string());
        let pieces: Vec<&str> = self.good.split('.').collect();
        let [h, c, s] = pieces[..] else { panic!("three parts") };
        let mut rows: Vec<Row> = [self.other_key, "", "a", &self.key[..self.key.len() - 1], &self.key.to_uppercase()]
            .iter()
            .chain(COMMON_SECRETS)
            .map(|key| (format!("signed with {key:?}"), sign_text(&header, &claims, key)))
            .collect();
        for (name, algorithm) in [("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
            let as_said = header.replace("HS256", name);
            rows.push((
                format!("{name} under the right key"),
                sign_with(algorithm, &as_said, &claims, self.key.as_bytes()),
            ));
            rows.push((
                format!("HS256 in the header, {name} computed"),
                sign_with(algorithm, &header, &claims, self.key.as_bytes()),
            ));
        }
        let values = |object: &Value| Value::Array(object.as_object().unwrap().values().cloned().collect()).to_string();
        rows.push(("a header that is an array".to_owned(), sign_text(&values(&parts.header), &claims, self.key)));
        rows.push(("claims that are an array".to_owned(), sign_text(&header, &values(&parts.claims), self.key)));
        let none = sign_text(&header.replace("HS256", "none"), &claims, self.key);
        let none = none.rsplit_once('.').unwrap().0;
        let other_tail = {
            let mut tail = s.to_owned();
            let last = tail.pop().unwrap();
            tail.push(if last == 'A' { 'B' } else { 'A' });
            tail
        };
        // An HMAC-SHA256 takes 43 characters, of which the last has two unused bits: other last characters could decode
        // to the same bytes.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = alphabet.find(s.chars().last().unwrap()).unwrap();
        let unused_bit = format!("{}{}", &s[..s.len() - 1], &alphabet[last ^ 1..=last ^ 1]);
        let texts = [
            ("no signature", format!("{h}.{c}.")),
            ("two parts", format!("{h}.{c}")),
            ("one part", h.to_owned()),
            ("empty", String::new()),
            ("dots", "..".to_owned()),
            ("none without signature", format!("{none}.")),
            ("none with the old signature", format!("{none}.{s}")),
            ("four parts", format!("{}.{s}", self.good)),
            ("five parts, as JWE", format!("{h}.{c}.{s}.{c}.{s}")),
            ("leading dot", format!(".{}", self.good)),
            ("trailing dot", format!("{}.", self.good)),
            ("another signature", format!("{h}.{c}.{other_tail}")),
            ("a truncated signature", format!("{h}.{c}.{}", &s[..20])),
            ("a doubled signature", format!("{h}.{c}.{s}{s}")),
            ("padding", format!("{h}.{c}.{s}=")),
            ("an unused bit", format!("{h}.{c}.{unused_bit}")),
            ("header and claims swapped", format!("{c}.{h}.{s}")),
            ("the standard alphabet", self.good.replace('-', "+").replace('_', "/") + "+"),
            ("quoted", format!("\"{}\"", self.good)),
            ("percent-encoded", self.good.replace('.', "%2E")),
            ("doubled", format!("{}{}", self.good, self.good)),
            ("cut", self.good[..self.good.len() / 2].to_owned()),
            ("too long", format!("{h}.{}.{s}", "A".repeat(9_000))),
        ];
        rows.extend(texts.map(|(name, text)| (name.to_owned(), text)));
        rows
    }
}

fn access(ann: &SignedIn) -> Kind<'_> {
    Kind { good: &ann.access, key: SIGNING_KEY, other_key: REFRESH_KEY }
}

fn refresh(ann: &SignedIn) -> Kind<'_> {
    Kind { good: &ann.refresh, key: REFRESH_KEY, other_key: SIGNING_KEY }
}

#[tokio::test]
async fn hostile_access_tokens_are_refused() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let refused =
        async |(_, token): &Row| app.bearer(token).get("/auth/users/me").await.differs_from(401, "invalid-token");
    all_replies("hostile access tokens", access(&ann).rows(app.now()), |(name, _)| name.clone(), refused).await;
    // The unchanged token, signed again by the test, is accepted: each row was refused for its change.
    let again = take_apart(&ann.access).sign(SIGNING_KEY);
    assert_eq!(app.bearer(&again).get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn hostile_refresh_tokens_are_refused() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let mut rows = refresh(&ann).rows(app.now());
    for generation in
        [json!(-1), json!(1), json!(i64::MAX), json!(i64::MIN), json!(u64::MAX), json!(0.0), json!(1e99), json!("0")]
    {
        rows.push((format!("gen {generation}"), refresh(&ann).changed(&[], &[("gen", generation)])));
    }
    let refused = async |(_, token): &Row| app.refresh(token).await.differs_from(401, "invalid-token");
    all_replies("hostile refresh tokens", rows, |(name, _)| name.clone(), refused).await;
    let again = take_apart(&ann.refresh).sign(REFRESH_KEY);
    assert_eq!(app.refresh(&again).await.status, 200);
}

/// A clipboard, a line break or a proxy may damage a token. A damaged token ends no session.
#[tokio::test]
async fn a_damaged_refresh_token_neither_refreshes_nor_signs_out() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let good = &ann.refresh;
    let [header, claims, tag] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let row = |name: &str, text: String| (name.to_owned(), text);
    let mut rows: Vec<Row> =
        (0..good.len()).step_by(9).map(|end| (format!("cut to {end}"), good[..end].to_owned())).collect();
    for (name, space) in
        [("space", " "), ("tab", "\t"), ("line break", "\n"), ("no-break space", "\u{a0}"), ("NUL", "\0")]
    {
        rows.push((format!("{name} before"), format!("{space}{good}")));
        rows.push((format!("{name} after"), format!("{good}{space}")));
        rows.push((format!("{name} within"), format!("{header}.{space}{claims}.{tag}")));
    }
    for count in 1..=3 {
        let padding = "=".repeat(count);
        rows.push((format!("{count} = after the header"), format!("{header}{padding}.{claims}.{tag}")));
        rows.push((format!("{count} = after the claims"), format!("{header}.{claims}{padding}.{tag}")));
        rows.push((format!("{count} = after the tag"), format!("{good}{padding}")));
    }
    let standard = |text: &str| text.replace('-', "+").replace('_', "/");
    let hex: String = good.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    rows.extend([
        row("empty", String::new()),
        row("doubled", format!("{good}{good}")),
        row("doubled with a dot", format!("{good}.{good}")),
        row("doubled with a space", format!("{good} {good}")),
        row("the standard alphabet", format!("{}.{}.{}+", standard(header), standard(claims), standard(tag))),
        row("hexadecimal", hex),
        row("upper case", good.to_uppercase()),
        row("the scheme before it", format!("Bearer {good}")),
        row("in quotes", format!("\"{good}\"")),
        row("non-ASCII letters", "é".repeat(100)),
        row("letters that look alike", good.replacen('e', "е", 1)),
        row("wide letters", format!("{header}.{claims}.{}", "Ａ".repeat(43))),
        row("a byte-order mark before", format!("\u{feff}{good}")),
        row(
            "just longer than 8 KiB",
            format!("{header}.{}.{tag}", "A".repeat(8 * 1024 + 1 - header.len() - tag.len() - 2)),
        ),
        row("15 KiB", "a".repeat(15 * 1024)),
    ]);
    // Signed with the right key, but with claims that Signet never issues.
    let signed = |claim: &str, value: Value| {
        (format!("{claim}: {value}"), refresh(&ann).changed(&[], &[(claim, value.clone())]))
    };
    rows.extend(
        [json!(-1), json!(u64::MAX), json!(0.0), json!(1.5), json!(1e300), json!("0"), json!(null)]
            .map(|generation| signed("gen", generation)),
    );
    rows.extend(
        [json!("0"), json!("x"), json!(0), json!("F".repeat(32)), json!("é".repeat(16))].map(|sid| signed("sid", sid)),
    );
    let refused = async |(_, token): &Row| {
        let refreshed = app.refresh(token).await.differs_from(401, "invalid-token");
        refreshed.or(app.sign_out(token).await.differs_from(401, "invalid-token"))
    };
    all_replies("damaged refresh tokens", rows, |(name, _)| name.clone(), refused).await;
    let absent = refresh(&ann).changed(&[], &[("sid", json!("0".repeat(32)))]);
    assert_eq!(app.refresh(&absent).await.code(), "invalid-token", "an unknown session");
    assert_eq!(app.sign_out(&absent).await.status, 204, "an unknown session counts as ended");
    assert_eq!((app.refresh(good).await.status, app.verify(&ann.access).await), (200, 200), "no session has ended");
}

#[tokio::test]
async fn access_and_refresh_tokens_are_not_interchangeable() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let reply = app.refresh(&ann.access).await;
    assert_eq!((reply.status, reply.code()), (401, "wrong-token-type"));
    assert_eq!(reply.json["detail"], "Only refresh tokens are allowed.");
    let reply = app.bearer(&ann.refresh).get("/auth/users/me").await;
    assert_eq!((reply.status, reply.code()), (401, "wrong-token-type"));
    assert_eq!(reply.json["detail"], "Refresh tokens cannot be used for operations.");
    // An expired token of the other kind gets `invalid-token`.
    app.advance(301);
    assert_eq!(app.refresh(&ann.access).await.code(), "invalid-token");
    app.advance(86_400);
    assert_eq!(app.bearer(&ann.refresh).get("/auth/users/me").await.code(), "invalid-token");
}

/// `typ` is checked even when the key and the claims are right.
#[tokio::test]
async fn the_typ_of_a_token_is_checked() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for typ in ["JWT", "rt+jwt", "at+JWT", ""] {
        let token = access(&ann).changed(&[("typ", typ.into())], &[]);
        assert_eq!(app.bearer(&token).get("/auth/users/me").await.status, 401, "an access token with typ {typ:?}");
    }
    for typ in ["JWT", "at+jwt", "rt+JWT", ""] {
        let token = refresh(&ann).changed(&[("typ", typ.into())], &[]);
        assert_eq!(app.refresh(&token).await.status, 401, "a refresh token with typ {typ:?}");
    }
}

#[tokio::test]
async fn an_access_token_expires_in_the_second_its_lifetime_ends() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.advance(299);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
    app.advance(1);
    assert_eq!(ann.actor.get("/auth/users/me").await.code(), "invalid-token");
}

#[tokio::test]
async fn an_expired_token_is_accepted_within_the_leeway() {
    let app = TestApp::with(&[("JWT__LEEWAY", "10s")]).await;
    let ann = app.user().await;
    app.advance(309);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
    app.advance(1);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 401);
}

#[tokio::test]
async fn a_token_issued_at_most_60_seconds_in_the_future_is_accepted() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.advance(-60);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
    assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    app.advance(-1);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 401);
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
}

/// Signet writes no `nbf`, but another holder of the key may.
#[tokio::test]
async fn a_token_is_refused_before_its_nbf() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for (nbf, status) in [(app.now() - 1, 200), (app.now(), 200), (app.now() + 1, 401)] {
        let token = access(&ann).changed(&[], &[("nbf", nbf.into())]);
        assert_eq!(app.bearer(&token).get("/auth/users/me").await.status, status, "{nbf}");
    }
}

#[tokio::test]
async fn a_token_older_than_the_lifetime_is_refused_whatever_its_exp() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let token = |iat: i64| access(&ann).changed(&[], &[("iat", iat.into()), ("exp", (app.now() + 10_000).into())]);
    assert_eq!(app.bearer(&token(app.now() - 300)).get("/auth/users/me").await.status, 200);
    assert_eq!(app.bearer(&token(app.now() - 301)).get("/auth/users/me").await.status, 401);
}

#[tokio::test]
async fn the_audience_is_exactly_the_configured_one() {
    let app = TestApp::with(&[("JWT__AUDIENCE", "shop")]).await;
    let ann = app.user().await;
    let audiences = [
        json!("shop "),
        json!("sho"),
        json!("Shop"),
        json!("shop,evil"),
        json!(["shop"]),
        json!([]),
        json!({}),
        json!(null),
        json!(1),
        json!(""),
    ];
    let mut rows = vec![("none".to_owned(), access(&ann).without("claims", "aud"))];
    rows.extend(audiences.map(|aud| (aud.to_string(), access(&ann).changed(&[], &[("aud", aud.clone())]))));
    let refused =
        async |(_, token): &Row| app.bearer(token).get("/auth/users/me").await.differs_from(401, "invalid-token");
    all_replies("audiences", rows, |(name, _)| name.clone(), refused).await;
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
    // Without `jwt.audience`, a token for any audience is refused.
    let app = TestApp::start().await;
    let ann = app.user().await;
    for aud in [json!("shop"), json!(null), json!([])] {
        let token = access(&ann).changed(&[], &[("aud", aud.clone())]);
        assert_eq!(app.bearer(&token).get("/auth/users/me").await.status, 401, "{aud}");
    }
}

#[tokio::test]
async fn a_token_with_the_session_of_another_user_is_refused() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let sid = take_apart(&bob.access).claims["sid"].clone();
    let token = access(&ann).changed(&[], &[("sid", sid.clone())]);
    assert_eq!(app.bearer(&token).get("/auth/users/me").await.status, 401);
    let token = refresh(&ann).changed(&[], &[("sid", sid)]);
    assert_eq!(app.refresh(&token).await.status, 401);
}
