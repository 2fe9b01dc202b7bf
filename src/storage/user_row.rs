//! The row of a user.

use crate::domain::{Email, Name, PasswordHash, Timestamp, User, UserId, Username};
use serde_json::{Map, Value};

/// The columns of [`UserRow`], qualified so that a query can combine them with another table's.
macro_rules! user_columns {
    () => {
        "users.id, users.email, users.username, users.first_name, users.last_name, users.is_active, users.is_staff, \
         users.is_superuser, users.is_verified, users.created_at, users.last_login, users.claims, users.email_key"
    };
}
pub(super) use user_columns;

#[derive(sqlx::FromRow)]
pub(super) struct UserRow {
    id: i64,
    email: String,
    username: String,
    first_name: String,
    last_name: String,
    is_active: bool,
    is_staff: bool,
    is_superuser: bool,
    is_verified: bool,
    created_at: i64,
    last_login: Option<i64>,
    claims: String,
    email_key: Option<String>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: UserId(row.id),
            email: Email::stored(row.email, row.email_key),
            username: Username::stored(row.username),
            first_name: Name::stored(row.first_name),
            last_name: Name::stored(row.last_name),
            is_active: row.is_active,
            is_staff: row.is_staff,
            is_superuser: row.is_superuser,
            is_verified: row.is_verified,
            created_at: Timestamp(row.created_at),
            last_login: row.last_login.map(Timestamp),
            claims: claims(row.id, &row.claims),
        }
    }
}

/// A `CHECK` constraint ensures that `text` is a JSON object. Claims that the database accepts and `serde_json` does
/// not (a number such as 1e999, more than a hundred nested brackets) are left out and logged.
fn claims(user: i64, text: &str) -> Map<String, Value> {
    if text == "{}" {
        return Map::new();
    }
    serde_json::from_str(text).unwrap_or_else(|_| {
        tracing::warn!(user.id = user, "the claims of this user cannot be read; its tokens have none of them");
        Map::new()
    })
}

/// A user and the hash of its password.
#[derive(Debug, Clone)]
pub struct Account {
    pub user: User,
    pub password_hash: PasswordHash,
}

#[derive(sqlx::FromRow)]
pub(super) struct AccountRow {
    #[sqlx(flatten)]
    user: UserRow,
    password_hash: String,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self { user: row.user.into(), password_hash: PasswordHash::new(row.password_hash) }
    }
}
