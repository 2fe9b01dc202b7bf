//! A client that checks each reply against the contract and the OpenAPI document.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Method, Response,
    header::{HeaderMap, HeaderValue},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{LazyLock, Mutex},
    time::Duration,
};

pub fn http_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .no_proxy()
        // No test uses TLS, and reading the system's certificates takes longer than most tests.
        .tls_certs_only([])
}

pub struct Actor {
    client: reqwest::Client,
    address: SocketAddr,
    authorization: Option<HeaderValue>,
    token_names: TokenNames,
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// `null` when the body is not JSON.
    pub json: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of an error.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// Describes the reply if its status or its code differs from these.
    pub fn differs_from(&self, status: u16, code: &str) -> Option<String> {
        ((self.status, self.code()) != (status, code)).then(|| format!("{} {}", self.status, self.text))
    }

    /// The value of a member that is a string.
    pub fn string(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or_else(|| panic!("no {member}: {self:?}"))
    }

    /// The pointers to the members at fault.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

impl Actor {
    pub fn new(
        client: reqwest::Client,
        address: SocketAddr,
        authorization: Option<HeaderValue>,
        token_names: TokenNames,
    ) -> Self {
        Self { client, address, authorization, token_names }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, |request| request).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, |request| request.json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PATCH, path, |request| request.json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, |request| request).await
    }

    /// Sends the parameters of a form.
    pub async fn form(&self, path: &str, parameters: &[(&str, &str)]) -> Reply {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let of_type = "application/x-www-form-urlencoded";
        self.send(Method::POST, path, |request| request.header("content-type", of_type).body(form)).await
    }

    /// Sends these bytes as JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.send(Method::POST, path, |request| request.header("content-type", "application/json").body(body)).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Reply {
        let request = self.client.request(method.clone(), format!("http://{}{path}", self.address));
        let request = match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        let response = change(request).send().await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
        let reply = read(path, response).await;
        check_documented(&method, path, &reply, self.token_names);
        reply
    }
}

/// The value of `Authorization` with a token.
pub fn bearer(token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Bearer {token}")).unwrap()
}

/// The value of `Authorization` with the credentials of a client.
pub fn basic(id: &str, secret: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))).unwrap()
}

async fn read(path: &str, response: Response) -> Reply {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or_default();
    let reply = Reply { status, headers, text, json };
    check(path, &reply);
    reply
}

/// The committed document, which is that of a service with default settings.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap());

/// Checks that the document describes the reply, and that the body conforms to its schema. Accepts a reply to a path or
/// method that is not in the document, and a 404 that is not.
fn check_documented(method: &Method, path: &str, reply: &Reply, token_names: TokenNames) {
    let path = path.split('?').next().unwrap();
    let matches = |template: &str| {
        let (parts, names) = (path.split('/'), template.split('/'));
        path.split('/').count() == template.split('/').count()
            && parts.zip(names).all(|(part, name)| part == name || name.starts_with('{'))
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let template =
        if paths.contains_key(path) { Some(path) } else { paths.keys().map(String::as_str).find(|one| matches(one)) };
    let Some(template) = template else { return };
    let operation = &paths[template][method.as_str().to_lowercase()];
    let response = &operation["responses"][reply.status.to_string()];
    if !operation.is_object() || (reply.status == 404 && response.is_null()) {
        return;
    }
    assert!(response.is_object(), "{method} {path} answers {}, which is not documented: {reply:?}", reply.status);
    let content_type = reply.header("content-type").split(';').next().unwrap();
    let content = &response["content"][content_type];
    assert_eq!(content.is_object(), !reply.text.is_empty(), "{method} {path} answers {content_type:?}: {reply:?}");
    let is_documented = reply.code().is_empty() || content["examples"][reply.code()].is_object();
    assert!(is_documented, "{method} {path} answers {}, which is not documented", reply.code());
    if reply.json.is_null() || token_names == TokenNames::Custom {
        return;
    }
    let key = format!("{method} {template} {} {content_type}", reply.status);
    let mut schemas = SCHEMAS.lock().unwrap();
    let schema = schemas.entry(key).or_insert_with(|| {
        let mut schema = content["schema"].clone();
        schema["components"] = DOCUMENT["components"].clone();
        jsonschema::draft202012::new(&schema).unwrap()
    });
    let faults: Vec<String> = schema.iter_errors(&reply.json).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "the reply to {method} {path} does not conform to its schema: {faults:?}: {reply:?}");
}

