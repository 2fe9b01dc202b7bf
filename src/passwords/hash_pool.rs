//! The threads that hash passwords, behind a bounded queue.
//!
//! A hash takes a core and 19 MiB for several milliseconds. On the HTTP workers it would delay every other request; on a
//! growing pool of threads a flood of sign-ins would exhaust the memory. A request that finds no room in the queue is
//! refused at once.

use crate::{os::scheduler, telemetry::HashWaits};
use argon2_rust::{Algorithm, Argon2, Hasher, Params, Version};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::{
    process::setpriority_process,
    time::{ClockId, clock_gettime},
};
use std::{
    io,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// The niceness of a hash thread. At 3 it gets a third of a core that other threads of the service want entirely: a flood
/// of sign-ins does not starve the other requests, and a flood of other requests does not stop the sign-ins. (At 10 it
/// would get a tenth, at 19 a sixtieth.) How soon the other threads run is decided by the [time slice](scheduler), not by this.
const NICENESS: i32 = 3;

/// Why there is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or no hash thread was free in time.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded,
    #[error("hashing failed: {0}")]
    Argon2(#[from] argon2_rust::Error),
    #[error("hashing panicked")]
    Panicked,
}

/// What a hash thread keeps from one hash to the next.
pub(super) struct Worker {
    /// Keeps its memory between hashes.
    pub hasher: Hasher,
    /// The work of all hashes so far: KiB times passes.
    pub work: u64,
}

impl Default for Worker {
    fn default() -> Self {
        Self { hasher: Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT).hasher(), work: 0 }
    }
}

impl Worker {
    /// Frees the memory if it is more than this many KiB.
    fn keep_at_most(&mut self, memory_kib: usize) {
        if self.hasher.reserved_blocks() > memory_kib {
            self.hasher.clear();
        }
    }
}

/// Room for one hash, in the queue or on a thread. It is released when the hash is done, even if the client has
/// disconnected before: otherwise clients that disconnect could queue more hashes than the queue has room for.
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

/// A hash to be made.
struct Job {
    state: Arc<JobState>,
    /// Hashes, releases the permit and sends the result to the request.
    run: Box<dyn FnOnce(&mut Worker) + Send>,
}

/// The size of a [`HashPool`], and what its threads do between two hashes.
pub(super) struct PoolOptions {
    pub threads: usize,
    /// How many requests may wait for a thread.
    pub queue: usize,
    /// How long a request waits for a thread.
    pub queue_timeout: Duration,
    /// How much memory a thread keeps between hashes.
    pub usual_memory_kib: usize,
    /// A thread that has no work for this long frees that memory as well.
    pub idle_timeout: Duration,
    /// How long a thread sleeps after each hash, as a share of the core's time that the hash took.
    pub cooldown: f64,
}

pub(super) struct HashPool {
    queue: Sender<Job>,
    /// One permit for each thread and each place in the queue.
    permits: Arc<Semaphore>,
    queue_timeout: Duration,
    /// How many requests wait for a thread.
    waiting: Arc<AtomicUsize>,
    waits: HashWaits,
}

impl HashPool {
    /// # Errors
    /// When the system refuses to start a thread.
    pub(super) fn start(options: &PoolOptions, waits: HashWaits) -> io::Result<Self> {
        let &PoolOptions { threads, queue, queue_timeout, usual_memory_kib, idle_timeout, cooldown } = options;
        // The permits bound it.
        let (sender, receiver) = crossbeam_channel::unbounded();
        for number in 0..threads {
            let thread = HashThread { queue: receiver.clone(), usual_memory_kib, idle_timeout, cooldown };
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || thread.run())?;
        }
        let permits = Arc::new(Semaphore::new(threads + queue));
        Ok(Self { queue: sender, permits, queue_timeout, waiting: Arc::default(), waits })
    }

    /// Takes the permit for one hash. A request takes it before it does any other work, so that a refused request costs
    /// nothing.
    ///
    /// # Errors
    /// [`HashError::Overloaded`], at once, when there is none.
    pub(super) fn try_acquire(&self) -> Result<Permit, HashError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| HashError::Overloaded)?;
        Ok(Permit { _permit: permit, deadline: Instant::now() + self.queue_timeout })
    }

    /// Runs `hash` on one of the threads.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] when no thread was free in time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        permit: Permit,
        hash: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (sender, receiver) = oneshot::channel();
        let (deadline, queued_at) = (permit.deadline, Instant::now());
        let run = Box::new(move |worker: &mut Worker| {
            let wait = queued_at.elapsed();
            let result = hash(worker);
            // Before the result is sent: the client's next request must find the permit released.
            drop(permit);
            // The client may have disconnected; then the result is dropped.
            let _ = sender.send((wait, result));
        });
        let waiting = CancelOnDrop(JobState::new(&self.waiting));
        self.queue.send(Job { state: Arc::clone(&waiting.0), run }).map_err(|_| HashError::Panicked)?;
        let mut receiver = pin!(receiver);
        let result = match timeout_at(deadline, &mut receiver).await {
            Ok(result) => result,
            Err(_) if waiting.0.claim() => return Err(HashError::Overloaded),
            // A thread has begun: the result comes within one hash.
            Err(_) => receiver.await,
        };
        let (wait, result) = result.map_err(|_| HashError::Panicked)?;
        self.waits.note(wait);
        Ok(result)
    }

    /// How many requests wait for a thread.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Whether a job still waits. A hash thread claims it when it begins, or the request when it times out or its client
