//! A port of the card that the kernel's sample driver mtty provides, whatever way its registers are reached: a scratch
//! register and a receive FIFO. Bytes sent on a port land in its own FIFO.

use std::error::Error;

/// Registers of a port, one byte each.
const DATA: u64 = 0;
const FIFO_CONTROL: u64 = 2;
const MODEM_CONTROL: u64 = 4;
const LINE_STATUS: u64 = 5;
const SCRATCH: u64 = 7;

const ENABLE_AND_CLEAR_FIFO: u8 = 0x07;
const LOOP_BACK: u8 = 0x10;
const DATA_READY: u8 = 0x01;
/// The FIFO holds 16 bytes, and looks empty when it is full.
pub(crate) const TEXT_MAX: usize = 15;

pub(crate) trait Port {
    fn read(&mut self, register: u64) -> Result<u8, Box<dyn Error>>;
    fn write(&mut self, register: u64, byte: u8) -> Result<(), Box<dyn Error>>;

    fn fill(&mut self, scratch: u8, fifo: &[u8]) -> Result<(), Box<dyn Error>> {
        self.write(FIFO_CONTROL, ENABLE_AND_CLEAR_FIFO)?;
        self.write(MODEM_CONTROL, LOOP_BACK)?;
        self.write(SCRATCH, scratch)?;
        fifo.iter().try_for_each(|byte| self.write(DATA, *byte))
    }

    /// `a5:VFIO!`: scratch register and FIFO. Reading a FIFO empties it, so this refills it.
    fn show(&mut self) -> Result<String, Box<dyn Error>> {
        let mut fifo = Vec::new();
        while self.read(LINE_STATUS)? & DATA_READY != 0 && fifo.len() < TEXT_MAX {
            fifo.push(self.read(DATA)?);
        }
        let scratch = self.read(SCRATCH)?;
        self.fill(scratch, &fifo)?;
        Ok(format!("{scratch:02x}:{}", String::from_utf8_lossy(&fifo)))
    }
}

/// The arguments of `fill`: a hexadecimal byte and a text.
pub(crate) fn content<'a>(scratch: &str, text: &'a str) -> Result<(u8, &'a [u8]), Box<dyn Error>> {
    if text.len() > TEXT_MAX {
        return Err(format!("'{text}' is longer than {TEXT_MAX} bytes").into());
    }
    Ok((u8::from_str_radix(scratch, 16)?, text.as_bytes()))
}
