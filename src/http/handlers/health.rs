//! `GET /livez`, `GET /readyz`

use crate::{auth::Readiness, http::State};
use actix_web::{HttpResponse, http::header, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

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
    /// `replaced` when SQLite's file was removed or replaced while the service runs: everything that the service writes is lost.
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

impl From<Readiness> for Checks {
    fn from(Readiness { database, migrations, revocations, clock }: Readiness) -> Self {
        Self { database, migrations, revocations, clock }
    }
}

/// Check that the process is alive.
#[utoipa::path(get, path = "/livez", tag = "Operations", operation_id = "livez",
    responses((status = 200, description = "The process is alive.", body = String, content_type = "text/plain", example = "ok")))]
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header(no_store()).content_type("text/plain; charset=utf-8").body("ok")
}

/// Check that the service can serve requests.
#[utoipa::path(get, path = "/readyz", tag = "Operations", operation_id = "readyz", responses(
    (status = 200, description = "The service can serve requests.", body = ReadyResponse),
    (status = 503, description = "The service cannot serve requests; `checks` names the reason.", body = ReadyResponse),
))]
pub async fn readyz(state: Data<State>) -> HttpResponse {
    let readiness = state.auth.readiness(state.clock.now()).await;
    let is_ready = readiness.is_ready();
    let mut response = if is_ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    if !is_ready {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    let status = if is_ready { "ready" } else { "unavailable" };
    response.insert_header(no_store()).json(ReadyResponse { status, checks: readiness.into() })
}

pub(super) fn no_store() -> (header::HeaderName, &'static str) {
    (header::CACHE_CONTROL, "no-store")
}
