//! The command line of `ringlift recv`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{Dialect, Live, Run, address, json, qemu, sink};
use crate::condition::Condition;
use crate::ends::{Named, SinkSpec};
use crate::show::json::JsonTarget;
use crate::show::units::{Size, duration};

const HELP: &str = "\
SINK is one of:
  vfio:PATH  a VFIO device: a PCI address, the sysfs folder of an mdev,
             /dev/vfio/devices/vfioN, or a device in a group
  file:PATH  a file, which gets its name once the transfer is complete
  fd:N       an inherited descriptor: a pipe, a file or a memfd. It is reopened
             at its position, so a socket works as fd:1 only. What has been
             written to it stays there even if the transfer fails
  verify     checks the content of a synthetic source and keeps nothing
  discard    accepts everything and keeps nothing

With --dialect qemu, the sender is a QEMU that is told to migrate here, with as many multifd channels as --channels says. \
Devices have the names that QEMU gives them, followed by #INSTANCE if the instance is not 0. Nothing but the state of these \
devices is taken from the virtual machine. docs/QEMU.md explains the details.

With --bench, the state of every sender is discarded, whatever its devices are called, and the sender is told that they run \
here: a real device that is sent to such a receiver is lost. It serves one transfer after another; in place of tables there is \
a line with counts every ten seconds at most, and the totals at the end.

The first line on stderr is `listening on ADDR`. It has the port that was chosen for port 0.

Examples:
  ringlift recv --listen 127.0.0.1:4321 --device net0=vfio:0000:41:00.1 --once
  ringlift recv --listen 127.0.0.1:0 --device net0=file:net0.state \\
      --device net1=verify
  ringlift recv --listen 0.0.0.0:4321 --plaintext --device net0=discard \\
      --json reports.json --events events.ndjson
  ringlift recv --bench --listen 192.0.2.1:4321 --plaintext
  ringlift recv --dialect qemu --listen 127.0.0.1:4444 --channels 4 --once \\
      --device 0000:00:01.0/vfio=vfio:0000:41:00.1";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Recv {
    /// Address to listen on, such as 127.0.0.1:4321 or [::1]:4321; port 0 picks a free port
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// A device and where its state goes. Repeat for every device; the names must be those that the sender uses
    #[arg(long = "device", value_name = "NAME=SINK", required_unless_present = "bench", conflicts_with = "bench", value_parser = OsStringValueParser::new().try_map(sink))]
    pub(crate) devices: Vec<Named<SinkSpec>>,
    /// Instead of --device, takes whatever devices a sender has and keeps nothing: the receiver for `ringlift bench --to`
    #[arg(long)]
    pub(crate) bench: bool,
    /// The protocol that the sender speaks: ringlift's own, or QEMU's migration protocol
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = Dialect::Native)]
    pub(crate) dialect: Dialect,
    /// Number of multifd connections with --dialect qemu: the source's multifd-channels, or 0 if its multifd capability is off [default: 2]
    #[arg(long, value_name = "N", value_parser = qemu::channels)]
    pub(crate) channels: Option<u16>,
    /// Memory for packets with --dialect qemu [default: 64MiB, or more where devices need it]
    #[arg(long, value_name = "SIZE")]
    pub(crate) pool: Option<Size>,
    /// Serves one transfer (or a dry run: status 1) and exits with its status, instead of serving one after another until stopped
    #[arg(long)]
    pub(crate) once: bool,
    /// Accepts that the state travels unencrypted; required to listen on any address but loopback
    #[arg(long)]
    pub(crate) plaintext: bool,
    /// Congestion control of the connections: one of net.ipv4.tcp_available_congestion_control
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Resets the devices unless they are loaded within this time after a sender came, such as 30s or 2m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Largest pool that a sender may ask for [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) pool_max: Option<Size>,
    /// Writes the report to FILE with --once, and otherwise adds a line after each transfer; - is stdout, with one line per transfer instead of the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
    /// Exits with status 6 if this holds for the complete transfer, such as downtime>300ms or send.p99>=5ms. Repeat for several
    #[arg(long = "fail-if", value_name = "CONDITION", requires = "once")]
    pub(crate) fail_if: Vec<Condition>,
    #[command(flatten)]
    pub(crate) live: Live,
    #[command(flatten)]
    pub(crate) run: Run,
    /// For the demo: ends with process PID, and prints only the report and the histogram
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) with_parent: Option<i32>,
}
