//! A device that accepts everything and keeps nothing, for measuring the transport alone. The mirror of
//! [`crate::source::Null`].

use super::Sink;
use crate::error::DeviceError;
use crate::phase::DeviceStep;

/// Accepts and drops everything.
#[derive(Debug, Clone, Default)]
pub struct Discard;

impl Sink for Discard {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn drain(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        Ok(bytes.len())
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        Ok(())
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_and_any_config_state() {
        let mut sink = Discard;
        sink.prepare().unwrap();
        assert_eq!(sink.drain(&[1; 4096]), Ok(4096));
        sink.config(b"whatever").unwrap();
        sink.seal().unwrap();
        sink.run().unwrap();
        assert!(!sink.keeps_written(), "what was discarded needs no rollback");
    }
}
