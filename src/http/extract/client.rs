//! Authenticates the client of a request, by HTTP Basic or by parameters of its form (RFC 6749 §2.3.1).

use super::{body::read_body, client_address::client_address};
use crate::{
    auth::{AuthError, ClientCredentials},
    domain::{Client, Invalid},
    http::{
        State,
        problem::{Code, Problem},
    },
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::AUTHORIZATION, web::Data};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::LocalBoxFuture;
use percent_encoding::percent_decode_str;

/// Proof that a client has authenticated by HTTP Basic.
pub struct BasicClient;

impl FromRequest for BasicClient {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let credentials = basic(request);
        let state = request.app_data::<Data<State>>().cloned();
        let address = state.as_ref().and_then(|state| client_address(state, request));
        Box::pin(async move {
            let state = state.ok_or(Problem::Plain(Code::INTERNAL))?;
            let credentials = credentials?.ok_or(AuthError::InvalidClient)?;
            state.auth.authenticate_client(&credentials, address).await?;
            Ok(Self)
        })
    }
}

/// An authenticated client and the parameters of its form.
pub struct ClientForm {
    pub client: Client,
    pub parameters: Parameters,
}

impl FromRequest for ClientForm {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let basic = basic(request);
        let bytes = read_body(request, payload, "application/x-www-form-urlencoded");
        let state = request.app_data::<Data<State>>().cloned();
        let address = state.as_ref().and_then(|state| client_address(state, request));
        Box::pin(async move {
            let state = state.ok_or(Problem::Plain(Code::INTERNAL))?;
            let parameters = Parameters::parse(&bytes.await?)?;
            let credentials = credentials(basic?, &parameters)?;
            let client = state.auth.authenticate_client(&credentials, address).await?;
            Ok(Self { client, parameters })
        })
    }
}

/// The credentials of a client, which must be in one place only: HTTP Basic or the form.
fn credentials(basic: Option<ClientCredentials>, parameters: &Parameters) -> Result<ClientCredentials, Problem> {
    let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
    match (basic, id, secret) {
        // Some libraries repeat the id in the form.
        (Some(basic), id, None) if id.is_none_or(|id| id == basic.id) => Ok(basic),
        (Some(_), ..) => {
            Err(Problem::Malformed("Send client credentials once: by HTTP Basic or in the form.".to_owned()))
        }
        (None, Some(id), Some(secret)) => Ok(ClientCredentials { id: id.to_owned(), secret: secret.into() }),
        (None, ..) => Err(AuthError::InvalidClient.into()),
    }
}

/// Reads HTTP Basic (RFC 7617). `None` without an `Authorization` header.
fn basic(request: &HttpRequest) -> Result<Option<ClientCredentials>, AuthError> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    let parse = || {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = text.split_once(':').filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        // RFC 6749 §2.3.1: both are percent-encoded first.
        let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
        Some(ClientCredentials { id: decode(id)?, secret: decode(secret)?.into() })
    };
    match (parse(), values.next()) {
        (Some(credentials), None) => Ok(Some(credentials)),
        _ => Err(AuthError::InvalidClient),
    }
}

/// The parameters of a form. An empty value counts as absent (RFC 6749 §3.2).
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// # Errors
    /// A parameter is repeated.
    fn parse(form: &[u8]) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(form).map(|(name, value)| (name.into_owned(), value.into_owned()));
        let pairs: Vec<(String, String)> = pairs.filter(|(_, value)| !value.is_empty()).collect();
        let is_repeated = |place: usize| pairs[..place].iter().any(|(name, _)| *name == pairs[place].0);
        match (0..pairs.len()).find(|place| is_repeated(*place)) {
            None => Ok(Self(pairs)),
            // RFC 8707 §2 allows several, but a token of Signet is for one.
            Some(place) if pairs[place].0 == "resource" => {
                Err(AuthError::InvalidMember("/audience", Invalid("must be given only once")).into())
            }
            Some(_) => Err(Problem::Malformed("A parameter is repeated.".to_owned())),
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// The parameter is missing.
    pub fn required(&self, name: &'static str) -> Result<&str, Problem> {
        self.get(name).ok_or_else(|| Problem::Malformed(format!("The parameter {name} is missing.")))
    }
}
