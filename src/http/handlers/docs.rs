//! `GET /openapi.json`, and the pages for people: Swagger and the list of errors. They load nothing from other servers.

use crate::http::{
    State,
    problem::{Code, Problem},
};
use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::header,
    web::{Bytes, Data, Path},
};
use std::{borrow::Cow, fmt::Write, sync::Arc};
use utoipa_swagger_ui::Config;

/// Headers that restrict a page to resources of this server and forbid framing. Swagger needs inline styles.
const PAGE: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
];

fn page() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    for header in PAGE {
        response.insert_header(header);
    }
    response
}

/// The OpenAPI document of this service with its settings.
#[utoipa::path(get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = 200, description = "This document.", body = serde_json::Value)))]
pub async fn openapi(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(state.openapi.clone())
}

/// Redirects to the Swagger page.
pub async fn to_swagger(state: Data<State>) -> HttpResponse {
    let page = format!("{}/docs/swagger/", state.base_path);
    HttpResponse::Found().insert_header((header::LOCATION, page)).finish()
}

/// A file of the Swagger page.
pub async fn swagger(file: Path<String>) -> Result<HttpResponse, Problem> {
    // A relative address also works behind a proxy that adds a path. The validator badge would be loaded from the internet.
    let config = Config::new(["../../openapi.json"])
        .validator_url("none")
        .persist_authorization(true)
        .try_it_out_enabled(true)
        .display_request_duration(true);
    let file =
        utoipa_swagger_ui::serve(&file, Arc::new(config)).ok().flatten().ok_or(Problem::Plain(Code::NOT_FOUND))?;
    let mut response = page();
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }))
}

/// The list of error codes, to which `type` in an error points.
pub async fn errors() -> HttpResponse {
    let mut rows = String::new();
    for Code { name, status, title, when } in Code::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "<tr id=\"{name}\"><td><code>{name}</code><td>{status}<td>{title}<td>{when}");
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Signet: errors</title>\n<style>\n\
         body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}\n\
         td, th {{ text-align: left; vertical-align: top; padding: .4rem 1rem .4rem 0 }}\n\
         tr:target {{ background: #fff3c4 }}\n</style>\n<h1>Errors</h1>\n\
         <p>Every error is <code>application/problem+json</code> (RFC 9457). Programs read <code>code</code>, people \
         read <code>detail</code>, operators search the log for <code>request_id</code>.\n\
         <table>\n<tr><th>Code<th>Status<th>Title<th>When\n{rows}</table>\n</html>\n"
    );
    self::page().content_type("text/html; charset=utf-8").body(page)
}
