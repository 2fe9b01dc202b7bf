//! The memory that Argon2 fills.

use argon2::Block;

/// Blocks of 1 KiB that are used again from one hash to the next, in huge pages where the system has some.
///
/// A hash reads its blocks in no order. In pages of 4 KiB it depends on which ones the process happened to get how long
/// that takes, and two processes that run the same program side by side differ by some percent for as long as they live.
#[derive(Default)]
pub struct Memory(Vec<Block>);

impl Memory {
    /// So many blocks, with whatever the last hash left in them: Argon2 writes before it reads.
    pub fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            self.0.reserve_exact(count - self.0.len());
            // Before anything is written: a page has its size from then on.
            #[cfg(target_os = "linux")]
            huge_pages::ask_for(self.0.spare_capacity_mut());
            self.0.resize(count, Block::default());
        }
        &mut self.0[..count]
    }

    /// Gives back what is more than so many blocks.
    pub fn shrink_to(&mut self, count: usize) {
        if self.0.len() > count {
            self.0.truncate(count);
            self.0.shrink_to_fit();
        }
    }
}

#[cfg(target_os = "linux")]
mod huge_pages {
    use rustix::{
        mm::{Advice, madvise},
        param::page_size,
    };
    use std::mem::MaybeUninit;

    /// Asks Linux for huge pages. Where it has none to give, or does not want to, pages are of the usual size.
    pub(super) fn ask_for<T>(unused: &mut [MaybeUninit<T>]) {
        let start = unused.as_mut_ptr().cast::<u8>();
        let to_page = start.align_offset(page_size());
        let Some(size) = size_of_val(unused).checked_sub(to_page) else { return };
        #[expect(unsafe_code, reason = "advice may be such that memory loses what is in it")]
        // SAFETY: this advice changes nothing of what is in the memory, and all of it is ours from the start of its
        // first whole page on. What shares its last page with it may be in a huge page, too, and is not changed either.
        let _ = unsafe { madvise(start.wrapping_add(to_page).cast(), size, Advice::LinuxHugepage) };
    }
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
        assert_eq!(memory.blocks(64).as_ptr(), kept);
        memory.shrink_to(8);
        assert_eq!((memory.0.len(), memory.0.capacity()), (8, 8));
        assert_eq!(memory.blocks(16).len(), 16);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_in_huge_pages_where_there_are_some() {
        if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
            return;
        }
        let mut memory = Memory::default();
        let middle = memory.blocks(8192)[4096..].as_ptr().addr();
        // Each mapping begins with a line `from-to …`, in hexadecimal, and ends with one of its flags (proc_pid_smaps(5)).
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let is_ours = |line: &&str| {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let address = |text| usize::from_str_radix(text, 16).ok();
            range.is_some_and(|(from, to)| address(from) <= Some(middle) && Some(middle) < address(to))
        };
        let flags =
            mappings.lines().skip_while(|line| !is_ours(line)).find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.contains(" hg"), "{flags}");
    }
}
