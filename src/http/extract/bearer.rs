//! The token of a request, and who is calling.

use super::json::{Body, FromJson};
use crate::{
    auth::{Caller, Presented},
    http::{State, problem::Problem},
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use futures_util::future::LocalBoxFuture;
use std::future::ready;

/// Somebody whose token verified and who is alive; a handler that takes this can only be called by such.
pub struct Bearer(pub Caller);

impl FromRequest for Bearer {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<Data<State>>().cloned() else {
            return Box::pin(ready(Err(Problem::Internal)));
        };
        let verified = state.auth.verify(presented(request), state.clock.now());
        Box::pin(async move { Ok(Self(state.auth.caller(&verified?).await?)) })
    }
}

/// Such a caller, and what they sent. In this order: a body is not judged for somebody who may not send one.
pub struct BearerBody<T>(pub Caller, pub T);

impl<T: FromJson + 'static> FromRequest for BearerBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Bearer::from_request(request, payload);
        let body = Body::<T>::from_request(request, payload);
        Box::pin(async move {
            let Bearer(caller) = caller.await?;
            let Body(body) = body.await?;
            Ok(Self(caller, body))
        })
    }
}

/// Reads the authorization header: one, of a known scheme, with one token (RFC 6750 §2.1).
/// Tokens in the query, a cookie or a form are never looked at.
pub fn presented(request: &HttpRequest) -> Presented<'_> {
    let Some(state) = request.app_data::<Data<State>>() else { return Presented::Nothing };
    let mut values = request.headers().get_all(&*state.authorization_header);
    let Some(value) = values.next() else { return Presented::Nothing };
    if values.next().is_some() {
        // Two headers: which of them another part of the chain has looked at is anybody's guess.
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
