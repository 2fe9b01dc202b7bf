//! `POST /auth/email`, `POST /auth/password/reset`, `POST /auth/verify-email`, and what confirms them

use crate::{
    auth::MailProof,
    domain::{Email, Password},
    http::{
        State,
        connection::ClientConnection,
        extract::{Bearer, BearerBody, Body, MemberFaults, Members, Source, presented},
        problem::{Code, MemberFault, Problem},
        refusals::{BEARER, BODY, DATABASE, refusals},
    },
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use deserr::Deserr;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A new e-mail for the caller.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"password": "correct horse battery", "email": "ann@example.org"}))]
#[serde(deny_unknown_fields)]
pub struct EmailRequest {
    #[deserr(from(&String) = Password::attempt)]
    #[schema(value_type = String)]
    password: Password,
    #[schema(value_type = String, format = "email", max_length = 254)]
    email: Email,
}

impl Members for EmailRequest {}

refusals!(
    EmailRefusals = BODY,
    BEARER,
    DATABASE,
    &[Code::RATE_LIMITED, Code::INVALID_CREDENTIALS, Code::EMAIL_TAKEN, Code::USERNAME_TAKEN, Code::OVERLOADED]
);

/// Change the caller's e-mail.
///
/// The new address is not verified. A username that was the old address becomes the new one.
#[utoipa::path(
    post, path = "/auth/email", tag = "User and Access", operation_id = "change_email",
    security(("bearer" = [])), request_body = EmailRequest,
    responses((status = 204, description = "The e-mail is changed."), EmailRefusals)
)]
pub async fn change_email(
    state: Data<State>,
    client: ClientConnection,
    source: Source,
    BearerBody(caller, body): BearerBody<EmailRequest>,
) -> Result<HttpResponse, Problem> {
    let context = source.at(state.clock.now());
    let change = state.auth.change_email(&caller, body.password, body.email, &context);
    client.cancel_on_disconnect(change).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// The address of an account whose password is lost.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"email": "ann@example.com"}))]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    email: String,
}

impl Members for ResetRequest {}

refusals!(ResetRefusals = BODY, DATABASE, &[Code::RATE_LIMITED]);

/// Ask for a mail with which a lost password can be replaced.
///
/// The reply is the same whether or not there is an account with this e-mail.
#[utoipa::path(
    post, path = "/auth/password/reset", tag = "User and Access", operation_id = "request_password_reset",
    request_body = ResetRequest,
    responses((status = 202, description = "If there is such an account, a mail is sent to it."), ResetRefusals)
)]
pub async fn request_reset(
    state: Data<State>,
    source: Source,
    Body(body): Body<ResetRequest>,
) -> Result<HttpResponse, Problem> {
    state.auth.request_reset(&body.email, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// A new password, with the token of the mail, or with its code and the e-mail.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({
    "email": "ann@example.com", "code": "0123-ABCD", "new_password": "correct horse battery staple"
}))]
#[serde(deny_unknown_fields)]
pub struct ResetConfirmRequest {
    #[deserr(default)]
    token: Option<String>,
    #[deserr(default)]
    email: Option<String>,
    /// In any letter case, with or without the hyphen.
    #[deserr(default)]
    code: Option<String>,
    /// Counted in characters, after NFC.
    #[schema(value_type = String, min_length = 8, max_length = 256, pattern = r"^[^\x00]*$")]
    new_password: Password,
}

fn is_given(members: &Map<String, Value>, name: &str) -> bool {
    members.get(name).is_some_and(|value| !value.is_null())
}

impl Members for ResetConfirmRequest {
    /// Either `token`, or `email` and `code`.
    fn check_together(members: &Map<String, Value>) -> Option<MemberFault> {
        match ["token", "email", "code"].map(|name| is_given(members, name)) {
            [true, false, false] | [false, true, true] => None,
            [true, true, _] => Some(MemberFault::new("/email", "must not be given together with token")),
            [true, _, _] => Some(MemberFault::new("/code", "must not be given together with token")),
            [false, false, true] => Some(MemberFault::new("/email", "is missing; it is needed with code")),
            [false, true, false] => Some(MemberFault::new("/code", "is missing; it is needed with email")),
            [false, false, false] => Some(MemberFault::new("/token", "is missing; token or code is needed")),
        }
    }
}

