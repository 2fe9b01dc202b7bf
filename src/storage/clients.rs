//! Clients, and the hashes of their secrets.

use super::{Storage, StorageError};
use crate::domain::{Action, AuditContext, Client, ClientId, Outcome, Scopes, Timestamp};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct ClientRow {
    id: Uuid,
    name: String,
    secret_sha256: Vec<u8>,
    scopes: String,
    audiences: String,
    created_at: i64,
}

/// A client and the SHA-256 of its secret.
impl From<ClientRow> for (Client, Vec<u8>) {
    fn from(row: ClientRow) -> Self {
        let client = Client {
            id: ClientId(row.id),
            name: row.name,
            scopes: row.scopes.parse().unwrap_or_default(),
            audiences: serde_json::from_str(&row.audiences).unwrap_or_default(),
            created_at: Timestamp(row.created_at),
        };
        (client, row.secret_sha256)
    }
}

impl Storage {
    /// Stores a new client.
    pub async fn create_client(
        &self,
        client: &Client,
        secret_sha256: &[u8],
        context: &AuditContext,
    ) -> Result<(), StorageError> {
        const SQL: &str = r"
            INSERT INTO clients (id, name, secret_sha256, scopes, audiences, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let audiences = serde_json::to_string(&client.audiences).unwrap_or_default();
        self.write(|| async {
            let mut tx = self.begin().await?;
            let insert = tx.query(SQL).bind(client.id.0).bind(client.name.as_str()).bind(secret_sha256);
            let insert = insert.bind(client.scopes.to_string()).bind(audiences.as_str()).bind(client.created_at.0);
            insert.execute().await?;
            tx.record(Action::ClientCreate, Outcome::Ok, None, context).await?;
            tx.commit().await
        })
        .await
    }

    /// A client, and the SHA-256 of its secret.
    pub async fn client(&self, id: ClientId) -> Result<Option<(Client, Vec<u8>)>, StorageError> {
        const SQL: &str = "SELECT id, name, secret_sha256, scopes, audiences, created_at FROM clients WHERE id = $1";
        let row: Option<ClientRow> = self.read_one(SQL, |query| query.bind(id.0)).await?;
        Ok(row.map(Into::into))
    }

    /// Every client, the oldest first. An operator makes each of them, so there are few.
    pub async fn list_clients(&self) -> Result<Vec<Client>, StorageError> {
        const SQL: &str =
            "SELECT id, name, secret_sha256, scopes, audiences, created_at FROM clients ORDER BY created_at, id";
        let rows: Vec<ClientRow> = self.read_all(SQL, |query| query).await?;
        Ok(rows.into_iter().map(|row| <(Client, Vec<u8>)>::from(row).0).collect())
    }

    /// The scopes of all clients, each once, in alphabetical order.
    pub async fn client_scopes(&self) -> Result<Vec<String>, StorageError> {
        const SQL: &str = "SELECT DISTINCT scopes FROM clients";
        let rows: Vec<(String,)> = self.read_all(SQL, |query| query).await?;
        let sets = rows.iter().map(|(scopes,)| scopes.parse::<Scopes>().unwrap_or_default());
        let mut scopes: Vec<String> = sets.flat_map(|set| set.iter().map(str::to_owned).collect::<Vec<_>>()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Ok(scopes)
    }

    /// Deletes a client; `false` if there is none.
    pub async fn delete_client(&self, id: ClientId, context: &AuditContext) -> Result<bool, StorageError> {
        const SQL: &str = "DELETE FROM clients WHERE id = $1";
        self.write(|| async {
            let mut tx = self.begin().await?;
            if tx.query(SQL).bind(id.0).execute().await? == 0 {
                tx.rollback().await?;
                return Ok(false);
            }
            tx.record(Action::ClientDelete, Outcome::Ok, None, context).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}
