//! `POST /auth/create`, `GET /auth/users`, `GET` and `PATCH /auth/users/me`

use crate::{
    auth::{AuthError, Caller, ProfileUpdate, SignUp},
    domain::{Email, Limit, Name, Password, User, UserCursor, Username},
    http::{
        State,
        connection::ClientConnection,
        extract::{Bearer, BearerBody, Body, MemberFaults, Members, Source, presented, read_query},
        problem::{Code, MemberFault, Problem},
        refusals::{BEARER, BODY, DATABASE, refusals},
    },
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use deserr::Deserr;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

/// A user, without a password or its hash.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserResponse {
    #[schema(example = 1)]
    id: i64,
    #[schema(example = "ann@example.com")]
    email: String,
    #[schema(example = "ann")]
    username: String,
    #[schema(example = "Ann")]
    first_name: String,
    #[schema(example = "Ashe")]
    last_name: String,
    is_active: bool,
    is_staff: bool,
    is_superuser: bool,
    is_verified: bool,
    #[schema(format = DateTime, example = "2026-11-22T14:28:53Z")]
    created_at: String,
    #[schema(format = DateTime, required)]
    last_login: Option<String>,
    /// The claims that the user's access tokens have in addition; only superusers see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false, example = json!({"plan": "pro"}))]
    claims: Option<Map<String, Value>>,
}

impl UserResponse {
    /// The user as staff see it.
    pub fn for_staff(user: User, staff: &Caller) -> Self {
        if staff.user.is_superuser { Self::with_claims(user) } else { Self::from(user) }
    }

    pub fn with_claims(user: User) -> Self {
        let claims = Some(user.claims.clone());
        Self { claims, ..Self::from(user) }
    }
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        Self {
            id: user.id.0,
            email: user.email.as_str().to_owned(),
            username: user.username.as_str().to_owned(),
            first_name: user.first_name.as_str().to_owned(),
            last_name: user.last_name.as_str().to_owned(),
            is_active: user.is_active,
            is_staff: user.is_staff,
            is_superuser: user.is_superuser,
            is_verified: user.is_verified,
            created_at: user.created_at.to_string(),
            last_login: user.last_login.map(|at| at.to_string()),
            claims: None,
        }
    }
}

/// A new user.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"email": "ann@example.com", "password": "correct horse battery"}))]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    #[schema(value_type = String, format = "email", max_length = 254)]
    email: Email,
    /// Counted in characters, after NFC.
    #[schema(value_type = String, min_length = 8, max_length = 256, pattern = r"^[^\x00]*$")]
    password: Password,
    /// By default the e-mail; otherwise letters, marks, digits and `.+-_`.
    #[deserr(default)]
    #[schema(
        min_length = 1,
        max_length = 254,
        pattern = r"^([\p{L}\p{N}.+_-][\p{L}\p{M}\p{N}.+_-]{0,149}|[^@]+@[^@]+)$"
    )]
    username: Option<String>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    first_name: Option<Name>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    last_name: Option<Name>,
}

impl Members for CreateRequest {
    /// A username may be the account's own e-mail, but no other address.
    fn check_together(members: &Map<String, Value>) -> Option<MemberFault> {
        let email = Email::parse(members.get("email")?.as_str()?).ok()?;
        let fault = Username::parse(members.get("username")?.as_str()?, &email).err()?;
        Some(MemberFault::new("/username", fault.0))
    }
}

impl TryFrom<CreateRequest> for SignUp {
    type Error = Problem;

    fn try_from(request: CreateRequest) -> Result<Self, Problem> {
        let email = request.email;
        let username = match request.username {
            Some(text) => {
                Username::parse(&text, &email).map_err(|fault| AuthError::InvalidMember("/username", fault))?
            }
            None => Username::of_email(&email),
        };
        Ok(Self {
            username,
            email,
            password: request.password,
            first_name: request.first_name.unwrap_or_default(),
            last_name: request.last_name.unwrap_or_default(),
        })
    }
}

/// The caller's new names. An absent member stays as it is.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"first_name": "Ann", "last_name": "Ashe"}))]
#[serde(deny_unknown_fields)]
pub struct ProfileRequest {
    /// The account's own e-mail, or letters, marks, digits and `.+-_`.
    #[deserr(default)]
    #[schema(
        min_length = 1,
        max_length = 254,
        pattern = r"^([\p{L}\p{N}.+_-][\p{L}\p{M}\p{N}.+_-]{0,149}|[^@]+@[^@]+)$"
    )]
    username: Option<String>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    first_name: Option<Name>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    last_name: Option<Name>,
}

impl Members for ProfileRequest {}

refusals!(
    CreateRefusals = BODY,
    BEARER,
    DATABASE,
    &[
        Code::RATE_LIMITED,
        Code::WEAK_PASSWORD,
        Code::FORBIDDEN,
        Code::REGISTRATION_CLOSED,
        Code::EMAIL_TAKEN,
        Code::USERNAME_TAKEN,
        Code::OVERLOADED
    ]
);

