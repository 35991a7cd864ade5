//! Sections of guest memory. With multifd they hold little more than barriers; without it, every page.

use super::{Event, MainStream, State, zero};
use crate::limits::QEMU_RAM_BLOCKS_MAX;
use crate::wire::Malformed;
use crate::wire::cursor::be64;
use crate::wire::qemu::Idstr;

const RAM_ZERO: u64 = 0x02;
const RAM_MEM_SIZE: u64 = 0x04;
const RAM_PAGE: u64 = 0x08;
const RAM_EOS: u64 = 0x10;
const RAM_CONTINUE: u64 = 0x20;
const RAM_XBZRLE: u64 = 0x40;
const RAM_HOOK: u64 = 0x80;
const RAM_FLUSH: u64 = 0x200;

impl MainStream {
    pub(super) fn on_ram(&mut self) -> Result<Option<Event<'static>>, Malformed> {
        let word = be64(&self.buffer, 0);
        let flags = word & u64::from(self.page_size.bytes() - 1);
        let address = word - flags;
        Ok(match flags {
            RAM_MEM_SIZE => {
                self.state = self.ram_block_or_ram(address);
                Some(Event::RamTotal(address))
            }
            RAM_FLUSH => zero("address", address).map(|()| Some(Event::RamFlush))?,
            RAM_EOS => {
                zero("address", address)?;
                self.state = State::Footer;
                Some(Event::RamEnd)
            }
            RAM_ZERO | RAM_PAGE => {
                self.state = State::RamPageBlockLength { zero: flags == RAM_ZERO };
                None
            }
            _ if flags == RAM_ZERO | RAM_CONTINUE => Some(self.on_page(true)),
            _ if flags == RAM_PAGE | RAM_CONTINUE => Some(self.on_page(false)),
            _ if flags & RAM_XBZRLE != 0 => return Err(Malformed::Unsupported { what: "XBZRLE" }),
            _ if flags & RAM_HOOK != 0 => return Err(Malformed::Unsupported { what: "RDMA" }),
            _ => return Err(Malformed::Value { field: "RAM flags", found: flags }),
        })
    }

    pub(super) fn on_page(&mut self, zero: bool) -> Event<'static> {
        self.state =
            if zero { State::RamPageZero } else { State::RamPageBytes { remaining: self.page_size.bytes() } };
        Event::RamPage { zero }
    }

    fn ram_block_or_ram(&self, remaining: u64) -> State {
        if remaining > 0 { State::RamBlockLength { remaining } } else { State::Ram }
    }

    pub(super) fn on_ram_block(&mut self, remaining: u64, name: Idstr) -> Result<Event<'static>, Malformed> {
        let used = be64(&self.buffer, 0);
        let wrong = Malformed::Value { field: "size of a RAM block", found: used };
        self.ram_blocks += 1;
        if self.ram_blocks > QEMU_RAM_BLOCKS_MAX {
            let max = QEMU_RAM_BLOCKS_MAX as u64;
            return Err(Malformed::TooLong { field: "list of RAM blocks", found: max + 1, max });
        }
        let remaining = remaining.checked_sub(used).ok_or(wrong)?;
        self.state = self.ram_block_or_ram(remaining);
        Ok(Event::RamBlock { name, used })
    }
}
