//! How the connections shared the work, and what the kernel says of each. It must not know how connections are made.

use ringlift::report::{ChannelReport, Report, TcpReport};

use super::markup::{Table, missing, or_absent, paragraph};
use super::scale::{Linear, short};
use super::svg::{self, BOTTOM, Svg, TOP};
use super::transfer::Transfer;
use crate::show::units::{bytes, rate, time};

const BARS: f64 = 120.0;
/// Labels below the bars.
const LABELS_MAX: usize = 10;

/// Bytes of each channel, and a table of what else is known.
pub(crate) fn balance(transfer: &Transfer, number: usize) -> String {
    let Some(report) = transfer.main().filter(|report| !report.channels.is_empty()) else {
        return missing("No data connection was used.");
    };
    let most = report.channels.iter().map(|channel| channel.bytes).max().unwrap_or(0);
    let all: u64 = report.channels.iter().map(|channel| channel.bytes).fold(0, u64::saturating_add);
    let count = report.channels.len();
    let axis = Linear::until(most as f64, 1);
    let least = report.channels.iter().map(|channel| channel.bytes).min().unwrap_or(0);
    let title = format!("Bytes of each channel of {}", transfer.label);
    let description = format!("{count} channels, with {} to {}.", bytes(least), bytes(most));
    let mut svg = Svg::new(&format!("channels-{number}"), &title, &description, TOP + BARS + BOTTOM);
    svg.level(TOP, &short(&bytes(most)));
    let (every, width) = (count.div_ceil(LABELS_MAX), 1.0 / count as f64);
    for (place, channel) in report.channels.iter().enumerate() {
        let from = place as f64 * width;
        let height = BARS * axis.at(channel.bytes as f64);
        let tip = format!("channel {}: {}", channel.id, bytes(channel.bytes));
        let (begin, end) = (from + width * 0.1, from + width * 0.9);
        svg.bar(begin, end, TOP + BARS - height, height, "k0", &tip);
        if place.is_multiple_of(every) {
            svg.tick(from + width / 2.0, TOP + BARS + 16.0, &channel.id.to_string());
        }
    }
    let even = TOP + BARS * (1.0 - axis.at(all as f64 / count as f64));
    svg.line((0.0, TOP + BARS), (1.0, TOP + BARS), "axis");
    svg.line((0.0, even), (1.0, even), "even");
    let entries = [("k0", "bytes of a channel"), ("even", "what each would have if all had the same")];
    let legend = svg::legend(&entries.map(|(class, name)| (class.to_owned(), name.to_owned())));
    svg::figure("Bytes of each channel", &legend, &svg, &channels_table(report, all))
}

fn channels_table(report: &Report, all: u64) -> String {
    let head = ["channel", "bytes", "share", "packets", "sent zero-copy", "of these copied"];
    let mut table = Table::new("Channels", head);
    for channel in &report.channels {
        let share = channel.bytes as f64 * 100.0 / all.max(1) as f64;
        table.row([
            channel.id.to_string(),
            bytes(channel.bytes),
            format!("{share:.1} %"),
            channel.packets.to_string(),
            channel.zero_copy_sent.to_string(),
            channel.zero_copy_copied.to_string(),
        ]);
    }
    table.html()
}

/// What the kernel says of each connection at the end, a table for each side.
pub(crate) fn tcp(transfer: &Transfer) -> String {
    let tables: Vec<String> =
        transfer.sides().map(|side| tcp_table(&side.report)).filter(|html| !html.is_empty()).collect();
    match tables.is_empty() {
        true => missing(
            "There are no figures of TCP: reports of version 2 have them, of connections that are TCP.",
        ),
        false => tables.concat() + &limits(transfer),
    }
}

fn tcp_table(report: &Report) -> String {
    let head = [
        "channel",
        "round trip",
        "shortest",
        "varies by",
        "sent again",
        "bytes again",
        "window",
        "delivers",
        "busy",
        "peer full",
        "buffer full",
        "segment",
        "path MTU",
    ];
    let mut table = Table::new(&format!("TCP, as the {}'s kernel counts", report.role), head);
    for (channel, tcp) in report.channels.iter().filter_map(|channel| Some((channel, channel.tcp.as_ref()?)))
    {
        table.row(tcp_row(channel, tcp));
    }
    if table.is_empty() { String::new() } else { table.html() }
}

fn tcp_row(channel: &ChannelReport, tcp: &TcpReport) -> [String; 13] {
    let micros = |us: Option<u64>| or_absent(us.map(|us| time(us.saturating_mul(1000))));
    let count = |count: Option<u64>| or_absent(count.map(|count| count.to_string()));
    [
        channel.id.to_string(),
        micros(tcp.rtt_us),
        micros(tcp.min_rtt_us),
        micros(tcp.rttvar_us),
        count(tcp.retransmits),
        or_absent(tcp.bytes_retransmitted.map(bytes)),
        count(tcp.cwnd),
        or_absent(tcp.delivery_rate_bytes_per_s.map(|value| rate(value as f64))),
        micros(tcp.busy_us),
        micros(tcp.rwnd_limited_us),
        micros(tcp.sndbuf_limited_us),
        or_absent(tcp.mss.map(bytes)),
        or_absent(tcp.pmtu.map(bytes)),
    ]
}

/// What held the sender's connections back, added up.
fn limits(transfer: &Transfer) -> String {
    let Some(report) = transfer.sender.as_ref().map(|side| &side.report) else { return String::new() };
    let sum = |figure: fn(&TcpReport) -> Option<u64>| {
        let figures = report.channels.iter().filter_map(|channel| figure(channel.tcp.as_ref()?));
        figures.fold(0, u64::saturating_add)
    };
    let busy = sum(|tcp| tcp.busy_us);
    if busy == 0 {
        return String::new();
    }
    let share = |us: u64| format!("{:.0} %", us as f64 * 100.0 / busy as f64);
    paragraph(&format!(
        "Of the time in which the sender's connections had something to send, the peer had no room for {} and the send \
         buffer was too small for {}. The window is in segments.",
        share(sum(|tcp| tcp.rwnd_limited_us)),
        share(sum(|tcp| tcp.sndbuf_limited_us))
    ))
}
