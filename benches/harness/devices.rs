//! Devices of memory: memfds, populated before anything is measured, opened by both sides' processes through /proc.
//!
//! A memfd behaves as a VFIO data_fd does for the ring (it has no nowait: reads and writes are handed to a kernel
//! thread), and costs a copy and nothing else. Destinations are written to once before they are used, so that no page
//! is allocated and cleared during the measurement: a device already has its memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};

const CHUNK: usize = 1 << 20;

/// A device at the source and its twin at the destination.
pub(crate) struct Pair {
    source: File,
    sink: File,
    size: u64,
}

impl Pair {
    pub(crate) fn new(number: usize, size: u64) -> io::Result<Pair> {
        let mut pair = Pair { source: memfd()?, sink: memfd()?, size };
        let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut chunk = vec![0; CHUNK];
        pair.write_chunks(Side::Source, |_| {
            for word in chunk.as_chunks_mut::<8>().0 {
                // xorshift64: no two pages are alike, so that a wrong order is detected
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *word = state.to_le_bytes();
            }
            chunk.clone()
        })?;
        pair.clear()?;
        Ok(pair)
    }

    fn write_chunks(&mut self, side: Side, mut chunk: impl FnMut(usize) -> Vec<u8>) -> io::Result<()> {
        let file = match side {
            Side::Source => &mut self.source,
            Side::Sink => &mut self.sink,
        };
        file.seek(SeekFrom::Start(0))?;
        let mut left = self.size;
        while left > 0 {
            let len = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            file.write_all(&chunk(len)[..len])?;
            left -= len as u64;
        }
        Ok(())
    }

    /// Forgets what was written into the destination.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.write_chunks(Side::Sink, |len| vec![0; len])
    }

    /// Whether the destination has the source's content.
    pub(crate) fn is_moved(&mut self) -> io::Result<bool> {
        self.source.seek(SeekFrom::Start(0))?;
        self.sink.seek(SeekFrom::Start(0))?;
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut left = self.size;
        while left > 0 {
            let len = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            self.source.read_exact(&mut ours[..len])?;
            self.sink.read_exact(&mut theirs[..len])?;
            if ours[..len] != theirs[..len] {
                return Ok(false);
            }
            left -= len as u64;
        }
        Ok(self.sink.metadata()?.len() == self.size)
    }

    /// A path by which another process opens one of them, at its start.
    pub(crate) fn path(&self, side: Side) -> String {
        let fd = match side {
            Side::Source => self.source.as_raw_fd(),
            Side::Sink => self.sink.as_raw_fd(),
        };
        format!("/proc/{}/fd/{fd}", std::process::id())
    }
}

/// Which end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Sink,
}

fn memfd() -> io::Result<File> {
    let fd: OwnedFd = memfd_create(c"device", MFdFlags::MFD_CLOEXEC)?;
    Ok(File::from(fd))
}
