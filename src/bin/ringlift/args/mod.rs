//! The command line: every argument is parsed into a type that cannot hold a wrong value.

mod bench;
mod compare;
mod demo;
mod devices;
mod live;
mod metrics;
mod qemu;
mod recv;
mod report;
mod run;
mod tune;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ringlift::limits;
use ringlift::wire::is_name;

pub(crate) use self::bench::{Bench, SourceKind};
pub(crate) use self::compare::{Compare, CompareCommand, CompareFiles, CompareRun, Judging, Outputs};
pub(crate) use self::demo::Demo;
pub(crate) use self::devices::Devices;
pub(crate) use self::live::Live;
pub(crate) use self::metrics::Metrics;
pub(crate) use self::qemu::{Capture, DeviceId, Extract, Inspect, PaceKind, Qemu, Replay};
pub(crate) use self::recv::Recv;
pub(crate) use self::report::Report;
pub(crate) use self::run::Run;
pub(crate) use self::tune::Tune;
use crate::condition::Condition;
use crate::ends::{Named, SinkSpec, SourceSpec};
use crate::show::json::JsonTarget;
use crate::show::units::{Size, duration};
use crate::show::warnings;

/// Parses the command line; one that makes no sense ends the process with status 2 and a message.
pub(crate) fn typed() -> Command {
    let Cli { command, quiet_warning } = Cli::parse();
    warnings::quiet(quiet_warning);
    command
}

// In the texts below a paragraph is one line, joined by `\` where the source breaks it, and clap wraps it to the terminal. Lists
// and examples are at most 80 columns wide, so that they stay as they are.

const STATUS: &str = "\
Exit status:
    0  complete, or a dry run was made
    1  failed; nothing was lost
    2  usage error
    3  in doubt: look at the destination before doing anything else
    4  refused by the peer
    5  cannot tell (compare)
    6  complete, and a condition of --fail-if holds
  130  cancelled (SIGINT, SIGTERM)

Results go to stdout; messages and progress go to stderr.

Examples:
  ringlift demo
  ringlift recv --listen 127.0.0.1:4321 --device net0=file:net0.state --once
  ringlift send --to 127.0.0.1:4321 --device net0=synthetic:2GiB";

/// Moves the state of passed-through (VFIO) devices between hosts
#[derive(Debug, Parser)]
#[command(name = "ringlift", version, after_help = STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Keeps warnings of this kind off the terminal: the word in the brackets. Repeat for several, or write commas
    #[arg(long, value_name = "CODE", global = true, value_delimiter = ',', value_parser = warnings::code)]
    quiet_warning: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Moves made-up devices between two processes over loopback, verifies and measures them
    Demo(Demo),
    /// Receives device state from a sender
    Recv(Recv),
    /// Sends device state to a receiver
    Send(Send),
    /// Measures transfers over a matrix of settings
    Bench(Box<Bench>),
    /// Finds the best settings of a path, within a time
    Tune(Tune),
    /// Compares two versions: is NEW worse than BASE?
    Compare(Box<Compare>),
    /// Shows reports of transfers again: as tables, or as a page with plots
    Report(Report),
    /// Lists this host's VFIO devices, or measures how the driver of one behaves
    #[command(after_help = devices::EXAMPLES)]
    Devices(Devices),
    /// Works with QEMU's own migration stream: captures it, and reads the device state in captures
    #[command(subcommand, after_help = qemu::EXAMPLES)]
    Qemu(Qemu),
}

const SEND_EXAMPLES: &str = "\
SOURCE is one of:
  vfio:PATH       a VFIO device: a PCI address, the sysfs folder of an mdev,
                  /dev/vfio/devices/vfioN, or a device in a group
  file:PATH       a file, from beginning to end
  fd:N            an inherited descriptor: a pipe, a file or a memfd. It is
                  reopened at its position, so a socket works as fd:0 only
  synthetic:SIZE  generated content that the sink `verify` can check
  null:SIZE       no content at all: measures the transport alone

