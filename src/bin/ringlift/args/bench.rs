//! The command line of `ringlift bench`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringlift::limits;

use super::{ChecksumKind, Metrics, ZeroCopyWhen, address, channels, count, devices, json, packet_size};
use crate::condition::Condition;
use crate::show::json::JsonTarget;
use crate::show::units::{Size, duration};

/// The interval of a median needs 2^-rounds, which is 0 for an f64 beyond this.
const ROUNDS_MAX: usize = 1000;

const HELP: &str = "\
Every option that takes a list takes values with commas between them, and each combination of values is a cell. Each round runs one \
transfer of every cell, in random order, so that a machine that becomes slower does so for all of them alike. A first round to warm \
up is not counted. Connecting is not part of the time that is measured. The receiver is a process of this program over loopback, \
which takes one transfer after the other and keeps nothing.

The table has for each cell the median throughput, the interval that holds the true median with a certainty of 95 % (from 6 rounds \
on), the spread (half the distance between the quartiles), and of sender + receiver the processor seconds for a GiB and the most \
memory in use during a transfer.

With --rate, the transfers of a cell are due at fixed times. One that takes too long delays those that follow: they begin as soon as \
it has ended, and none is left out. Their service time counts from their start, their response time from when they were due. A rate \
that a cell cannot keep is reported, with the rate that it achieved.

--fail-if knows downtime, duration, throughput, bytes, stalls, cpu_per_gib, and read, queue, send, reorder, write and end_to_end with \
.p50, .p90, .p99, .p999 or .max: the median over the transfers of each cell. With --rate, it also knows service and response with \
one of these: of all transfers of the cell.

With --to, the receiver is a `ringlift recv --bench` on another host. It takes any number of devices, and every other setting from \
here. While it is busy with another sender, the bench waits for it, 60 s at most.

Exit status:
    0  all rounds were measured, or --until is over
    1  a transfer failed
    2  usage error
    4  the receiver refused a transfer
    6  all was measured, and a condition of --fail-if holds for a cell
  130  cancelled (SIGINT, SIGTERM); what was measured so far is shown

Examples:
  ringlift bench
  ringlift bench --channels 1,2,4 --packet-size 256KiB,1MiB \\
      --checksum crc32c,none
  ringlift bench --rounds 30 --until 2m --json bench.json --csv bench.csv
  ringlift bench --rate 5/s --rounds 100 --fail-if 'response.p99>500ms'
  ringlift recv --bench --listen 192.0.2.1:4321 --plaintext
  ringlift bench --to 192.0.2.1:4321 --devices 1,4 --channels 1,2,4,8";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Bench {
    /// A receiver on another host, instead of one over loopback
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) to: Option<SocketAddr>,
    /// Numbers of devices
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = devices)]
    pub(crate) devices: Vec<u16>,
    /// Numbers of data connections
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [limits::CHANNELS_DEFAULT as u16], value_parser = channels)]
    pub(crate) channels: Vec<u16>,
    /// Largest amounts of state in one packet
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', default_value = "1MiB", value_parser = packet_size)]
    pub(crate) packet_size: Vec<u32>,
    /// Checksums over the state in each packet
    #[arg(long, value_name = "KIND,...", value_enum, value_delimiter = ',', default_value = "crc32c")]
    pub(crate) checksum: Vec<ChecksumKind>,
    /// Whether to use zero-copy sends
    #[arg(long, value_name = "WHEN,...", value_enum, value_delimiter = ',', default_value = "auto")]
    pub(crate) zero_copy: Vec<ZeroCopyWhen>,
    /// Congestion controls of the sender's connections [default: that of the host]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) congestion: Vec<String>,
    /// State size of each device; a transfer should take 50 ms at least
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) size: Size,
    /// What state is read from: null has no content, synthetic is generated
    #[arg(long, value_name = "KIND", value_enum, default_value_t = SourceKind::Null)]
    pub(crate) source: SourceKind,
    /// Rounds to measure: at most 1000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = rounds)]
    pub(crate) rounds: u16,
    /// Begins the transfers of a cell at this rate, such as 5/s or 0.5/s, one cell after the other; --rounds says how many
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Begins no round after this time, such as 30s or 2m. With --rate, no transfer of a cell is due after it
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) until: Option<Duration>,
    /// What the order inside the rounds is drawn from; it is printed when it was not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Exits with status 6 if this holds for a cell, such as throughput<2GB/s or response.p99>=1s. Repeat for several
    #[arg(long = "fail-if", value_name = "CONDITION", value_parser = Condition::of_bench)]
    pub(crate) fail_if: Vec<Condition>,
    /// Writes the report to FILE; - is stdout, and replaces the table. Likewise below
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
    /// Writes a line for each cell to FILE, with commas between its columns
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) csv: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) metrics: Metrics,
}

/// `null` or `synthetic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceKind {
    Null,
    Synthetic,
}

/// A bound for typing errors: a transfer takes a millisecond at least.
const RATE_MAX: f64 = 1000.0;
/// A transfer in a quarter of an hour.
const RATE_MIN: f64 = 0.001;

fn rate(typed: &str) -> Result<f64, String> {
    let number = typed.strip_suffix("/s").and_then(|number| number.parse().ok());
    number.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate)).ok_or_else(|| {
        "a rate is a number of transfers per second from 0.001/s to 1000/s\nhint: write 5/s or 0.5/s"
            .to_owned()
    })
}

fn rounds(typed: &str) -> Result<u16, String> {
    count(typed, ROUNDS_MAX)
}
