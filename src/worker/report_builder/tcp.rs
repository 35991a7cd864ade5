//! A connection's `TCP_INFO` as a report has it. The kernel's structure grows at its end from version to version: a figure
//! behind the end of what the kernel filled is absent.

use std::mem::offset_of;

use nix::libc::tcp_info;

use crate::report::TcpReport;

/// Reads the bytes that the kernel filled.
pub(super) fn report(filled: &[u8]) -> TcpReport {
    fn bytes<const LEN: usize>(filled: &[u8], at: usize) -> Option<[u8; LEN]> {
        filled.get(at..at + LEN)?.try_into().ok()
    }
    let word = |at| bytes(filled, at).map(|bytes| u64::from(u32::from_ne_bytes(bytes)));
    let long = |at| bytes(filled, at).map(u64::from_ne_bytes);
    // what the kernel says when it has no bound, or no sample yet
    let known = |figure: Option<u64>, none: u64| figure.filter(|&figure| figure != none);
    TcpReport {
        rtt_us: word(offset_of!(tcp_info, tcpi_rtt)),
        min_rtt_us: known(word(offset_of!(tcp_info, tcpi_min_rtt)), u32::MAX.into()),
        rttvar_us: word(offset_of!(tcp_info, tcpi_rttvar)),
        rcv_rtt_us: word(offset_of!(tcp_info, tcpi_rcv_rtt)),
        retransmits: word(offset_of!(tcp_info, tcpi_total_retrans)),
        bytes_retransmitted: long(offset_of!(tcp_info, tcpi_bytes_retrans)),
        lost: word(offset_of!(tcp_info, tcpi_lost)),
        dsack_duplicates: word(offset_of!(tcp_info, tcpi_dsack_dups)),
        out_of_order: word(offset_of!(tcp_info, tcpi_rcv_ooopack)),
        reorderings: word(offset_of!(tcp_info, tcpi_reord_seen)),
        cwnd: word(offset_of!(tcp_info, tcpi_snd_cwnd)),
        ssthresh: known(word(offset_of!(tcp_info, tcpi_snd_ssthresh)), 0x7fff_ffff),
        snd_wnd: word(offset_of!(tcp_info, tcpi_snd_wnd)),
        rcv_wnd: word(offset_of!(tcp_info, tcpi_rcv_wnd)),
        delivery_rate_bytes_per_s: long(offset_of!(tcp_info, tcpi_delivery_rate)),
        pacing_rate_bytes_per_s: known(long(offset_of!(tcp_info, tcpi_pacing_rate)), u64::MAX),
        busy_us: long(offset_of!(tcp_info, tcpi_busy_time)),
        rwnd_limited_us: long(offset_of!(tcp_info, tcpi_rwnd_limited)),
        sndbuf_limited_us: long(offset_of!(tcp_info, tcpi_sndbuf_limited)),
        bytes_sent: long(offset_of!(tcp_info, tcpi_bytes_sent)),
        bytes_acked: long(offset_of!(tcp_info, tcpi_bytes_acked)),
        bytes_received: long(offset_of!(tcp_info, tcpi_bytes_received)),
        segments_out: word(offset_of!(tcp_info, tcpi_segs_out)),
        segments_in: word(offset_of!(tcp_info, tcpi_segs_in)),
        delivered_ce: word(offset_of!(tcp_info, tcpi_delivered_ce)),
        mss: word(offset_of!(tcp_info, tcpi_snd_mss)),
        pmtu: word(offset_of!(tcp_info, tcpi_pmtu)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_structure_of_an_older_kernel_lacks_what_came_later() {
        let mut filled = [0; size_of::<tcp_info>()];
        filled[offset_of!(tcp_info, tcpi_rtt)..][..4].copy_from_slice(&250_u32.to_ne_bytes());
        filled[offset_of!(tcp_info, tcpi_bytes_retrans)..][..8].copy_from_slice(&7_u64.to_ne_bytes());
        let whole = report(&filled);
        assert_eq!((whole.rtt_us, whole.bytes_retransmitted), (Some(250), Some(7)));
        for len in 0..filled.len() {
            let part = report(&filled[..len]);
            let has = |at: usize, bytes: usize| len >= at + bytes;
            assert_eq!(part.rtt_us.is_some(), has(offset_of!(tcp_info, tcpi_rtt), 4), "{len}");
            assert_eq!(
                part.bytes_retransmitted.is_some(),
                has(offset_of!(tcp_info, tcpi_bytes_retrans), 8),
                "{len}"
            );
        }
        assert_eq!(report(&[]), TcpReport::default());
    }
}
