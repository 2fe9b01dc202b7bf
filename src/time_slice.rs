//! How long a thread would run at a stretch.

use std::{io, time::Duration};

/// The shortest that can be asked for.
pub const SHORTEST: Duration = Duration::from_micros(100);

/// The longest that can be asked for.
pub const LONGEST: Duration = Duration::from_millis(100);

/// Asks Linux to run this thread, and those that it starts from now on, for `slice` at a stretch.
///
/// Everybody gets the same share of a core as before. But who asks for little and wakes up goes before who asks for much
/// and is running (the EEVDF scheduler, since Linux 6.12; before that it changes nothing).
///
/// # Errors
/// When the kernel does not allow it: in a sandbox that knows no `sched_setattr`.
#[cfg(target_os = "linux")]
pub fn ask_for(slice: Duration) -> io::Result<()> {
    use libc::{SCHED_FLAG_KEEP_POLICY, SYS_sched_setattr, sched_attr, syscall};
    use rustix::process::getpriority_process;
    let attributes = sched_attr {
        size: size_of::<sched_attr>().try_into().unwrap_or_default(),
        sched_policy: 0,
        sched_flags: SCHED_FLAG_KEEP_POLICY.try_into().unwrap_or_default(),
        // As it is: the call sets both.
        sched_nice: getpriority_process(None)?,
        sched_priority: 0,
        sched_runtime: slice.as_nanos().try_into().unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "no library has this system call for threads that are not of real time")]
    // SAFETY: the kernel reads `size` bytes from the pointer, which are there, and writes none; 0 is this thread.
    let failed = unsafe { syscall(SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Elsewhere there is nothing to ask for.
#[cfg(not(target_os = "linux"))]
pub fn ask_for(_: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn slice_of_this_thread() -> Option<f64> {
        // Where the kernel was built to tell, in nanoseconds; since 6.12.
        let told = fs::read_to_string("/proc/thread-self/sched").ok()?;
        told.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(':').next()?.trim().parse().ok())
    }

    #[test]
    fn a_thread_hands_its_wish_on() {
        let told = std::thread::spawn(|| {
            ask_for(Duration::from_millis(7)).ok()?;
            std::thread::spawn(slice_of_this_thread).join().unwrap()
        });
        let told = told.join().unwrap();
        assert!(told.is_none_or(|slice| (slice - 7e6).abs() < 1.0), "{told:?}");
    }
}
