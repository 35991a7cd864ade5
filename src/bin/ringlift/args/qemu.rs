//! The command line of `ringlift qemu`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use ringlift::limits;

use super::{address, count_from, is_name, json, sink_of_capture};
use crate::ends::SinkSpec;
use crate::show::json::JsonTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum Qemu {
    /// Receives a migration from a QEMU source, and records or measures it
    Capture(Capture),
    /// Sends a capture to a QEMU that waits for a migration
    Replay(Replay),
    /// Shows what is in a capture, and verifies it
    Inspect(Inspect),
    /// Writes the captured state of one device into a sink
    Extract(Extract),
}

pub(super) const EXAMPLES: &str = "\
Examples:
  ringlift qemu capture --listen 127.0.0.1:4444 --channels 2 --out captured
  ringlift qemu inspect captured
  ringlift qemu replay captured --to 127.0.0.1:5555";

const CAPTURE_EXAMPLES: &str = "\
The source is a running QEMU that is told to migrate here. To it, this is a destination that accepts everything. \
Afterwards the virtual machine runs nowhere unless its owner lets the source continue (`cont`), so use one that can be spared.

DIR then has one file per connection with the bytes that came (main.bin, multifd-N.bin), one with the times at which they came \
(main.times, multifd-N.times: pairs of big-endian 64-bit numbers, an offset and the nanoseconds since the first byte of all \
connections), and main.back.bin with the answers. `ringlift qemu inspect DIR` shows what is in it.

The first line on stderr is `listening on ADDR`. It has the port that was chosen for port 0.

Examples:
  ringlift qemu capture --listen 127.0.0.1:4444 --channels 2 --out captured
  ringlift qemu capture --listen 0.0.0.0:4444 --plaintext --channels 8 \\
      --discard --json last.json

  (qemu) migrate_set_capability multifd on
  (qemu) migrate_set_parameter multifd-channels 2
  (qemu) migrate -d tcp:127.0.0.1:4444";

#[derive(Debug, Args)]
#[command(after_help = CAPTURE_EXAMPLES)]
pub(crate) struct Capture {
    /// Address to listen on, such as 127.0.0.1:4444 or [::1]:4444; port 0 picks a free port
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Number of multifd connections: the source's multifd-channels, or 0 if its multifd capability is off
    #[arg(long, value_name = "N", value_parser = channels)]
    pub(crate) channels: u16,
    /// Folder to record into; it is created, or must be empty
    #[arg(long, value_name = "DIR", required_unless_present = "discard")]
    pub(crate) out: Option<PathBuf>,
    /// Measures without recording anything
    #[arg(long)]
    pub(crate) discard: bool,
    /// Accepts that the state travels unencrypted; required to listen on any address but loopback
    #[arg(long)]
    pub(crate) plaintext: bool,
    /// Congestion control of the connections: one of net.ipv4.tcp_available_congestion_control
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Writes the report to FILE; - is stdout, and replaces the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
}

pub(super) fn channels(typed: &str) -> Result<u16, String> {
    count_from(0, typed, limits::CHANNELS_MAX)
}

const REPLAY_EXAMPLES: &str = "\
The destination is a QEMU started with -incoming. Its machine type, memory, devices and their addresses, number of multifd \
channels and capabilities must be those of the source of the capture. Every byte is sent as it was captured, in the order \
among the connections that a source keeps. The destination's answers are shown as they arrive.

The exit status is 0 if the destination accepted the migration (SHUT 0 or, if the capture opens no return path, closed \
connections) and 1 if it did not.

Examples:
  ringlift qemu replay captured --to 127.0.0.1:4444
  ringlift qemu replay captured --to 192.0.2.1:4444 --pace recorded \\
      --json last.json

  qemu-system-x86_64 ... -incoming defer
  (qemu) migrate_set_capability multifd on
  (qemu) migrate_set_parameter multifd-channels 2
  (qemu) migrate_incoming tcp:127.0.0.1:4444";

#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct Replay {
    /// A folder with a capture, or the files of one
    #[arg(value_name = "DIR|FILE", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Address of the destination, such as 192.0.2.1:4444, [2001:db8::1]:4444 or host:4444
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) to: SocketAddr,
    /// Sends as fast as the destination accepts, or each byte no earlier than it came when it was recorded
    #[arg(long, value_name = "PACE", value_enum, default_value_t = PaceKind::Full)]
    pub(crate) pace: PaceKind,
    /// Congestion control of the connections: one of net.ipv4.tcp_available_congestion_control
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Writes the report to FILE; - is stdout, and replaces the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
}

