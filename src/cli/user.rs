//! `signet user …`: manages users, whether or not the service is running.

use super::{Failure, say};
use crate::{
    app,
    auth::{AuthError, SignUp, UserAdmin},
    clock::Clock,
    config::Settings,
    domain::{Email, Limit, Name, Password, Timestamp, User, UserCursor, UserId, Username},
    http::UserResponse,
    storage::{NAME_CONFLICT, Storage},
    telemetry::HashWaits,
};
use clap::{Args, Subcommand};
use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Create a user. The password is prompted for, or read from standard input
    Create(Create),
    /// List all users
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Existing(UserAction),
}

#[derive(Subcommand)]
pub(super) enum UserAction {
    /// Show a user
    Show(Which),
    /// Set a password and end the user's sessions. The password is prompted for, or read from standard input
    SetPassword(Which),
    /// Allow a deactivated user to sign in again
    Activate(Which),
    /// Prevent a user from signing in, and end the user's sessions
    Deactivate(Which),
    /// End the user's sessions
    SignOut(Which),
    /// Forget the failed sign-ins that delay further attempts
    Unlock(Which),
    /// Delete a user and the user's sessions
    Delete(Which),
}

#[derive(Args)]
pub(super) struct Create {
    /// E-mail address
    #[arg(required_unless_present = "address")]
    email: Option<String>,
    /// E-mail address, as an option
    #[arg(long = "email", id = "address", value_name = "EMAIL", conflicts_with = "email")]
    address: Option<String>,
    /// Username; the e-mail address by default
    #[arg(long)]
    username: Option<String>,
    #[arg(long, default_value = "")]
    first_name: String,
    #[arg(long, default_value = "")]
    last_name: String,
    /// Give the user all rights
    #[arg(long)]
    superuser: bool,
    /// Print the user as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Which {
    /// Id, e-mail or username
    user: String,
    /// Print the user as JSON
    #[arg(long)]
    json: bool,
}

/// Runs one command on the database that the settings name.
pub(super) async fn run(command: UserCommand, settings: &Settings) -> Result<(), Failure> {
    let storage = Storage::open(settings, 1).await?;
    if storage.is_sqlite() {
        for user in storage.migrate().await? {
            eprintln!("warning: user {user}: {NAME_CONFLICT}");
        }
    }
    let passwords = Arc::new(app::start_passwords(&settings.passwords, HashWaits::default())?);
    let user_admin = UserAdmin::new(storage.clone(), passwords, settings.passwords.rules());
    let now = Clock::System.now();
    let ended = match command {
        UserCommand::Create(command) => create(command, &user_admin, now).await,
        UserCommand::List { json } => list(&user_admin, json).await,
        UserCommand::Existing(action) => act(action, &user_admin, settings, now).await,
    };
    storage.close().await;
    ended
}

/// Finds a user and applies the command to it.
async fn act(action: UserAction, user_admin: &UserAdmin, settings: &Settings, now: Timestamp) -> Result<(), Failure> {
    use UserAction::{Activate, Deactivate, Delete, SetPassword, Show, SignOut, Unlock};
    let (Show(which) | SetPassword(which) | Activate(which) | Deactivate(which) | SignOut(which) | Unlock(which)
    | Delete(which)) = &action;
    let user = user_admin.find(&which.user).await.map_err(explain)?;
    let user = user.ok_or("there is no user with this id, e-mail or username")?;
    let id = user.id;
    let user = match action {
        Show(_) => Ok(Some(user)),
        SetPassword(_) => {
            let password = new_password()?;
            user_admin.set_password(id, password, now).await
        }
        Activate(_) => user_admin.activate(id).await,
        Deactivate(_) => user_admin.deactivate(id, now).await,
        SignOut(_) => user_admin.sign_out(id, now).await.map(|()| Some(user)),
        Unlock(_) => {
            let mac = app::account_mac(settings, now)?;
            user_admin.unlock(&user, mac).await.map(|()| Some(user))
        }
        Delete(_) => user_admin.delete(id, now).await.map(|was_there| was_there.then_some(user)),
    };
    print(user.map_err(explain)?.ok_or("the user was deleted at the same time")?, which.json);
    Ok(())
}

/// Adds the reason, which the HTTP API does not reveal.
fn explain(error: AuthError) -> Failure {
    match error {
        AuthError::Unavailable(reason) => format!("the database is unavailable ({reason})").into(),
        AuthError::Internal(reason) => reason.into(),
        other => other.into(),
    }
}

/// Lists all users, a page at a time: a long list may not fit into memory.
async fn list(user_admin: &UserAdmin, json: bool) -> Result<(), Failure> {
    let mut after = UserId(0);
    loop {
        let page = user_admin.list(&UserCursor::ById { after }, Limit::default()).await.map_err(explain)?;
        after = page.items.last().map_or(after, |user| user.id);
        page.items.into_iter().for_each(|user| print(user, json));
        if !page.has_more {
            return Ok(());
        }
    }
}

async fn create(command: Create, user_admin: &UserAdmin, now: Timestamp) -> Result<(), Failure> {
    let email = command.email.or(command.address).unwrap_or_default();
    let email = Email::parse(&email).map_err(|fault| format!("the e-mail {fault}"))?;
    let username = match command.username {
        Some(text) => Username::parse(&text, &email).map_err(|fault| format!("the username {fault}"))?,
        None => Username::of_email(&email),
    };
    let sign_up = SignUp {
        username,
        first_name: Name::parse(&command.first_name).map_err(|fault| format!("the first name {fault}"))?,
        last_name: Name::parse(&command.last_name).map_err(|fault| format!("the last name {fault}"))?,
        email,
        password: new_password()?,
    };
    print(user_admin.create(sign_up, command.superuser, now).await.map_err(explain)?, command.json);
    Ok(())
}

/// Prompts for a password twice, or reads one line if standard input is not a terminal. A password is never an
/// argument, because `ps` shows arguments.
fn new_password() -> Result<Password, Failure> {
    let text = if io::stdin().is_terminal() {
        let text = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Repeat the password: ")? != text {
            return Err("the two passwords differ".into());
        }
        text
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        line
    };
    Ok(Password::parse(text.trim_end_matches(['\r', '\n'])).map_err(|fault| format!("the password {fault}"))?)
}

fn print(user: User, json: bool) {
    if json {
        return say(serde_json::to_string(&UserResponse::from(user)).unwrap_or_default());
    }
    let state = if user.is_active { "active" } else { "inactive" };
    let role = match (user.is_superuser, user.is_staff) {
        (true, _) => "  superuser",
        (false, true) => "  staff",
        (false, false) => "",
    };
    say(format_args!("{}  {}  {}  {state}{role}", user.id, user.email.as_str(), user.username.as_str()));
}
