//! The errors of a route, declared at its handler for the OpenAPI document.

use super::problem::Code;
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::openapi::{
    Content, ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type,
    example::ExampleBuilder,
};

/// The errors of every route with a JSON body.
pub const BODY: &[&Code] =
    &[Code::INVALID_REQUEST, Code::REQUEST_TIMEOUT, Code::PAYLOAD_TOO_LARGE, Code::UNSUPPORTED_MEDIA_TYPE];

/// The errors of every route with an access token.
pub const BEARER: &[&Code] =
    &[Code::TOKEN_MISSING, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE, Code::REVOCATIONS_STALE];

/// The errors of every route that uses the database.
pub const DATABASE: &[&Code] = &[Code::UNAVAILABLE];

/// Declares a type that represents errors in the `responses(..)` of a handler.
macro_rules! refusals {
    ($name:ident = $($codes:expr),+) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                let codes: &[&[&$crate::http::problem::Code]] = &[$($codes),+];
                $crate::http::refusals::responses(&codes.concat())
            }
        }
    };
}
pub(super) use refusals;

/// One response for each status; its examples are the codes.
pub fn responses(codes: &[&'static Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
    for code in Code::ALL.iter().filter(|code| codes.contains(code)) {
        by_status.entry(code.status).or_default().push(code);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(status, &codes).into())).collect()
}

fn response(status: u16, codes: &[&Code]) -> Response {
    let description: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.name, code.when)).collect();
    let examples = codes.iter().map(|code| (code.name, ExampleBuilder::new().value(Some(example(code))).build()));
    let schema = Some(RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name("Problem")));
    let content: Content = ContentBuilder::new().schema(schema).examples_from_iter(examples).build();
    let response =
        ResponseBuilder::new().description(description.join(" ")).content("application/problem+json", content);
    match status {
        401 => response.header("WWW-Authenticate", required_header()).build(),
        429 | 503 => response.header("Retry-After", required_header()).build(),
        _ => response.build(),
    }
}

fn example(code: &Code) -> serde_json::Value {
    json!({
        "type": format!("/docs/errors#{}", code.name),
        "title": code.title,
        "status": code.status,
        "detail": code.when,
        "code": code.name,
        "request_id": "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3",
    })
}

/// utoipa has no member for `required`.
pub(super) fn required_header() -> Header {
    HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::String)))
        .extensions(Some([("required", true)].into_iter().collect()))
        .build()
}
