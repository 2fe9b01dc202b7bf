//! `signet user …`: manages users, whether or not the service is running.

use super::{Failure, say};
use crate::{
    app,
    auth::{AuthError, SignUp, UserAdmin, UserUpdate},
    clock::Clock,
    config::Settings,
    domain::{AuditContext, Email, Limit, Name, Password, User, UserCursor, UserId, Username},
    http::UserResponse,
    storage::{NAME_CONFLICT, SignOutScope, Snapshot, Storage},
    telemetry::HashWaits,
};
use clap::{Args, Subcommand};
use std::{
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
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
    /// Set a password and end the user's sessions and API keys. The password is prompted for, or read from standard
    /// input
    SetPassword(Which),
    /// Allow a deactivated user to sign in again
    Activate(Which),
    /// Prevent a user from signing in, and end the user's sessions and API keys
    Deactivate(Which),
    /// End the user's sessions and API keys
    SignOut(Which),
    /// Forget the failed sign-ins that delay further attempts
    Unlock(Which),
    /// Change a user. A value without an option stays as it is
    Update(Update),
    /// Delete a user and the user's sessions and API keys
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

#[derive(Args)]
pub(super) struct Update {
    #[command(flatten)]
    which: Which,
    /// E-mail address. A username that is the old address becomes the new one
    #[arg(long)]
    email: Option<String>,
    #[arg(long)]
    username: Option<String>,
    #[arg(long)]
    first_name: Option<String>,
    #[arg(long)]
    last_name: Option<String>,
    /// Give or take away the rights of staff
    #[arg(long, value_name = "BOOL")]
    staff: Option<bool>,
    /// Give or take away all rights
    #[arg(long, value_name = "BOOL")]
    superuser: Option<bool>,
    /// Whether the address belongs to the user
    #[arg(long, value_name = "BOOL")]
    verified: Option<bool>,
    /// A file with a JSON object: the claims that the user's access tokens have in addition
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
}

impl Update {
    fn parse(&self) -> Result<UserUpdate, Failure> {
        let email =
            self.email.as_deref().map(Email::parse).transpose().map_err(|fault| format!("the e-mail {fault}"))?;
        let name = |name: &Option<String>, which| {
            name.as_deref().map(Name::parse).transpose().map_err(|fault| format!("the {which} name {fault}"))
        };
        let claims = self.claims.as_ref().map(|path| {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{} must be a JSON object: {error}", path.display()))
        });
        Ok(UserUpdate {
            email,
            username: self.username.clone(),
            first_name: name(&self.first_name, "first")?,
            last_name: name(&self.last_name, "last")?,
            is_active: None,
            is_staff: self.staff,
            is_superuser: self.superuser,
            is_verified: self.verified,
            claims: claims.transpose()?,
        })
    }
}

/// Opens the database that the settings name.
pub(super) async fn open(settings: &Settings) -> Result<(Storage, UserAdmin), Failure> {
    let storage = Storage::open(settings, 1).await?;
    if storage.is_sqlite() {
        for user in storage.migrate().await? {
            eprintln!("warning: user {user}: {NAME_CONFLICT}");
        }
    }
    let passwords = Arc::new(app::start_passwords(&settings.passwords, HashWaits::default())?);
    let user_admin = UserAdmin::new(storage.clone(), passwords, settings);
    Ok((storage, user_admin))
}

/// Runs one command on the database that the settings name.
pub(super) async fn run(command: UserCommand, settings: &Settings) -> Result<(), Failure> {
    let (storage, user_admin) = open(settings).await?;
    let context = Clock::System.now().into();
    let ended = match command {
        UserCommand::Create(command) => create(command, &user_admin, &context).await,
        UserCommand::List { json } => list(&user_admin, json).await,
        UserCommand::Existing(action) => act(action, &user_admin, settings, &context).await,
    };
    storage.close().await;
    ended
}

/// Finds a user and applies the command to it.
async fn act(
    action: UserAction,
    user_admin: &UserAdmin,
    settings: &Settings,
    context: &AuditContext,
) -> Result<(), Failure> {
    use UserAction::{Activate, Deactivate, Delete, SetPassword, Show, SignOut, Unlock, Update};
    let (Show(which)
    | SetPassword(which)
    | Activate(which)
    | Deactivate(which)
    | SignOut(which)
    | Unlock(which)
    | Update(self::Update { which, .. })
    | Delete(which)) = &action;
    let user = find(user_admin, &which.user).await?;
    let id = user.id;
    // An operator may change every user.
    let all = |_: &Snapshot| Ok(());
    let user = match &action {
        Show(_) => Ok(user),
        SetPassword(_) => user_admin.set_password(id, new_password()?, context, all).await,
        Activate(_) => user_admin.set_active(id, true, context).await,
        Deactivate(_) => user_admin.set_active(id, false, context).await,
        SignOut(_) => user_admin.sign_out(id, SignOutScope::SessionsAndApiKeys, context, all).await,
        Unlock(_) => {
            let macs = app::failure_macs(settings, &user, context.at)?;
            user_admin.unlock(&macs).await.map(|()| user)
        }
        Update(update) => user_admin.update(id, &update.parse()?, context, all).await,
        Delete(_) => user_admin.delete(id, context, all).await,
    };
    print(user.map_err(explain)?, which.json);
    Ok(())
}

/// Finds the user that an operator names.
pub(super) async fn find(user_admin: &UserAdmin, name: &str) -> Result<User, Failure> {
    let user = user_admin.find(name).await.map_err(explain)?;
    Ok(user.ok_or("there is no user with this id, e-mail or username")?)
}

/// Adds the reason, which the HTTP API does not reveal.
pub(super) fn explain(error: AuthError) -> Failure {
    match error {
        AuthError::NotFound => "the user was deleted at the same time".into(),
        AuthError::InvalidMember(member, fault) => format!("{} {fault}", &member[1..]).into(),
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

async fn create(command: Create, user_admin: &UserAdmin, context: &AuditContext) -> Result<(), Failure> {
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
    print(user_admin.create(sign_up, command.superuser, context).await.map_err(explain)?, command.json);
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
        return say(serde_json::to_string(&UserResponse::with_claims(user)).unwrap_or_default());
    }
    let state = if user.is_active { "active" } else { "inactive" };
    let role = match (user.is_superuser, user.is_staff) {
        (true, _) => "  superuser",
        (false, true) => "  staff",
        (false, false) => "",
    };
    say(format_args!("{}  {}  {}  {state}{role}", user.id, user.email.as_str(), user.username.as_str()));
}
