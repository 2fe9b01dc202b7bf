//! The OpenAPI document: the routes as their handlers declare them, adapted to the settings.

use super::{
    handlers::{
        api_keys, audit, discovery, docs, health, jwks, mail, metrics, oauth, refresh, revocations, sessions, sign_in,
        sign_out, user, users, verify,
    },
    oauth_error::{self, OauthErrorResponse},
    problem::{Code, ProblemResponse},
};
use crate::{domain::PasswordRules, tokens::TokenNames};
use serde_json::{Value, json};
use utoipa::{Modify, OpenApi, openapi::security};

#[derive(OpenApi)]
#[openapi(
    info(title = "Signet", description = "Issues tokens: sign-up, sign-in, refresh and user accounts."),
    paths(
        users::create, sign_in::signin, refresh::refresh_access, sign_out::signout,
        sessions::signout_all, sessions::list, sessions::end, sessions::change_password,
        mail::change_email, mail::request_reset, mail::confirm_reset, mail::request_verification, mail::confirm_email,
        verify::verify, jwks::key_set, users::list, users::me, users::update_me,
        user::user, user::update, user::delete, user::set_password, user::end_sessions, audit::audit,
        api_keys::create, api_keys::list, api_keys::delete, revocations::revocations,
        oauth::token, oauth::introspect, oauth::revoke,
        discovery::oauth_metadata, discovery::openid_configuration,
        health::livez, health::readyz, metrics::metrics, docs::openapi,
    ),
    components(schemas(ProblemResponse, OauthErrorResponse)),
    modifiers(&BearerScheme),
    tags(
        (name = "User and Access", description = "Users and their tokens."),
        (name = "Administration", description = "For staff and superusers: other users, and the audit."),
        (name = "OAuth", description = "For OAuth clients: get, introspect and revoke tokens."),
        (name = "Operations", description = "For operators: probes and metrics."),
    )
)]
struct Document;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = security::HttpBuilder::new().scheme(security::HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", security::SecurityScheme::Http(bearer));
        let basic = security::HttpBuilder::new().scheme(security::HttpAuthScheme::Basic);
        let basic = basic.description(Some("The client's id and its secret.")).build();
        components.add_security_scheme("client", security::SecurityScheme::Http(basic));
    }
}

/// The settings that change the document.
pub struct Dialect<'a> {
    pub base_path: &'a str,
    pub names: &'a TokenNames,
    /// The header that contains the access token.
    pub header: &'a str,
    /// The schemes that may precede it.
    pub schemes: &'a [String],
    pub passwords: PasswordRules,
}

/// The document of a service with these settings.
pub fn document(dialect: &Dialect) -> Value {
    let &Dialect { base_path, names, .. } = dialect;
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    if let Some(scheme) = security_scheme(dialect) {
        document["components"]["securitySchemes"]["bearer"] = scheme;
    }
    if !base_path.is_empty() {
        document["servers"] = json!([{ "url": base_path }]);
    }
    for (schema, member) in [
        ("CreateRequest", "password"),
        ("PasswordRequest", "new_password"),
        ("NewPasswordRequest", "new_password"),
        ("ResetConfirmRequest", "new_password"),
    ] {
        let member = &mut document["components"]["schemas"][schema]["properties"][member];
        member["minLength"] = dialect.passwords.min_length.into();
        member["maxLength"] = dialect.passwords.max_length.into();
    }
    // utoipa makes the type of an optional header nullable.
    for operation in ["patch", "delete"] {
        for parameter in
            document["paths"]["/auth/users/{id}"][operation]["parameters"].as_array_mut().into_iter().flatten()
        {
            if parameter["in"] == "header" {
                parameter["schema"]["type"] = "string".into();
            }
        }
    }
    // Generated clients have the codes as a type.
    document["components"]["schemas"]["ErrorCode"] = json!({
        "type": "string",
        "description": "What happened, for programs. A later version may add codes.",
        "enum": Code::ALL.iter().map(|code| code.name).collect::<Vec<_>>(),
    });
    document["components"]["schemas"]["Problem"]["properties"]["code"] =
        json!({ "$ref": "#/components/schemas/ErrorCode" });
    document["components"]["schemas"]["OauthError"]["properties"]["error"]["enum"] = json!(oauth_error::CODES);
    document["components"]["schemas"]["Revocation"]["properties"]["claim"]["enum"] = json!(["sid", "jti"]);
    // Without this, openapi-typescript generates the type of an empty object.
    for schema in ["User", "UserRequest"] {
        document["components"]["schemas"][schema]["properties"]["claims"]["additionalProperties"] = true.into();
    }
    for schema in ["Introspection", "Metadata"] {
        document["components"]["schemas"][schema]["additionalProperties"] = true.into();
    }
    for alternatives in ALTERNATIVES {
        split(&mut document["components"]["schemas"], alternatives);
    }
    for schema in ["TokenPair", "AccessToken"] {
        let schema = &mut document["components"]["schemas"][schema];
        schema["properties"]["token_type"]["example"] = token_type(dialect.schemes).into();
        name_tokens(schema, names);
    }
    document
}