/// disconnects: the first one wins.
struct JobState {
    is_claimed: AtomicBool,
    waiting: Arc<AtomicUsize>,
}

impl JobState {
    /// A job that waits; it counts in `waiting` until it is claimed.
    fn new(waiting: &Arc<AtomicUsize>) -> Arc<Self> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { is_claimed: AtomicBool::new(false), waiting: Arc::clone(waiting) })
    }

    /// Whether this call is the first.
    fn claim(&self) -> bool {
        let is_first = !self.is_claimed.swap(true, Ordering::Relaxed);
        if is_first {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        is_first
    }
}

/// Cancels a job that still waits when its request ends.
struct CancelOnDrop(Arc<JobState>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.claim();
    }
}

struct HashThread {
    queue: Receiver<Job>,
    usual_memory_kib: usize,
    idle_timeout: Duration,
    cooldown: f64,
}

impl HashThread {
    /// Hashes until the pool is dropped.
    fn run(&self) {
        // For this thread alone, on Linux. Where the system refuses, hashing works all the same.
        let _ = setpriority_process(None, NICENESS);
        let _ = scheduler::set_time_slice(scheduler::LONGEST);
        let mut worker = Worker::default();
        while let Some(job) = self.next(&mut worker) {
            if !job.state.claim() {
                continue;
            }
            let before = time_on_core();
            // A panic fails one request. Without this it would end the thread, and later requests would wait for it.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| (job.run)(&mut worker)));
            worker.keep_at_most(self.usual_memory_kib);
            let cooldown = time_on_core().saturating_sub(before).mul_f64(self.cooldown);
            if !cooldown.is_zero() {
                thread::sleep(cooldown);
            }
        }
    }

    /// Waits for a job, and frees the memory when there is none in time; `None` when the pool was dropped.
    fn next(&self, worker: &mut Worker) -> Option<Job> {
        match self.queue.recv_timeout(self.idle_timeout) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                worker.keep_at_most(0);
                self.queue.recv().ok()
            }
        }
    }
}