refusals!(
    ResetConfirmRefusals = BODY,
    DATABASE,
    &[Code::RATE_LIMITED, Code::WEAK_PASSWORD, Code::INVALID_TOKEN, Code::OVERLOADED]
);

/// Set a new password with the token or the code of a mail, and end every session and API key.
#[utoipa::path(
    post, path = "/auth/password/reset/confirm", tag = "User and Access", operation_id = "confirm_password_reset",
    request_body = ResetConfirmRequest,
    responses((status = 204, description = "The password is set, and the e-mail counts as verified."), ResetConfirmRefusals)
)]
pub async fn confirm_reset(
    state: Data<State>,
    client: ClientConnection,
    source: Source,
    Body(body): Body<ResetConfirmRequest>,
) -> Result<HttpResponse, Problem> {
    let ResetConfirmRequest { token, email, code, new_password } = body;
    let code = || MailProof::Code { email: email.unwrap_or_default(), code: code.unwrap_or_default() };
    let proof = token.map_or_else(code, MailProof::Token);
    let context = source.at(state.clock.now());
    client.cancel_on_disconnect(state.auth.reset_password(proof, new_password, &context)).await??;
    Ok(HttpResponse::NoContent().finish())
}

refusals!(VerifyRefusals = BEARER, DATABASE, &[Code::RATE_LIMITED]);

/// Ask for a mail that verifies the caller's e-mail.
#[utoipa::path(
    post, path = "/auth/verify-email", tag = "User and Access", operation_id = "request_verification",
    security(("bearer" = [])),
    responses((status = 202, description = "A mail is sent, unless the e-mail is verified already."), VerifyRefusals)
)]
pub async fn request_verification(
    state: Data<State>,
    Bearer(caller): Bearer,
    source: Source,
) -> Result<HttpResponse, Problem> {
    state.auth.request_verification(&caller, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// The token of a mail, or, with an access token, its code.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"code": "0123-ABCD"}))]
#[serde(deny_unknown_fields)]
pub struct VerifyConfirmRequest {
    #[deserr(default)]
    token: Option<String>,
    /// In any letter case, with or without the hyphen.
    #[deserr(default)]
    code: Option<String>,
}

impl Members for VerifyConfirmRequest {
    /// Exactly one of `token` and `code` is given.
    fn check_together(members: &Map<String, Value>) -> Option<MemberFault> {
        match (is_given(members, "token"), is_given(members, "code")) {
            (true, true) => Some(MemberFault::new("/code", "must not be given together with token")),
            (false, false) => Some(MemberFault::new("/token", "is missing; token or code is needed")),
            _ => None,
        }
    }
}

refusals!(VerifyConfirmRefusals = BODY, BEARER, DATABASE, &[Code::RATE_LIMITED]);

/// Verify an e-mail with the token of a mail, or with its code and an access token.
#[utoipa::path(
    post, path = "/auth/verify-email/confirm", tag = "User and Access", operation_id = "confirm_email",
    security((), ("bearer" = [])), request_body = VerifyConfirmRequest,
    responses((status = 204, description = "The e-mail is verified."), VerifyConfirmRefusals)
)]
pub async fn confirm_email(
    state: Data<State>,
    request: HttpRequest,
    source: Source,
    Body(body): Body<VerifyConfirmRequest>,
) -> Result<HttpResponse, Problem> {
    let context = source.at(state.clock.now());
    if let Some(token) = body.token {
        state.auth.verify_email_by_token(&token, &context).await?;
    } else {
        let caller = state.auth.caller(&state.auth.verify(presented(&request), None, context.at)?).await?;
        state.auth.verify_email_by_code(&caller, &body.code.unwrap_or_default(), &context).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}
