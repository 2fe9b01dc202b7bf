//! The threads that hash passwords, and their bounded queue.
//!
//! A hash occupies a core and 19 MiB for several milliseconds. On the HTTP workers it would delay every other request;
//! on a growing pool of threads a flood of sign-ins would exhaust the memory. A request that finds no room in the queue
//! is refused at once.

use super::Hashing;
use crate::{domain::WeakPassword, os::scheduler, telemetry::HashWaits};
use argon2_rust::{Algorithm, Argon2, Hasher, Params, Version};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::{
    process::setpriority_process,
    time::{ClockId, clock_gettime},
};
use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// The niceness of a hash thread. At 3 it gets a third of a core that the other threads of the service keep busy:
/// neither a flood of sign-ins nor a flood of other requests starves the other. (At 10 it would get a tenth.) The time
/// slice decides how soon the other threads run.
const NICENESS: i32 = 3;

/// Why a password was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or no hash thread was free in time.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded,
    /// A new password that is easy to guess.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    #[error("hashing failed: {0}")]
    Argon2(#[from] argon2_rust::Error),
    #[error("hashing panicked")]
    Panicked,
}

/// The state of a hash thread.
pub(super) struct Worker {
    /// Keeps its memory between hashes.
    pub hasher: Hasher,
    /// The work of all hashes so far: KiB times passes.
    pub work: u64,
    /// The CPU time that a refused password usually takes, as a moving average.
    pub usual_time: Duration,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            hasher: Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT).hasher(),
            work: 0,
            usual_time: Duration::ZERO,
        }
    }
}

impl Worker {
    pub(super) fn note_time(&mut self, took: Duration) {
        self.usual_time = if self.usual_time.is_zero() { took } else { (self.usual_time * 7 + took) / 8 };
    }

    /// Frees the memory if it is more than this many KiB.
    fn keep_at_most(&mut self, memory_kib: u32) {
        if self.hasher.reserved_blocks() > memory_kib as usize {
            self.hasher.clear();
        }
    }
}

/// Room for one hash, in the queue or on a thread. It is released when the hash is done, even if the client disconnects
/// earlier: otherwise clients that disconnect could queue more hashes than the queue has room for.
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

/// Hashes and sends the result to the request, unless that request has ended.
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

pub(super) struct HashPool {
    queue: Sender<Job>,
    /// One permit for each thread and each place in the queue.
    permits: Arc<Semaphore>,
    queue_timeout: Duration,
    waits: HashWaits,
}

impl HashPool {
    pub(super) fn start(hashing: Hashing, idle_timeout: Duration, waits: HashWaits) -> io::Result<Self> {
        // The permits limit its length.
        let (queue, jobs) = crossbeam_channel::unbounded();
        for number in 0..hashing.threads {
            let thread = HashThread { jobs: jobs.clone(), hashing, idle_timeout };
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || thread.run())?;
        }
        let permits = Arc::new(Semaphore::new(hashing.threads + hashing.queue));
        Ok(Self { queue, permits, queue_timeout: hashing.queue_timeout, waits })
    }

    pub(super) fn has_room(&self) -> bool {
        self.permits.available_permits() > 0
    }

    pub(super) fn try_acquire(&self) -> Result<Permit, HashError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| HashError::Overloaded)?;
        Ok(Permit { _permit: permit, deadline: Instant::now() + self.queue_timeout })
    }

    /// Runs `hash` on one of the threads, if one is free in time.
    #[tracing::instrument(level = "debug", name = "hash", skip_all)]
    pub(super) async fn run<T: Send + 'static>(
        &self,
        permit: Permit,
        hash: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (deadline, queued_at) = (permit.deadline, Instant::now());
        let ((started, has_started), (sender, receiver)) = (oneshot::channel(), oneshot::channel());
        let job = move |worker: &mut Worker| {
            if started.send(queued_at.elapsed()).is_err() {
                // The request has timed out, or its client has disconnected.
                return;
            }
            let result = hash(worker);
            // Before the result is sent: the client's next request must find the permit released.
            drop(permit);
            let _ = sender.send(result);
        };
        self.queue.send(Box::new(job)).map_err(|_| HashError::Panicked)?;
        let wait = timeout_at(deadline, has_started).await.map_err(|_| HashError::Overloaded)?;
        self.waits.note(wait.map_err(|_| HashError::Panicked)?);
        // The hash has started, so its result needs no timeout.
        receiver.await.map_err(|_| HashError::Panicked)
    }

    /// How many requests wait for a thread.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

