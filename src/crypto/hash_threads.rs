//! The threads that hash passwords: few, with their memory kept, behind a bounded queue.
//!
//! Argon2 takes a core and 19 MiB for five milliseconds and more. On the HTTP workers it would hold up every other
//! request; on a growing pool of threads a flood of sign-ins would take all memory. What finds no place here is
//! told so at once.

use super::{
    Memory,
    give_way::{GiveWay, time_on_a_core},
};
use crate::{telemetry::HashWaits, time_slice};
use rustix::process::setpriority_process;
use std::{
    io,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// The niceness of a hash thread: at 3 it gets a third of a core that others of the service want all of, so that a flood of
/// sign-ins gives way to the rest, and a flood of the rest does not stop the sign-ins. (At 10 it would be a tenth, at 19 a
/// sixtieth.) How soon others run is decided by the [`time_slice`] and by [`GiveWay`], not by this.
const NICENESS: i32 = 3;

/// For how long an answer waits for others at most, as far as the next hash takes as long as the last; what is known to
/// take longer is not waited for ([`Scratch::give_answers`]).
///
/// A hash goes through 19 MiB and leaves nothing else in the processor's caches: storing the session and signing the
/// tokens takes twice as long then as right after another sign-in. So answers are given several at a time, while there is
/// more to hash.
const LONGEST_WAIT: Duration = Duration::from_millis(25);

/// Why nothing was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or nobody was free in time.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded,
    /// A fault of ours.
    #[error("hashing broke off")]
    BrokeOff,
}

/// What a thread keeps from one hash to the next.
#[derive(Default)]
pub(super) struct Scratch {
    pub memory: Memory,
    pub give_way: GiveWay,
    /// What was hashed so far: KiB times passes.
    pub work: u64,
    answers: Arc<Answers>,
}

impl Scratch {
    /// Lets no answer wait for what comes now: it takes longer than what was hashed before.
    pub(super) fn give_answers(&self) {
        self.answers.give();
    }
}

/// A place in the queue, or at a thread: whoever has one will be hashed, and it is free again when the hash is done, not
/// when nobody waits for it any more.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

/// Something to be hashed.
struct Job {
    place: Place,
    turn: Arc<Turn>,
    work: Box<dyn FnOnce(&mut Scratch) -> Answer + Send>,
}

/// Gives a result to the request that waits for it.
type Answer = Box<dyn FnOnce() + Send>;

/// Answers that wait for each other. No thread waits for work before it has given them.
#[derive(Default)]
struct Answers(Mutex<Vec<(Instant, Answer)>>);

impl Answers {
    /// Takes an answer, and gives all unless the oldest can wait until `next`, when there may be one more.
    fn add(&self, answer: Answer, now: Instant, next: Option<Instant>) {
        let mut answers = self.lock();
        answers.push((now, answer));
        let oldest = answers[0].0;
        drop(answers);
        if next.is_none_or(|next| next > oldest + LONGEST_WAIT) {
            self.give();
        }
    }

    /// Gives all that wait.
    fn give(&self) {
        let all = std::mem::take(&mut *self.lock());
        for (_, answer) in all {
            answer();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Answer)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What threads there are.
pub(super) struct Threads {
    pub count: usize,
    /// How many KiB each keeps from the first hash on.
    pub usual_blocks: usize,
    /// For how long each rests after a hash, as a share of what the hash took.
    pub rest: f64,
}

pub(super) struct HashThreads {
    queue: mpsc::Sender<Job>,
    /// As many as may wait, and as many as are hashed.
    places: Arc<Semaphore>,
    queue_timeout: Duration,
    /// How many wait.
    waiting: Arc<AtomicUsize>,
    waits: HashWaits,
}

impl HashThreads {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        &Threads { count, usual_blocks, rest }: &Threads,
        queue: usize,
        queue_timeout: Duration,
        waits: HashWaits,
    ) -> io::Result<Self> {
        // Unbounded, because nobody comes without a place.
        let (sender, receiver) = mpsc::channel::<Job>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = HashThread {
            queue: Arc::new(Mutex::new(receiver)),
            waiting: Arc::clone(&waiting),
            answers: Arc::default(),
            usual_blocks,
            rest,
        };
        for number in 0..count {
            let thread = thread.clone();
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || thread.run())?;
        }
        let places = Arc::new(Semaphore::new(count + queue));
        Ok(Self { queue: sender, places, queue_timeout, waiting, waits })
    }

