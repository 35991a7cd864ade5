//! Damage to what a peer sends or a file contains.

use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;

/// A modification of one of several streams.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    stream: Index,
    at: Index,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Flip { bit: u8 },
    Word(u32),
    Cut,
    Take { len: usize },
    Repeat { len: usize },
}

/// Any damage.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let word = prop_oneof![Just(u32::MAX), Just(0xffff_fffe), Just(0), any::<u32>()];
    let what = prop_oneof![
        (0..8_u8).prop_map(|bit| What::Flip { bit }),
        word.prop_map(What::Word),
        Just(What::Cut),
        (1..5000_usize).prop_map(|len| What::Take { len }),
        (1..5000_usize).prop_map(|len| What::Repeat { len }),
    ];
    (any::<Index>(), any::<Index>(), what).prop_map(|(stream, at, what)| Damage { stream, at, what })
}

impl Damage {
    /// Which of `count` streams it affects.
    pub(crate) fn stream(&self, count: usize) -> usize {
        self.stream.index(count)
    }

    /// Damages a stream, whose first `spared` bytes stay as they are.
    pub(crate) fn happen(&self, bytes: &mut Vec<u8>, spared: usize) {
        let len_max = bytes.len();
        if len_max <= spared {
            return;
        }
        let at = spared + self.at.index(len_max - spared);
        let up_to = |len: usize| -> Range<usize> { at..len_max.min(at + len) };
        match self.what {
            What::Flip { bit } => bytes[at] ^= 1 << bit,
            What::Word(word) => drop(bytes.splice(up_to(4), word.to_be_bytes())),
            What::Cut => bytes.truncate(at),
            What::Take { len } => drop(bytes.drain(up_to(len))),
            What::Repeat { len } => {
                let repeated = bytes[up_to(len)].to_vec();
                bytes.splice(at..at, repeated);
            }
        }
    }
}