Examples:
  ringlift send --to 192.0.2.1:4321 --device net0=vfio:0000:41:00.1 \\
      --channels 4 --deadline 30s
  ringlift send --to 127.0.0.1:4321 --device net0=synthetic:2GiB --json -
  ringlift send --to 192.0.2.1:4321 --device net0=vfio:0000:41:00.1 \\
      --interval 1s --events net0.ndjson --quiet-warning plaintext
  ringlift send --to 127.0.0.1:4321 --device net0=synthetic:2GiB \\
      --metrics-file /var/lib/node_exporter/ringlift_send.prom
  ringlift send --to 192.0.2.1:4321 --device net0=vfio:0000:41:00.1 --dry-run
  tar -c folder | ringlift send --to 127.0.0.1:4321 --device net0=fd:0";

#[derive(Debug, Args)]
#[command(after_help = SEND_EXAMPLES)]
pub(crate) struct Send {
    /// Address of the receiver, such as 192.0.2.1:4321, [2001:db8::1]:4321 or host:4321
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) to: SocketAddr,
    /// A device and where its state comes from. Repeat for every device; the names must be those that the receiver uses
    #[arg(long = "device", value_name = "NAME=SOURCE", required = true, value_parser = OsStringValueParser::new().try_map(source))]
    pub(crate) devices: Vec<Named<SourceSpec>>,
    /// Number of data connections
    #[arg(long, value_name = "N", default_value_t = limits::CHANNELS_DEFAULT as u16, value_parser = channels)]
    pub(crate) channels: u16,
    /// Largest amount of state in one packet: 4KiB to 16MiB
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = packet_size)]
    pub(crate) packet_size: u32,
    /// Memory for packets on each side; a path needs a third more than its rate times its round trip [default: 64MiB, and two packets for each further device]
    #[arg(long, value_name = "SIZE")]
    pub(crate) pool: Option<Size>,
    /// Whether to use zero-copy sends; auto stops using them when the kernel reports that it copies anyway
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ZeroCopyWhen::Auto)]
    pub(crate) zero_copy: ZeroCopyWhen,
    /// Checksum over the state in each packet
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ChecksumKind::Crc32c)]
    pub(crate) checksum: ChecksumKind,
    /// Congestion control of the connections: one of net.ipv4.tcp_available_congestion_control
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Rolls back unless the devices are loaded within this time, such as 300ms, 30s or 2m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Rolls back when the devices have stood still for this long and are not loaded
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(crate) downtime_max: Duration,
    /// Stops the devices when what is left of them takes the link no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "300ms")]
    pub(crate) downtime_limit: Duration,
    /// Predicts how long the devices would stand still, and moves nothing: the receiver is asked, the path is measured, and no device is stopped
    #[arg(long, conflicts_with = "fail_if")]
    pub(crate) dry_run: bool,
    /// Writes the report to FILE; - is stdout, and replaces the tables
    #[arg(long, value_name = "FILE", value_parser = json())]
    pub(crate) json: Option<JsonTarget>,
    /// Exits with status 6 if this holds for the complete transfer, such as downtime>300ms or send.p99>=5ms. Repeat for several
    #[arg(long = "fail-if", value_name = "CONDITION")]
    pub(crate) fail_if: Vec<Condition>,
    #[command(flatten)]
    pub(crate) live: Live,
    #[command(flatten)]
    pub(crate) run: Run,
}

/// `native` or `qemu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    Native,
    Qemu,
}

/// `auto`, `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ZeroCopyWhen {
    Auto,
    On,
    Off,
}

/// `crc32c` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChecksumKind {
    Crc32c,
    None,
}

fn source(typed: OsString) -> Result<Named<SourceSpec>, String> {
    named(&typed, "net0=file:net0.state", |kind, value| {
        let text = value.to_str().unwrap_or_default();
        Ok(match (kind, value.is_empty()) {
            ("vfio", false) => SourceSpec::Vfio(value.into()),
            ("file", false) => SourceSpec::File(value.into()),
            ("fd", false) => SourceSpec::Fd(fd(text)?),
            ("synthetic", false) => SourceSpec::Synthetic(text.parse::<Size>()?.0),
            ("null", false) => SourceSpec::Null(text.parse::<Size>()?.0),
            ("verify" | "discard", _) => {
                return Err(format!("{kind} is a sink\nhint: a source for it is {}", mirror(kind)));
            }
            _ => {
                return Err("there is no such source\n\
                            hint: write vfio:PATH, file:PATH, fd:N, synthetic:SIZE or null:SIZE"
                    .to_owned());
            }
        })
    })
}