    /// Takes a place: before anything else is done for a request that would be refused in the end.
    ///
    /// # Errors
    /// [`HashError::Overloaded`], at once, when there is none.
    pub(super) fn place(&self) -> Result<Place, HashError> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| HashError::Overloaded)?;
        Ok(Place { _permit: permit, deadline: Instant::now() + self.queue_timeout })
    }

    /// Runs `work` on one of the threads.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] when no thread was free in time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (done, result) = oneshot::channel();
        let since = Instant::now();
        let work = Box::new(move |scratch: &mut Scratch| {
            let wait = since.elapsed();
            let result = work(scratch);
            // Nobody may be listening by then; the hash was made all the same, so that its time tells nothing.
            Box::new(move || drop(done.send((wait, result)))) as Answer
        });
        let deadline = place.deadline;
        let waiting = Waiting(Turn::wait(&self.waiting));
        self.queue.send(Job { place, turn: Arc::clone(&waiting.0), work }).map_err(|_| HashError::BrokeOff)?;
        let mut result = pin!(result);
        let result = match timeout_at(deadline, &mut result).await {
            Ok(result) => result,
            Err(_) if waiting.0.take() => return Err(HashError::Overloaded),
            // It has begun: what a thread is at is worth waiting for.
            Err(_) => result.await,
        };
        let (wait, result) = result.map_err(|_| HashError::BrokeOff)?;
        self.waits.note(wait);
        Ok(result)
    }

    /// How many wait for a thread.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// What a thread works with.
#[derive(Clone)]
struct HashThread {
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    waiting: Arc<AtomicUsize>,
    answers: Arc<Answers>,
    usual_blocks: usize,
    rest: f64,
}

impl HashThread {
    /// Hashes until nobody can come any more.
    fn run(&self) {
        // Of this thread alone, on Linux. Where it cannot be so, work goes on as it is.
        let _ = setpriority_process(None, NICENESS);
        let _ = time_slice::ask_for(time_slice::LONGEST);
        let mut scratch = Scratch { answers: Arc::clone(&self.answers), ..Scratch::default() };
        while let Some(Job { place, turn, work }) = self.next() {
            if !turn.take() {
                continue;
            }
            let (began, used) = (Instant::now(), time_on_a_core());
            // A panic ends one request, not the thread: the others would wait for it for ever.
            let answer = panic::catch_unwind(AssertUnwindSafe(|| work(&mut scratch)));
            scratch.memory.keep_at_most(self.usual_blocks);
            drop(place);
            let rest = time_on_a_core().saturating_sub(used).mul_f64(self.rest);
            if let Ok(answer) = answer {
                let now = Instant::now();
                let is_more_to_do = self.waiting.load(Ordering::Relaxed) > 0;
                self.answers.add(answer, now, is_more_to_do.then(|| now + rest + (now - began)));
            }
            if !rest.is_zero() {
                thread::sleep(rest);
            }
        }
    }

    /// Waits for something to hash; `None` when there will be nothing any more.
    fn next(&self) -> Option<Job> {
        // The lock is held while waiting, and given back before hashing. Where it is not free, another thread waits.
        let at_once = self.queue.try_lock().ok().and_then(|queue| queue.try_recv().ok());
        at_once.or_else(|| {
            self.answers.give();
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
        })
    }
}

/// One turn at a thread. A thread takes it when it begins, or the caller when it gives up before that: whoever is first.
struct Turn {
    taken: AtomicBool,
    waiting: Arc<AtomicUsize>,
}

impl Turn {
    /// Begins to wait: one more in `waiting`.
    fn wait(waiting: &Arc<AtomicUsize>) -> Arc<Self> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { taken: AtomicBool::new(false), waiting: Arc::clone(waiting) })
    }

    /// Whether it was there to be taken.
    fn take(&self) -> bool {
        let is_first = !self.taken.swap(true, Ordering::Relaxed);
        if is_first {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        is_first
    }
}

