//! Reads the bytes of a request body within limits of type, size and time.

use crate::http::{
    State,
    connection::body_is_read,
    problem::{Code, Problem},
};
use actix_web::{HttpRequest, dev::Payload, http::header, web::Data};
use futures_util::StreamExt;
use std::future::Future;
use tokio::time::timeout;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// Reads a body of the media type `essence`.
///
/// # Errors
/// The body is of another type, too long, cut off or too slow.
pub fn read_body(
    request: &HttpRequest,
    payload: &mut Payload,
    essence: &'static str,
) -> impl Future<Output = Result<Vec<u8>, Problem>> + use<> {
    let checked = check_headers(request, essence);
    let end = end_before_upgrade(request);
    let limit = request.app_data::<Data<State>>().map(|state| state.request_timeout);
    let (payload, request) = (payload.take(), request.clone());
    async move {
        checked?;
        let bytes = match limit {
            // A client that sends its body slowly must not hold the connection for ever.
            Some(limit) => {
                timeout(limit, read(payload, end)).await.map_err(|_| Problem::Plain(Code::REQUEST_TIMEOUT))??
            }
            None => read(payload, end).await?,
        };
        body_is_read(&request);
        Ok(bytes)
    }
}

/// Refuses a body by its headers, before a byte of it is read.
fn check_headers(request: &HttpRequest, essence: &str) -> Result<(), Problem> {
    let text = |name: header::HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let is_of_type = parts.next().is_some_and(|given| given.eq_ignore_ascii_case(essence));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            // The registered name is `utf-8`, but many clients write `utf8`.
            let value = value.trim().trim_matches('"');
            ["utf-8", "utf8"].iter().any(|name| value.eq_ignore_ascii_case(name))
        }
        _ => true,
    });
    let is_plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    if !(is_of_type && is_utf8 && is_plain) {
        return Err(Problem::Plain(Code::UNSUPPORTED_MEDIA_TYPE));
    }
    if announced_length(request).is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::Plain(Code::PAYLOAD_TOO_LARGE));
    }
    Ok(())
}

fn announced_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The length of the body of a request that offers an upgrade: actix-http would read such a body until the connection
/// ends.
fn end_before_upgrade(request: &HttpRequest) -> Option<usize> {
    let headers = request.headers();
    let is_cut = headers.contains_key(header::UPGRADE) && !headers.contains_key(header::TRANSFER_ENCODING);
    is_cut.then(|| announced_length(request).unwrap_or(0))
}

/// Reads to the end of the payload, or to `end`.
async fn read(mut payload: Payload, end: Option<usize>) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while end.is_none_or(|end| bytes.len() < end)
        && let Some(chunk) = payload.next().await
    {
        let chunk = chunk.map_err(|_| Problem::Malformed("The body could not be read to its end.".to_owned()))?;
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(Problem::Plain(Code::PAYLOAD_TOO_LARGE));
        }
        bytes.extend_from_slice(&chunk);
    }
    if let Some(end) = end {
        bytes.truncate(end);
    }
    Ok(bytes)
}
