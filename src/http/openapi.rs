//! The OpenAPI document: the routes as they are annotated, with the errors of each, named as the settings say.

use super::{
    handlers::{docs, health, jwks, metrics, refresh, sessions, sign_in, sign_out, users, verify},
    problem::{Code, ProblemResponse},
};
use crate::{domain::PasswordRules, tokens::TokenNames};
use serde_json::{Value, json};
use utoipa::{Modify, OpenApi, openapi::security};

#[derive(OpenApi)]
#[openapi(
    info(title = "Signet", description = "Issues tokens: sign up, sign in, refresh, and the users."),
    paths(
        users::create, sign_in::signin, refresh::refresh_access, sign_out::signout,
        sessions::signout_all, sessions::list, sessions::end, sessions::change_password,
        verify::verify, jwks::key_set, users::list, users::me, users::update_me,
        health::livez, health::readyz, metrics::metrics, docs::openapi,
    ),
    components(schemas(ProblemResponse)),
    modifiers(&BearerScheme),
    tags(
        (name = "User and Access", description = "Users and their tokens."),
        (name = "Operations", description = "For those who run it."),
    )
)]
struct Document;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = security::HttpBuilder::new().scheme(security::HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", security::SecurityScheme::Http(bearer));
    }
}

/// What each operation can refuse.
const REFUSALS: &[(&str, &str, &[&Code])] = &[
    (
        "/auth/create",
        "post",
        &[
            Code::INVALID_REQUEST,
            Code::WEAK_PASSWORD,
            Code::TOKEN_MISSING,
            Code::INVALID_TOKEN,
            Code::WRONG_TOKEN_TYPE,
            Code::FORBIDDEN,
            Code::REGISTRATION_CLOSED,
            Code::REQUEST_TIMEOUT,
            Code::EMAIL_TAKEN,
            Code::USERNAME_TAKEN,
            Code::PAYLOAD_TOO_LARGE,
            Code::UNSUPPORTED_MEDIA_TYPE,
            Code::OVERLOADED,
            Code::UNAVAILABLE,
        ],
    ),
    (
        "/auth/signin",
        "post",
        &[
            Code::INVALID_REQUEST,
            Code::INVALID_CREDENTIALS,
            Code::REQUEST_TIMEOUT,
            Code::PAYLOAD_TOO_LARGE,
            Code::UNSUPPORTED_MEDIA_TYPE,
            Code::OVERLOADED,
            Code::UNAVAILABLE,
        ],
    ),
    (
        "/auth/refresh-access",
        "post",
        &[
            Code::INVALID_REQUEST,
            Code::INVALID_TOKEN,
            Code::WRONG_TOKEN_TYPE,
            Code::REFRESH_SUPERSEDED,
            Code::REFRESH_REUSED,
            Code::REQUEST_TIMEOUT,
            Code::PAYLOAD_TOO_LARGE,
            Code::UNSUPPORTED_MEDIA_TYPE,
            Code::UNAVAILABLE,
        ],
    ),
    (
        "/auth/signout",
        "post",
        &[
            Code::INVALID_REQUEST,
            Code::INVALID_TOKEN,
            Code::REQUEST_TIMEOUT,
            Code::PAYLOAD_TOO_LARGE,
            Code::UNSUPPORTED_MEDIA_TYPE,
            Code::UNAVAILABLE,
        ],
    ),
    (
        "/auth/signout-all",
        "post",
        &[Code::TOKEN_MISSING, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE, Code::UNAVAILABLE],
    ),
    ("/auth/verify", "get", &[Code::TOKEN_MISSING, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE]),
    ("/auth/sessions", "get", &[Code::TOKEN_MISSING, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE, Code::UNAVAILABLE]),
    (
        "/auth/sessions/{id}",
        "delete",
        &[Code::TOKEN_MISSING, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE, Code::UNAVAILABLE, Code::NOT_FOUND],
    ),
    (
        "/auth/password",
        "post",
        &[
            Code::INVALID_REQUEST,
            Code::WEAK_PASSWORD,
            Code::INVALID_CREDENTIALS,
            Code::TOKEN_MISSING,
            Code::INVALID_TOKEN,
            Code::WRONG_TOKEN_TYPE,
            Code::REQUEST_TIMEOUT,
            Code::PAYLOAD_TOO_LARGE,
            Code::UNSUPPORTED_MEDIA_TYPE,
            Code::OVERLOADED,
            Code::UNAVAILABLE,
        ],
    ),
    (
        "/auth/users",
        "get",
        &[
            Code::INVALID_REQUEST,
            Code::TOKEN_MISSING,
            Code::INVALID_TOKEN,
            Code::WRONG_TOKEN_TYPE,
            Code::FORBIDDEN,
            Code::UNAVAILABLE,
        ],
    ),
    ("/auth/users/me", "get", &[Code::TOKEN_MISSING, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE, Code::UNAVAILABLE]),
    (
        "/auth/users/me",
        "patch",
        &[
            Code::INVALID_REQUEST,
            Code::TOKEN_MISSING,
            Code::INVALID_TOKEN,
            Code::WRONG_TOKEN_TYPE,
            Code::REQUEST_TIMEOUT,
            Code::USERNAME_TAKEN,
            Code::PAYLOAD_TOO_LARGE,
            Code::UNSUPPORTED_MEDIA_TYPE,
            Code::UNAVAILABLE,
        ],
    ),
];

