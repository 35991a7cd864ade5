//! Looks into a card of the kernel's sample driver mtty, from outside of any transfer: what `tools/guest/test` compares.
//!
//! A card has two serial ports, each with a scratch register and a receive FIFO, and what is sent on a port lands in its
//! own FIFO. `fill` gives both ports a content that `show` can tell from any other; `show` leaves it as it was.

#![expect(clippy::print_stdout, reason = "a command")]

use std::io::Read;

use ringlift::error::DeviceError;
use ringlift::vfio::{Device, State};

const USAGE: &str = "\
usage: mtty DEVICE show                  one line: migration state, and each port's scratch register and FIFO
       mtty DEVICE fill BYTE TEXT        scratch register (hexadecimal) and FIFO of port 0; port 1 gets the opposite
       mtty DEVICE reset                 VFIO_DEVICE_RESET
       mtty DEVICE state STATE           to another migration state
       mtty DEVICE hold                  keeps it open until stdin ends, and says \"held\" when it has it
DEVICE is what the command ringlift takes after \"vfio:\".";

/// Registers of a port, each a byte; port N is BAR N.
const DATA: u64 = 0;
const FIFO_CONTROL: u64 = 2;
const MODEM_CONTROL: u64 = 4;
const LINE_STATUS: u64 = 5;
const SCRATCH: u64 = 7;

const ENABLE_AND_CLEAR_FIFO: u8 = 0x07;
const LOOP_BACK: u8 = 0x10;
const DATA_READY: u8 = 0x01;
/// The FIFO has 16, and looks empty when it is full.
const TEXT_MAX: usize = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [path, command @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let mut device = Device::open(path)?;
    match *command {
        ["show"] => println!("{}", show(&mut device)?),
        ["fill", scratch, text] if text.len() <= TEXT_MAX => {
            let scratch = u8::from_str_radix(scratch, 16)?;
            let backwards: Vec<u8> = text.bytes().rev().collect();
            Port(0).fill(&mut device, scratch, text.as_bytes())?;
            Port(1).fill(&mut device, !scratch, &backwards)?;
        }
        ["reset"] => device.reset()?,
        ["state", name] => {
            let state = State::ALL.into_iter().find(|state| state.to_string() == name);
            device.set_state(state.ok_or(USAGE)?)?;
        }
        ["hold"] => {
            println!("held");
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

fn show(device: &mut Device) -> Result<String, DeviceError> {
    let mut text = device.state().to_string();
    for port in [Port(0), Port(1)] {
        let (scratch, fifo) = port.take(device)?;
        port.fill(device, scratch, &fifo)?;
        text += &format!(" {scratch:02x}:{}", String::from_utf8_lossy(&fifo));
    }
    Ok(text)
}

#[derive(Clone, Copy)]
struct Port(u32);

impl Port {
    fn fill(self, device: &mut Device, scratch: u8, fifo: &[u8]) -> Result<(), DeviceError> {
        self.write(device, FIFO_CONTROL, ENABLE_AND_CLEAR_FIFO)?;
        self.write(device, MODEM_CONTROL, LOOP_BACK)?;
        self.write(device, SCRATCH, scratch)?;
        fifo.iter().try_for_each(|byte| self.write(device, DATA, *byte))
    }

    /// Reading a FIFO empties it.
    fn take(self, device: &Device) -> Result<(u8, Vec<u8>), DeviceError> {
        let mut fifo = Vec::new();
        while self.read(device, LINE_STATUS)? & DATA_READY != 0 && fifo.len() < TEXT_MAX {
            fifo.push(self.read(device, DATA)?);
        }
        Ok((self.read(device, SCRATCH)?, fifo))
    }

    fn read(self, device: &Device, register: u64) -> Result<u8, DeviceError> {
        let mut byte = [0];
        device.read_region(self.0, register, &mut byte)?;
        Ok(byte[0])
    }

    fn write(self, device: &mut Device, register: u64, byte: u8) -> Result<(), DeviceError> {
        device.write_region(self.0, register, &[byte])
    }
}