fn sink(typed: OsString) -> Result<Named<SinkSpec>, String> {
    named(&typed, "net0=file:net0.state", sink_of)
}

/// SINK without a name, for state that no synthetic source produced.
fn sink_of_capture(typed: OsString) -> Result<SinkSpec, String> {
    let (kind, value) = kind_and_value(&typed);
    match sink_of(&kind, value)? {
        SinkSpec::Verify => Err("verify knows what a synthetic source makes, and nothing else\n\
                                 hint: discard takes everything, too"
            .to_owned()),
        sink => Ok(sink),
    }
}

fn sink_of(kind: &str, value: &OsStr) -> Result<SinkSpec, String> {
    let text = value.to_str().unwrap_or_default();
    Ok(match (kind, value.is_empty()) {
        ("vfio", false) => SinkSpec::Vfio(value.into()),
        ("file", false) => SinkSpec::File(value.into()),
        ("fd", false) => SinkSpec::Fd(fd(text)?),
        ("verify", true) => SinkSpec::Verify,
        ("discard", true) => SinkSpec::Discard,
        ("synthetic" | "null", _) => {
            return Err(format!("{kind} is a source\nhint: a sink for it is {}", mirror(kind)));
        }
        _ => {
            return Err("there is no such sink\n\
                        hint: write vfio:PATH, file:PATH, fd:N, verify or discard"
                .to_owned());
        }
    })
}

fn mirror(kind: &str) -> &'static str {
    match kind {
        "verify" => "synthetic:SIZE",
        "discard" => "null:SIZE",
        "synthetic" => "verify",
        _ => "discard",
    }
}

/// NAME=KIND:VALUE; a path in VALUE need not be UTF-8.
fn named<T>(
    typed: &OsStr,
    example: &str,
    parse: impl FnOnce(&str, &OsStr) -> Result<T, String>,
) -> Result<Named<T>, String> {
    let wrong = |what: &str| format!("{what}\nhint: write for example {example}");
    let (name, end) = split(typed, b'=').ok_or_else(|| wrong("a device needs a name and an end"))?;
    let name = name.to_str().filter(|name| is_name(name)).ok_or_else(|| {
        wrong(&format!(
            "a device's name has 1 to {} bytes and no control or format characters",
            limits::NAME_MAX
        ))
    })?;
    let (kind, value) = kind_and_value(end);
    let end = parse(&kind, value)?;
    Ok(Named { name: name.to_owned(), end })
}

/// Splits KIND:VALUE, or KIND alone.
fn kind_and_value(end: &OsStr) -> (Cow<'_, str>, &OsStr) {
    let (kind, value) = split(end, b':').unwrap_or((end, OsStr::new("")));
    (kind.to_string_lossy(), value)
}

fn split(typed: &OsStr, at: u8) -> Option<(&OsStr, &OsStr)> {
    let bytes = typed.as_bytes();
    let idx = bytes.iter().position(|byte| *byte == at)?;
    Some((OsStr::from_bytes(&bytes[..idx]), OsStr::from_bytes(&bytes[idx + 1..])))
}

fn fd(typed: &str) -> Result<u32, String> {
    typed.parse().map_err(|_| "a descriptor is a number\nhint: write for example fd:3".to_owned())
}

fn address(typed: &str) -> Result<SocketAddr, String> {
    const HINT: &str = "hint: write 192.0.2.1:4321, [2001:db8::1]:4321 or host:4321";
    if let Ok(address) = typed.parse() {
        return Ok(address);
    }
    let wrong = || format!("an address has a host and a port\n{HINT}");
    let (host, port) = typed.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("{error}\n{HINT}"))?;
    found.next().ok_or_else(|| format!("{host} has no address\n{HINT}"))
}

fn packet_size(typed: &str) -> Result<u32, String> {
    let Size(size) = typed.parse()?;
    u32::try_from(size)
        .ok()
        .filter(|size| (limits::PACKET_SIZE_MIN..=limits::PACKET_SIZE_MAX).contains(size))
        .ok_or_else(|| {
            "a packet has at least 4KiB and at most 16MiB\nhint: 1MiB is the fastest for most".to_owned()
        })
}

