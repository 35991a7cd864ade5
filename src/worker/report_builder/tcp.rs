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

/// Segments that a connection has sent again so far.
pub(super) fn retransmits(filled: &[u8]) -> u64 {
    report(filled).retransmits.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_that_ss_shows() {
        use crate::ring::{self, Ring};
        use std::io::{Read, Write};
        use std::os::fd::AsRawFd;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(&[7; 100_000]).unwrap();
        far.read_exact(&mut [0; 100_000]).unwrap();
        let port = near.local_addr().unwrap().port();
        let shown =
            std::process::Command::new("ss").args(["-tin", "sport", "=", &format!(":{port}")]).output();
        let Ok(shown) = shown else {
            println!("SKIPPED there is no ss");
            return;
        };
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let figure = |name: &str| {
            let word = shown.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.and_then(|word| word.split(['/', 'm']).next()?.parse::<f64>().ok())
        };
        let ring = ring::open(&crate::cancel::Cancel::new()).unwrap();
        let mut info = [0; 512];
        let len = ring.tcp_info(near.as_raw_fd(), &mut info).unwrap();
        let found = report(&info[..len]);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let own = |figure: Option<u64>| figure.map(|figure| figure as f64);
        assert_eq!(own(found.mss), figure("mss:"), "{shown}");
        assert_eq!(own(found.pmtu), figure("pmtu:"), "{shown}");
        assert_eq!(own(found.bytes_sent), figure("bytes_sent:"), "{shown}");
        assert_eq!(own(found.cwnd), figure("cwnd:"), "{shown}");
        assert_eq!(own(found.rtt_us), figure("rtt:").map(|rtt| (rtt * 1000.0).round()), "{shown}");
    }

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
