//! Inspects a card of the kernel's sample driver mtty from outside any transfer, so that `tools/guest/test` can compare states.
//!
//! A card has two serial ports. `fill` gives both a content that `show` can distinguish from any other; `show` leaves the card
//! as it was.

#![expect(clippy::print_stdout, reason = "a command")]

mod card;

use std::error::Error;
use std::io::Read;

use ringlift::vfio::{Device, State};

use card::{Port, content};

const USAGE: &str = "\
usage: mtty DEVICE show                  one line: migration state, and each port's scratch register and FIFO
       mtty DEVICE fill BYTE TEXT        scratch register (hexadecimal) and FIFO of port 0; port 1 gets the opposite
       mtty DEVICE reset                 VFIO_DEVICE_RESET
       mtty DEVICE state STATE           changes to another migration state
       mtty DEVICE hold                  keeps it open until stdin ends, and prints \"held\" once it is open
DEVICE is written as in ringlift's arguments after \"vfio:\".";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [path, command @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let mut device = Device::open(path)?;
    match *command {
        ["show"] => println!("{}", show(&mut device)?),
        ["fill", scratch, text] => {
            let (scratch, text) = content(scratch, text)?;
            let backwards: Vec<u8> = text.iter().rev().copied().collect();
            Region(&mut device, 0).fill(scratch, text)?;
            Region(&mut device, 1).fill(!scratch, &backwards)?;
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

fn show(device: &mut Device) -> Result<String, Box<dyn Error>> {
    let mut text = device.state().to_string();
    for region in [0, 1] {
        text += &format!(" {}", Region(device, region).show()?);
    }
    Ok(text)
}

/// Port N is region N.
struct Region<'a>(&'a mut Device, u32);

impl Port for Region<'_> {
    fn read(&mut self, register: u64) -> Result<u8, Box<dyn Error>> {
        let mut byte = [0];
        self.0.read_region(self.1, register, &mut byte)?;
        Ok(byte[0])
    }

    fn write(&mut self, register: u64, byte: u8) -> Result<(), Box<dyn Error>> {
        Ok(self.0.write_region(self.1, register, &[byte])?)
    }
}