fn channels(typed: &str) -> Result<u16, String> {
    count(typed, limits::CHANNELS_MAX)
}

fn devices(typed: &str) -> Result<u16, String> {
    count(typed, limits::DEVICES_MAX)
}

fn count(typed: &str, max: usize) -> Result<u16, String> {
    count_from(1, typed, max)
}

fn count_from(min: usize, typed: &str, max: usize) -> Result<u16, String> {
    typed
        .parse()
        .ok()
        .filter(|count| (min..=max).contains(&usize::from(*count)))
        .ok_or_else(|| format!("it is no whole number from {min} to {max}"))
}

fn json() -> impl TypedValueParser<Value = JsonTarget> {
    PathBufValueParser::new().map(|path: PathBuf| JsonTarget::from(path))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn command(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    fn error(line: &str) -> String {
        command(line).unwrap_err()
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The help of a command and of its subcommands, by name.
    fn helps(command: &clap::Command, width: usize, found: &mut Vec<(String, String)>) {
        let mut command = command.clone().term_width(width);
        found.push((command.get_name().to_owned(), command.render_long_help().to_string()));
        command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
            .for_each(|below| helps(below, width, found));
    }

    #[test]
    fn help_fits_its_width_and_its_lists_and_examples_are_not_wrapped() {
        for width in [80, 100] {
            let (mut wide, mut found) = (Vec::new(), Vec::new());
            helps(&Cli::command(), 1000, &mut wide);
            helps(&Cli::command(), width, &mut found);
            assert_eq!(found.len(), 15);
            for ((name, text), (_, unwrapped)) in found.iter().zip(&wide) {
                let long = text.lines().find(|line| line.chars().count() > width);
                assert_eq!(long, None, "{name}");
                let (_, below) = unwrapped.split_once("Print help").expect("an option that all have");
                for line in below.lines().filter(|line| line.starts_with(' ')) {
                    assert!(text.contains(line), "{name} at {width}: {line}");
                }
            }
        }
    }

    #[test]
    fn every_paragraph_of_help_is_one_line_that_clap_wraps() {
        let mut wide = Vec::new();
        helps(&Cli::command(), 1000, &mut wide);
        for (name, text) in wide {
            assert!(text.contains("\nExamples:\n  "), "{name} has examples");
            let (_, below) = text.split_once("Print help").expect("an option that all have");
            for line in below.lines().filter(|line| line.starts_with(|c: char| c.is_alphanumeric())) {
                assert!(line.ends_with(['.', ':']), "{name}: {line}");
            }
        }
    }

    #[test]
    fn every_source_can_be_typed() {
        for (typed, end) in [
            ("net0=vfio:0000:41:00.1", SourceSpec::Vfio("0000:41:00.1".into())),
            ("net0=file:/a=b:c", SourceSpec::File("/a=b:c".into())),
            ("net0=fd:3", SourceSpec::Fd(3)),
            ("net0=synthetic:2GiB", SourceSpec::Synthetic(2 << 30)),
            ("net0=null:0", SourceSpec::Null(0)),
        ] {
            assert_eq!(source(typed.into()), Ok(Named { name: "net0".to_owned(), end }));
        }
    }

    #[test]
    fn every_sink_can_be_typed() {
        for (typed, end) in [
            ("net0=vfio:/dev/vfio/devices/vfio0", SinkSpec::Vfio("/dev/vfio/devices/vfio0".into())),
            ("net0=file:state", SinkSpec::File("state".into())),
            ("net0=fd:1", SinkSpec::Fd(1)),
            ("net0=verify", SinkSpec::Verify),
            ("net0=discard", SinkSpec::Discard),
        ] {
            assert_eq!(sink(typed.into()), Ok(Named { name: "net0".to_owned(), end }));
        }
    }

    #[test]
    fn a_path_need_not_be_text() {
        let typed = OsStr::from_bytes(b"net0=file:/tmp/\xff");
        let Named { end, .. } = source(typed.to_owned()).unwrap();
        assert_eq!(end, SourceSpec::File(OsStr::from_bytes(b"/tmp/\xff").into()));
    }

    #[test]
    fn a_wrong_end_is_answered_with_the_right_ones() {
        for (typed, hint) in [
            ("net0", "hint: write for example net0="),
            ("=null:1", "hint: write for example"),
            ("net0=", "hint: write vfio:PATH"),
            ("net0=file:", "hint: write vfio:PATH"),
            ("net0=tape:1", "hint: write vfio:PATH"),
            ("net0=synthetic:1MB", "hint: write 1MiB"),
            ("net0=fd:-1", "hint: write for example fd:3"),
            ("net0=verify", "hint: a source for it is synthetic:SIZE"),
        ] {
            let error = source(typed.into()).unwrap_err();
            assert!(error.contains(hint), "{typed}: {error}");
        }
        for (typed, hint) in [
            ("net0=verify:1", "hint: write vfio:PATH"),
            ("net0=null:1", "hint: a sink for it is discard"),
            ("net\u{7}=verify", "no control or format characters"),
        ] {
            let error = sink(typed.into()).unwrap_err();
            assert!(error.contains(hint), "{typed}: {error}");
        }
        assert!(sink(format!("{}=verify", "n".repeat(256)).into()).is_err());
    }

    #[test]
    fn a_whole_send_line_is_understood() {
        let line = "ringlift send --to 127.0.0.1:1 --device a=null:1 --device b=fd:4 --channels 8 --packet-size 64KiB \
                    --pool 16MiB --zero-copy off --checksum none --congestion cubic --deadline 300ms --json -";
        let Command::Send(send) = command(line).unwrap() else { panic!("it is a send") };
        assert_eq!(send.devices.len(), 2);
        assert_eq!((send.channels, send.packet_size, send.pool), (8, 65536, Some(Size(16 << 20))));
        assert_eq!((send.zero_copy, send.checksum), (ZeroCopyWhen::Off, ChecksumKind::None));
        assert_eq!(send.deadline, Some(Duration::from_millis(300)));
        assert_eq!(send.json, Some(JsonTarget::Stdout));
    }

    #[test]
    fn what_help_says_of_defaults_is_what_the_library_does() {
        let Command::Send(send) = command("ringlift send --to 127.0.0.1:1 --device a=null:1").unwrap() else {
            panic!("it is a send")
        };
        assert_eq!(send.packet_size, limits::PACKET_SIZE_DEFAULT);
        assert_eq!(
            (limits::POOL_SIZE_DEFAULT, limits::PACKETS_PER_DEVICE),
            (64 << 20, 2),
            "--pool names them"
        );
        assert_eq!(limits::POOL_SIZE_TRUSTED, 1 << 30, "--pool-max names it");
        assert_eq!(
            (limits::PACKET_SIZE_MIN, limits::PACKET_SIZE_MAX),
            (4 << 10, 16 << 20),
            "--packet-size, too"
        );
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for line in [
            "ringlift demo --devices 0",
            "ringlift demo --devices 257",
            "ringlift demo --channels 256",
            "ringlift send --to 127.0.0.1:1 --device a=null:1 --channels 0",
            "ringlift send --to 127.0.0.1:1 --device a=null:1 --packet-size 4095",
            "ringlift send --to 127.0.0.1:1 --device a=null:1 --packet-size 17MiB",
            "ringlift send --to 127.0.0.1:1 --device a=null:1 --packet-size 8GiB",
        ] {
            assert!(command(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(error("ringlift recv --device a=verify").contains("--listen <ADDR>"));
        assert!(error("ringlift recv --listen 127.0.0.1:0").contains("--device <NAME=SINK>"));
        assert!(error("ringlift send --device a=null:1").contains("--to <ADDR>"));
    }

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(address("127.0.0.1:4321"), Ok(([127, 0, 0, 1], 4321).into()));
        assert!(address("[::1]:4321").unwrap().is_ipv6());
        for typed in ["127.0.0.1", "localhost", ":4321", "127.0.0.1:port", "127.0.0.1:65536", ""] {
            assert!(address(typed).unwrap_err().contains("hint: write"), "{typed}");
        }
    }
}