static SCHEMAS: LazyLock<Mutex<HashMap<String, jsonschema::Validator>>> = LazyLock::new(Mutex::default);

/// Whether `jwt.access_token_name` and `jwt.refresh_token_name` are those of [`DOCUMENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenNames {
    Default,
    Custom,
}

/// Checks the rules that the contract sets for every reply.
fn check(path: &str, reply: &Reply) {
    assert!(!reply.header("x-request-id").is_empty(), "{path}: no request id: {reply:?}");
    assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
    let has_secrets = path.starts_with("/auth/") || path.starts_with("/oauth/");
    if has_secrets && reply.status != 404 {
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
    }
    if reply.status < 400 || path.starts_with("/readyz") {
        return;
    }
    if path.starts_with("/oauth/") {
        check_oauth_error(path, reply);
    } else {
        check_problem(path, reply);
    }
}

/// Checks the rules of RFC 6749 §5.2 for an error of `/oauth/*`.
fn check_oauth_error(path: &str, reply: &Reply) {
    assert_ne!(reply.status, 500, "{path}: no request of a client causes a 500: {reply:?}");
    assert_eq!(reply.header("content-type"), "application/json", "{path}: {reply:?}");
    let is_allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
    assert!(reply.string("error_description").chars().all(is_allowed), "{path}: {reply:?}");
    let status = match reply.string("error") {
        "invalid_client" => 401,
        "temporarily_unavailable" => {
            if reply.status == 429 {
                429
            } else {
                503
            }
        }
        "invalid_request" => {
            if matches!(reply.status, 404 | 405 | 408 | 413) {
                reply.status
            } else {
                400
            }
        }
        _ => 400,
    };
    assert_eq!(reply.status, status, "{path}: {reply:?}");
    let challenge = if reply.status == 401 { "Basic realm=\"signet\"" } else { "" };
    assert_eq!(reply.header("www-authenticate"), challenge, "{path}: {reply:?}");
    check_headers(path, reply);
}

/// Checks the rules that the contract sets for every error.
fn check_problem(path: &str, reply: &Reply) {
    assert_ne!(reply.status, 500, "{path}: no request of a client causes a 500: {reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json", "{path}: {reply:?}");
    let member = |name: &str| reply.json[name].as_str().unwrap_or_else(|| panic!("{path}: no {name}: {reply:?}"));
    assert_eq!(reply.json["status"], reply.status, "{path}");
    assert!(member("type").ends_with(&format!("/docs/errors#{}", member("code"))), "{path}: {reply:?}");
    assert!(!member("title").is_empty() && !member("detail").is_empty(), "{path}");
    assert_eq!(member("request_id"), reply.header("x-request-id"), "{path}");
    let leaks = ["sqlx", "sqlite", "postgres", "serde", "argon2", "actix", "panicked", "src/", "expected"];
    for leak in leaks {
        assert!(!reply.text.to_lowercase().contains(leak), "{path}: a reply contains {leak:?}: {reply:?}");
    }
    let challenge = match reply.code() {
        _ if reply.status != 401 => "",
        "invalid-credentials" if path.starts_with("/auth/revocations") => "Basic realm=\"signet\"",
        "invalid-credentials" | "token-missing" => "Bearer realm=\"signet\"",
        _ => "Bearer realm=\"signet\", error=\"invalid_token\"",
    };
    assert_eq!(reply.header("www-authenticate"), challenge, "{path}: {reply:?}");
    check_headers(path, reply);
}

/// Checks the headers that belong to some statuses.
fn check_headers(path: &str, reply: &Reply) {
    let is_temporary = matches!(reply.status, 429 | 503);
    assert_eq!(reply.header("retry-after").parse::<u32>().is_ok(), is_temporary, "{path}: {reply:?}");
    assert_eq!(!reply.header("allow").is_empty(), reply.status == 405, "{path}: {reply:?}");
}
