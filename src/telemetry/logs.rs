//! Writes log lines to standard output.
//!
//! A separate thread writes them from a bounded buffer, so no HTTP worker waits for the reader of the log. When the reader
//! stalls or its disk is full, lines are dropped and counted (`signet_log_lines_dropped_total`).

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

/// The size of the buffer, in lines: about 2 MiB.
const BUFFERED_LINES: usize = 4096;

/// How long the process waits at exit for the remaining lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts lines that were dropped because the buffer was full.
static OVERFLOW: OnceLock<ErrorCounter> = OnceLock::new();
/// Counts lines that could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// How many log lines were dropped since the start of the process.
pub fn dropped_log_lines() -> u64 {
    let overflow = OVERFLOW.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + u64::try_from(overflow).unwrap_or(u64::MAX)
}

/// Writes the remaining lines when it is dropped, for at most [`FLUSH_TIMEOUT`].
pub struct LogFlush(Option<WorkerGuard>);

/// A writer that never blocks, and the guard that flushes it.
pub fn non_blocking_stdout() -> (NonBlocking, LogFlush) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES).thread_name("log");
    let (writer, guard) = builder.finish(Counted(BufWriter::new(io::stdout())));
    OVERFLOW.get_or_init(|| writer.error_counter());
    (writer, LogFlush(Some(guard)))
}

impl Drop for LogFlush {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        // On a separate thread: when the buffer is full, the guard of `tracing-appender` 0.2.5 prints to standard output
        // and blocks while the reader stalls.
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

/// Standard output. Counts the lines that could not be written.
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
