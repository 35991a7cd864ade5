//! A made-up device: content by seed and offset, of any requested size. [`crate::sink::Verify`] checks it.

use super::{Flow, Source, pattern};
use crate::error::{DeviceError, DeviceOperation, Errno};
use crate::phase::DeviceStep;

/// Makes deterministic content.
///
/// Its config state contains seed and size, so that the other end detects a stream that ends too early.
#[derive(Debug, Clone)]
pub struct Synthetic {
    seed: u64,
    size: u64,
    offset: u64,
}

impl Synthetic {
    /// A device with `size` bytes of state.
    pub fn new(size: u64) -> Synthetic {
        Synthetic { seed: pattern::SEED_DEFAULT, size, offset: 0 }
    }

    /// Produces the content of another seed; the sink must have the same.
    pub fn seed(self, seed: u64) -> Synthetic {
        Synthetic { seed, ..self }
    }
}

impl Source for Synthetic {
    fn estimate(&self) -> Option<u64> {
        Some(self.size)
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        Ok(Flow::StopCopyOnly)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let len = super::shorter(buffer.len(), self.size - self.offset);
        pattern::fill(self.seed, self.offset, &mut buffer[..len]);
        self.offset += len as u64;
        Ok(len)
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.offset = 0;
        Ok(())
    }

    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let trailer = buffer.first_chunk_mut().ok_or(DeviceError::Io {
            operation: DeviceOperation::WriteTrailer,
            errno: Errno::from_raw(nix::libc::ENOSPC),
        })?;
        pattern::write_trailer(self.seed, self.size, trailer);
        Ok(pattern::TRAILER_SIZE)
    }

    fn release(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn is_instant(&self, _: DeviceStep) -> bool {
        true
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.offset = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_its_size_in_any_pieces_and_then_nothing() {
        let mut source = Synthetic::new(1000);
        let mut whole = vec![0; 1000];
        pattern::fill(pattern::SEED_DEFAULT, 0, &mut whole);

        assert_eq!(source.start(), Ok(Flow::StopCopyOnly));
        source.stop().unwrap();
        let mut given = Vec::new();
        for len in [1, 63, 64, 65, 4096, 4096] {
            let mut buffer = vec![0; len];
            let filled = source.fill(&mut buffer).unwrap();
            given.extend_from_slice(&buffer[..filled]);
        }

        assert_eq!(given, whole);
        assert_eq!(source.estimate(), Some(1000));
    }

    #[test]
    fn begins_anew_after_rollback() {
        let mut source = Synthetic::new(64).seed(7);
        let (mut first, mut second) = ([0; 64], [0; 64]);
        assert_eq!(source.fill(&mut first), Ok(64));
        source.rollback().unwrap();
        assert_eq!(source.fill(&mut second), Ok(64));
        assert_eq!(first, second);
    }

    #[test]
    fn refuses_to_cut_its_config_state() {
        let mut source = Synthetic::new(1);
        assert!(source.config(&mut [0; 8]).is_err());
        assert_eq!(source.config(&mut [0; 4096]), Ok(pattern::TRAILER_SIZE));
    }
}