/// Create a user.
#[utoipa::path(
    post, path = "/auth/create", tag = "User and Access", operation_id = "create", request_body = CreateRequest,
    security((), ("bearer" = [])),
    responses((
        status = 201, description = "The new user.", body = UserResponse,
        headers(("Location" = String, description = "The user's address."))
    ), CreateRefusals)
)]
pub async fn create(
    state: Data<State>,
    request: HttpRequest,
    client: ClientConnection,
    source: Source,
    Body(body): Body<CreateRequest>,
) -> Result<HttpResponse, Problem> {
    let context = source.at(state.clock.now());
    let registration = state.auth.register(body.try_into()?, presented(&request), &context);
    let user = client.cancel_on_disconnect(registration).await??;
    let location = format!("{}/auth/users/{}", state.base_path, user.id);
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(UserResponse::from(user)))
}

/// The query of the list of users.
#[derive(Deserr, IntoParams)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// How many users: 1 to 200; 50 by default.
    #[deserr(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<Limit>,
    /// The id of the last user of the previous page; with `q`, that user's e-mail.
    #[deserr(default)]
    #[param(min_length = 1, max_length = 254)]
    after: Option<String>,
    /// Only users whose e-mail begins with this text, ordered by e-mail.
    #[deserr(default)]
    #[param(max_length = 254, pattern = r"^[^\p{Cc}]*$")]
    q: Option<String>,
}

impl Members for UsersQuery {
    /// `after` is an id, or with `q` an e-mail.
    fn check_together(members: &Map<String, Value>) -> Option<MemberFault> {
        let text = |name| members.get(name).and_then(Value::as_str);
        let (name, fault) = UserCursor::parse(text("q"), text("after")).err()?;
        Some(MemberFault::new(format!("/{name}"), fault.0))
    }
}

refusals!(ListRefusals = BEARER, DATABASE, &[Code::INVALID_REQUEST, Code::FORBIDDEN]);

/// List users.
#[utoipa::path(
    get, path = "/auth/users", tag = "User and Access", operation_id = "users", params(UsersQuery),
    security(("bearer" = [])),
    responses((
        status = 200, description = "A page of users, ordered by id.", body = Vec<UserResponse>,
        headers(("Link" = String, description = "The next page, as `<…>; rel=\"next\"`; absent on the last one."))
    ), ListRefusals)
)]
pub async fn list(state: Data<State>, Bearer(caller): Bearer, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: UsersQuery = read_query(&request)?;
    let cursor = UserCursor::parse(query.q.as_deref(), query.after.as_deref());
    let cursor = cursor.map_err(|(_, fault)| AuthError::InvalidMember("/after", fault))?;
    let limit = query.limit.unwrap_or_default();
    let page = state.auth.list_users(&caller, &cursor, limit).await?;
    let next = page.items.last().filter(|_| page.has_more).map(|last| next_page(&state, &cursor, limit, last));
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((header::LINK, next));
    }
    Ok(response.json(page.items.into_iter().map(UserResponse::from).collect::<Vec<_>>()))
}

/// The header `Link` to the page that follows `last` (RFC 8288).
fn next_page(state: &State, cursor: &UserCursor, limit: Limit, last: &User) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.get().to_string());
    if let UserCursor::ByEmail { prefix, .. } = cursor {
        query.append_pair("q", prefix);
    }
    query.append_pair("after", &cursor.next_after(last));
    format!("<{}/auth/users?{}>; rel=\"next\"", state.base_path, query.finish())
}

refusals!(MeRefusals = BEARER, DATABASE);

/// The caller.
#[utoipa::path(
    get, path = "/auth/users/me", tag = "User and Access", operation_id = "me", security(("bearer" = [])),
    responses((status = 200, description = "The caller.", body = UserResponse), MeRefusals)
)]
pub async fn me(Bearer(caller): Bearer) -> HttpResponse {
    HttpResponse::Ok().json(UserResponse::from(caller.user))
}

refusals!(UpdateRefusals = BODY, BEARER, DATABASE, &[Code::RATE_LIMITED, Code::USERNAME_TAKEN]);

/// Change the caller's names.
#[utoipa::path(
    patch, path = "/auth/users/me", tag = "User and Access", operation_id = "update_me", security(("bearer" = [])),
    request_body = ProfileRequest, responses((status = 200, description = "The caller, with the changes.", body = UserResponse), UpdateRefusals)
)]
pub async fn update_me(
    state: Data<State>,
    source: Source,
    BearerBody(caller, body): BearerBody<ProfileRequest>,
) -> Result<HttpResponse, Problem> {
    let update = ProfileUpdate { username: body.username, first_name: body.first_name, last_name: body.last_name };
    let user = state.auth.update_profile(&caller, update, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::Ok().json(UserResponse::from(user)))
}
