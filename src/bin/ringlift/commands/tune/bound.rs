//! Which part of the path holds a transfer back, from the reports of both sides. Pure. It names a part only if that part
//! was shown to be full.

use ringlift::compare::series;
use ringlift::report::{ChannelReport, Report, TuneBound, TuneBoundKind};

use super::search::LINK_FULL;

/// A processor that is busy for this share of the time is full.
const BUSY: f64 = 0.95;
/// A connection that was held back by one thing for this share of its time.
const LIMITED: f64 = 0.5;
/// Congestion windows bound a rate that is this close to what they let out.
const NEAR: f64 = 0.8;

/// What one transfer tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Facts {
    pub(super) rate: f64,
    pub(super) sender_busy: Option<f64>,
    pub(super) receiver_busy: Option<f64>,
    /// Of all processors of the one host that both sides run on.
    host_busy: Option<f64>,
    pub(super) link: Option<f64>,
    receive_window: Option<f64>,
    send_buffer: Option<f64>,
    /// What the congestion windows let out.
    congestion_window: Option<f64>,
}

impl Facts {
    pub(super) fn of(report: &Report, is_loopback: bool) -> Facts {
        let other = report.other_side.as_deref();
        let both = is_loopback.then(|| Some(process_busy(report)? + process_busy(other?)?)).flatten();
        let busy_us = |channel: &ChannelReport| channel.tcp?.busy_us;
        let limited = |held: fn(&ChannelReport) -> Option<u64>| {
            let (held, busy) = (sum(report, held)?, sum(report, busy_us)?);
            (busy > 0.0).then(|| held / busy)
        };
        Facts {
            rate: report.throughput_bytes_per_s,
            sender_busy: worker_busy(report),
            receiver_busy: other.and_then(worker_busy),
            host_busy: both.map(|busy| busy / report.host.cpus.max(1) as f64),
            link: [Some(report), other].into_iter().flatten().filter_map(link).reduce(f64::min),
            receive_window: limited(|channel| channel.tcp?.rwnd_limited_us),
            send_buffer: limited(|channel| channel.tcp?.sndbuf_limited_us),
            congestion_window: sum(report, |channel| {
                let tcp = channel.tcp?;
                let bytes = tcp.cwnd?.checked_mul(tcp.mss?)?;
                bytes.checked_mul(1_000_000)?.checked_div(tcp.rtt_us?)
            }),
        }
    }
}

/// Of all channels; none if one of them does not tell.
fn sum(report: &Report, figure: fn(&ChannelReport) -> Option<u64>) -> Option<f64> {
    let figures = report.channels.iter().map(figure);
    figures.sum::<Option<u64>>().filter(|_| !report.channels.is_empty()).map(|sum| sum as f64)
}

/// Processors that the process used on average, while state moved.
fn process_busy(report: &Report) -> Option<f64> {
    let cpu_ns: u64 = report.intervals.iter().map(|interval| interval.cpu_ns).sum();
    (!report.intervals.is_empty() && report.duration_ns > 0)
        .then(|| cpu_ns as f64 / report.duration_ns as f64)
}

/// The worker's share of the time. What it did before state moved is not part of it: the whole process did no more.
fn worker_busy(report: &Report) -> Option<f64> {
    let worker_ns = report.cost.filter(|_| report.duration_ns > 0)?.worker_ns;
    let worker = worker_ns as f64 / report.duration_ns as f64;
    Some(worker.min(process_busy(report)?).min(1.0))
}

fn link(report: &Report) -> Option<f64> {
    let speed = report.host.nic.as_ref()?.speed?;
    Some(speed as f64 * 1e6 / 8.0)
}

