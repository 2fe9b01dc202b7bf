//! Log lines on their way to standard output.
//!
//! Each line waits in a bounded buffer for a thread that does nothing but write. An HTTP worker therefore never waits for
//! the reader of the log: while the reader stalls, or the disk behind it is full, lines are dropped and counted
//! (`signet_log_lines_dropped_total`), and requests and signals go on.

use std::{
    io::{self, BufWriter, Stdout, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines wait at most: some 2 MiB.
const BUFFERED_LINES: usize = 4096;

/// How long the end of the process waits for the lines that are left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Lines that found the buffer full.
static OVERFLOW: OnceLock<ErrorCounter> = OnceLock::new();
/// Lines that could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// How many log lines were dropped since the start of the process.
pub fn dropped_log_lines() -> u64 {
    let overflow = OVERFLOW.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + u64::try_from(overflow).unwrap_or(u64::MAX)
}

/// Writes what is left when it is dropped, for [`FLUSH_TIMEOUT`] at most.
pub struct LogFlush(Option<WorkerGuard>);

/// A writer that never blocks, and what flushes it at the end of the process.
pub fn non_blocking_stdout() -> (NonBlocking, LogFlush) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES).thread_name("log");
    let (writer, guard) = builder.finish(Counted(BufWriter::new(io::stdout())));
    OVERFLOW.get_or_init(|| writer.error_counter());
    (writer, LogFlush(Some(guard)))
}

impl Drop for LogFlush {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        // On a thread of its own: while the buffer is full, the guard of `tracing-appender` 0.2.5 prints to standard output
        // itself, and would wait for the reader that has stalled.
        let (flushed, wait) = mpsc::channel();
        let flush = move || {
            drop(guard);
            let _ = flushed.send(());
        };
        if thread::Builder::new().spawn(flush).is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Standard output that counts the lines which it could not take.
struct Counted(BufWriter<Stdout>);

impl Write for Counted {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
