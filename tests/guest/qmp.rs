//! Controls a QEMU through its control socket (QMP), for the scenarios of `tools/guest/test`. Every wait has a time limit.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]
#![expect(clippy::disallowed_methods, reason = "a command has a clock and may sleep")]

mod card;

use std::error::Error;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use card::{Port, content};

const USAGE: &str = "\
usage: qmp SOCKET EXECUTE [ARGUMENTS]           runs a QMP command with its arguments (JSON); prints what it returns, as JSON
       qmp SOCKET hmp COMMAND...                runs human monitor commands; prints the output of each
       qmp SOCKET wait EXECUTE MEMBER VALUE...  repeats the command until it returns an object whose MEMBER has one of the
                                                values; prints that value
       qmp SOCKET show                          scratch register and FIFO of port 0 of the guest's mtty card, read with
                                                the guest's own I/O
       qmp SOCKET fill BYTE TEXT                gives them that content, as a driver in the guest would
If the socket does not exist yet, the command waits for it.";

/// A machine inside an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
const CARD: &str = "PCI device 4348:3253";

fn main() -> ExitCode {
    let typed: Vec<String> = std::env::args().skip(1).collect();
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    let [socket, execute, rest @ ..] = typed.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(socket, execute, rest) {
        Ok(words) => {
            println!("{words}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("qmp: {socket}: {execute}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &str, execute: &str, rest: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut monitor = Monitor::connect(socket)?;
    match (execute, rest) {
        ("hmp", [_, ..]) => {
            let texts: Result<Vec<String>, _> = rest.iter().map(|command| monitor.human(command)).collect();
            Ok(texts?.join("\n"))
        }
        ("wait", [query, member, values @ ..]) if !values.is_empty() => monitor.wait(query, member, values),
        ("show", []) => GuestPort::find(&mut monitor)?.show(),
        ("fill", [scratch, text]) => {
            let (scratch, text) = content(scratch, text)?;
            GuestPort::find(&mut monitor)?.fill(scratch, text)?;
            Ok(String::new())
        }
        ("hmp" | "wait" | "show" | "fill", _) => Err(USAGE.into()),
        (_, []) => Ok(monitor.execute(execute, json!({}))?.to_string()),
        (_, [arguments]) => Ok(monitor.execute(execute, serde_json::from_str(arguments)?)?.to_string()),
        _ => Err(USAGE.into()),
    }
}

struct Monitor {
    answers: BufReader<UnixStream>,
}

impl Monitor {
    fn connect(path: &str) -> Result<Monitor, Box<dyn Error>> {
        let socket = until("nothing was listening", || match UnixStream::connect(path) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        })?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Monitor { answers: BufReader::new(socket) };
        monitor.answer()?; // the greeting
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    fn execute(&mut self, execute: &str, arguments: Value) -> Result<Value, Box<dyn Error>> {
        writeln!(self.answers.get_mut(), "{}", json!({ "execute": execute, "arguments": arguments }))?;
        loop {
            let mut answer = self.answer()?;
            if let Some(error) = answer.get("error") {
                return Err(format!("{execute} was refused: {error}").into());
            }
            if let Some(returned) = answer.get_mut("return") {
                return Ok(returned.take());
            } // anything else is an event
        }
    }

    fn answer(&mut self) -> Result<Value, Box<dyn Error>> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err("QEMU closed the socket".into()),
            Ok(_) => Ok(serde_json::from_str(&line)?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(format!("no answer in {} s", PATIENCE.as_secs()).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn human(&mut self, command: &str) -> Result<String, Box<dyn Error>> {
        let text = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(text.as_str().unwrap_or_default().trim().replace('\r', ""))
    }

    fn wait(&mut self, query: &str, member: &str, values: &[&str]) -> Result<String, Box<dyn Error>> {
        let mut last = Value::Null;
        until(&format!("{member} was not {}", values.join(" or ")), || {
            last = self.execute(query, json!({}))?;
            Ok(values.iter().find(|value| last[member] == ***value).map(ToString::to_string))
        })
        .map_err(|error| format!("{error}; the last answer was {last}").into())
    }
}

/// The card's registers, reached with the guest's instructions `in` and `out`.
struct GuestPort<'a> {
    monitor: &'a mut Monitor,
    base: u64,
}

impl GuestPort<'_> {
    fn find(monitor: &mut Monitor) -> Result<GuestPort<'_>, Box<dyn Error>> {
        let base = until("the card had no I/O port", || Ok(io_port(&monitor.human("info pci")?)))?;
        Ok(GuestPort { monitor, base })
    }
}

/// Where the firmware has put the card's first region: `info pci` has a heading for each device, with its regions below.
fn io_port(info_pci: &str) -> Option<u64> {
    let mut lines = info_pci.lines().skip_while(|line| !line.contains(CARD));
    let address = lines.find_map(|line| line.split_once("BAR0: I/O at 0x")?.1.split_whitespace().next())?;
    let address = u64::from_str_radix(address, 16).ok()?;
    (1..0xffff).contains(&address).then_some(address)
}

impl Port for GuestPort<'_> {
    fn read(&mut self, register: u64) -> Result<u8, Box<dyn Error>> {
        let text = self.monitor.human(&format!("i /b {}", self.base + register))?;
        let byte = text.rsplit_once("0x").ok_or_else(|| format!("'{text}' shows no byte"))?.1;
        Ok(u8::from_str_radix(byte, 16)?)
    }

    fn write(&mut self, register: u64, byte: u8) -> Result<(), Box<dyn Error>> {
        match self.monitor.human(&format!("o /b {} {byte}", self.base + register))?.as_str() {
            "" => Ok(()),
            complaint => Err(complaint.into()),
        }
    }
}

fn until<T>(
    otherwise: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{otherwise} for {} s", PATIENCE.as_secs()).into());
        }
        sleep(PAUSE);
    }
}
