//! The time slice of a thread.

use std::{io, time::Duration};

/// The shortest time slice that Linux accepts.
pub const SHORTEST: Duration = Duration::from_micros(100);

/// The longest time slice that Linux accepts.
pub const LONGEST: Duration = Duration::from_millis(100);

/// Sets the time slice of this thread, and of the threads that it starts afterwards.
///
/// The thread's share of a core stays the same. A thread with a short slice that wakes up preempts a thread with a long
/// one (the EEVDF scheduler, since Linux 6.12; older kernels ignore the slice).
///
/// # Errors
/// When the kernel refuses it, as in a sandbox without `sched_setattr`.
#[cfg(target_os = "linux")]
pub fn set_time_slice(slice: Duration) -> io::Result<()> {
    use libc::{SCHED_FLAG_KEEP_POLICY, SYS_sched_setattr, sched_attr, syscall};
    use rustix::process::getpriority_process;
    let attributes = sched_attr {
        size: size_of::<sched_attr>().try_into().unwrap_or_default(),
        sched_policy: 0,
        sched_flags: SCHED_FLAG_KEEP_POLICY.try_into().unwrap_or_default(),
        // Unchanged: the call also sets the niceness.
        sched_nice: getpriority_process(None)?,
        sched_priority: 0,
        sched_runtime: slice.as_nanos().try_into().unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "no library offers this system call for threads without real-time priority")]
    // SAFETY: the kernel reads `size` bytes from the pointer, which are valid, and writes nothing; 0 is this thread.
    let failed = unsafe { syscall(SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Other systems have no such setting.
#[cfg(not(target_os = "linux"))]
pub fn set_time_slice(_: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn slice_of_this_thread() -> Option<f64> {
        // In nanoseconds, since Linux 6.12, where the kernel was built with CONFIG_SCHED_DEBUG.
        let text = fs::read_to_string("/proc/thread-self/sched").ok()?;
        text.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(':').next()?.trim().parse().ok())
    }

    #[test]
    fn a_thread_inherits_the_time_slice_of_the_thread_that_started_it() {
        let slice = std::thread::spawn(|| {
            set_time_slice(Duration::from_millis(7)).ok()?;
            std::thread::spawn(slice_of_this_thread).join().unwrap()
        });
        let slice = slice.join().unwrap();
        assert!(slice.is_none_or(|slice| (slice - 7e6).abs() < 1.0), "{slice:?}");
    }
}
