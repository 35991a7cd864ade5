//! The tail of a main connection that was received live: where the VFIO devices' full sections are in it.

use std::fs::File;

use super::reader::Reader;
use super::tail::{DeviceSection, Tail};
use crate::error::{CaptureProblem, QemuError};

/// The full sections of VFIO devices in a tail that was kept in a file of its own, from its first byte to its last.
pub(crate) fn full_sections(kept: File) -> Result<Vec<DeviceSection>, QemuError> {
    let broken = |offset, problem: CaptureProblem| QemuError::Tail { offset, problem: Box::new(problem) };
    let mut reader = Reader::of(kept).map_err(|problem| broken(0, problem))?;
    let mut tail = Tail::default();
    tail.walk(&mut reader).map_err(|at| broken(at.offset, at.problem))?;
    Ok(tail.devices)
}