/// How long this thread has run on a core.
fn time_on_core() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    impl HashPool {
        async fn run_now<T: Send + 'static>(
            &self,
            hash: impl FnOnce(&mut Worker) -> T + Send + 'static,
        ) -> Result<T, HashError> {
            self.run(self.try_acquire()?, hash).await
        }
    }

    const OPTIONS: PoolOptions = PoolOptions {
        threads: 1,
        queue: 8,
        queue_timeout: Duration::from_hours(1),
        usual_memory_kib: 64,
        idle_timeout: Duration::from_hours(1),
        cooldown: 0.0,
    };

    fn pool(options: &PoolOptions) -> Arc<HashPool> {
        Arc::new(HashPool::start(options, HashWaits::default()).unwrap())
    }

    /// A pool whose only thread is busy until the sender is dropped.
    async fn busy_pool(options: &PoolOptions) -> (Arc<HashPool>, mpsc::Sender<()>) {
        let pool = pool(options);
        let (release, held) = mpsc::channel::<()>();
        let (started, is_started) = oneshot::channel();
        let busy = Arc::clone(&pool);
        tokio::spawn(async move {
            busy.run_now(move |_| {
                let _ = started.send(());
                let _ = held.recv();
            })
            .await
        });
        is_started.await.unwrap();
        (pool, release)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (pool, release) = busy_pool(&PoolOptions { queue: 1, ..OPTIONS }).await;
        let waiting = Arc::clone(&pool);
        let waiting = tokio::spawn(async move { waiting.run_now(|_| 1).await });
        tokio::task::yield_now().await;
        assert_eq!(pool.run_now(|_| 2).await, Err(HashError::Overloaded));
        drop(release);
        assert_eq!(waiting.await.unwrap(), Ok(1));
    }

    #[tokio::test]
    async fn a_request_that_times_out_is_refused_and_not_hashed() {
        let (pool, release) = busy_pool(&PoolOptions { queue_timeout: Duration::from_secs(1), ..OPTIONS }).await;
        let hashed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hashed);
        assert_eq!(pool.run_now(move |_| count.fetch_add(1, Ordering::SeqCst)).await, Err(HashError::Overloaded));
        drop(release);
        assert_eq!(pool.run_now(|_| 3).await, Ok(3), "the thread continues");
        assert_eq!(hashed.load(Ordering::SeqCst), 0);
        assert_eq!(pool.waiting(), 0);
    }

    #[tokio::test]
    async fn a_request_whose_client_disconnects_is_not_hashed() {
        let (pool, release) = busy_pool(&OPTIONS).await;
        let hashed = Arc::new(AtomicUsize::new(0));
        let (count, disconnecting) = (Arc::clone(&hashed), Arc::clone(&pool));
        let disconnecting =
            tokio::spawn(async move { disconnecting.run_now(move |_| count.fetch_add(1, Ordering::SeqCst)).await });
        tokio::task::yield_now().await;
        disconnecting.abort();
        let _ = disconnecting.await;
        drop(release);
        assert_eq!(pool.run_now(|_| 4).await, Ok(4));
        assert_eq!(hashed.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_hash_keeps_its_permit_after_its_client_disconnects() {
        let pool = pool(&PoolOptions { queue: 0, ..OPTIONS });
        let (release, held) = mpsc::channel::<()>();
        let (started, is_started) = oneshot::channel();
        let disconnecting = Arc::clone(&pool);
        let disconnecting = tokio::spawn(async move {
            let hash = move |_: &mut Worker| {
                let _ = started.send(());
                let _ = held.recv();
            };
            disconnecting.run_now(hash).await
        });
        is_started.await.unwrap();
        disconnecting.abort();
        let _ = disconnecting.await;
        assert_eq!(pool.run_now(|_| 5).await, Err(HashError::Overloaded), "the thread still hashes");
        drop(release);
        let _permit = pool.permits.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_fails_one_request_and_not_the_thread() {
        let pool = pool(&OPTIONS);
        assert_eq!(pool.run_now(|_| -> u8 { panic!("on purpose") }).await, Err(HashError::Panicked));
        assert_eq!(pool.run_now(|_| 6).await, Ok(6));
        assert_eq!(pool.permits.available_permits(), 9);
    }

    /// Hashes with so much memory.
    fn hash_with(memory_kib: u64) -> impl FnOnce(&mut Worker) -> Vec<u8> {
        move |worker| {
            let params = Params::builder().memory(argon2_rust::params::Memory::kib(memory_kib)).build().unwrap();
            worker.hasher.set_argon2(Argon2::new(Algorithm::Argon2id, Version::V0x13, params));
            worker.hasher.hash(b"password", b"somesalt").unwrap()
        }
    }

    #[tokio::test]
    async fn a_thread_keeps_its_memory_but_not_that_of_an_unusually_large_hash() {
        let pool = pool(&OPTIONS);
        for (memory_kib, kept) in [(32, 32), (64, 64), (32, 64), (68, 0), (64, 64)] {
            pool.run_now(hash_with(memory_kib)).await.unwrap();
            assert_eq!(pool.run_now(|worker| worker.hasher.reserved_blocks()).await, Ok(kept), "{memory_kib} KiB");
        }
    }

    #[tokio::test]
    async fn an_idle_thread_frees_its_memory_and_allocates_it_again_for_the_next_hash() {
        let pool = pool(&PoolOptions { idle_timeout: Duration::from_millis(1), ..OPTIONS });
        let tag = pool.run_now(hash_with(64)).await.unwrap();
        let freed = async {
            while pool.run_now(|worker| worker.hasher.reserved_blocks()).await != Ok(0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the memory is freed");
        assert_eq!(pool.run_now(hash_with(64)).await, Ok(tag));
    }
}
