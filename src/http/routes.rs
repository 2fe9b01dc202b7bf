//! The route table.

use super::{
    State,
    handlers::{
        api_keys, audit, discovery, docs, health, jwks, mail, metrics, oauth, refresh, revocations, sessions, sign_in,
        sign_out, user, users, verify,
    },
    problem::{Code, Problem},
};
use actix_web::{
    FromRequest, Handler, Resource, Responder, Route, guard,
    http::Method,
    web::{self, ServiceConfig},
};

/// The route that proxies call. CORS does not apply to it.
pub(super) const VERIFY: &str = "/auth/verify";

/// All routes of the main port.
pub fn routes(state: &State, config: &mut ServiceConfig) {
    let base = state.base_path.as_str();
    // Every method: a proxy may send the method of the request that it authorizes.
    config.service(web::resource(format!("{base}{VERIFY}")).to(verify::verify));

    let mut table = Vec::new();
    let mut at = |path: &str, verbs: Vec<Verb>| table.push((format!("{base}{path}"), verbs));

    at("/auth/create", vec![post(users::create)]);
    at("/auth/signin", vec![post(sign_in::signin)]);
    at("/auth/refresh-access", vec![post(refresh::refresh_access)]);
    at("/auth/signout", vec![post(sign_out::signout)]);
    at("/auth/signout-all", vec![post(sessions::signout_all)]);
    at("/auth/sessions", vec![get(sessions::list)]);
    at("/auth/sessions/{id}", vec![delete(sessions::end)]);
    at("/auth/password", vec![post(sessions::change_password)]);
    at("/auth/email", vec![post(mail::change_email)]);
    at("/auth/password/reset", vec![post(mail::request_reset)]);
    at("/auth/password/reset/confirm", vec![post(mail::confirm_reset)]);
    at("/auth/verify-email", vec![post(mail::request_verification)]);
    at("/auth/verify-email/confirm", vec![post(mail::confirm_email)]);
    at("/auth/users", vec![get(users::list)]);
    at("/auth/users/me", vec![get(users::me), patch(users::update_me)]);
    at("/auth/users/{id}", vec![get(user::user), patch(user::update), delete(user::delete)]);
    at("/auth/users/{id}/password", vec![put(user::set_password)]);
    at("/auth/users/{id}/sessions", vec![delete(user::end_sessions)]);
    at("/auth/api-keys", vec![post(api_keys::create), get(api_keys::list)]);
    at("/auth/api-keys/{id}", vec![delete(api_keys::delete)]);
    at("/auth/audit", vec![get(audit::audit)]);
    at("/auth/revocations", vec![get(revocations::revocations)]);

    at("/oauth/token", vec![post(oauth::token)]);
    at("/oauth/introspect", vec![post(oauth::introspect)]);
    at("/oauth/revoke", vec![post(oauth::revoke)]);

    at("/.well-known/jwks.json", vec![get(jwks::key_set)]);
    at("/.well-known/oauth-authorization-server", vec![get(discovery::oauth_metadata)]);
    at("/.well-known/openid-configuration", vec![get(discovery::openid_configuration)]);

    at("/livez", vec![get(health::livez)]);
    at("/readyz", vec![get(health::readyz)]);
    if state.has_metrics {
        at("/metrics", vec![get(metrics::metrics)]);
    }
    at("/openapi.json", vec![get(docs::openapi)]);
    if state.has_docs {
        at("/", vec![get(docs::to_swagger)]);
        if !base.is_empty() {
            at("", vec![get(docs::to_swagger)]);
        }
        at("/docs/swagger", vec![get(docs::to_swagger)]);
        at("/docs/swagger/{file:.*}", vec![get(docs::swagger)]);
        at("/docs/errors", vec![get(docs::errors)]);
    }

    if let Some(path) = state.metadata_path.clone() {
        table.push((path, vec![get(discovery::oauth_metadata)]));
    }
    // The router tries the paths in this order. Those with a parameter are regular expressions, so they come last.
    table.sort_by_key(|(path, _)| path.contains('{'));
    for (path, verbs) in table {
        config.service(resource(&path, verbs));
    }

    config.default_service(web::to(async || Err::<String, _>(Problem::Plain(Code::NOT_FOUND))));
}

/// The routes of `server.metrics_bind`, a port for the internal network.
pub fn metrics_routes(_: &State, config: &mut ServiceConfig) {
    config.service(resource("/metrics", vec![get(metrics::metrics)]));
    config.default_service(web::to(async || Err::<String, _>(Problem::Plain(Code::NOT_FOUND))));
}

/// A handler and its methods.
struct Verb(&'static [Method], Route);

fn post<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::POST], web::post().to(handler))
}

fn patch<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::PATCH], web::patch().to(handler))
}

fn put<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::PUT], web::put().to(handler))
}

fn delete<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::DELETE], web::delete().to(handler))
}

/// GET, and HEAD, which has the same response without the body (RFC 9110 §9.3.2).
fn get<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    let method = guard::Any(guard::Get()).or(guard::Head());
    Verb(&[Method::GET, Method::HEAD], web::route().guard(method).to(handler))
}

/// A resource that refuses every other method with 405 and `Allow`.
fn resource(path: &str, verbs: Vec<Verb>) -> Resource {
    let allowed: Vec<&str> = verbs.iter().flat_map(|verb| verb.0).map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let refuse = move || {
        let problem = Problem::MethodNotAllowed(allowed.clone());
        async { Err::<String, _>(problem) }
    };
    let resource = verbs.into_iter().fold(web::resource(path), |resource, verb| resource.route(verb.1));
    resource.default_service(web::to(refuse))
}
