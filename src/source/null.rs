//! A device that has a size and no content, for measuring the transport alone. [`crate::sink::Discard`] takes it.

use super::{Flow, Source};
use crate::error::DeviceError;
use crate::phase::DeviceStep;

/// Claims to have filled each buffer, and leaves it as it was.
#[derive(Debug, Clone)]
pub struct Null {
    size: u64,
    offset: u64,
}

impl Null {
    /// A device with `size` bytes of state.
    pub fn new(size: u64) -> Null {
        Null { size, offset: 0 }
    }
}

impl Source for Null {
    fn estimate(&self) -> Option<u64> {
        Some(self.size)
    }

    fn start(&mut self) -> Result<Flow, DeviceError> {
        Ok(Flow::StopCopyOnly)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        let len = super::shorter(buffer.len(), self.size - self.offset);
        self.offset += len as u64;
        Ok(len)
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.offset = 0;
        Ok(())
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
    fn gives_lengths_and_touches_nothing() {
        let mut source = Null::new(100);
        let mut buffer = [7; 64];
        assert_eq!(source.fill(&mut buffer), Ok(64));
        assert_eq!(source.fill(&mut buffer), Ok(36));
        assert_eq!(source.fill(&mut buffer), Ok(0));
        assert_eq!(buffer, [7; 64]);
        assert_eq!(source.config(&mut buffer), Ok(0));
    }

    #[test]
    fn begins_anew_after_rollback() {
        let mut source = Null::new(10);
        assert_eq!(source.fill(&mut [0; 64]), Ok(10));
        source.rollback().unwrap();
        assert_eq!(source.fill(&mut [0; 64]), Ok(10));
    }
}
