//! Content that can be checked without being kept: what `synthetic` makes and `verify` expects.
//!
//! Pure: bytes and numbers only. The content is a function of the seed and the offset alone, so it does not depend on
//! how it is cut into pieces; a byte that is missing, duplicated, swapped or misplaced is detected.

/// The default seed on both sides.
pub(crate) const SEED_DEFAULT: u64 = 0x7269_6e67_6c69_6674;

/// Bytes of the config state that a synthetic device ends with.
pub(crate) const TRAILER_SIZE: usize = 24;

const MAGIC: [u8; 8] = *b"RLsynth1";

/// Words per block: the hash is computed once per block, and a block is a cache line.
const LANES: usize = 8;
const BLOCK: usize = LANES * 8;

/// Makes the words of a block differ from one another: eight words of the golden ratio's hash.
const LANE: [u64; LANES] = {
    let mut lane = [0; LANES];
    let mut idx = 0;
    while idx < LANES {
        lane[idx] = mix(idx as u64 + 1);
        idx += 1;
    }
    lane
};

/// Writes the content that begins at `offset` into `buffer`.
pub(crate) fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let (mut block_idx, skip) = locate(offset);
    let (head, body) = buffer.split_at_mut(head_len(skip, buffer.len()));
    if !head.is_empty() {
        head.copy_from_slice(&bytes(words(seed, block_idx))[skip..skip + head.len()]);
        block_idx = block_idx.wrapping_add(1);
    }
    let (blocks, tail) = body.as_chunks_mut::<BLOCK>();
    for block in blocks {
        *block = bytes(words(seed, block_idx));
        block_idx = block_idx.wrapping_add(1);
    }
    tail.copy_from_slice(&bytes(words(seed, block_idx))[..tail.len()]);
}

/// Where `found`, which begins at `offset`, first differs from the content: an index into `found`.
pub(crate) fn first_difference(seed: u64, offset: u64, found: &[u8]) -> Option<usize> {
    let (mut block_idx, skip) = locate(offset);
    let (head, body) = found.split_at(head_len(skip, found.len()));
    if !head.is_empty() {
        let expected = bytes(words(seed, block_idx));
        if let Some(at) = differs_at(&expected[skip..], head) {
            return Some(at);
        }
        block_idx = block_idx.wrapping_add(1);
    }
    let (blocks, tail) = body.as_chunks::<BLOCK>();
    for (idx, block) in blocks.iter().enumerate() {
        let expected = words(seed, block_idx);
        if differs(&expected, block) {
            return differs_at(&bytes(expected), block).map(|at| head.len() + idx * BLOCK + at);
        }
        block_idx = block_idx.wrapping_add(1);
    }
    differs_at(&bytes(words(seed, block_idx)), tail).map(|at| found.len() - tail.len() + at)
}

/// Writes the trailer in which a synthetic device states its seed and size, so that truncation is detected.
pub(crate) fn write_trailer(seed: u64, size: u64, trailer: &mut [u8; TRAILER_SIZE]) {
    trailer[..8].copy_from_slice(&MAGIC);
    trailer[8..16].copy_from_slice(&seed.to_be_bytes());
    trailer[16..].copy_from_slice(&size.to_be_bytes());
}

/// The seed and the size in a trailer; `None` if it is not a trailer.
pub(crate) fn read_trailer(blob: &[u8]) -> Option<(u64, u64)> {
    let (magic, rest) = blob.split_first_chunk::<8>()?;
    let (seed, rest) = rest.split_first_chunk::<8>()?;
    let size = rest.try_into().ok()?;
    (*magic == MAGIC).then_some((u64::from_be_bytes(*seed), u64::from_be_bytes(size)))
}

/// The block that holds `offset`, and how many of its bytes precede `offset`.
fn locate(offset: u64) -> (u64, usize) {
    let block = BLOCK as u64;
    (offset / block, usize::try_from(offset % block).expect("less than a block"))
}

/// Bytes until the next block begins, of `len` in all.
fn head_len(skip: usize, len: usize) -> usize {
    if skip == 0 { 0 } else { (BLOCK - skip).min(len) }
}

