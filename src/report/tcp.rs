//! What the kernel says of a TCP connection. It must not know how that is read.

use serde::{Deserialize, Serialize};

/// A TCP connection at the end of a transfer, as the kernel counts (`TCP_INFO`). A figure is absent where the kernel is too
/// old for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpReport {
    /// Smoothed round trip.
    pub rtt_us: Option<u64>,
    /// The shortest round trip of the last minutes.
    pub min_rtt_us: Option<u64>,
    /// How much round trips differ.
    pub rttvar_us: Option<u64>,
    /// The receiver's own estimate of the round trip.
    pub rcv_rtt_us: Option<u64>,
    /// Segments that were sent again.
    pub retransmits: Option<u64>,
    /// Their bytes.
    pub bytes_retransmitted: Option<u64>,
    /// Segments that are held to be lost.
    pub lost: Option<u64>,
    /// Segments that turned out to have been sent again for nothing.
    pub dsack_duplicates: Option<u64>,
    /// Segments that arrived out of order.
    pub out_of_order: Option<u64>,
    /// Times that reordering was seen.
    pub reorderings: Option<u64>,
    /// Segments that may be on their way.
    pub cwnd: Option<u64>,
    /// Where slow start ends, in segments.
    pub ssthresh: Option<u64>,
    /// Bytes that the peer has room for.
    pub snd_wnd: Option<u64>,
    /// Bytes that this side has announced room for.
    pub rcv_wnd: Option<u64>,
    /// The rate at which data arrived lately, as the sender sees it.
    pub delivery_rate_bytes_per_s: Option<u64>,
    /// The rate at which congestion control lets data out.
    pub pacing_rate_bytes_per_s: Option<u64>,
    /// How long there was something to send.
    pub busy_us: Option<u64>,
    /// Of this, how long the peer had no room.
    pub rwnd_limited_us: Option<u64>,
    /// Of this, how long the send buffer was too small.
    pub sndbuf_limited_us: Option<u64>,
    /// Bytes that were sent, those sent again included.
    pub bytes_sent: Option<u64>,
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: Option<u64>,
    /// Bytes that came.
    pub bytes_received: Option<u64>,
    /// Segments that were sent.
    pub segments_out: Option<u64>,
    /// Segments that came.
    pub segments_in: Option<u64>,
    /// Segments that arrived with a congestion mark.
    pub delivered_ce: Option<u64>,
    /// Bytes of data in a segment.
    pub mss: Option<u64>,
    /// Bytes of the largest packet on the path.
    pub pmtu: Option<u64>,
}
