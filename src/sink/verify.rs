//! A device that knows which content to expect: the mirror of [`crate::source::Synthetic`].
//!
//! It checks bytes as they arrive and keeps none of them.

use super::Sink;
use crate::error::DeviceError;
use crate::phase::DeviceStep;
use crate::source::pattern;

/// Checks deterministic content on arrival.
#[derive(Debug, Clone)]
pub struct Verify {
    seed: u64,
    offset: u64,
    confirmed: bool,
}

impl Verify {
    /// Expects what [`crate::source::Synthetic`] makes.
    pub fn new() -> Verify {
        Verify { seed: pattern::SEED_DEFAULT, offset: 0, confirmed: false }
    }

    /// Expects the content of another seed; the source must have the same.
    pub fn seed(self, seed: u64) -> Verify {
        Verify { seed, ..self }
    }

    fn reset(&mut self) {
        self.offset = 0;
        self.confirmed = false;
    }
}

impl Default for Verify {
    fn default() -> Verify {
        Verify::new()
    }
}

impl Sink for Verify {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.reset();
        Ok(())
    }

    fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        if let Some(at) = pattern::first_difference(self.seed, self.offset, bytes) {
            return Err(DeviceError::Content { offset: self.offset + at as u64 });
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn config(&mut self, blob: &[u8]) -> Result<(), DeviceError> {
        let Some((seed, size)) = pattern::read_trailer(blob) else {
            return Err(DeviceError::BadConfig { what: "it is not that of a synthetic device" });
        };
        if size != self.offset {
            return Err(DeviceError::Length { found: self.offset, expected: size });
        }
        if seed != self.seed {
            return Err(DeviceError::BadConfig { what: "it names another seed" });
        }
        self.confirmed = true;
        Ok(())
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        match self.confirmed {
            true => Ok(()),
            false => Err(DeviceError::BadConfig { what: "it never came" }),
        }
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn is_instant(&self, _: DeviceStep) -> bool {
        true
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.reset();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, Synthetic};

    /// Everything that a synthetic device produces, in pieces, and its config state.
    fn given(source: &mut Synthetic, piece: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut data, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            let filled = source.fill(&mut buffer).unwrap();
            data.extend_from_slice(&buffer[..filled]);
            if filled == 0 {
                break;
            }
        }
        let mut config = [0; 64];
        let len = source.config(&mut config).unwrap();
        (data, config[..len].to_vec())
    }

    #[test]
    fn takes_what_a_synthetic_device_gives_in_other_pieces() {
        let (data, config) = given(&mut Synthetic::new(10_000).seed(9), 777);
        let mut sink = Verify::new().seed(9);
        sink.prepare().unwrap();
        for piece in data.chunks(1001) {
            assert_eq!(sink.drain(piece), Ok(piece.len()));
        }
        sink.config(&config).unwrap();
        sink.seal().unwrap();
        sink.run().unwrap();
    }

    #[test]
    fn names_the_first_wrong_byte() {
        let (mut data, _) = given(&mut Synthetic::new(10_000), 4096);
        data[5000] ^= 1;
        let mut sink = Verify::new();
        assert_eq!(sink.drain(&data[..4096]), Ok(4096));
        assert_eq!(sink.drain(&data[4096..]), Err(DeviceError::Content { offset: 5000 }));
    }

    #[test]
    fn sees_a_stream_that_ends_too_early() {
        let (data, config) = given(&mut Synthetic::new(10_000), 4096);
        let mut sink = Verify::new();
        sink.drain(&data[..9999]).unwrap();
        assert_eq!(sink.config(&config), Err(DeviceError::Length { found: 9999, expected: 10_000 }));
        assert!(sink.seal().is_err(), "it is not sealed without a matching config state");
    }

    #[test]
    fn refuses_a_device_that_is_not_synthetic() {
        let mut sink = Verify::new();
        assert_eq!(
            sink.config(b""),
            Err(DeviceError::BadConfig { what: "it is not that of a synthetic device" })
        );
    }

    #[test]
    fn refuses_an_empty_device_of_another_seed() {
        let (_, config) = given(&mut Synthetic::new(0).seed(1), 64);
        assert!(Verify::new().seed(2).config(&config).is_err());
        assert!(Verify::new().seed(1).config(&config).is_ok());
    }
}
