//! `signet client …`: manages clients, whether or not the service is running.

use super::{Failure, say, user::explain};
use crate::{
    auth::{AuthError, ClientAdmin, NewClient},
    clock::Clock,
    config::Settings,
    domain::{AuditContext, Client, ClientId, DisplayName, Scopes},
    storage::Storage,
};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde_json::json;

#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// Create a client, and print its id and its secret. Signet cannot show the secret again
    Create(Create),
    /// List all clients: id, name, scopes, audiences
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Delete a client. Its secret is refused at once; its access tokens last until they expire
    Delete {
        /// The client's id
        id: String,
    },
}

#[derive(Args)]
pub(super) struct Create {
    /// A name that tells operators what the client is
    name: String,
    /// A scope that the client may ask for; can be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// An audience that the client may ask for: jwt.audience or one of jwt.audiences. The first is the default; can be
    /// repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// Print the id and the secret as JSON
    #[arg(long)]
    json: bool,
}

/// Runs one command on the database that the settings name.
pub(super) async fn run(command: ClientCommand, settings: &Settings) -> Result<(), Failure> {
    let storage = Storage::open(settings, 1).await?;
    if storage.is_sqlite() {
        storage.migrate().await?;
    }
    let clients = ClientAdmin::new(storage.clone(), settings);
    let ended = act(command, &clients, &Clock::System.now().into()).await;
    storage.close().await;
    ended
}

async fn act(command: ClientCommand, clients: &ClientAdmin, context: &AuditContext) -> Result<(), Failure> {
    match command {
        ClientCommand::Create(Create { name, scopes, audiences, json }) => {
            let name = DisplayName::parse(&name).map_err(|fault| format!("the name {fault}"))?.as_str().to_owned();
            let scopes: Scopes = scopes.join(" ").parse().map_err(|fault| format!("the scopes {fault}"))?;
            let created = clients.create(NewClient { name, scopes, audiences }, context).await;
            let (client, secret) = created.map_err(explain)?;
            let (id, secret) = (client.id.to_string(), secret.expose_secret());
            if json {
                say(json!({ "id": id, "secret": secret }));
            } else {
                say(format_args!("id:     {id}\nsecret: {secret}\nThe secret is not shown again."));
            }
        }
        ClientCommand::List { json } => {
            for client in clients.list().await.map_err(explain)? {
                print(&client, json);
            }
        }
        ClientCommand::Delete { id } => {
            let id = ClientId::parse(&id).ok_or("the id of a client begins with client_; see `signet client list`")?;
            clients.delete(id, context).await.map_err(|error| match error {
                AuthError::NotFound => "there is no client with this id".into(),
                error => explain(error),
            })?;
            say(format_args!("{id} is deleted"));
        }
    }
    Ok(())
}

fn print(client: &Client, json: bool) {
    let Client { id, name, scopes, audiences, created_at } = client;
    if json {
        let scopes: Vec<&str> = scopes.iter().collect();
        let created_at = created_at.to_string();
        return say(json!({
            "id": id.to_string(), "name": name, "scopes": scopes, "audiences": audiences, "created_at": created_at,
        }));
    }
    say(format_args!("{id}  {name}  scopes: {scopes}  audiences: {}", audiences.join(" ")));
}
