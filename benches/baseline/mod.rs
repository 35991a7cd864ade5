//! The same job as ringlift's, done without ringlift: what the figures are compared with.
//!
//! Each baseline moves the same bytes, in packets of the same size with the same 64 byte header, over as many sockets
//! with the same congestion control, from a descriptor that is read as a stream into one that is written in order. What
//! a baseline leaves out: settings, credit, a hand-over, statistics, and a bound on memory that holds whatever the peer
//! does.
//!
//! - [`threads`]: blocking system calls, in two shapes; the faster one in a run is *the* baseline of that run;
//! - [`tokio`]: tokio-uring, one thread and one ring on each side;
//! - [`iperf3`]: no devices and no packets, only bytes over sockets.

pub(crate) mod iperf3;
pub(crate) mod sockets;
pub(crate) mod threads;
pub(crate) mod tokio;

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use ringlift::wire::{DATA_HEADER_LEN, DataHeader, crc32c};
use serde::{Deserialize, Serialize};

/// What to move, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// Data connections.
    pub(crate) channels: usize,
    /// The most payload bytes in a packet.
    pub(crate) packet_size: usize,
    /// Payload bytes in total.
    pub(crate) bytes: u64,
    /// Whether payloads are summed by the sender and checked by the receiver.
    pub(crate) checked: bool,
    /// The congestion control of every connection.
    pub(crate) congestion: String,
}

/// A packet's header, encoded.
fn header(device: usize, idx: u64, payload: &[u8], checked: bool) -> [u8; DATA_HEADER_LEN] {
    let mut bytes = [0; DATA_HEADER_LEN];
    let header = DataHeader {
        device: u16::try_from(device).expect("a handful of devices"),
        idx,
        config: false,
        len: u32::try_from(payload.len()).expect("a packet is shorter than 4 GiB"),
        crc32c: if checked { crc32c(0, payload) } else { 0 },
        read_at_ns: 0,
        sent_at_ns: 0,
    };
    header.encode(&mut bytes);
    bytes
}

/// Asserts that a payload matches the checksum in its header.
fn check(header: &DataHeader, payload: &[u8], checked: bool) {
    assert!(!checked || crc32c(0, payload) == header.crc32c, "a payload arrived as it was sent");
}

/// How far ahead of the next packet a packet may be and still be left for another thread to write. Twice or four times
/// as much costs more processor time, because fewer packets are still in the cache when they are written.
fn window(work: &Work) -> u64 {
    work.channels as u64
}

/// How long a packet that is farther ahead waits. The wait is bounded because, without credit, packets of several
/// devices on several connections can block each other for ever.
const WINDOW_PATIENCE: Duration = Duration::from_millis(20);

/// The packets of a device that wait to become the next one, and the file that they go into.
struct Ordered<B> {
    file: Option<File>,
    next: u64,
    waiting: BTreeMap<u64, B>,
}

impl<B> Ordered<B> {
    fn new(file: File) -> Ordered<B> {
        Ordered { file: Some(file), next: 0, waiting: BTreeMap::new() }
    }

    /// The next packet, if it is here.
    fn pop(&mut self) -> Option<B> {
        let packet = self.waiting.remove(&self.next)?;
        self.next += 1;
        Some(packet)
    }
}
