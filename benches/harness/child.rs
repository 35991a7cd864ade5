//! One side of one transfer, as a process: this program itself, with `--child`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{self, UsageWho, getrusage};
use ringlift::sink::{Discard, FdSink, Sink};
use ringlift::source::{FdSource, Null, Source};
use ringlift::{Checksum, Finished, Listener, Outcome, Receiver, Sender};

use super::devices::{Pair, Side};
use super::{Contestant, Job, Measured};
use crate::baseline::iperf3;
use crate::baseline::sockets::{self, Sockets};
use crate::baseline::threads::{self, Shape};
use crate::baseline::tokio;

/// Runs a transfer between two new processes; returns what the sender and the receiver measured.
pub(crate) fn transfer(job: &Job, pairs: &[Pair]) -> io::Result<(Measured, Measured)> {
    let mut receiver = spawn(job, "receive", pairs, Side::Sink, None)?;
    let mut words = BufReader::new(receiver.stdout.take().expect("it is a pipe"));
    let mut address = String::new();
    words.read_line(&mut address)?;
    let mut sender = spawn(job, "send", pairs, Side::Source, Some(address.trim()))?;
    let sent = measured(&mut sender, |text| {
        io::read_to_string(text.expect("it is a pipe")).map(|read| read.trim().to_owned())
    });
    if sent.is_err() {
        // it would wait for ever
        receiver.kill()?;
    }
    let received = measured(&mut receiver, |_| {
        let mut text = String::new();
        words.read_to_string(&mut text).map(|_| text.trim().to_owned())
    });
    let (sent, received) = (sent?, received?);
    // iperf3 moves whole blocks, and leaves unread what is under way when it ends
    let is_exact = job.contestant != Contestant::Iperf3;
    if is_exact && (sent.bytes != job.work.bytes || received.bytes != job.work.bytes) {
        return Err(io::Error::other(format!(
            "{job}: {} bytes sent, {} received",
            sent.bytes, received.bytes
        )));
    }
    Ok((sent, received))
}

