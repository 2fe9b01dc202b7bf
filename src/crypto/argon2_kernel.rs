//! The function G of Argon2 (RFC 9106 §3.5) with the vector instructions of x86-64, and nothing else of it.
//!
//! A block of 1 KiB is a matrix of 8 × 8 units of 128 bits, and the permutation P works on its rows and then on its
//! columns. Blocks are kept in an order of their own, units in pairs from two rows that follow each other, so that a
//! register holds parts of two rows or of two columns, and nothing has to be moved in between:
//! ```text
//! row 0: 00 01 02 …            00 10 01 11 02 12 …
//! row 1: 10 11 12 …    kept    20 30 21 31 22 32 …
//! ```

use argon2::Block;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Instructions that this processor was asked for, and has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors(Width);

#[derive(Debug, Clone, Copy)]
enum Width {
    Bits512,
    Bits256,
}

impl Vectors {
    pub(super) fn avx512() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(Width::Bits512))
    }

    pub(super) fn avx2() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(Width::Bits256))
    }
}

/// Which words take the place of four: the next, the next but one, the one before.
const BY_ONE: i32 = 0b00_11_10_01;
const BY_TWO: i32 = 0b01_00_11_10;
const BY_THREE: i32 = 0b10_01_00_11;

/// One block that is made of two others.
pub(super) struct Step<'a> {
    pub to: &'a mut Block,
    pub previous: &'a Block,
    pub other: &'a Block,
    /// Whether what stood there before is added: in every pass but the first.
    pub adds: bool,
}

impl Step<'_> {
    /// Tells `next` the first word of the block as soon as it is known, and fetches what it names: the block that is
    /// needed next, from anywhere in the memory, while the rest of this one is still being done.
    #[inline]
    pub(super) fn run(self, vectors: Vectors, next: impl FnOnce(u64) -> *const Block) {
        #[expect(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: there is no `Vectors` but for a processor that said that it has them.
        unsafe {
            match vectors.0 {
                Width::Bits512 => avx512::step(self, next),
                Width::Bits256 => avx2::step(self, next),
            }
        }
    }
}

/// Asks for a block ahead of its use.
#[inline]
fn prefetch(block: *const Block) {
    for line in 0..Block::SIZE / 64 {
        #[expect(unsafe_code, reason = "a hint to the processor, which takes an address")]
        // SAFETY: it reads nothing, and any address will do: one that leads nowhere is ignored.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(block.cast::<i8>().wrapping_add(line * 64));
        }
    }
}

