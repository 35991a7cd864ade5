//! Code shared by the targets: an input cut into pieces, and the checks that apply to every decoder.

pub mod example;

use std::path::Path;
use std::{env, fs};

use ringlift::wire::Malformed;

/// Writes a seed into the folder that `FUZZ_SEEDS` names. The targets call it before libFuzzer reads that
/// folder, so seeds come from the encoders and are never out of date.
pub fn seed(name: &str, bytes: &[u8]) {
    if let Some(folder) = env::var_os("FUZZ_SEEDS") {
        fs::write(Path::new(&folder).join(name), bytes).expect("a folder that can be written to");
    }
}

/// Number of bytes at an input's end that control how it is used; the bytes before them are what a peer sends.
pub const SETTINGS_LEN: usize = 8;

/// What a peer sends, and how it is delivered.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    settings: [u8; SETTINGS_LEN],
}

impl<'a> Input<'a> {
    /// None when the input is too short to have settings.
    pub fn new(input: &'a [u8]) -> Option<Input<'a>> {
        input.split_last_chunk().map(|(bytes, &settings)| Input { bytes, settings })
    }

    /// A setting that is not part of the bytes.
    pub fn choice(&self) -> u8 {
        self.settings[SETTINGS_LEN - 1]
    }

    /// The bytes in pieces of one to 255 bytes, as the settings specify; a size of zero gives all of the rest in one piece.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.bytes;
        let mut sizes = self.settings.into_iter().take(SETTINGS_LEN - 1).cycle();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let size = match sizes.next() {
                None | Some(0) => rest.len(),
                Some(size) => rest.len().min(size.into()),
            };
            let (piece, others) = rest.split_at(size);
            rest = others;
            Some(piece)
        })
    }
}

/// An input made of `bytes`, with settings that cut them into small pieces.
pub fn input(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[1, 2, 3, 5, 64, 200, 7, 0xff]].concat()
}

/// Runs `decode`, and asserts that it allocated no memory.
pub fn without_allocation<T>(decode: impl FnOnce() -> T) -> T {
    within_memory(0, decode)
}

/// Runs `decode`, and asserts that it allocated no more than `bytes_max` in total.
pub fn within_memory<T>(bytes_max: usize, decode: impl FnOnce() -> T) -> T {
    let mut result = None;
    let allocated = allocation_counter::measure(|| result = Some(decode()));
    assert!(allocated.bytes_total <= bytes_max as u64, "{} bytes were allocated", allocated.bytes_total);
    result.expect("it was done")
}

/// Runs `act`, and returns the most memory that it held at any one time.
pub fn with_peak<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let allocated = allocation_counter::measure(|| result = Some(act()));
    (result.expect("it was done"), allocated.bytes_max)
}

/// Asserts that an error's message is one printable line, whatever the peer sent.
pub fn assert_says_what(error: &Malformed) {
    let words = error.to_string();
    assert!(!words.is_empty() && !words.contains(char::is_control), "{words:?}");
}

/// Like `Result::ok`, and asserts that the error can be shown to a user.
pub fn accepted<T>(result: Result<T, Malformed>) -> Option<T> {
    result.inspect_err(assert_says_what).ok()
}
