//! Argon2id (RFC 9106) as passwords use it: no secret, nothing associated, a tag of 32 bytes.
//!
//! The `argon2` crate is the reference and the fallback. On a processor with wide vector instructions the memory is
//! filled by [`super::argon2_kernel`], in a third to a half of the time: that is nearly all of the work. What is here
//! is the rest of the algorithm around it. [`Argon2id::choose`] compares with the reference before anything is hashed.

#[cfg(target_arch = "x86_64")]
use super::argon2_kernel::{Step, Vectors};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// The length of a tag, in bytes.
pub const TAG: usize = Params::DEFAULT_OUTPUT_LEN;

/// The code that fills the memory, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Registers of 512 bits.
    Avx512,
    /// Registers of 256 bits.
    Avx2,
    /// The `argon2` crate.
    Portable,
}

impl Kernel {
    /// The quickest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name)
    }
}

/// Argon2id with one of its kernels.
#[derive(Debug, Clone, Copy)]
pub struct Argon2id {
    kernel: Kernel,
    /// `None` for the `argon2` crate.
    #[cfg(target_arch = "x86_64")]
    vectors: Option<Vectors>,
}

impl Argon2id {
    /// The `argon2` crate.
    pub const REFERENCE: Self = Self {
        kernel: Kernel::Portable,
        #[cfg(target_arch = "x86_64")]
        vectors: None,
    };

