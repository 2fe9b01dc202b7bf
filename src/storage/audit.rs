//! The audit. An entry is written in the transaction of the change that it records.

use super::{Storage, StorageError, query::Tx};
use crate::domain::{Action, AuditContext, AuditEntry, Limit, Outcome, Page, Timestamp, UserId};

#[derive(sqlx::FromRow)]
struct AuditRow {
    id: i64,
    at: i64,
    action: String,
    outcome: String,
    actor: Option<i64>,
    subject: Option<i64>,
    ip: Option<String>,
    count: i64,
    request_id: Option<String>,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: Timestamp(row.at),
            action: row.action,
            outcome: row.outcome,
            actor: row.actor.map(UserId),
            subject: row.subject.map(UserId),
            ip: row.ip,
            count: row.count,
            request_id: row.request_id,
        }
    }
}

impl Tx {
    /// Records an action of this transaction.
    pub(super) async fn record(
        &mut self,
        action: Action,
        outcome: Outcome,
        subject: Option<UserId>,
        context: &AuditContext,
    ) -> Result<(), sqlx::Error> {
        const SQL: &str = r"
            INSERT INTO audit (at, action, outcome, actor, subject, ip, request_id, count)
            VALUES ($1, $2, $3, $4, $5, $6, $7, 1)";
        let insert = self.query(SQL).bind(context.at.0).bind(action.name()).bind(outcome.name());
        let insert = insert.bind(context.actor.map(|actor| actor.0)).bind(subject.map(|subject| subject.0));
        let insert =
            insert.bind(context.address.map(|address| address.to_string())).bind(context.request_id.as_deref());
        insert.execute().await.map(drop)
    }

    /// Records a wrong password: one row for each account and minute, or for each client address and minute where there
    /// is no account. No name that a client sent is stored.
    pub(super) async fn record_failure(
        &mut self,
        action: Action,
        subject: Option<UserId>,
        context: &AuditContext,
    ) -> Result<(), sqlx::Error> {
        const SQL: &str = r"
            INSERT INTO audit (at, action, outcome, subject, ip, request_id, count, bucket, actor)
            VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8)
            ON CONFLICT (bucket) DO UPDATE
            SET count = audit.count + 1, at = excluded.at, ip = excluded.ip, request_id = excluded.request_id";
        let ip = context.address.map(|address| address.to_string());
        let who = subject.map_or_else(|| ip.clone().unwrap_or_default(), |subject| format!("user {subject}"));
        let bucket = format!("{} {who} {}", action.name(), context.at.0.div_euclid(60));
        let insert = self.query(SQL).bind(context.at.0).bind(action.name()).bind(Outcome::Failed.name());
        let insert = insert.bind(subject.map(|subject| subject.0)).bind(ip).bind(context.request_id.as_deref());
        insert.bind(bucket).bind(context.actor.map(|actor| actor.0)).execute().await.map(drop)
    }
}

impl Storage {
    /// Records an action that changed something outside the database.
    pub async fn record(&self, action: Action, context: &AuditContext) -> Result<(), StorageError> {
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.record(action, Outcome::Ok, None, context).await?;
            tx.commit().await
        })
        .await
    }

    /// A page of the audit, the newest entry first: those older than the entry `before`, of all users, or with one
    /// user as the actor or the subject.
    pub async fn list_audit(
        &self,
        user: Option<UserId>,
        before: i64,
        limit: Limit,
    ) -> Result<Page<AuditEntry>, StorageError> {
        macro_rules! entries {
            ($condition:literal) => {
                concat!(
                    "SELECT id, at, action, outcome, actor, subject, ip, count, request_id FROM audit
                     WHERE id < $1",
                    $condition,
                    " ORDER BY id DESC LIMIT $2"
                )
            };
        }
        const ALL: &str = entries!("");
        // Two walks through an index: `OR` would sort every entry of the user.
        const OF_USER: &str = concat!(
            "SELECT * FROM (",
            entries!(" AND actor = $3"),
            ") AS by_user UNION SELECT * FROM (",
            entries!(" AND subject = $3"),
            ") AS on_user ORDER BY id DESC LIMIT $2"
        );
        let one_more = limit.get() + 1;
        let rows: Vec<AuditRow> = match user {
            None => self.read_all(ALL, |query| query.bind(before).bind(one_more)).await?,
            Some(user) => self.read_all(OF_USER, |query| query.bind(before).bind(one_more).bind(user.0)).await?,
        };
        Ok(Page::cut(rows.into_iter().map(AuditEntry::from).collect(), limit))
    }
}