/// A good hash once per block, then one XOR per word: the compiler vectorises it, and two words are equal only by
/// chance.
#[inline(always)]
fn words(seed: u64, block_idx: u64) -> [u64; LANES] {
    let hash = mix(seed ^ mix(block_idx));
    LANE.map(|lane| hash ^ lane)
}

/// The finaliser of splitmix64, after one step of its counter.
#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[inline(always)]
fn bytes(words: [u64; LANES]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (bytes, word) in block.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    block
}

/// Has no branch per word, so that it is vectorised, too.
#[inline(always)]
fn differs(expected: &[u64; LANES], block: &[u8; BLOCK]) -> bool {
    let found = block.as_chunks::<8>().0;
    expected.iter().zip(found).fold(0, |all, (word, bytes)| all | (word ^ u64::from_le_bytes(*bytes))) != 0
}

fn differs_at(expected: &[u8], found: &[u8]) -> Option<usize> {
    found.iter().zip(expected).position(|(found, expected)| found != expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte by byte, straight from the definition.
    fn oracle(seed: u64, offset: u64, len: usize) -> Vec<u8> {
        (0..len as u64)
            .map(|idx| {
                let at = offset + idx;
                let word = mix(seed ^ mix(at / 64)) ^ mix((at % 64) / 8 + 1);
                word.to_le_bytes()[(at % 8) as usize]
            })
            .collect()
    }

    proptest! {
        #[test]
        fn content_is_the_same_however_it_is_cut(
            seed: u64, offset in 0..u64::MAX / 2, len in 0..2000usize, cuts in prop::collection::vec(0..2000usize, 0..6)
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(len)).collect();
            cuts.extend([0, len]);
            cuts.sort_unstable();
            let mut found = vec![0; len];
            for pair in cuts.windows(2) {
                fill(seed, offset + pair[0] as u64, &mut found[pair[0]..pair[1]]);
                prop_assert_eq!(
                    first_difference(seed, offset + pair[0] as u64, &found[pair[0]..pair[1]]), None
                );
            }
            prop_assert_eq!(found, oracle(seed, offset, len));
        }

        #[test]
        fn the_first_wrong_byte_is_found_wherever_it_is(
            seed: u64, offset in 0..1u64 << 40, len in 1..2000usize, at in 0..2000usize, also in 0..2000usize, flip in 1..=255u8
        ) {
            let (at, also) = (at % len, also % len);
            let mut found = vec![0; len];
            fill(seed, offset, &mut found);
            found[at] ^= flip;
            if also > at {
                found[also] ^= flip;
            }
            prop_assert_eq!(first_difference(seed, offset, &found), Some(at));
        }

        #[test]
        fn a_trailer_reads_as_it_was_written(seed: u64, size: u64) {
            let mut trailer = [0; TRAILER_SIZE];
            write_trailer(seed, size, &mut trailer);
            prop_assert_eq!(read_trailer(&trailer), Some((seed, size)));
            prop_assert_eq!(read_trailer(&trailer[1..]), None);
        }
    }

    #[test]
    fn words_in_places_changed_show() {
        let mut found = vec![0; 4096];
        fill(SEED_DEFAULT, 0, &mut found);
        for (one, other) in [(0, 8), (0, 64), (8, 72), (56, 64), (1024, 2048)] {
            let mut swapped = found.clone();
            for idx in 0..8 {
                swapped.swap(one + idx, other + idx);
            }
            assert!(
                first_difference(SEED_DEFAULT, 0, &swapped).is_some_and(|at| (one..one + 8).contains(&at))
            );
        }
    }

    #[test]
    fn another_seed_makes_other_content() {
        let mut found = vec![0; 64];
        fill(1, 0, &mut found);
        assert_eq!(first_difference(2, 0, &found), Some(0));
    }

    #[test]
    fn the_content_never_changes_between_versions() {
        let mut found = [0; 8];
        fill(SEED_DEFAULT, 64, &mut found);
        assert_eq!(u64::from_le_bytes(found), mix(SEED_DEFAULT ^ mix(1)) ^ mix(1));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "the first number of splitmix64 from seed 0");
    }

    #[test]
    fn foreign_blobs_are_no_trailer() {
        assert_eq!(read_trailer(b""), None);
        assert_eq!(read_trailer(&[0; TRAILER_SIZE]), None);
        assert_eq!(read_trailer(&[b'R'; 4096]), None);
    }
}
