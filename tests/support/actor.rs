//! Somebody who talks to the service, and checks what holds for every reply.

use reqwest::{
    Method, Response,
    header::{HeaderMap, HeaderValue},
};
use serde_json::Value;
use std::{net::SocketAddr, sync::LazyLock, time::Duration};

pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .no_proxy()
        .build()
        .unwrap()
}

pub struct Actor {
    client: reqwest::Client,
    address: SocketAddr,
    token: Option<String>,
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// `null` when the body is no JSON.
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

    /// Where the faults are.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

impl Actor {
    pub fn new(client: reqwest::Client, address: SocketAddr, token: Option<String>) -> Self {
        Self { client, address, token }
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

    /// A body as it is, sent as JSON.
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
        let request = match &self.token {
            Some(token) => request.header("authorization", bearer(token)),
            None => request,
        };
        let response = change(request).send().await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
        let reply = read(path, response).await;
        check_documented(&method, path, &reply);
        reply
    }
}

fn bearer(token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Bearer {token}")).unwrap()
}

async fn read(path: &str, response: Response) -> Reply {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or_default();
    let reply = Reply { status, headers, text, json };
    check(path, &reply);
    reply
}

/// Whatever a route answers is in its document, or is the framework's word on methods.
fn check_documented(method: &Method, path: &str, reply: &Reply) {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap());
    let path = path.split('?').next().unwrap();
    let operation = &DOCUMENT["paths"][path][method.as_str().to_lowercase()];
    if operation.is_object() && reply.status != 404 {
        let response = &operation["responses"][reply.status.to_string()];
        assert!(response.is_object(), "{method} {path} answers {} without a word of it: {reply:?}", reply.status);
        let examples = &response["content"]["application/problem+json"]["examples"];
        let is_documented = reply.code().is_empty() || examples[reply.code()].is_object();
        assert!(is_documented, "{method} {path} answers {} without a word of it", reply.code());
    }
}

/// What the contract says of every reply.
fn check(path: &str, reply: &Reply) {
    assert!(!reply.header("x-request-id").is_empty(), "{path}: no request id: {reply:?}");
    assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
    if path.starts_with("/auth/") && reply.status != 404 {
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
    }
    if reply.status < 400 || path.starts_with("/readyz") {
        return;
    }
    check_problem(path, reply);
}

/// What the contract says of every error.
fn check_problem(path: &str, reply: &Reply) {
    assert_ne!(reply.status, 500, "{path}: nothing that a client sends is a 500: {reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json", "{path}: {reply:?}");
    let member = |name: &str| reply.json[name].as_str().unwrap_or_else(|| panic!("{path}: no {name}: {reply:?}"));
    assert_eq!(reply.json["status"], reply.status, "{path}");
    assert!(member("type").ends_with(&format!("/docs/errors#{}", member("code"))), "{path}: {reply:?}");
    assert!(!member("title").is_empty() && !member("detail").is_empty(), "{path}");
    assert_eq!(member("request_id"), reply.header("x-request-id"), "{path}");
    let leaks = ["sqlx", "sqlite", "postgres", "serde", "argon2", "actix", "panicked", "src/", "expected"];
    for leak in leaks {
        assert!(!reply.text.to_lowercase().contains(leak), "{path}: a reply speaks of {leak:?}: {reply:?}");
    }
    let challenge = match reply.code() {
        _ if reply.status != 401 => "",
        "invalid-credentials" | "token-missing" => "Bearer realm=\"signet\"",
        _ => "Bearer realm=\"signet\", error=\"invalid_token\"",
    };
    assert_eq!(reply.header("www-authenticate"), challenge, "{path}: {reply:?}");
    let waits = matches!(reply.status, 429 | 503);
    assert_eq!(reply.header("retry-after").parse::<u32>().is_ok(), waits, "{path}: {reply:?}");
    assert_eq!(!reply.header("allow").is_empty(), reply.status == 405, "{path}: {reply:?}");
}
