//! The options of `ringlift demo`.

use clap::Args;
use ringlift::limits;

use super::{Live, Run};
use crate::condition::Condition;
use crate::show::json::JsonTarget;
use crate::show::units::Size;

const DEMO_EXAMPLES: &str = "\
Examples:
  ringlift demo
  ringlift demo --devices 8 --channels 4 --size 1GiB --json demo.json
  ringlift demo --size 8GiB --interval 1s
  ringlift demo --events - | jq -c 'select(.event == \"interval\")'";

#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = super::devices)]
    pub(crate) devices: u16,
    /// Number of data connections
    #[arg(long, value_name = "N", default_value_t = limits::CHANNELS_DEFAULT as u16, value_parser = super::channels)]
    pub(crate) channels: u16,
    /// State size of each device, such as 4096, 64KiB, 1MiB or 2GiB
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) size: Size,
    /// Writes the reports of sender and receiver to FILE, one per line; - is stdout, and replaces the tables
    #[arg(long, value_name = "FILE", value_parser = super::json())]
    pub(crate) json: Option<JsonTarget>,
    /// Exits with status 6 if this holds for the complete transfer, such as downtime>300ms or send.p99>=5ms. Repeat for several
    #[arg(long = "fail-if", value_name = "CONDITION")]
    pub(crate) fail_if: Vec<Condition>,
    #[command(flatten)]
    pub(crate) live: Live,
    #[command(flatten)]
    pub(crate) run: Run,
}