    /// `None` when this processor does not have what the kernel needs.
    pub fn with(kernel: Kernel) -> Option<Self> {
        match kernel {
            Kernel::Portable => Some(Self::REFERENCE),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => Vectors::avx512().map(|vectors| Self { kernel, vectors: Some(vectors) }),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Vectors::avx2().map(|vectors| Self { kernel, vectors: Some(vectors) }),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }

    /// The kernel that is wanted, or else the quickest that this processor has, if it gives what the reference gives.
    /// Where it does not, that is said, and the next one is tried.
    pub fn choose(wanted: Option<Kernel>) -> Self {
        // In a build without optimisation only the crate is compiled with it.
        let wanted = wanted.or(cfg!(debug_assertions).then_some(Kernel::Portable));
        let tried = Kernel::ALL.into_iter().skip_while(|kernel| wanted.is_some_and(|wanted| wanted != *kernel));
        let mut there = tried.filter_map(Self::with);
        there.find(|argon2id| argon2id.agrees_with_the_reference()).unwrap_or(Self::REFERENCE)
    }

    fn agrees_with_the_reference(self) -> bool {
        // A part of a pass over 1024 KiB has more than one block of addresses.
        let agrees = [(1, 1, 1024), (2, 2, 256), (3, 4, 96)].into_iter().all(|(t_cost, lanes, memory_kib)| {
            let Ok(params) = Params::new(memory_kib, t_cost, lanes, Some(TAG)) else { return false };
            let mut memory = vec![Block::new(); params.block_count()];
            let mut tag = |argon2id: Self| argon2id.hash(&params, b"password", b"somesalt", &mut memory, || ());
            tag(self) == tag(Self::REFERENCE)
        });
        if !agrees {
            tracing::error!(kernel = self.kernel.name(), "gives other hashes than the reference here, and is not used");
        }
        agrees
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The tag of a password. `memory` has at least `params.block_count()` blocks, whatever is in them. `after_block` is
    /// called each time one is filled, but by the `argon2` crate never.
    ///
    /// # Panics
    /// When the memory is too short, or the salt is (8 bytes).
    pub fn hash(
        &self,
        params: &Params,
        password: &[u8],
        salt: &[u8],
        memory: &mut [Block],
        after_block: impl FnMut(),
    ) -> [u8; TAG] {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = self.vectors {
            let h0 = vectorised::initial_hash(params, [password, salt, &[], &[]]);
            return vectorised::tag(vectors, params, &h0, memory, after_block);
        }
        let mut tag = [0; TAG];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        #[expect(clippy::expect_used, reason = "the caller has checked the sizes")]
        argon2.hash_password_into_with_memory(password, salt, &mut tag, memory).expect("sizes that Argon2 takes");
        tag
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(clippy::cast_possible_truncation, reason = "lengths and numbers that RFC 9106 writes in 32 bits")]
mod vectorised {
    use super::{Algorithm, Block, Params, Step, TAG, Vectors, Version};
    use blake2::{Blake2b256, Blake2b512, Digest};

    /// Each pass over a lane is done in so many parts (RFC 9106 §3.4).
    const SLICES: usize = 4;
    /// How many words of 64 bits a block has.
    const WORDS: usize = 128;

    /// What comes after [`initial_hash`].
    pub(super) fn tag(
        vectors: Vectors,
        params: &Params,
        h0: &[u8; 64],
        memory: &mut [Block],
        mut after_block: impl FnMut(),
    ) -> [u8; TAG] {
        let lanes = params.p_cost() as usize;
        let lane_length = params.block_count() / lanes;
        let memory = &mut memory[..params.block_count()];
        for (number, lane) in (0_u32..).zip(memory.chunks_exact_mut(lane_length)) {
            for (place, block) in (0_u32..).zip(&mut lane[..2]) {
                arrange(&long_hash(h0, place, number), block);
            }
        }
        for pass in 0..params.t_cost() as usize {
            for slice in 0..SLICES {
                for lane in 0..lanes {
                    fill(vectors, memory, params, &Position { pass, slice, lane }, &mut after_block);
                }
            }
        }
        let mut last = [0; WORDS];
        for lane in memory.chunks_exact(lane_length) {
            let block = lane[lane_length - 1].as_ref();
            last.iter_mut().enumerate().for_each(|(word, sum)| *sum ^= block[place(word)]);
        }
        let mut hash = Blake2b256::new_with_prefix((TAG as u32).to_le_bytes());
        for word in last {
            hash.update(word.to_le_bytes());
        }
        hash.finalize().into()
    }

    /// `H0` of RFC 9106 §3.2, of password, salt, secret and associated data.
    pub(super) fn initial_hash(params: &Params, inputs: [&[u8]; 4]) -> [u8; 64] {
        let mut hash = Blake2b512::new();
        let version = Version::V0x13 as u32;
        for number in
            [params.p_cost(), TAG as u32, params.m_cost(), params.t_cost(), version, Algorithm::Argon2id as u32]
        {
            hash.update(number.to_le_bytes());
        }
        for bytes in inputs {
            hash.update((bytes.len() as u32).to_le_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    /// `H'` of RFC 9106 §3.3 for a whole block: the one at this place of this lane.
    fn long_hash(h0: &[u8; 64], place: u32, lane: u32) -> [u8; Block::SIZE] {
        let mut bytes = [0; Block::SIZE];
        let first = Blake2b512::new_with_prefix((Block::SIZE as u32).to_le_bytes());
        let mut part: [u8; 64] =
            first.chain_update(h0).chain_update(place.to_le_bytes()).chain_update(lane.to_le_bytes()).finalize().into();
        // Of each hash the first half, of the last one all.
        for start in (0..Block::SIZE - 64).step_by(32) {
            bytes[start..start + 32].copy_from_slice(&part[..32]);
            part = Blake2b512::digest(part).into();
        }
        bytes[Block::SIZE - 64..].copy_from_slice(&part);
        bytes
    }

    /// Where a word of a block is kept.
    const fn place(word: usize) -> usize {
        let (row, column, half) = (word / 16, word / 2 % 8, word % 2);
        (row / 2 * 8 + column) * 4 + row % 2 * 2 + half
    }

    fn arrange(bytes: &[u8; Block::SIZE], block: &mut Block) {
        let block = block.as_mut();
        for (number, word) in bytes.as_chunks().0.iter().enumerate() {
            block[place(number)] = u64::from_le_bytes(*word);
        }
    }

    /// A part of a pass: a quarter of one lane.
    struct Position {
        pass: usize,
        slice: usize,
        lane: usize,
    }

    /// Fills one segment (RFC 9106 §3.4).
    fn fill(
        vectors: Vectors,
        memory: &mut [Block],
        params: &Params,
        position: &Position,
        after_block: &mut impl FnMut(),
    ) {
        let &Position { pass, slice, lane } = position;
        let lanes = params.p_cost() as usize;
        let lane_length = memory.len() / lanes;
        let segment_length = lane_length / SLICES;
        let first = if pass == 0 && slice == 0 { 2 } else { 0 };
        let mut addresses = (pass == 0 && slice < SLICES / 2).then(|| Addresses::new(memory.len(), params, position));
        // The block that `random` picks as the other one for a block of this segment (RFC 9106 §3.4.2).
        let reference = |random: u64, number: usize| {
            let other = if lanes == 1 || pass == 0 && slice == 0 { lane } else { (random >> 32) as usize % lanes };
            let finished = if pass == 0 { slice * segment_length } else { lane_length - segment_length };
            let area = if other == lane { finished + number - 1 } else { finished - usize::from(number == 0) };
            let x = ((random & 0xffff_ffff) * (random & 0xffff_ffff)) >> 32;
            let back = ((area as u64 * x) >> 32) as usize;
            let oldest = if pass == 0 || slice == SLICES - 1 { 0 } else { (slice + 1) * segment_length };
            let index = oldest + area - 1 - back;
            other * lane_length + if index < lane_length { index } else { index - lane_length }
        };
        let start = lane * lane_length + slice * segment_length;
        let before =
            |current: usize| if current == lane * lane_length { current + lane_length - 1 } else { current - 1 };
        let mut random = match &mut addresses {
            Some(addresses) => addresses.get(vectors, first),
            None => memory[before(start + first)].as_ref()[0],
        };
        let base = memory.as_ptr();
        for number in first..segment_length {
            let current = start + number;
            let picked = reference(random, number);
            // A block is never made of itself, nor twice of the same one.
            #[expect(clippy::expect_used, reason = "three different blocks, as the RFC has it")]
            let [to, previous, other] =
                memory.get_disjoint_mut([current, before(current), picked]).expect("three different blocks");
            let step = Step { to, previous, other, adds: pass > 0 };
            let is_last = number + 1 == segment_length;
            match &mut addresses {
                Some(addresses) => {
                    random = if is_last { 0 } else { addresses.get(vectors, number + 1) };
                    let next = if is_last { current } else { reference(random, number + 1) };
                    step.run(vectors, |_| base.wrapping_add(next));
                }
                None => {
                    // It is known which block comes next while most of this one is still to be done.
                    step.run(vectors, |first_word| {
                        random = first_word;
                        base.wrapping_add(if is_last { current } else { reference(first_word, number + 1) })
                    });
                }
            }
            after_block();
        }
    }

    /// The numbers of a segment whose choice of blocks depends on no secret (RFC 9106 §3.4.1.2).
    struct Addresses {
        input: Block,
        numbers: Block,
    }

    impl Addresses {
        fn new(blocks: usize, params: &Params, position: &Position) -> Self {
            let mut input = Block::new();
            let &Position { pass, slice, lane } = position;
            let words = [pass, lane, slice, blocks, params.t_cost() as usize, Algorithm::Argon2id as usize];
            for (number, word) in words.into_iter().enumerate() {
                input.as_mut()[place(number)] = word as u64;
            }
            Self { input, numbers: Block::new() }
        }

        /// The number for a block of the segment; asked for one after the other.
        fn get(&mut self, vectors: Vectors, number: usize) -> u64 {
            if number.is_multiple_of(WORDS) || self.input.as_ref()[place(6)] == 0 {
                self.input.as_mut()[place(6)] += 1;
                let zero = Block::new();
                let mut once = Block::new();
                let mut twice = Block::new();
                let nothing = |_| std::ptr::null();
                Step { to: &mut once, previous: &zero, other: &self.input, adds: false }.run(vectors, nothing);
                Step { to: &mut twice, previous: &zero, other: &once, adds: false }.run(vectors, nothing);
                self.numbers = twice;
            }
            self.numbers.as_ref()[place(number % WORDS)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, test_runner::TestRunner};

    /// Each kernel that this processor has, but for the reference.
    fn kernels() -> impl Iterator<Item = Argon2id> {
        Kernel::ALL.into_iter().filter(|kernel| *kernel != Kernel::Portable).filter_map(Argon2id::with)
    }

    /// RFC 9106 §5.3, with the secret and the associated data that only the test vector has.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_vector_of_the_rfc_comes_out() {
        const EXPECTED: [u8; TAG] = [
            0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53, 0xc9, 0xd0, 0x1e,
            0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01, 0xe6, 0x59,
        ];
        let params = Params::new(32, 3, 4, Some(TAG)).unwrap();
        let h0 = vectorised::initial_hash(&params, [&[1; 32], &[2; 16], &[3; 8], &[4; 12]]);
        for argon2id in kernels() {
            let mut memory = vec![Block::new(); 32];
            let tag = vectorised::tag(argon2id.vectors.unwrap(), &params, &h0, &mut memory, || ());
            assert_eq!(tag, EXPECTED, "{}", argon2id.kernel.name());
        }
    }

    /// Whatever the parameters and the inputs, and whatever was in the memory before.
    #[test]
    fn every_kernel_gives_what_the_reference_gives() {
        let inputs = (1_u32..=4, 1_u32..=4, 0_u32..60, any::<Vec<u8>>(), prop::collection::vec(any::<u8>(), 8..40));
        let mut memory = vec![Block::new(); 8 * 4 + 60];
        for argon2id in kernels() {
            let mut runner = TestRunner::new(ProptestConfig { cases: 1500, ..ProptestConfig::default() });
            let memory = std::cell::RefCell::new(&mut memory);
            let result = runner.run(&inputs, |(t_cost, lanes, more, password, salt)| {
                let params = Params::new(8 * lanes + more, t_cost, lanes, Some(TAG)).unwrap();
                let tag =
                    |argon2id: Argon2id| argon2id.hash(&params, &password, &salt, &mut memory.borrow_mut(), || ());
                prop_assert_eq!(tag(argon2id), tag(Argon2id::REFERENCE));
                Ok(())
            });
            result.unwrap_or_else(|failure| panic!("{}: {failure}", argon2id.kernel.name()));
        }
        println!("kernels against the reference: {}", kernels().count());
    }

    /// As large as in production: every part of every pass has more than one block of addresses.
    #[test]
    fn every_kernel_agrees_at_the_cost_of_production() {
        let params = Params::new(19_456, 2, 1, Some(TAG)).unwrap();
        let mut memory = vec![Block::new(); params.block_count()];
        let mut tag = |argon2id: Argon2id| argon2id.hash(&params, b"correct horse", &[7; 16], &mut memory, || ());
        let expected = tag(Argon2id::REFERENCE);
        for argon2id in kernels() {
            assert_eq!(tag(argon2id), expected, "{}", argon2id.kernel.name());
        }
    }

    #[test]
    fn what_is_wanted_is_chosen_if_the_processor_has_it() {
        for kernel in Kernel::ALL {
            let chosen = Argon2id::choose(Some(kernel)).kernel;
            assert_eq!(chosen == kernel, Argon2id::with(kernel).is_some(), "{}", kernel.name());
        }
        assert_eq!(Argon2id::choose(None).kernel, Kernel::Portable, "without optimisation");
    }
}
