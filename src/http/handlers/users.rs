//! Users: signing up, the list, and one's own.

use crate::{
    auth::{ProfileUpdate, SignUp},
    domain::{Email, Limit, Name, Password, User, UserCursor, Username},
    http::{
        State,
        connection::ClientConnection,
        extract::{Bearer, BearerBody, Body, FromJson, JsonFields, Rejected, presented},
        problem::{MemberFault, Problem},
    },
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

/// A user. There is no place here for a password or its hash.
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
        }
    }
}

/// Who wants an account.
#[derive(ToSchema)]
#[schema(as = CreateRequest, example = json!({"email": "ann@example.com", "password": "correct horse battery"}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `SignUp`")]
pub struct CreateRequest {
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// Counted in characters, after NFC.
    #[schema(min_length = 8, max_length = 256, pattern = r"^[^\x00]*$")]
    password: String,
    /// The e-mail unless given; otherwise letters, marks, digits and `.+-_`.
    #[schema(
        min_length = 1,
        max_length = 254,
        pattern = r"^([\p{L}\p{N}.+_-][\p{L}\p{M}\p{N}.+_-]{0,149}|[^@]+@[^@]+)$"
    )]
    username: Option<String>,
    #[schema(max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    first_name: Option<String>,
    #[schema(max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    last_name: Option<String>,
}

impl FromJson for SignUp {
    fn from_json(members: &mut JsonFields) -> Result<Self, Rejected> {
        let email = members.required("email", Email::parse);
        let password = members.required("password", Password::parse);
        // What a username may be depends on the e-mail; where that is wrong, only the type is looked at.
        let username = members.optional("username", |text| match &email {
            Ok(email) => Username::parse(text, email).map(Some),
            Err(Rejected) => Ok(None),
        });
        let first_name = members.optional("first_name", Name::parse);
        let last_name = members.optional("last_name", Name::parse);
        let email = email?;
        Ok(Self {
            username: username?.flatten().unwrap_or_else(|| Username::of_email(&email)),
            email,
            password: password?,
            first_name: first_name?.unwrap_or_default(),
            last_name: last_name?.unwrap_or_default(),
        })
    }
}

/// What users may change of themselves. An absent member stays as it is.
#[derive(ToSchema)]
#[schema(as = ProfileRequest, example = json!({"first_name": "Ann", "last_name": "Ashe"}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `ProfileUpdate`")]
pub struct ProfileRequest {
    /// The account's own e-mail, or letters, marks, digits and `.+-_`.
    #[schema(
        min_length = 1,
        max_length = 254,
        pattern = r"^([\p{L}\p{N}.+_-][\p{L}\p{M}\p{N}.+_-]{0,149}|[^@]+@[^@]+)$"
    )]
    username: Option<String>,
    #[schema(max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    first_name: Option<String>,
    #[schema(max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    last_name: Option<String>,
}

impl FromJson for ProfileUpdate {
    fn from_json(members: &mut JsonFields) -> Result<Self, Rejected> {
        let username = members.optional("username", |text| Ok(text.to_owned()));
        let first_name = members.optional("first_name", Name::parse);
        let last_name = members.optional("last_name", Name::parse);
        Ok(Self { username: username?, first_name: first_name?, last_name: last_name? })
    }
}

/// Create a user.
#[utoipa::path(
    post, path = "/auth/create", tag = "User and Access", operation_id = "create", request_body = CreateRequest,
    security((), ("bearer" = [])),
    responses((
        status = 201, description = "The new user.", body = UserResponse,
        headers(("Location" = String, description = "The user's address."))
    ))
)]
pub async fn create(
    state: Data<State>,
    request: HttpRequest,
    client: ClientConnection,
    Body(sign_up): Body<SignUp>,
) -> Result<HttpResponse, Problem> {
    let user =
        client.cancel_on_disconnect(state.auth.register(sign_up, presented(&request), state.clock.now())).await??;
    let location = format!("{}/auth/users/{}", state.base_path, user.id);
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(UserResponse::from(user)))
}