/// `full` or `recorded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PaceKind {
    Full,
    Recorded,
}

const INSPECT_EXAMPLES: &str = "\
The connections in a folder are its files *.bin, except *.back.bin, which have the destination's answers.

The exit status is 0 if everything is complete and in order, and 1 if it is not. Each finding is a sentence with file and offset.

Examples:
  ringlift qemu inspect captured
  ringlift qemu inspect captured --json -
  ringlift qemu inspect main.bin multifd-0.bin multifd-1.bin --packets";

#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct Inspect {
    /// A folder with a capture, or the files of one
    #[arg(value_name = "DIR|FILE", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Lists every packet of device state, not only the first and the last ones
    #[arg(long)]
    pub(crate) packets: bool,
    /// Writes the findings to FILE; - is stdout, and replaces the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
}

const EXTRACT_EXAMPLES: &str = "\
SINK is one of:
  vfio:PATH  a VFIO device, which is loaded, given its config state, and run
  file:PATH  a file, which gets its name once everything is in it
  fd:N       an inherited descriptor
  discard    accepts everything and keeps nothing

The state is written in the order in which a device takes it: first the pre-copy data of the main connection, then the packets \
by their idx. The config state is applied to a device; it is left out of a file.

Examples:
  ringlift qemu inspect captured
  ringlift qemu extract captured --device 0000:00:01.0/vfio \\
      --to file:net0.state
  ringlift qemu extract captured --device 0000:00:01.0/vfio \\
      --to vfio:0000:41:00.1";

#[derive(Debug, Args)]
#[command(after_help = EXTRACT_EXAMPLES)]
pub(crate) struct Extract {
    /// A folder with a capture, or the files of one
    #[arg(value_name = "DIR|FILE", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// The device, as `inspect` names it; add #INSTANCE if its instance is not 0
    #[arg(long, value_name = "IDSTR[#INSTANCE]", value_parser = device)]
    pub(crate) device: DeviceId,
    /// Where the state goes
    #[arg(long, value_name = "SINK", value_parser = OsStringValueParser::new().try_map(sink_of_capture))]
    pub(crate) to: SinkSpec,
}

/// A device of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceId {
    pub(crate) idstr: String,
    /// 0 when none was given.
    pub(crate) instance: u32,
}

impl DeviceId {
    /// Parses NAME or NAME#INSTANCE. A `#` not followed by a number belongs to the name.
    pub(crate) fn of(typed: &str) -> DeviceId {
        let number = typed.rsplit_once('#').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let (idstr, instance) = number.unwrap_or((typed, 0));
        DeviceId { idstr: idstr.to_owned(), instance }
    }
}

fn device(typed: &str) -> Result<DeviceId, String> {
    let id = DeviceId::of(typed);
    let lacks_number = id.idstr == typed && typed.contains('#');
    if is_name(&id.idstr) && !lacks_number {
        return Ok(id);
    }
    Err("a device is a name of 1 to 255 bytes, or one with #, and a number\n\
         hint: write for example 0000:00:01.0/vfio or 0000:00:01.0/vfio#0"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_has_no_name_and_takes_what_a_qemu_made() {
        assert_eq!(sink_of_capture("file:a=b".into()), Ok(SinkSpec::File("a=b".into())));
        assert_eq!(sink_of_capture("vfio:0000:41:00.1".into()), Ok(SinkSpec::Vfio("0000:41:00.1".into())));
        for (typed, hint) in
            [("verify", "hint: discard"), ("net0=file:x", "hint: write vfio:PATH"), ("null:1", "is a source")]
        {
            let error = sink_of_capture(typed.into()).unwrap_err();
            assert!(error.contains(hint), "{typed}: {error}");
        }
    }

    #[test]
    fn a_device_is_a_name_and_may_have_an_instance() {
        let id = |idstr: &str, instance| Ok(DeviceId { idstr: idstr.to_owned(), instance });
        assert_eq!(device("0000:00:01.0/vfio"), id("0000:00:01.0/vfio", 0));
        assert_eq!(device("0000:00:01.0/vfio#3"), id("0000:00:01.0/vfio", 3));
        assert_eq!(DeviceId::of("vfio#x"), DeviceId { idstr: "vfio#x".to_owned(), instance: 0 });
        for typed in ["", "#1", "vfio#", "vfio#x", "vfio#-1", "vfio#4294967296"] {
            assert!(device(typed).unwrap_err().contains("hint: write for example"), "{typed}");
        }
    }
}
