//! The memory that Argon2 fills.

use argon2::Block;
use memmap2::MmapMut;
use std::slice;

/// In bytes, on most processors.
const HUGE_PAGE: usize = 2 * 1024 * 1024;

/// Blocks of 1 KiB that are used again from one hash to the next, in huge pages where the system has some.
///
/// A hash reads its blocks in no order. In pages of 4 KiB it depends on which ones the process happened to get how long
/// that takes, and two processes that run the same program side by side differ by some percent for as long as they live.
///
/// Straight from the system: what is given back to an allocator may stay with the process.
#[derive(Default)]
pub struct Memory(Option<MmapMut>);

impl Memory {
    /// So many blocks, with whatever the last hash left in them: Argon2 writes before it reads.
    ///
    /// # Panics
    /// When the system has no memory left.
    pub fn blocks(&mut self, count: usize) -> &mut [Block] {
        let size = size(count);
        // Before there is more: nobody reckons with both at once.
        self.0.take_if(|memory| memory.len() < size);
        let start = self.0.get_or_insert_with(|| map(size)).as_mut_ptr().cast();
        #[expect(unsafe_code, reason = "bytes are looked at as blocks")]
        // SAFETY: there are at least so many bytes, zeroes or what was written through this very slice; they begin with a
        // page, a block is 128 numbers, any bits are numbers, and nobody else has the memory for as long as `self` is
        // borrowed.
        unsafe {
            slice::from_raw_parts_mut(start, count)
        }
    }

    /// Gives all back when it is more than so many blocks.
    pub fn keep_at_most(&mut self, count: usize) {
        self.0.take_if(|memory| memory.len() > size(count));
    }
}

/// How many bytes so many blocks take: whole huge pages, because from 6.13 on Linux lets no other mapping begin with one.
fn size(count: usize) -> usize {
    let bytes = count * Block::SIZE;
    if bytes < HUGE_PAGE { bytes } else { bytes.next_multiple_of(HUGE_PAGE) }
}

fn map(size: usize) -> MmapMut {
    #[expect(clippy::expect_used, reason = "without memory there is no hash, and this ends one request")]
    let memory = MmapMut::map_anon(size).expect("memory for a hash");
    // Where Linux has no huge pages to give, or does not want to, pages are of the usual size.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_given_back() {
        let mut memory = Memory::default();
        assert_eq!(memory.blocks(64).len(), 64);
        let kept = memory.blocks(64).as_ptr();
        assert_eq!(memory.blocks(4).len(), 4, "less than there is is a part of it");
        memory.keep_at_most(64);
        assert_eq!(memory.blocks(64).as_ptr(), kept);
        memory.keep_at_most(63);
        assert!(memory.0.is_none());
        assert_eq!(memory.blocks(16).len(), 16);
        assert_eq!(memory.blocks(17).len(), 17);
        // In whole huge pages.
        assert_eq!(memory.blocks(2049).len(), 2049);
        memory.keep_at_most(2049);
        assert_eq!(memory.0.as_ref().map(|memory| memory.len()), Some(2 * HUGE_PAGE));
        memory.keep_at_most(2048);
        assert!(memory.0.is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_in_huge_pages_where_there_are_some() {
        if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
            return;
        }
        let mut memory = Memory::default();
        for (count, what) in [(4096, "the first"), (8192, "when there is more"), (2048, "when it was given back")] {
            let flags = flags(memory.blocks(count)[count / 2..].as_ptr().addr());
            assert!(flags.contains(" hg"), "{what}: {flags}");
            memory.keep_at_most(4096);
        }
    }

    /// Of the mapping that an address lies in: each begins with a line `from-to …`, in hexadecimal, and ends with one of
    /// its flags (`proc_pid_smaps(5)`).
    #[cfg(target_os = "linux")]
    fn flags(address: usize) -> String {
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let is_it = |line: &&str| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).ok();
            range.is_some_and(|(from, to)| number(from) <= Some(address) && Some(address) < number(to))
        };
        let flags = mappings.lines().skip_while(|line| !is_it(line)).find(|line| line.starts_with("VmFlags:"));
        flags.unwrap().to_owned()
    }
}
