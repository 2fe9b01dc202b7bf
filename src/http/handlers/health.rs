//! Whether the process lives, and whether it can serve.

use crate::{auth::Readiness, http::State};
use actix_web::{HttpResponse, http::header, web::Data};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

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
    let checking = state.auth.readiness(|| state.clock.now());
    let checks = Checks::from(timeout(PATIENCE, checking).await.unwrap_or(Readiness::UNAVAILABLE));
    let is_ready =
        [checks.database, checks.migrations, checks.revocations, checks.clock].iter().all(|check| *check == "ok");
    let mut response = if is_ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    if !is_ready {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    let status = if is_ready { "ready" } else { "unavailable" };
    response.insert_header(no_store()).json(ReadyResponse { status, checks })
}

impl From<Readiness> for Checks {
    fn from(readiness: Readiness) -> Self {
        let Readiness { database, migrations, revocations, clock } = readiness;
        Self { database, migrations, revocations, clock }
    }
}

pub(super) fn no_store() -> (header::HeaderName, &'static str) {
    (header::CACHE_CONTROL, "no-store")
}
