//! Serves the feed of revocations to other services.

use super::{Auth, AuthError};
use crate::domain::FeedPage;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

/// The page that was last read for waiting clients. All of them wait at the end of the feed, so one read serves them
/// all.
#[derive(Default)]
pub(super) struct NewestPage(Mutex<Option<ReadPage>>);

struct ReadPage {
    after: i64,
    /// How many revocations this replica had learnt before the page was read.
    learnt: u64,
    page: Arc<FeedPage>,
}

/// The number of concurrent reads: many readers must not take every connection to the database.
const PARALLEL_READS: usize = 2;

/// Limits concurrent reads of the feed.
pub(super) struct FeedReads(Semaphore);

impl Default for FeedReads {
    fn default() -> Self {
        Self(Semaphore::new(PARALLEL_READS))
    }
}

impl Auth {
    /// The page of the feed after the number `after`. If it is empty, waits for a revocation until `wait` has passed or
    /// `stop` completes, and then returns the empty page.
    ///
    /// # Errors
    /// [`AuthError::FeedReset`] if `feed` or `after` is not of this feed, or the database is unavailable.
    pub async fn revocations(
        &self,
        feed: Option<Uuid>,
        after: i64,
        wait: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Arc<FeedPage>, AuthError> {
        let end = Instant::now() + wait;
        // Subscribe before the page is read, so that a revocation that the read misses ends the wait.
        let mut news = self.storage.revocation_news();
        let mut stop = pin!(stop);
        let mut page = Arc::new(self.read_feed(after).await?);
        loop {
            if feed.is_some_and(|feed| feed != page.feed) {
                return Err(AuthError::FeedReset);
            }
            if !page.revocations.is_empty() {
                return Ok(page);
            }
            let is_news = tokio::select! {
                news = timeout_at(end, news.changed()) => news.is_ok_and(|news| news.is_ok()),
                () = &mut stop => false,
            };
            if !is_news {
                return Ok(page);
            }
            let learnt = *news.borrow_and_update();
            page = self.read_newest(after, learnt).await?;
        }
    }

    /// The page after the number `after`, with at least the first `learnt` revocations of this replica. Concurrent
    /// callers share one read.
    async fn read_newest(&self, after: i64, learnt: u64) -> Result<Arc<FeedPage>, AuthError> {
        let mut newest = self.newest_page.0.lock().await;
        if let Some(read) = &*newest
            && read.after == after
            && read.learnt >= learnt
        {
            return Ok(Arc::clone(&read.page));
        }
        let learnt = *self.storage.revocation_news().borrow();
        let page = Arc::new(self.read_feed(after).await?);
        *newest = Some(ReadPage { after, learnt, page: Arc::clone(&page) });
        Ok(page)
    }

    async fn read_feed(&self, after: i64) -> Result<FeedPage, AuthError> {
        let _turn = self.feed_reads.0.acquire().await.map_err(|closed| AuthError::Internal(closed.to_string()))?;
        self.storage.feed_page(after).await?.ok_or(AuthError::FeedReset)
    }
}