fn spawn(job: &Job, role: &str, pairs: &[Pair], side: Side, to: Option<&str>) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", role, &job.to_string(), to.unwrap_or("-")]);
    command.args(pairs.iter().take(job.devices).map(|pair| pair.path(side)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}

fn measured(
    child: &mut Child,
    text: impl FnOnce(Option<std::process::ChildStdout>) -> io::Result<String>,
) -> io::Result<Measured> {
    let text = text(child.stdout.take())?;
    match child.wait()?.success() {
        true => Ok(serde_json::from_str(&text)?),
        false => Err(io::Error::other("a side of the transfer failed")),
    }
}

/// Runs as the child process, with the arguments `ROLE JOB ADDRESS PATH...`.
pub(crate) fn run(arguments: &[String]) -> io::Result<()> {
    let [role, job, to, paths @ ..] = arguments else {
        return Err(io::Error::other("a child needs its role, its job and its peer"));
    };
    let job: Job = serde_json::from_str(job)?;
    let measured = match role.as_str() {
        "receive" => receive(&job, paths)?,
        _ => send(&job, to.parse().map_err(io::Error::other)?, paths)?,
    };
    say(&serde_json::to_string(&measured)?)
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

fn send(job: &Job, to: SocketAddr, paths: &[String]) -> io::Result<Measured> {
    let work = &job.work;
    let files = open(paths, OpenOptions::new().read(true))?;
    if job.contestant.is_ringlift() {
        return ringlift(&sender(job, to, files)?.run());
    }
    if job.contestant == Contestant::Iperf3 {
        let (bytes, nanoseconds) = iperf3::send(to, work)?;
        return measure_iperf3(bytes, nanoseconds);
    }
    let mut sockets = Sockets::connect(to, work)?;
    sockets.hear()?;
    let usage = Usage::now()?;
    let begun = Instant::now();
    match shape(job.contestant) {
        Some(shape) => threads::send(shape, &sockets, work, files)?,
        None => tokio::send(&sockets, work, files)?,
    }
    sockets.hear()?;
    measure(work.bytes, u64::try_from(begun.elapsed().as_nanos()).expect("less than 500 years"), usage)
}

fn receive(job: &Job, paths: &[String]) -> io::Result<Measured> {
    let work = &job.work;
    let files = open(paths, OpenOptions::new().write(true))?;
    if job.contestant.is_ringlift() {
        let listener =
            Listener::bind("127.0.0.1:0".parse().expect("an address")).map_err(io::Error::other)?;
        say(&listener.local_addr().to_string())?;
        return ringlift(&receiver(job, &listener, files)?.run());
    }
    if job.contestant == Contestant::Iperf3 {
        iperf3::receive(|address| say(&address.to_string()))?;
        return measure_iperf3(0, 0);
    }
    let listener = sockets::listen(work)?;
    say(&listener.local_addr()?.to_string())?;
    let mut sockets = Sockets::accept(&listener, work)?;
    sockets.tell()?;
    let usage = Usage::now()?;
    let bytes = match shape(job.contestant) {
        Some(shape) => threads::receive(shape, &sockets, work, files)?,
        None => tokio::receive(&sockets, work, files)?,
    };
    sockets.tell()?;
    measure(bytes, 0, usage)
}

fn shape(contestant: Contestant) -> Option<Shape> {
    match contestant {
        Contestant::ThreadsInline => Some(Shape::Inline),
        Contestant::ThreadsPipeline => Some(Shape::Pipeline),
        Contestant::TokioUring | Contestant::Iperf3 | Contestant::Ringlift | Contestant::RingliftCrc32c => {
            None
        }
    }
}

fn open(paths: &[String], options: &OpenOptions) -> io::Result<Vec<File>> {
    paths.iter().map(|path| options.open(path)).collect()
}

fn sender(job: &Job, to: SocketAddr, files: Vec<File>) -> io::Result<Sender> {
    let work = &job.work;
    let sources: Vec<Box<dyn Source>> = match files.is_empty() {
        true => vec![Box::new(Null::new(work.bytes))],
        false => files.into_iter().map(|file| Box::new(FdSource::new(file.into())) as _).collect(),
    };
    let mut builder = Sender::builder()
        .connect(to)
        .channels(u16::try_from(work.channels).expect("a few channels"))
        .packet_size(u32::try_from(work.packet_size).expect("at most 16 MiB"))
        .checksum(if work.checked { Checksum::Crc32c } else { Checksum::None })
        .congestion(&work.congestion);
    for (number, source) in sources.into_iter().enumerate() {
        builder = builder.boxed_device(format!("net{number}"), source);
    }
    builder.build().map_err(io::Error::other)
}

fn receiver(job: &Job, listener: &Listener, files: Vec<File>) -> io::Result<Receiver> {
    let sinks: Vec<Box<dyn Sink>> = match files.is_empty() {
        true => vec![Box::new(Discard)],
        false => files.into_iter().map(|file| Box::new(FdSink::new(file.into())) as _).collect(),
    };
    let mut builder = Receiver::builder().listener(listener).congestion(&job.work.congestion);
    for (number, sink) in sinks.into_iter().enumerate() {
        builder = builder.boxed_device(format!("net{number}"), sink);
    }
    builder.build().map_err(io::Error::other)
}

/// As its report has it, on each side.
fn ringlift(finished: &Finished) -> io::Result<Measured> {
    match (finished.outcome, &finished.error) {
        (Outcome::Complete, None) => {
            let report = &finished.report;
            let cost = report.cost.ok_or_else(|| io::Error::other("the report has no cost"))?;
            Ok(Measured {
                bytes: report.bytes,
                nanoseconds: report.duration_ns,
                cpu_us: (cost.user_ns + cost.system_ns) / 1000,
                switches: cost.voluntary_switches + cost.involuntary_switches,
                peak_kib: cost.peak_rss_bytes >> 10,
            })
        }
        (_, Some(error)) => Err(io::Error::other(error.to_string())),
        (outcome, None) => Err(io::Error::other(outcome.name())),
    }
}

/// What the process has used so far, its kernel threads included.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    cpu_us: i64,
    switches: i64,
}

impl Usage {
    fn now() -> io::Result<Usage> {
        Ok(Usage::of(&getrusage(UsageWho::RUSAGE_SELF)?))
    }

    fn of(usage: &resource::Usage) -> Usage {
        let us = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        Usage {
            cpu_us: us(usage.user_time()) + us(usage.system_time()),
            switches: usage.voluntary_context_switches() + usage.involuntary_context_switches(),
        }
    }
}

fn measure(bytes: u64, nanoseconds: u64, begun: Usage) -> io::Result<Measured> {
    let ended = Usage::now()?;
    Ok(Measured {
        bytes,
        nanoseconds,
        cpu_us: u64::try_from(ended.cpu_us - begun.cpu_us).unwrap_or(0),
        switches: u64::try_from(ended.switches - begun.switches).unwrap_or(0),
        peak_kib: peak_kib()?,
    })
}

/// The process of iperf3 is this one's child, and has ended.
fn measure_iperf3(bytes: u64, nanoseconds: u64) -> io::Result<Measured> {
    let used = iperf3::usage()?;
    let Usage { cpu_us, switches } = Usage::of(&used);
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let (cpu_us, switches) = (count(cpu_us), count(switches));
    Ok(Measured { bytes, nanoseconds, cpu_us, switches, peak_kib: count(used.max_rss()) })
}

/// VmHWM: the largest resident set so far.
fn peak_kib() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0))
}
