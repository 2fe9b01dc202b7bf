//! Whether the process lives, and whether it can serve.

use crate::http::State;
use actix_web::{HttpResponse, http::header, web::Data};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// How far the database's clock may be from ours, in seconds: each replica dates its tokens by its own clock.
const MAX_SKEW: i64 = 5;

/// How long the database has to answer all of it: a probe gets the reason before it times out.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Whether the service can serve, and what it looked at.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadyResponse {
    /// `ready` or `unavailable`.
    #[schema(example = "ready")]
    status: &'static str,
    checks: Checks,
}

/// Each `ok`, or a word on what is wrong.
#[derive(Serialize, ToSchema)]
pub struct Checks {
    /// `replaced` when SQLite's file was removed or replaced under the service: what it writes will be lost.
    #[schema(example = "ok")]
    database: &'static str,
    #[schema(example = "ok")]
    migrations: &'static str,
    /// `stale` while the feed of ended sessions was not read for longer than `revocation.max_staleness`.
    #[schema(example = "ok")]
    revocations: &'static str,
    #[schema(example = "ok")]
    clock: &'static str,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/livez", tag = "Operations", operation_id = "livez",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain", example = "ok")))]
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header(no_store()).content_type("text/plain; charset=utf-8").body("ok")
}

/// Whether the service can serve.
#[utoipa::path(get, path = "/readyz", tag = "Operations", operation_id = "readyz", responses(
    (status = 200, description = "It can.", body = ReadyResponse),
    (status = 503, description = "It cannot; `checks` says why.", body = ReadyResponse),
))]
pub async fn readyz(state: Data<State>) -> HttpResponse {
    let checks = timeout(PATIENCE, check(&state)).await.unwrap_or(UNKNOWN);
    let is_ready =
        [checks.database, checks.migrations, checks.revocations, checks.clock].iter().all(|check| *check == "ok");
    let mut response = if is_ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    if !is_ready {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    let status = if is_ready { "ready" } else { "unavailable" };
    response.insert_header(no_store()).json(ReadyResponse { status, checks })
}

const UNKNOWN: Checks =
    Checks { database: "unavailable", migrations: "unknown", revocations: "unknown", clock: "unknown" };

async fn check(state: &State) -> Checks {
    if !state.storage.is_in_place().await {
        return Checks { database: "replaced", ..UNKNOWN };
    }
    if state.storage.ping().await.is_err() {
        return UNKNOWN;
    }
    let migrations = match state.storage.is_migrated().await {
        Ok(true) => "ok",
        _ => "pending",
    };
    if migrations == "ok" && state.storage.reaches_tables().await.is_err() {
        return UNKNOWN;
    }
    let clock = match state.storage.clock().await {
        Ok(Some(theirs)) if (state.clock.now() - theirs).0.abs() > MAX_SKEW => "skewed",
        Ok(_) => "ok",
        Err(_) => return UNKNOWN,
    };
    let revocations = if state.storage.knows_revocations() { "ok" } else { "stale" };
    Checks { database: "ok", migrations, revocations, clock }
}

pub(super) fn no_store() -> (header::HeaderName, &'static str) {
    (header::CACHE_CONTROL, "no-store")
}
