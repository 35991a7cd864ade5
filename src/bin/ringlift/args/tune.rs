//! The command line of `ringlift tune`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::{address, devices, json};
use crate::show::json::JsonTarget;
use crate::show::units::{Size, duration};

/// Shorter than this, nothing can be compared.
const BUDGET_MIN: Duration = Duration::from_secs(1);
/// A bound for typing errors.
const BUDGET_MAX: Duration = Duration::from_secs(60 * 60);

const HELP: &str = "\
At the other end `ringlift recv --bench` discards what comes. Settings are searched one after the other, in short transfers that \
take turns in random order: the congestion control, the channels (doubled until two steps bring less than 3 %), zero-copy, the \
packet size. The pool is not searched but computed: bandwidth times round trip. After 60 % of the budget, what won the search and the \
defaults run in turns, and only what is faster with a certainty of 95 % is recommended. Of settings that cannot be told apart, those \
with fewer channels win.

It prints the rates of the channels with the intervals that hold the true medians with a certainty of 95 %, what else was tried, \
what holds the transfer back, and the command lines; or that the defaults are as good. State has no content and is not kept, so no \
device is part of what is measured.

Exit status:
    0  done, whatever was found
    1  a transfer with the default settings failed
    2  usage error
    4  the receiver refused a transfer
  130  cancelled (SIGINT, SIGTERM); what is known so far is shown

Examples:
  ringlift recv --bench --listen 192.0.2.1:4321 --plaintext
  ringlift tune --to 192.0.2.1:4321
  ringlift tune --to 192.0.2.1:4321 --budget 5m --devices 4 --json tune.json";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Tune {
    /// The receiver, such as 192.0.2.1:4321, [2001:db8::1]:4321 or host:4321
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) to: SocketAddr,
    /// Time for all of it: 1s to 60m
    #[arg(long, value_name = "DURATION", value_parser = budget, default_value = "60s")]
    pub(crate) budget: Duration,
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = devices)]
    pub(crate) devices: u16,
    /// State size of each device [default: what the path moves in a sixth of a second]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Option<Size>,
    /// What the order inside the rounds is drawn from; it is printed when it was not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Writes the report to FILE; - is stdout, and replaces the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
}

fn budget(typed: &str) -> Result<Duration, String> {
    let budget = duration(typed)?;
    let fits = (BUDGET_MIN..=BUDGET_MAX).contains(&budget);
    fits.then_some(budget).ok_or_else(|| "it is at least 1s and at most 60m".to_owned())
}

fn size(typed: &str) -> Result<Size, String> {
    let size: Size = typed.parse()?;
    (size.0 > 0).then_some(size).ok_or_else(|| "without state there is nothing to measure".to_owned())
}