/// The schemas of requests that have one of two sets of members: in the one derived from the type, all are optional.
/// Name of the schema, and for each set: a name, what it is, and the members that are given.
type Alternatives = (&'static str, [(&'static str, &'static str, &'static [&'static str]); 2]);

const ALTERNATIVES: [Alternatives; 4] = [
    (
        "RefreshRequest",
        [
            ("TokenRefreshRequest", "A refresh token.", &["refresh_token"]),
            ("ApiKeyRefreshRequest", "An API key.", &["api_key"]),
        ],
    ),
    (
        "SignInRequest",
        [
            ("EmailSignInRequest", "Credentials with the account's e-mail.", &["email"]),
            ("UsernameSignInRequest", "Credentials with the account's username.", &["username"]),
        ],
    ),
    (
        "ResetConfirmRequest",
        [
            ("TokenResetConfirmRequest", "A new password, with the token of a mail.", &["token"]),
            ("CodeResetConfirmRequest", "A new password, with the code of a mail.", &["email", "code"]),
        ],
    ),
    (
        "VerifyConfirmRequest",
        [
            ("TokenVerifyConfirmRequest", "The token of a mail.", &["token"]),
            ("CodeVerifyConfirmRequest", "The code of a mail.", &["code"]),
        ],
    ),
];

/// Gives each alternative a schema of its own.
fn split(schemas: &mut Value, (name, alternatives): Alternatives) {
    let mut either = schemas[name].take();
    let description = either["description"].take();
    let example = either.as_object_mut().and_then(|either| either.remove("example"));
    let always: Vec<Value> = either["required"].as_array().cloned().unwrap_or_default();
    let optional = alternatives.iter().flat_map(|(_, _, members)| *members).copied();
    let refs: Vec<Value> = alternatives
        .iter()
        .map(|(name, about, given)| {
            let mut one = either.clone();
            one["description"] = (*about).into();
            one["required"] = given.iter().map(|name| json!(name)).chain(always.clone()).collect();
            for member in optional.clone() {
                let kind = if given.contains(&member) { "string" } else { "null" };
                one["properties"][member] = json!({ "type": kind });
            }
            schemas[*name] = one;
            json!({ "$ref": format!("#/components/schemas/{name}") })
        })
        .collect();
    schemas[name] = json!({ "description": description, "example": example, "oneOf": refs });
}

/// The security scheme if it is not `Authorization: Bearer`, the only one that OpenAPI has a name for.
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

/// The scheme that replies name in `token_type`: `Bearer` if the settings have it, otherwise their first one.
pub fn token_type(schemes: &[String]) -> &str {
    if has_bearer(schemes) { "Bearer" } else { schemes.first().map_or("Bearer", String::as_str) }
}

/// Renames the members that hold tokens, both in one pass: one setting may equal the other's default.
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
    fn every_operation_has_a_summary_and_the_right_security() {
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
                let guarded = [
                    "users",
                    "verify",
                    "sessions",
                    "signout-all",
                    "password",
                    "audit",
                    "email",
                    "api-keys",
                    "revocations",
                ];
                // Registration accepts a token, because `registration.mode` can be `staff`, but the document does not
                // require one.
                let route = path.strip_prefix("/auth/").unwrap_or_default();
                let needs_token = (route == "create" || guarded.iter().any(|guarded| route.starts_with(guarded)))
                    && !route.starts_with("password/reset")
                    || path.starts_with("/oauth/");
                assert_eq!(!operation["security"].is_null(), needs_token, "{name}");
                let has_refusals = operation.to_string().contains("#/components/schemas/Problem");
                let is_metadata =
                    path.ends_with("/oauth-authorization-server") || path.ends_with("/openid-configuration");
                assert_eq!(has_refusals, path.starts_with("/auth") || is_metadata, "{name}");
            }
        }
        assert_eq!(document["servers"][0]["url"], "/id");
        let password = &document["components"]["schemas"]["CreateRequest"]["properties"]["password"];
        assert_eq!((&password["minLength"], &password["maxLength"]), (&json!(15), &json!(64)));
        assert!(document["components"]["schemas"]["TokenPair"]["properties"]["rt"].is_object());
        let swapped = TokenNames { access: "refresh_token".to_owned(), refresh: "access_token".to_owned() };
        let pair = &super::document(&Dialect { names: &swapped, ..dialect })["components"]["schemas"]["TokenPair"];
        assert_eq!(pair["properties"].as_object().unwrap().len(), 5);
    }
}