mod avx512 {
    use super::{BY_ONE, BY_THREE, BY_TWO, Block, Step, prefetch};
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_load_si512, _mm512_mul_epu32, _mm512_permutex_epi64,
        _mm512_permutexvar_epi64, _mm512_ror_epi64, _mm512_set_epi64, _mm512_shuffle_i64x2, _mm512_store_si512,
        _mm512_xor_si512,
    };

    /// `a`, `b`, `c` and `d` of BLAKE2's round, of four pairs of rows or of columns.
    type Quarters = [[__m512i; 4]; 4];

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(block: &Block, register: usize) -> __m512i {
        let words = &block.as_ref()[8 * register..8 * register + 8];
        #[expect(unsafe_code, reason = "a load of 64 bytes has no name in safe Rust")]
        // SAFETY: eight words are 64 bytes, and a block begins at a multiple of 64.
        unsafe {
            _mm512_load_si512(words.as_ptr().cast())
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(block: &mut Block, register: usize, value: __m512i) {
        let words = &mut block.as_mut()[8 * register..8 * register + 8];
        #[expect(unsafe_code, reason = "a store of 64 bytes has no name in safe Rust")]
        // SAFETY: as in `load`.
        unsafe {
            _mm512_store_si512(words.as_mut_ptr().cast(), value);
        }
    }

    /// `x + y + 2 · low(x) · low(y)`, BLAKE2's addition made harder (RFC 9106 §3.6).
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(x: __m512i, y: __m512i) -> __m512i {
        let product = _mm512_mul_epu32(x, y);
        _mm512_add_epi64(_mm512_add_epi64(x, y), _mm512_add_epi64(product, product))
    }

    /// BLAKE2's G on every lane of all sixteen registers, side by side: one alone would wait for itself.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn mix(state: &mut Quarters) {
        half_mix::<32, 24>(state);
        half_mix::<16, 63>(state);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn half_mix<const D: i32, const B: i32>([a, b, c, d]: &mut Quarters) {
        for i in 0..4 {
            a[i] = add(a[i], b[i]);
        }
        for i in 0..4 {
            d[i] = _mm512_ror_epi64::<D>(_mm512_xor_si512(d[i], a[i]));
        }
        for i in 0..4 {
            c[i] = add(c[i], d[i]);
        }
        for i in 0..4 {
            b[i] = _mm512_ror_epi64::<B>(_mm512_xor_si512(b[i], c[i]));
        }
    }

    /// P on pairs of rows. A register has two words of one row, two of the other, two of the first, two of the other.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rows(state: &mut Quarters) {
        let by_one = _mm512_set_epi64(2, 7, 0, 5, 6, 3, 4, 1);
        let by_three = _mm512_set_epi64(6, 3, 4, 1, 2, 7, 0, 5);
        mix(state);
        turn_rows(state, by_one, by_three);
        mix(state);
        turn_rows(state, by_three, by_one);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn_rows([_, b, c, d]: &mut Quarters, of_b: __m512i, of_d: __m512i) {
        for i in 0..4 {
            b[i] = _mm512_permutexvar_epi64(of_b, b[i]);
            c[i] = _mm512_shuffle_i64x2::<BY_TWO>(c[i], c[i]);
            d[i] = _mm512_permutexvar_epi64(of_d, d[i]);
        }
    }

    /// P on pairs of columns. A register has four words of one column and four of the other.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns(state: &mut Quarters) {
        mix(state);
        turn_columns::<BY_ONE, BY_THREE>(state);
        mix(state);
        turn_columns::<BY_THREE, BY_ONE>(state);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn_columns<const B: i32, const D: i32>([_, b, c, d]: &mut Quarters) {
        for i in 0..4 {
            b[i] = _mm512_permutex_epi64::<B>(b[i]);
            c[i] = _mm512_permutex_epi64::<BY_TWO>(c[i]);
            d[i] = _mm512_permutex_epi64::<D>(d[i]);
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn step(Step { to, previous, other, adds }: Step, next: impl FnOnce(u64) -> *const Block) {
        let sum = |register: usize| _mm512_xor_si512(load(previous, register), load(other, register));
        // Pairs of rows side by side: `state[quarter][pair]`.
        let quarter = |part: usize| [sum(part), sum(4 + part), sum(8 + part), sum(12 + part)];
        let mut state = [quarter(0), quarter(1), quarter(2), quarter(3)];
        rows(&mut state);
        // Now a pair of rows is a quarter of every column.
        let quarter = |pair: usize| [state[0][pair], state[1][pair], state[2][pair], state[3][pair]];
        let mut state = [quarter(0), quarter(1), quarter(2), quarter(3)];
        columns(&mut state);
        let put = |to: &mut Block, quarter: usize, pair: usize| {
            let register = 4 * quarter + pair;
            let mut value = _mm512_xor_si512(state[quarter][pair], sum(register));
            if adds {
                value = _mm512_xor_si512(value, load(to, register));
            }
            store(to, register, value);
        };
        put(to, 0, 0);
        prefetch(next(to.as_ref()[0]));
        for pair in 1..4 {
            put(to, 0, pair);
        }
        for quarter in 1..4 {
            for pair in 0..4 {
                put(to, quarter, pair);
            }
        }
    }
}

mod avx2 {
    use super::{BY_ONE, BY_THREE, BY_TWO, Block, Step, prefetch};
    use std::{
        arch::x86_64::{
            __m256i, _mm256_add_epi64, _mm256_alignr_epi8, _mm256_load_si256, _mm256_mul_epu32, _mm256_or_si256,
            _mm256_permute4x64_epi64, _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_shuffle_epi32, _mm256_srli_epi64,
            _mm256_store_si256, _mm256_xor_si256,
        },
        hint::black_box,
    };

    /// `a`, `b`, `c` and `d` of BLAKE2's round, of two rows or of two columns.
    type Quarters = [[__m256i; 2]; 4];

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(block: &Block, register: usize) -> __m256i {
        let words = &block.as_ref()[4 * register..4 * register + 4];
        #[expect(unsafe_code, reason = "a load of 32 bytes has no name in safe Rust")]
        // SAFETY: four words are 32 bytes, and a block begins at a multiple of 64.
        unsafe {
            _mm256_load_si256(words.as_ptr().cast())
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(block: &mut Block, register: usize, value: __m256i) {
        let words = &mut block.as_mut()[4 * register..4 * register + 4];
        #[expect(unsafe_code, reason = "a store of 32 bytes has no name in safe Rust")]
        // SAFETY: as in `load`.
        unsafe {
            _mm256_store_si256(words.as_mut_ptr().cast(), value);
        }
    }

    /// `x + y + 2 · low(x) · low(y)`, BLAKE2's addition made harder (RFC 9106 §3.6).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(x: __m256i, y: __m256i) -> __m256i {
        let product = _mm256_mul_epu32(x, y);
        _mm256_add_epi64(_mm256_add_epi64(x, y), _mm256_add_epi64(product, product))
    }

    /// BLAKE2's G on every lane of two registers, side by side: one alone would wait for itself.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn mix([a, b, c, d]: &mut Quarters, &[by_24, by_16]: &[__m256i; 2]) {
        for i in 0..2 {
            a[i] = add(a[i], b[i]);
        }
        for i in 0..2 {
            d[i] = _mm256_shuffle_epi32::<0b10_11_00_01>(_mm256_xor_si256(d[i], a[i]));
        }
        for i in 0..2 {
            c[i] = add(c[i], d[i]);
        }
        for i in 0..2 {
            b[i] = _mm256_shuffle_epi8(_mm256_xor_si256(b[i], c[i]), by_24);
        }
        for i in 0..2 {
            a[i] = add(a[i], b[i]);
        }
        for i in 0..2 {
            d[i] = _mm256_shuffle_epi8(_mm256_xor_si256(d[i], a[i]), by_16);
        }
        for i in 0..2 {
            c[i] = add(c[i], d[i]);
        }
        for i in 0..2 {
            b[i] = _mm256_xor_si256(b[i], c[i]);
            b[i] = _mm256_or_si256(_mm256_srli_epi64::<63>(b[i]), _mm256_add_epi64(b[i], b[i]));
        }
    }

    /// P on two rows. A register has two words of one row and two of the other, so that each quarter has two registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rows(state: &mut Quarters, turns: &[__m256i; 2]) {
        mix(state, turns);
        let [_, [b0, b1], c, [d0, d1]] = state;
        (*b0, *b1) = (_mm256_alignr_epi8::<8>(*b1, *b0), _mm256_alignr_epi8::<8>(*b0, *b1));
        c.swap(0, 1);
        (*d0, *d1) = (_mm256_alignr_epi8::<8>(*d0, *d1), _mm256_alignr_epi8::<8>(*d1, *d0));
        mix(state, turns);
        let [_, [b0, b1], c, [d0, d1]] = state;
        (*b0, *b1) = (_mm256_alignr_epi8::<8>(*b0, *b1), _mm256_alignr_epi8::<8>(*b1, *b0));
        c.swap(0, 1);
        (*d0, *d1) = (_mm256_alignr_epi8::<8>(*d1, *d0), _mm256_alignr_epi8::<8>(*d0, *d1));
    }

    /// P on two columns. A register has four words of one of them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn columns(state: &mut Quarters, turns: &[__m256i; 2]) {
        mix(state, turns);
        turn_columns::<BY_ONE, BY_THREE>(state);
        mix(state, turns);
        turn_columns::<BY_THREE, BY_ONE>(state);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn turn_columns<const B: i32, const D: i32>([_, b, c, d]: &mut Quarters) {
        for i in 0..2 {
            b[i] = _mm256_permute4x64_epi64::<B>(b[i]);
            c[i] = _mm256_permute4x64_epi64::<BY_TWO>(c[i]);
            d[i] = _mm256_permute4x64_epi64::<D>(d[i]);
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn step(Step { to, previous, other, adds }: Step, next: impl FnOnce(u64) -> *const Block) {
        let by_24 = _mm256_setr_epi8(
            3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, 3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10,
        );
        let by_16 = _mm256_setr_epi8(
            2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9,
        );
        // The compiler would know better, and make two instructions of one.
        let turns = black_box([by_24, by_16]);
        let sum = |register: usize| _mm256_xor_si256(load(previous, register), load(other, register));
        let pair = |first: usize| {
            let mut state = [0, 2, 4, 6].map(|quarter| [sum(first + quarter), sum(first + quarter + 1)]);
            rows(&mut state, &turns);
            state
        };
        // Now a pair of rows is a quarter of every column.
        let state = [pair(0), pair(8), pair(16), pair(24)];
        let two_columns = |to: &mut Block, number: usize| {
            let mut done = [state[0][number], state[1][number], state[2][number], state[3][number]];
            columns(&mut done, &turns);
            for (quarter, values) in done.into_iter().enumerate() {
                for (half, value) in values.into_iter().enumerate() {
                    let register = 8 * quarter + 2 * number + half;
                    let mut value = _mm256_xor_si256(value, sum(register));
                    if adds {
                        value = _mm256_xor_si256(value, load(to, register));
                    }
                    store(to, register, value);
                }
            }
        };
        two_columns(to, 0);
        prefetch(next(to.as_ref()[0]));
        two_columns(to, 1);
        two_columns(to, 2);
        two_columns(to, 3);
    }
}