/// How a service is set up to differ from the others.
pub struct Dialect<'a> {
    pub base_path: &'a str,
    pub names: &'a TokenNames,
    /// Where an access token is presented.
    pub header: &'a str,
    /// The words that may go before it.
    pub schemes: &'a [String],
    /// What a new password must be.
    pub passwords: PasswordRules,
}

/// The document of a service that is set up so.
pub fn document(dialect: &Dialect) -> Value {
    let &Dialect { base_path, names, .. } = dialect;
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    for (path, method, codes) in REFUSALS {
        let operation = &mut document["paths"][path][method];
        for code in *codes {
            add_refusal(&mut operation["responses"], code);
        }
        // Where a token may be looked at, it may be that nobody can tell whether it has ended.
        if codes.contains(&Code::TOKEN_MISSING) {
            add_refusal(&mut operation["responses"], Code::REVOCATIONS_STALE);
        }
    }
    if let Some(scheme) = security_scheme(dialect) {
        document["components"]["securitySchemes"]["bearer"] = scheme;
    }
    if !base_path.is_empty() {
        document["servers"] = json!([{ "url": base_path }]);
    }
    for (schema, member) in [("CreateRequest", "password"), ("PasswordRequest", "new_password")] {
        let member = &mut document["components"]["schemas"][schema]["properties"][member];
        member["minLength"] = dialect.passwords.min_length.into();
        member["maxLength"] = dialect.passwords.max_length.into();
    }
    // The other name may be sent as `null`, which is as good as absent.
    for (schema, other) in [("EmailSignInRequest", "username"), ("UsernameSignInRequest", "email")] {
        document["components"]["schemas"][schema]["properties"][other] = json!({ "type": "null" });
    }
    for schema in ["TokenPair", "AccessToken"] {
        let schema = &mut document["components"]["schemas"][schema];
        schema["properties"]["token_type"]["example"] = token_type(dialect.schemes).into();
        name_tokens(schema, names);
    }
    document
}

/// How a token is presented, where that is not `Authorization: Bearer`, which is the only one that OpenAPI can say.
fn security_scheme(dialect: &Dialect) -> Option<Value> {
    let &Dialect { header, schemes, .. } = dialect;
    if header.eq_ignore_ascii_case("authorization") && has_bearer(schemes) {
        return None;
    }
    let word = token_type(schemes);
    let description = format!("The word `{word}`, a space, and the access token.");
    Some(json!({ "type": "apiKey", "in": "header", "name": header, "description": description }))
}

