//! How a hash lets others go first while it runs.
//!
//! Linux's scheduler (EEVDF) may pick a hash though the request that has just woken up asks for less: whoever has had its
//! share of the core is not eligible, and often that is a matter of microseconds. Nothing looks again before the next tick
//! of the clock, 4 ms later where there are 250 a second. So a hash asks it to look again, each 0.4 ms.

use rustix::time::{ClockId, clock_gettime};
use std::{thread, time::Duration};
use tokio::time::Instant;

/// After how many blocks of 1 KiB: 0.4 ms. To give way takes half a microsecond where nobody waits, and more in the middle
/// of a hash, which leaves nothing in the processor's caches: four times as often, it cost 3 % of the sign-ins.
const BLOCKS: usize = 2048;

/// A wait that is not worth looking at.
const SHORT: Duration = Duration::from_micros(100);

/// When a thread gives way: after every [`BLOCKS`], unless it was made to wait for it lately.
///
/// Whoever gives way forfeits what is left of its time slice (Linux 6.18), and a hash has a long one: beside cores that are
/// never free it would be paused for a second, each time. So whoever had to wait runs for just as long before it gives way
/// again. Without that a flood of cheap requests stops the sign-ins.
#[derive(Default)]
pub(super) struct GiveWay {
    blocks: usize,
    /// When it will have run for as long as it had to wait, in its own time on a core.
    even: Duration,
}

impl GiveWay {
    /// To be called after each block.
    #[inline]
    pub(super) fn block_done(&mut self) {
        self.blocks += 1;
        if self.blocks == BLOCKS {
            self.blocks = 0;
            self.run(time_on_a_core, wait);
        }
    }

    fn run(&mut self, time_on_a_core: impl Fn() -> Duration, wait: impl FnOnce() -> Duration) {
        if !self.even.is_zero() && time_on_a_core() < self.even {
            return;
        }
        let waited = wait();
        // To ask for the time takes as long as to give way.
        self.even = if waited > SHORT { time_on_a_core() + waited } else { Duration::ZERO };
    }
}

/// Lets the scheduler choose: for how long it chose others.
fn wait() -> Duration {
    let began = Instant::now();
    thread::yield_now();
    began.elapsed()
}

/// How long this thread has been running, waits not counted.
pub(super) fn time_on_a_core() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_waited_runs_for_as_long_before_it_gives_way_again() {
        let (mut give_way, times) = (GiveWay::default(), Cell::new(0));
        let mut at = |used, waits| {
            let wait = || {
                times.set(times.get() + 1);
                Duration::from_millis(waits)
            };
            give_way.run(|| Duration::from_millis(used), wait);
            times.get()
        };
        assert_eq!(at(10, 0), 1);
        assert_eq!(at(11, 0), 2, "nobody wanted the core");
        assert_eq!(at(12, 30), 3);
        assert_eq!(at(13, 0), 3, "it has waited for 30 ms");
        assert_eq!(at(41, 0), 3);
        assert_eq!(at(42, 0), 4, "and run for 30 ms");
        assert_eq!(at(43, 0), 5);
    }

    #[test]
    fn a_hash_gives_way_once_in_so_many_blocks() {
        let mut give_way = GiveWay::default();
        (1..BLOCKS).for_each(|_| give_way.block_done());
        assert_eq!(give_way.blocks, BLOCKS - 1);
        give_way.block_done();
        assert_eq!(give_way.blocks, 0);
    }
}