struct HashThread {
    jobs: Receiver<Job>,
    hashing: Hashing,
    idle_timeout: Duration,
}

impl HashThread {
    /// Hashes until the pool is dropped.
    fn run(&self) {
        // On Linux these apply to this thread only. Hashing also works where the system refuses them.
        let _ = setpriority_process(None, NICENESS);
        let _ = scheduler::set_time_slice(scheduler::LONGEST);
        let mut worker = Worker::default();
        while let Some(job) = self.next(&mut worker) {
            let before = cpu_time();
            // A panic fails one request. Without this it would end the thread, and later requests would wait for it.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| job(&mut worker)));
            worker.keep_at_most(self.hashing.memory_kib);
            let cooldown = cpu_time().saturating_sub(before).mul_f64(self.hashing.cooldown);
            if !cooldown.is_zero() {
                thread::sleep(cooldown);
            }
        }
    }

    /// Waits for a job, and frees the memory if none arrives within `idle_timeout`. `None` when the pool was dropped.
    fn next(&self, worker: &mut Worker) -> Option<Job> {
        match self.jobs.recv_timeout(self.idle_timeout) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                worker.keep_at_most(0);
                self.jobs.recv().ok()
            }
        }
    }
}

/// The CPU time of this thread.
pub(super) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    impl HashPool {
        async fn run_now<T: Send + 'static>(
            &self,
            hash: impl FnOnce(&mut Worker) -> T + Send + 'static,
        ) -> Result<T, HashError> {
            self.run(self.try_acquire()?, hash).await
        }
    }

    const HOUR: Duration = Duration::from_hours(1);

    const HASHING: Hashing = Hashing {
        memory_kib: 64,
        iterations: 1,
        parallelism: 1,
        max_memory_kib: 64,
        threads: 1,
        queue: 8,
        queue_timeout: HOUR,
        cooldown: 0.0,
    };

    fn pool(hashing: Hashing) -> Arc<HashPool> {
        Arc::new(HashPool::start(hashing, HOUR, HashWaits::default()).unwrap())
    }

    /// A pool whose only thread is busy until the sender is dropped.
    async fn busy_pool(hashing: Hashing) -> (Arc<HashPool>, mpsc::Sender<()>) {
        let pool = pool(hashing);
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
        let (pool, release) = busy_pool(Hashing { queue: 1, ..HASHING }).await;
        let waiting = Arc::clone(&pool);
        let waiting = tokio::spawn(async move { waiting.run_now(|_| 1).await });
        tokio::task::yield_now().await;
        assert_eq!(pool.run_now(|_| 2).await, Err(HashError::Overloaded));
        drop(release);
        assert_eq!(waiting.await.unwrap(), Ok(1));
    }

    #[tokio::test]
    async fn a_request_that_times_out_is_refused_and_not_hashed() {
        let (pool, release) = busy_pool(Hashing { queue_timeout: Duration::from_secs(1), ..HASHING }).await;
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
        let (pool, release) = busy_pool(HASHING).await;
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
        let pool = pool(Hashing { queue: 0, ..HASHING });
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
        let pool = pool(HASHING);
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
        let pool = pool(HASHING);
        for (memory_kib, kept) in [(32, 32), (64, 64), (32, 64), (68, 0), (64, 64)] {
            pool.run_now(hash_with(memory_kib)).await.unwrap();
            assert_eq!(pool.run_now(|worker| worker.hasher.reserved_blocks()).await, Ok(kept), "{memory_kib} KiB");
        }
    }

    #[tokio::test]
    async fn an_idle_thread_frees_its_memory_and_allocates_it_again_for_the_next_hash() {
        let pool = HashPool::start(HASHING, Duration::from_millis(1), HashWaits::default()).unwrap();
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
