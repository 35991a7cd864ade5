//! What can be typed after `ringlift qemu`.

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
    /// Takes a migration from a QEMU source, and records or measures it
    Capture(Capture),
    /// Plays a capture into a QEMU that waits for a migration
    Replay(Replay),
    /// Shows what is in a capture, and verifies it
    Inspect(Inspect),
    /// Puts one device's captured state into a sink
    Extract(Extract),
}

const CAPTURE_EXAMPLES: &str = "\
The source is a running QEMU that is told to migrate here; to it this is a destination that
takes everything. The virtual machine runs nowhere afterwards, unless its owner lets the source
go on (cont), so use one that can be spared.

DIR has, afterwards, for each connection its bytes (main.bin, multifd-N.bin) and when they came
(main.times, multifd-N.times: pairs of big-endian 64-bit numbers, an offset and the nanoseconds
since the first byte of all), and in main.back.bin what was answered.
`ringlift qemu inspect DIR` shows what is in it.

Examples:
  ringlift qemu capture --listen 127.0.0.1:4444 --channels 2 --out captured
  ringlift qemu capture --listen 0.0.0.0:4444 --plaintext --channels 8 --discard --json last.json

  (qemu) migrate_set_capability multifd on
  (qemu) migrate_set_parameter multifd-channels 2
  (qemu) migrate -d tcp:127.0.0.1:4444

The first line on stderr is `listening on ADDR`, with the port that was given for port 0.";

#[derive(Debug, Args)]
#[command(after_help = CAPTURE_EXAMPLES)]
pub(crate) struct Capture {
    /// Where to listen: 127.0.0.1:4444, [::1]:4444; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Multifd connections: the source's multifd-channels, or 0 when its multifd capability is off
    #[arg(long, value_name = "N", value_parser = channels)]
    pub(crate) channels: u16,
    /// Where it is recorded: a folder that is made, or an empty one
    #[arg(long, value_name = "DIR", required_unless_present = "discard")]
    pub(crate) out: Option<PathBuf>,
    /// Measures without recording
    #[arg(long)]
    pub(crate) discard: bool,
    /// Accepts that the state travels unencrypted: needed to listen on an address other than loopback
    #[arg(long)]
    pub(crate) plaintext: bool,
    /// Congestion control of the connections, as in net.ipv4.tcp_available_congestion_control
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Writes the report there; - is stdout, in place of the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
}

pub(super) fn channels(typed: &str) -> Result<u16, String> {
    count_from(0, typed, limits::CHANNELS_MAX)
}

const REPLAY_EXAMPLES: &str = "\
The destination is a QEMU that was started with -incoming: of the machine type, with the memory,
the devices at the addresses, the number of multifd channels and the capabilities that the source
of the capture had. Every byte leaves as it was captured, in the order among the connections that
a source keeps. What the destination answers is shown as it comes.

Exit status: 0 when the destination has taken it (SHUT 0, or, when the capture opens no return
path, when it has closed), 1 when it has not.

Examples:
  ringlift qemu replay captured --to 127.0.0.1:4444
  ringlift qemu replay captured --to 192.0.2.1:4444 --pace recorded --json last.json

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
    /// Where the destination listens: 192.0.2.1:4444, [2001:db8::1]:4444, host:4444
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) to: SocketAddr,
    /// As fast as the destination takes it, or no byte before the time at which it came when it was recorded
    #[arg(long, value_name = "PACE", value_enum, default_value_t = PaceKind::Full)]
    pub(crate) pace: PaceKind,
    /// Congestion control of the connections, as in net.ipv4.tcp_available_congestion_control
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Writes the report there; - is stdout, in place of the tables
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
A folder's connections are its files *.bin that are not *.back.bin (what the destination answered).

Exit status: 0 when everything is there and in order, 1 when it is not: each finding has a sentence with file and offset.

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
    /// Lists every packet of device state, not the first and last ones alone
    #[arg(long)]
    pub(crate) packets: bool,
    /// Writes what was found there; - is stdout, in place of the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
}

const EXTRACT_EXAMPLES: &str = "\
SINK
  vfio:PATH   a device: it is loaded, given its config state, and runs
  file:PATH   a file that takes its name when everything is in it
  fd:N        a descriptor that was inherited
  discard     takes everything and keeps nothing

The state comes in the order in which a device takes it: pre-copy of the main connection first, then the packets by idx.
The config state is applied to a device; a file does not have it.

Examples:
  ringlift qemu inspect captured
  ringlift qemu extract captured --device 0000:00:01.0/vfio --to file:net0.state
  ringlift qemu extract captured --device 0000:00:01.0/vfio --to vfio:0000:41:00.1";

#[derive(Debug, Args)]
#[command(after_help = EXTRACT_EXAMPLES)]
pub(crate) struct Extract {
    /// A folder with a capture, or the files of one
    #[arg(value_name = "DIR|FILE", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// The device, as `inspect` names it; #INSTANCE where one name has more than one instance
    #[arg(long, value_name = "IDSTR[#INSTANCE]", value_parser = device)]
    pub(crate) device: DeviceId,
    /// Where its state goes
    #[arg(long, value_name = "SINK", value_parser = OsStringValueParser::new().try_map(sink_of_capture))]
    pub(crate) to: SinkSpec,
}

/// A device of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceId {
    pub(crate) idstr: String,
    /// 0 when none was typed.
    pub(crate) instance: u32,
}

fn device(typed: &str) -> Result<DeviceId, String> {
    let (idstr, instance) = match typed.rsplit_once('#') {
        Some((idstr, instance)) => (idstr, instance.parse().ok()),
        None => (typed, Some(0)),
    };
    match instance {
        Some(instance) if is_name(idstr) => Ok(DeviceId { idstr: idstr.to_owned(), instance }),
        _ => Err("a device is a name of 1 to 255 bytes, or one with #, and a number\n\
                  hint: write for example 0000:00:01.0/vfio or 0000:00:01.0/vfio#0"
            .to_owned()),
    }
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
        for typed in ["", "#1", "vfio#", "vfio#x", "vfio#-1", "vfio#4294967296"] {
            assert!(device(typed).unwrap_err().contains("hint: write for example"), "{typed}");
        }
    }
}
