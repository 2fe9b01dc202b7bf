//! Another service follows the feed of revocations.

use super::{Auth, AuthError};
use crate::storage::{FeedPage, StorageError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

impl Auth {
    /// The page of the feed after the number `after`. If there is none yet, waits for it until `wait` has passed or `stop`
    /// completes; then the page is empty.
    ///
    /// # Errors
    /// [`AuthError::FeedReset`] if `feed` or `after` is not of this feed, or the database is unavailable.
    pub async fn revocations(
        &self,
        feed: Option<Uuid>,
        after: i64,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<FeedPage, AuthError> {
        let end = Instant::now() + wait;
        // Before the page is read: a revocation that is committed in between is news.
        let mut news = self.storage.revocation_news();
        let mut stop = std::pin::pin!(stop);
        loop {
            let page = self.feed_page(feed, after).await?;
            if !page.revocations.is_empty() || Instant::now() >= end {
                return Ok(page);
            }
            let is_news = tokio::select! {
                news = timeout_at(end, news.changed()) => news.is_ok_and(|news| news.is_ok()),
                () = &mut stop => false,
            };
            if !is_news {
                return Ok(page);
            }
        }
    }

    async fn feed_page(&self, feed: Option<Uuid>, after: i64) -> Result<FeedPage, AuthError> {
        let page: Result<_, StorageError> = self.storage.feed_page(feed, after).await;
        page?.ok_or(AuthError::FeedReset)
    }
}
