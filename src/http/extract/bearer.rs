//! The access token of a request, and the user that it authenticates.

use super::{json::Body, members::Members};
use crate::{
    auth::{Caller, Presented, Rights},
    domain::UserId,
    http::{
        State,
        problem::{Code, Problem},
    },
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use futures_util::future::LocalBoxFuture;
use std::future::ready;

/// The caller, with the rights that `R` stands for: the token is valid, its session has not ended and its user is
/// active. A handler that takes this argument cannot run without them.
pub struct Bearer<R = Caller>(pub R);

impl<R: Rights + 'static> FromRequest for Bearer<R> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<Data<State>>().cloned() else {
            return Box::pin(ready(Err(Problem::Plain(Code::INTERNAL))));
        };
        let verified = state.auth.verify(presented(request), None, state.clock.now());
        let about = request.match_info().get("id").map(str::to_owned);
        Box::pin(async move {
            let caller = state.auth.caller(&verified?).await?;
            let refusal = refusal(&caller, about.as_deref());
            R::check(caller).map(Self).ok_or(Problem::Plain(refusal))
        })
    }
}

/// The refusal of a caller without rights. It does not reveal whether the user `about` exists, unless that is the
/// caller.
fn refusal(caller: &Caller, about: Option<&str>) -> &'static Code {
    let is_about_another = about.is_some_and(|id| UserId::parse(id) != Some(caller.user.id));
    if is_about_another && !caller.user.is_at_least_staff() { Code::NOT_FOUND } else { Code::FORBIDDEN }
}

/// The caller and the body of the request. The token is checked first: a client without one learns nothing about its
/// body.
pub struct BearerBody<T, R = Caller>(pub R, pub T);

impl<T: Members + 'static, R: Rights + 'static> FromRequest for BearerBody<T, R> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Bearer::<R>::from_request(request, payload);
        let body = Body::<T>::from_request(request, payload);
        Box::pin(async move {
            let Bearer(caller) = caller.await?;
            let Body(body) = body.await?;
            Ok(Self(caller, body))
        })
    }
}

/// Reads the authorization header: there must be one, of a known scheme, with one token (RFC 6750 §2.1). Tokens in the
/// query, a cookie or a form are ignored.
pub fn presented(request: &HttpRequest) -> Presented<'_> {
    let Some(state) = request.app_data::<Data<State>>() else { return Presented::Nothing };
    let mut values = request.headers().get_all(&*state.authorization_header);
    let Some(value) = values.next() else { return Presented::Nothing };
    if values.next().is_some() {
        // A proxy may have checked the other header.
        return Presented::Malformed;
    }
    let Ok(value) = value.to_str() else { return Presented::Malformed };
    let mut parts = value.split_ascii_whitespace();
    let scheme = parts.next().unwrap_or_default();
    if !state.auth_header_types.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Presented::Nothing;
    }
    match (parts.next(), parts.next()) {
        (Some(token), None) => Presented::Token(token),
        _ => Presented::Malformed,
    }
}
