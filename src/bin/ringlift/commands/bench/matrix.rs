//! The cells of a bench: every combination of what its options list. It must not know how a cell is measured.

use std::fmt;

use ringlift::ZeroCopy;

use crate::args::{Bench, ChecksumKind, ZeroCopyWhen};
use crate::exit::Exit;
use crate::show::units::bytes;
use crate::show::warnings;

/// A bound for typing errors: each cell takes a transfer in each round.
const CELLS_MAX: usize = 1000;

/// One combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) devices: u16,
    pub(crate) channels: u16,
    pub(crate) packet_size: u32,
    pub(crate) checksum: ChecksumKind,
    pub(crate) zero_copy: ZeroCopyWhen,
    pub(crate) congestion: Option<String>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--devices {} --channels {}", self.devices, self.channels)?;
        write!(f, " --packet-size {}", bytes(self.packet_size.into()).replace(".00 ", ""))?;
        write!(f, " --checksum {:?} --zero-copy {:?}", self.checksum, self.zero_copy)?;
        self.congestion.iter().try_for_each(|name| write!(f, " --congestion {name}"))
    }
}

/// All of them, the first option slowest. What is typed twice is one cell.
pub(super) fn cells(args: &Bench) -> Result<Vec<Cell>, Exit> {
    let congestion: Vec<_> = match args.congestion.is_empty() {
        true => vec![None],
        false => args.congestion.iter().cloned().map(Some).collect(),
    };
    let lens = [args.devices.len(), args.channels.len(), args.packet_size.len(), args.checksum.len()];
    let product = lens
        .iter()
        .chain(&[args.zero_copy.len(), congestion.len()])
        .try_fold(1usize, |product, len| product.checked_mul(*len));
    if product.is_none_or(|product| product > CELLS_MAX) {
        return Err(warnings::usage(
            &format!("the matrix has more than {CELLS_MAX} cells"),
            "list fewer values",
        ));
    }
    let mut cells = Vec::new();
    for &devices in &args.devices {
        for &channels in &args.channels {
            for &packet_size in &args.packet_size {
                for &checksum in &args.checksum {
                    for &zero_copy in &args.zero_copy {
                        for congestion in congestion.iter().cloned() {
                            let cell =
                                Cell { devices, channels, packet_size, checksum, zero_copy, congestion };
                            if !cells.contains(&cell) {
                                cells.push(cell);
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(cells)
}

/// As a report has it.
pub(crate) fn reported(when: ZeroCopyWhen) -> ringlift::report::ZeroCopy {
    match ZeroCopy::from(when) {
        ZeroCopy::Auto => ringlift::report::ZeroCopy::Auto,
        ZeroCopy::On => ringlift::report::ZeroCopy::On,
        ZeroCopy::Off => ringlift::report::ZeroCopy::Off,
    }
}