/// What held these transfers back: the medians decide.
pub(super) fn of(facts: &[Facts]) -> TuneBound {
    let median = |figure: fn(&Facts) -> Option<f64>| {
        let known: Vec<f64> = facts.iter().filter_map(figure).collect();
        (!known.is_empty()).then(|| series::median(&known))
    };
    let rate = median(|one| Some(one.rate)).unwrap_or(0.0);
    let (sender, receiver) = (median(|one| one.sender_busy), median(|one| one.receiver_busy));
    let link = median(|one| one.link);
    let at_least = |figure: Option<f64>, bar: f64| figure.is_some_and(|figure| figure >= bar);
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "an unknown share".to_owned(), |share| format!("{:.0} %", share * 100.0))
    };
    let workers = format!(
        "the sender's worker is busy {} of the time and the receiver's {}",
        percent(sender),
        percent(receiver)
    );
    let host = median(|one| one.host_busy);
    let window = median(|one| one.congestion_window);
    let (kind, text) = match () {
        () if link.is_some_and(|link| rate >= LINK_FULL * link) => {
            let of_link = percent(link.map(|link| rate / link));
            (
                TuneBoundKind::Link,
                format!("the link: state has {of_link} of the network card's rate, headers the rest"),
            )
        }
        () if at_least(host, BUSY) => (
            TuneBoundKind::Processors,
            format!("the processors: both sides share one host and use {} of all of them", percent(host)),
        ),
        () if at_least(sender, BUSY) && sender >= receiver => {
            (TuneBoundKind::SenderProcessor, format!("a processor of the sender: {workers}"))
        }
        () if at_least(receiver, BUSY) => {
            (TuneBoundKind::ReceiverProcessor, format!("a processor of the receiver: {workers}"))
        }
        () if at_least(median(|one| one.receive_window), LIMITED) => (
            TuneBoundKind::ReceiveWindow,
            "the path: round trip × the receiver's window (net.ipv4.tcp_rmem of the receiver's host)"
                .to_owned(),
        ),
        () if at_least(median(|one| one.send_buffer), LIMITED) => (
            TuneBoundKind::SendBuffer,
            "the path: round trip × the sender's buffer (net.ipv4.tcp_wmem of the sender's host)".to_owned(),
        ),
        () if window.is_some_and(|window| window > 0.0 && (NEAR..=1.0 / NEAR).contains(&(rate / window))) => {
            (
                TuneBoundKind::CongestionWindow,
                "the path: round trip × congestion window, or a slower link on the way".to_owned(),
            )
        }
        () => (TuneBoundKind::Unknown, format!("none that can be named: {workers}")),
    };
    TuneBound { kind, text, sender_busy: sender, receiver_busy: receiver, link_bytes_per_s: link }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_only_if_it_is_full() {
        let base = Facts { rate: 1e9, sender_busy: Some(0.7), receiver_busy: Some(0.6), ..Facts::default() };
        for (facts, kind) in [
            (base, TuneBoundKind::Unknown),
            (Facts { link: Some(1.05e9), ..base }, TuneBoundKind::Link),
            (Facts { link: Some(1.25e9), ..base }, TuneBoundKind::Unknown),
            (Facts { sender_busy: Some(0.98), ..base }, TuneBoundKind::SenderProcessor),
            (Facts { receiver_busy: Some(0.98), ..base }, TuneBoundKind::ReceiverProcessor),
            (Facts { host_busy: Some(0.97), sender_busy: Some(0.98), ..base }, TuneBoundKind::Processors),
            (Facts { receive_window: Some(0.7), ..base }, TuneBoundKind::ReceiveWindow),
            (Facts { send_buffer: Some(0.7), ..base }, TuneBoundKind::SendBuffer),
            (Facts { congestion_window: Some(1.1e9), ..base }, TuneBoundKind::CongestionWindow),
            (Facts { congestion_window: Some(3e9), ..base }, TuneBoundKind::Unknown),
        ] {
            assert_eq!(of(&[facts]).kind, kind, "{facts:?}");
        }
        assert_eq!(of(&[]).kind, TuneBoundKind::Unknown);
        let text = of(&[base]).text;
        assert!(text.ends_with("busy 70 % of the time and the receiver's 60 %"), "{text}");
    }
}
