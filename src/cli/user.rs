//! `signet user …`: the operator looks after users, with the service running or not.

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
use secrecy::{ExposeSecret, SecretString};
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Create a user; the password is asked for, or read from standard input
    Create(Create),
    /// Show a user
    Show(Which),
    /// List all users
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Set a password and end the user's sessions; it is asked for, or read from standard input
    SetPassword(Which),
    /// Let a user in again
    Activate(Which),
    /// Shut a user out and end its sessions
    Deactivate(Which),
    /// End the user's sessions, wherever they are
    SignOut(Which),
    /// Delete a user and its sessions
    Delete(Which),
}

#[derive(Args)]
pub(super) struct Create {
    /// The e-mail
    #[arg(required_unless_present = "address")]
    email: Option<String>,
    /// The same, as an option
    #[arg(long = "email", id = "address", value_name = "EMAIL", conflicts_with = "email")]
    address: Option<String>,
    /// The e-mail unless given
    #[arg(long)]
    username: Option<String>,
    #[arg(long, default_value = "")]
    first_name: String,
    #[arg(long, default_value = "")]
    last_name: String,
    /// May do everything
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
pub(super) async fn run(command: UserCommand, settings: &Settings) -> Result<ExitCode, Failure> {
    let storage = Storage::open(settings, 1).await?;
    if storage.is_sqlite() {
        for user in storage.migrate().await? {
            eprintln!("warning: user {user}: {NAME_CONFLICT}");
        }
    }
    let passwords = Arc::new(app::start_passwords(&settings.passwords, HashWaits::default())?);
    let user_admin = UserAdmin::new(storage.clone(), passwords, settings.passwords.rules());
    let ended = execute(command, &user_admin, Clock::System.now()).await;
    storage.close().await;
    ended.map(|()| ExitCode::SUCCESS)
}

async fn execute(command: UserCommand, user_admin: &UserAdmin, now: Timestamp) -> Result<(), Failure> {
    match command {
        UserCommand::Create(create) => {
            let (sign_up, is_superuser, json) = sign_up(create)?;
            print(user_admin.create(sign_up, is_superuser, now).await.map_err(explain)?, json);
        }
        UserCommand::List { json } => list(user_admin, json).await?,
        UserCommand::Show(which) => print(find(user_admin, &which).await?, which.json),
        UserCommand::SetPassword(which) => {
            let user = find(user_admin, &which).await?;
            let password = Password::parse(new_password()?.expose_secret())?;
            let user = user_admin.set_password(user.id, password, now).await.map_err(explain)?;
            print(user.ok_or(GONE)?, which.json);
        }
        UserCommand::Activate(which) => {
            let user = find(user_admin, &which).await?;
            print(user_admin.activate(user.id).await.map_err(explain)?.ok_or(GONE)?, which.json);
        }
        UserCommand::Deactivate(which) => {
            let user = find(user_admin, &which).await?;
            print(user_admin.deactivate(user.id, now).await.map_err(explain)?.ok_or(GONE)?, which.json);
        }
        UserCommand::SignOut(which) => {
            let user = find(user_admin, &which).await?;
            user_admin.sign_out(user.id, now).await.map_err(explain)?;
            print(user, which.json);
        }
        UserCommand::Delete(which) => {
            let user = find(user_admin, &which).await?;
            let was_there = user_admin.delete(user.id, now).await.map_err(explain)?;
            print(was_there.then_some(user).ok_or(GONE)?, which.json);
        }
    }
    Ok(())
}

const GONE: &str = "the user was deleted meanwhile";

/// What clients are not told, the operator is.
fn explain(error: AuthError) -> Failure {
    match error {
        AuthError::Unavailable(reason) => format!("the database is unavailable ({reason})").into(),
        AuthError::Internal(reason) => reason.into(),
        other => other.into(),
    }
}

async fn find(user_admin: &UserAdmin, which: &Which) -> Result<User, Failure> {
    let user = user_admin.find(&which.user).await.map_err(explain)?;
    Ok(user.ok_or("there is no user with this id, e-mail or username")?)
}

/// All users, a page at a time: a long list is never held as a whole.
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

fn sign_up(create: Create) -> Result<(SignUp, bool, bool), Failure> {
    let email = create.email.or(create.address).unwrap_or_default();
    let email = Email::parse(&email).map_err(|fault| format!("the e-mail {fault}"))?;
    let username = create.username.map(|text| Username::parse(&text, &email)).transpose();
    let name = |text: &str, which: &str| Name::parse(text).map_err(|fault| format!("the {which} {fault}"));
    let sign_up = SignUp {
        username: username
            .map_err(|fault| format!("the username {fault}"))?
            .unwrap_or_else(|| Username::of_email(&email)),
        first_name: name(&create.first_name, "first name")?,
        last_name: name(&create.last_name, "last name")?,
        email,
        password: Password::parse(new_password()?.expose_secret()).map_err(|fault| format!("the password {fault}"))?,
    };
    Ok((sign_up, create.superuser, create.json))
}

/// Asks for a password twice, or reads one line where there is no terminal. Never an argument: `ps` shows those.
fn new_password() -> Result<SecretString, Failure> {
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\r', '\n']).into());
    }
    let password = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Once more: ")? != password {
        return Err("the two passwords differ".into());
    }
    Ok(password.into())
}

fn print(user: User, json: bool) {
    let line = if json {
        serde_json::to_string(&UserResponse::from(user)).unwrap_or_default()
    } else {
        let mut words = vec![user.id.to_string(), user.email.as_str().to_owned(), user.username.as_str().to_owned()];
        words.push(if user.is_active { "active" } else { "inactive" }.to_owned());
        words.extend(user.is_superuser.then(|| "superuser".to_owned()).or(user.is_staff.then(|| "staff".to_owned())));
        words.join("  ")
    };
    say(line);
}