/// A caller, until it hears the result, has waited too long or hangs up.
struct Waiting(Arc<Turn>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Scratch {
        /// As if this answer were waiting for others.
        pub(in crate::crypto) fn keep(&self, answer: impl FnOnce() + Send + 'static) {
            self.answers.lock().push((Instant::now(), Box::new(answer)));
        }
    }

    impl HashThreads {
        async fn now<T: Send + 'static>(
            &self,
            work: impl FnOnce(&mut Scratch) -> T + Send + 'static,
        ) -> Result<T, HashError> {
            self.run(self.place()?, work).await
        }
    }

    const ONE: Threads = Threads { count: 1, usual_blocks: 8, rest: 0.0 };

    /// One thread that is busy until the sender is dropped.
    async fn busy(queue: usize, queue_timeout: Duration) -> (Arc<HashThreads>, mpsc::Sender<()>) {
        let threads = Arc::new(HashThreads::start(&ONE, queue, queue_timeout, HashWaits::default()).unwrap());
        let (release, held) = mpsc::channel::<()>();
        let (started, is_started) = oneshot::channel();
        let busy = Arc::clone(&threads);
        tokio::spawn(async move {
            busy.now(move |_| {
                let _ = started.send(());
                let _ = held.recv();
            })
            .await
        });
        is_started.await.unwrap();
        (threads, release)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (threads, release) = busy(1, Duration::from_hours(1)).await;
        let waiting = Arc::clone(&threads);
        let waiting = tokio::spawn(async move { waiting.now(|_| 1).await });
        tokio::task::yield_now().await;
        assert_eq!(threads.now(|_| 2).await, Err(HashError::Overloaded));
        drop(release);
        assert_eq!(waiting.await.unwrap(), Ok(1));
    }

    #[tokio::test]
    async fn who_waited_too_long_is_refused_and_never_hashed() {
        let (threads, release) = busy(8, Duration::from_secs(1)).await;
        let hashed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hashed);
        assert_eq!(threads.now(move |_| count.fetch_add(1, Ordering::SeqCst)).await, Err(HashError::Overloaded));
        drop(release);
        assert_eq!(threads.now(|_| 3).await, Ok(3), "the thread goes on");
        assert_eq!(hashed.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn who_hung_up_is_not_hashed() {
        let (threads, release) = busy(8, Duration::from_hours(1)).await;
        let hashed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hashed);
        let gone = Arc::clone(&threads);
        let gone = tokio::spawn(async move { gone.now(move |_| count.fetch_add(1, Ordering::SeqCst)).await });
        tokio::task::yield_now().await;
        gone.abort();
        let _ = gone.await;
        drop(release);
        assert_eq!(threads.now(|_| 4).await, Ok(4));
        assert_eq!(hashed.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_not_the_thread() {
        let threads = HashThreads::start(&ONE, 8, Duration::from_hours(1), HashWaits::default()).unwrap();
        assert_eq!(threads.now(|_| -> u8 { panic!("on purpose") }).await, Err(HashError::BrokeOff));
        assert_eq!(threads.now(|_| 5).await, Ok(5));
    }

    #[tokio::test]
    async fn nobody_waits_for_the_answer_to_who_gave_up() {
        let threads = HashThreads::start(&ONE, 8, Duration::from_hours(1), HashWaits::default()).unwrap();
        // As it looks to a thread that ends a hash just before the next in the queue gives up.
        threads.waiting.fetch_add(1, Ordering::Relaxed);
        assert_eq!(threads.now(|_| 6).await, Ok(6));
    }

    #[tokio::test]
    async fn no_answer_waits_for_what_takes_longer() {
        let (threads, release) = busy(8, Duration::from_hours(1)).await;
        let (first_is_answered, held) = mpsc::channel::<()>();
        let longer = move |scratch: &mut Scratch| {
            scratch.give_answers();
            held.recv_timeout(Duration::from_secs(10)) == Err(mpsc::RecvTimeoutError::Disconnected)
        };
        let first = async {
            let seven = threads.now(|_| 7).await;
            drop(first_is_answered);
            seven
        };
        // Both are in the queue before the thread is free.
        let (seven, was_answered, ()) = tokio::join!(first, threads.now(longer), async { drop(release) });
        assert_eq!((seven, was_answered), (Ok(7), Ok(true)));
    }

    #[test]
    fn answers_are_given_together_and_none_waits_for_long() {
        let answers = Answers::default();
        let given = Arc::new(Mutex::new(Vec::new()));
        let answer = |number| {
            let given = Arc::clone(&given);
            Box::new(move || given.lock().unwrap().push(number))
        };
        let start = Instant::now();
        let after = |share: f64| start + LONGEST_WAIT.mul_f64(share);
        answers.add(answer(1), start, Some(after(0.4)));
        answers.add(answer(2), after(0.4), Some(after(0.8)));
        assert!(given.lock().unwrap().is_empty(), "there is time for another");
        answers.add(answer(3), after(0.8), Some(after(1.2)));
        assert_eq!(*given.lock().unwrap(), [1, 2, 3], "the first cannot wait for the fourth");
        answers.add(answer(4), after(2.0), Some(after(4.0)));
        assert_eq!(given.lock().unwrap().len(), 4, "hashes take long");
        answers.add(answer(5), after(4.0), None);
        assert_eq!(given.lock().unwrap().len(), 5, "nobody else waits");
    }
}
