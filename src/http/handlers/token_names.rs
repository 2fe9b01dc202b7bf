//! Responses whose members for tokens have configurable names.

use crate::http::State;
use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::{Map, Value};

/// Makes a response whose members for tokens have the names that the settings give them.
pub fn with_token_names(state: &State, reply: &impl Serialize) -> HttpResponse {
    let Ok(Value::Object(members)) = serde_json::to_value(reply) else {
        return HttpResponse::InternalServerError().finish();
    };
    let rename = |(name, value): (String, Value)| match name.as_str() {
        "access_token" => (state.token_names.access.clone(), value),
        "refresh_token" => (state.token_names.refresh.clone(), value),
        _ => (name, value),
    };
    HttpResponse::Ok().json(members.into_iter().map(rename).collect::<Map<_, _>>())
}
