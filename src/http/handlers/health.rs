//! `GET /livez`, `GET /readyz`

use crate::http::State;
use actix_web::{HttpResponse, http::header, web::Data};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// How far the database's clock may differ from this replica's, in seconds: each replica dates tokens by its own clock.
const MAX_DATABASE_SKEW: i64 = 5;

/// How long all checks may take, so that a probe gets the reason before it times out.
const READINESS_TIMEOUT: Duration = Duration::from_millis(2500);

/// Whether the service is ready, and what it has checked.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadyResponse {
    /// `ready` or `unavailable`.
    #[schema(example = "ready")]
    status: &'static str,
    checks: Checks,
}

/// Each check is `ok`, or names what is wrong.
#[derive(Serialize, ToSchema)]
pub struct Checks {
    /// `replaced` when SQLite's file was removed or replaced while the service runs: what it writes is lost.
    #[schema(example = "ok")]
    database: &'static str,
    #[schema(example = "ok")]
    migrations: &'static str,
    /// `stale` when the feed of ended sessions has not been read for `revocation.max_staleness`.
    #[schema(example = "ok")]
    revocations: &'static str,
    #[schema(example = "ok")]
    clock: &'static str,
}

/// Check that the process is alive.
#[utoipa::path(get, path = "/livez", tag = "Operations", operation_id = "livez",
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain", example = "ok")))]
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header(no_store()).content_type("text/plain; charset=utf-8").body("ok")
}

/// Check that the service can serve requests.
#[utoipa::path(get, path = "/readyz", tag = "Operations", operation_id = "readyz", responses(
    (status = 200, description = "It can.", body = ReadyResponse),
    (status = 503, description = "It cannot; `checks` names the reason.", body = ReadyResponse),
))]
pub async fn readyz(state: Data<State>) -> HttpResponse {
    let checks = timeout(READINESS_TIMEOUT, check(&state)).await.unwrap_or(UNKNOWN);
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
        Ok(Some(theirs)) if (state.clock.now() - theirs).0.abs() > MAX_DATABASE_SKEW => "skewed",
        Ok(_) => "ok",
        Err(_) => return UNKNOWN,
    };
    let revocations = if state.storage.knows_revocations() { "ok" } else { "stale" };
    Checks { database: "ok", migrations, revocations, clock }
}

pub(super) fn no_store() -> (header::HeaderName, &'static str) {
    (header::CACHE_CONTROL, "no-store")
}