fn has_bearer(schemes: &[String]) -> bool {
    schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

/// The word that goes before a token: `Bearer`, unless the settings do not know it.
pub fn token_type(schemes: &[String]) -> &str {
    if has_bearer(schemes) { "Bearer" } else { schemes.first().map_or("Bearer", String::as_str) }
}

/// One status may stand for several codes: each is an example.
fn add_refusal(responses: &mut Value, code: &Code) {
    let response = &mut responses[code.status.to_string()];
    if response.is_null() {
        *response = json!({
            "description": "",
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" }, "examples": {} } },
        });
    }
    let header = match code.status {
        401 => Some("WWW-Authenticate"),
        405 => Some("Allow"),
        503 => Some("Retry-After"),
        _ => None,
    };
    if let Some(header) = header {
        response["headers"][header] = json!({ "required": true, "schema": { "type": "string" } });
    }
    let description = response["description"].as_str().unwrap_or_default();
    let separator = if description.is_empty() { "" } else { " " };
    response["description"] = format!("{description}{separator}`{}`: {}", code.name, code.when).into();
    response["content"]["application/problem+json"]["examples"][code.name] = json!({ "value": {
        "type": format!("/docs/errors#{}", code.name),
        "title": code.title,
        "status": code.status,
        "detail": code.when,
        "code": code.name,
        "request_id": "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3",
    }});
}

/// Names the members that hold tokens, all at once: one setting may be the other's default.
fn name_tokens(schema: &mut Value, names: &TokenNames) {
    let renamed = |name: &str| match name {
        "access_token" => names.access.clone(),
        "refresh_token" => names.refresh.clone(),
        other => other.to_owned(),
    };
    if let Some(properties) = schema["properties"].as_object_mut() {
        *properties = std::mem::take(properties).into_iter().map(|(name, value)| (renamed(&name), value)).collect();
    }
    for name in schema["required"].as_array_mut().into_iter().flatten() {
        *name = renamed(name.as_str().unwrap_or_default()).into();
    }
}

/// What `signet openapi` prints: the document of a service with default settings.
pub fn default_document() -> String {
    let names = TokenNames { access: "access_token".to_owned(), refresh: "refresh_token".to_owned() };
    let schemes = ["Bearer".to_owned()];
    let passwords = PasswordRules { min_length: 8, max_length: 256 };
    let dialect = Dialect { base_path: "", names: &names, header: "Authorization", schemes: &schemes, passwords };
    let mut text = serde_json::to_string_pretty(&document(&dialect)).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let committed = include_str!("../../openapi/openapi.json");
        assert!(committed == default_document(), "run `cargo run -- openapi > openapi/openapi.json`");
    }

    #[test]
    fn every_operation_is_summed_up_and_secured_as_it_is_served() {
        let names = TokenNames { access: "at".to_owned(), refresh: "rt".to_owned() };
        let schemes = ["Bearer".to_owned()];
        let passwords = PasswordRules { min_length: 15, max_length: 64 };
        let header = "Authorization";
        let dialect = Dialect { base_path: "/id", names: &names, header, schemes: &schemes, passwords };
        let document = document(&dialect);
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name}");
                let guarded = ["/auth/users", "/auth/verify", "/auth/sessions", "/auth/signout-all", "/auth/password"];
                // Where registration is for staff, it takes a token; it never must have one.
                let needs_token = path == "/auth/create" || guarded.iter().any(|guarded| path.starts_with(guarded));
                assert_eq!(!operation["security"].is_null(), needs_token, "{name}");
                let has_refusals = REFUSALS.iter().any(|row| row.0 == path && row.1 == method);
                assert_eq!(has_refusals, path.starts_with("/auth"), "{name}");
            }
        }
        assert_eq!(document["servers"][0]["url"], "/id");
        let password = &document["components"]["schemas"]["CreateRequest"]["properties"]["password"];
        assert_eq!((&password["minLength"], &password["maxLength"]), (&json!(15), &json!(64)));
        assert!(document["components"]["schemas"]["TokenPair"]["properties"]["rt"].is_object());
        let swapped = TokenNames { access: "refresh_token".to_owned(), refresh: "access_token".to_owned() };
        let pair = &super::document(&Dialect { names: &swapped, ..dialect })["components"]["schemas"]["TokenPair"];
        assert_eq!(pair["properties"].as_object().unwrap().len(), 5);
        assert_eq!(
            REFUSALS.len(),
            document["paths"].as_object().unwrap().values().flat_map(|o| o.as_object().unwrap()).count() - 5
        );
    }
}