/// The query of the list of users.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `UserCursor` and `Limit`")]
pub struct UsersQuery {
    /// How many users: 1 to 200, 50 unless given.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// The id of the last user of the page before; with `q` its e-mail.
    #[param(min_length = 1, max_length = 254)]
    after: Option<String>,
    /// Only users whose e-mail begins so, ordered by e-mail.
    #[param(max_length = 254, pattern = r"^[^\p{Cc}]*$")]
    q: Option<String>,
}

/// List users.
#[utoipa::path(
    get, path = "/auth/users", tag = "User and Access", operation_id = "users", params(UsersQuery),
    security(("bearer" = [])),
    responses((
        status = 200, description = "A page of users, ordered by id.", body = Vec<UserResponse>,
        headers(("Link" = String, description = "The next page, as `<…>; rel=\"next\"`; absent on the last one."))
    ))
)]
pub async fn list(state: Data<State>, Bearer(caller): Bearer, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let UsersPage { cursor, limit } = UsersPage::parse(request.query_string())?;
    let page = state.auth.list_users(&caller, &cursor, limit).await?;
    let next = page.items.last().filter(|_| page.has_more).map(|last| next_page(&state, &cursor, limit, last));
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((header::LINK, next));
    }
    Ok(response.json(page.items.into_iter().map(UserResponse::from).collect::<Vec<_>>()))
}

struct UsersPage {
    cursor: UserCursor,
    limit: Limit,
}

impl UsersPage {
    fn parse(query: &str) -> Result<Self, Problem> {
        let (mut limit, mut after, mut q) = (None, None, None);
        let mut faults: Vec<MemberFault> = Vec::new();
        // Once each: a query of many faults must not make a reply of many more bytes.
        let mut note = |fault: MemberFault| {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "limit" => &mut limit,
                "after" => &mut after,
                "q" => &mut q,
                _ => {
                    note(MemberFault::new("", "has an unknown parameter; the known ones are limit, after, q"));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                note(MemberFault::new(format!("/{name}"), "must be given only once"));
            }
        }
        let limit = limit.map_or(Ok(Limit::default()), |limit| Limit::parse(&limit));
        let cursor = UserCursor::parse(q.as_deref(), after.as_deref());
        if let Err(fault) = &limit {
            faults.push(MemberFault::new("/limit", fault.0));
        }
        if let Err((name, fault)) = &cursor {
            faults.push(MemberFault::new(format!("/{name}"), fault.0));
        }
        match (cursor, limit) {
            (Ok(cursor), Ok(limit)) if faults.is_empty() => Ok(Self { cursor, limit }),
            _ => Err(Problem::Members(faults)),
        }
    }
}

/// The `Link` to the page after the one that ends with `last` (RFC 8288).
fn next_page(state: &State, cursor: &UserCursor, limit: Limit, last: &User) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.get().to_string());
    if let UserCursor::ByEmail { prefix, .. } = cursor {
        query.append_pair("q", prefix);
    }
    query.append_pair("after", &cursor.next_after(last));
    format!("<{}/auth/users?{}>; rel=\"next\"", state.base_path, query.finish())
}

/// The caller.
#[utoipa::path(
    get, path = "/auth/users/me", tag = "User and Access", operation_id = "me", security(("bearer" = [])),
    responses((status = 200, description = "The caller.", body = UserResponse))
)]
pub async fn me(Bearer(caller): Bearer) -> HttpResponse {
    HttpResponse::Ok().json(UserResponse::from(caller.user))
}

/// Change the caller's names.
#[utoipa::path(
    patch, path = "/auth/users/me", tag = "User and Access", operation_id = "update_me", security(("bearer" = [])),
    request_body = ProfileRequest, responses((status = 200, description = "The caller as changed.", body = UserResponse))
)]
pub async fn update_me(
    state: Data<State>,
    BearerBody(caller, update): BearerBody<ProfileUpdate>,
) -> Result<HttpResponse, Problem> {
    let user = state.auth.update_profile(&caller, update).await?;
    Ok(HttpResponse::Ok().json(UserResponse::from(user)))
}
