//! iperf3: bytes over TCP without packets, the usual measure of what sockets can do. It runs as a process of its own, and
//! moves about as many bytes as the others, in blocks as large as their packets.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use nix::sys::resource::{Usage, UsageWho, getrusage};

use super::Work;

/// Serves one test; `tell` is called with the address once it listens.
pub(crate) fn receive(tell: impl FnOnce(SocketAddr) -> io::Result<()>) -> io::Result<()> {
    // it cannot choose a free port by itself
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut server = iperf3(address)
        // ends by itself when no client comes
        .args(["--server", "--one-off", "--idle-timeout", "30", "--forceflush", "--bind", "127.0.0.1"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().expect("it is a pipe"));
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Err(io::Error::other("iperf3 does not listen"));
        }
    }
    tell(address)?;
    lines.read_to_string(&mut line)?;
    match server.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(line)),
    }
}

/// The bytes that arrived, and how many nanoseconds that took.
pub(crate) fn send(to: SocketAddr, work: &Work) -> io::Result<(u64, u64)> {
    let output = iperf3(to)
        .args(["--client", "127.0.0.1", "--json", "--congestion", &work.congestion])
        .args(["--length", &work.packet_size.min(1 << 20).to_string()])
        .args(["--parallel", &work.channels.to_string(), "--bytes", &work.bytes.to_string()])
        .output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let received = &report["end"]["sum_received"];
    match (received["bytes"].as_u64(), received["seconds"].as_f64()) {
        (Some(bytes @ 1..), Some(seconds)) => {
            let took = std::time::Duration::try_from_secs_f64(seconds).map_err(io::Error::other)?;
            Ok((bytes, u64::try_from(took.as_nanos()).expect("less than 500 years")))
        }
        _ => Err(io::Error::other(format!("iperf3 failed: {}", report["error"]))),
    }
}

/// What the processes that have ended used.
pub(crate) fn usage() -> io::Result<Usage> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?)
}

fn iperf3(address: SocketAddr) -> Command {
    let mut command = Command::new("iperf3");
    command.args(["--port", &address.port().to_string()]).stdin(Stdio::null());
    command
}
