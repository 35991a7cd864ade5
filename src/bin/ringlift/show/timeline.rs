//! How long each device took for each step, and which device and which change of state the downtime waited for: in plain
//! text, the slowest devices first, and never more than a few of them.

use ringlift::report::{DeviceTimes, Report, SlowestDevice, TimelineWhat};

use crate::show::table::Table;
use crate::show::units::time;

/// Devices that get a row.
const ROWS_MAX: usize = 8;

/// How one side's time for a step is found.
type Step = fn(&DeviceTimes) -> Option<u64>;

/// The steps in the order in which they are done; a column each.
const STEPS: [(&str, Step); 8] = [
    ("quiesce", |times| times.quiesce_ns),
    ("stop", |times| times.stop_ns),
    ("read", |times| times.read_ns),
    ("config", |times| times.config_ns),
    ("write", |times| times.write_ns),
    ("load", |times| times.load_ns),
    ("run", |times| times.run_ns),
    ("rollback", |times| times.rollback_ns),
];

/// What the sides of one transfer know of its devices, and what its downtime waited for; empty when that is nothing.
pub(crate) fn timeline(sides: &[&Report]) -> String {
    let Some(first) = sides.first() else { return String::new() };
    let times: Vec<Vec<DeviceTimes>> = sides.iter().map(|side| side.device_times()).collect();
    // both sides have their devices in the same order
    let devices: Vec<Row> = (0..first.devices.len()).map(|device| Row::of(first, device, &times)).collect();
    if devices.iter().all(|row| row.total() == 0) {
        return String::new();
    }
    format!("\n{}{}", table(devices), waited_for(sides))
}

/// What is known of one device.
struct Row {
    name: String,
    steps: [Option<u64>; STEPS.len()],
    change: Option<String>,
}

impl Row {
    fn of(report: &Report, device: usize, sides: &[Vec<DeviceTimes>]) -> Row {
        let known = || sides.iter().filter_map(|side| side.get(device));
        let steps = STEPS.map(|(_, step)| known().find_map(step));
        let arcs = known().flat_map(|times| [times.stop_arc, times.load_arc]).flatten();
        let change = arcs.max_by_key(|arc| arc.took_ns).map(|arc| format!("{} -> {}", arc.from, arc.to));
        Row { name: report.devices[device].name.clone(), steps, change }
    }

    fn total(&self) -> u64 {
        self.steps.iter().flatten().sum()
    }
}

fn table(mut devices: Vec<Row>) -> String {
    devices.sort_by_key(|row| std::cmp::Reverse(row.total()));
    let left_out = devices.len().saturating_sub(ROWS_MAX);
    devices.truncate(ROWS_MAX);
    let known: Vec<usize> =
        (0..STEPS.len()).filter(|&step| devices.iter().any(|row| row.steps[step].is_some())).collect();
    let has_changes = devices.iter().any(|row| row.change.is_some());
    let mut header = vec!["device"];
    header.extend(known.iter().map(|&step| STEPS[step].0));
    header.extend(has_changes.then_some("slowest change"));
    let mut table = Table::new(&header);
    for row in devices {
        let mut cells = vec![row.name];
        cells.extend(known.iter().map(|&step| row.steps[step].map_or_else(|| "-".to_owned(), time)));
        cells.extend(has_changes.then(|| row.change.unwrap_or_else(|| "-".to_owned())));
        table.row(cells);
    }
    match left_out {
        0 => table.to_string(),
        count => format!("{table}and {count} more, which took less\n"),
    }
}

/// For each step of the downtime the device that was the last to end it.
fn waited_for(sides: &[&Report]) -> String {
    let mut table = Table::new(&["downtime", "waited for"]).words(2);
    let mut is_empty = true;
    for side in sides {
        for step in side.downtime_account().iter().flat_map(|phase| &phase.steps) {
            // the two sides of a transfer wait for the same thing, each at its end
            let is_repeated = sides.len() > 1 && step.what == TimelineWhat::LastWrite;
            if !is_repeated {
                table.row([label(step), slowest(side, step)]);
                is_empty = false;
            }
        }
    }
    if is_empty { String::new() } else { format!("\n{table}") }
}

fn label(step: &SlowestDevice) -> String {
    match step.what {
        TimelineWhat::LastSent | TimelineWhat::LastWrite => "transfer".to_owned(),
        what => what.to_string(),
    }
}

fn slowest(side: &Report, step: &SlowestDevice) -> String {
    let device = side.devices.get(step.device).map_or("?", |device| &device.name);
    let arc = step.arc.map(|arc| format!(", of which {} -> {} {}", arc.from, arc.to, time(arc.took_ns)));
    format!("{device} {}{}", time(step.took_ns), arc.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use ringlift::report::{DeviceReport, Downtime, Role, TimelineEntry};
    use ringlift::vfio::State::{PreCopyP2p, Resuming, Stop, StopCopy};

    use super::*;
    use crate::show::samples::report;

    const MS: u64 = 1_000_000;

    /// A report of so many devices; each takes as many milliseconds for every step as its number says.
    fn side(role: Role, devices: u64, steps: &[TimelineWhat]) -> Report {
        let names =
            (0..devices).map(|device| DeviceReport { name: format!("net{device}"), ..Default::default() });
        let mut timeline = Vec::new();
        for device in 0..devices {
            for (at, &what) in (0..).zip(steps) {
                let is_arc = what == TimelineWhat::Arc;
                let arc = if role == Role::Sender { (PreCopyP2p, StopCopy) } else { (Resuming, Stop) };
                let begin_ns = 1000 * MS * if is_arc { at - 1 } else { at };
                timeline.push(TimelineEntry {
                    side: role,
                    device: Some(device),
                    channel: None,
                    what,
                    from: is_arc.then_some(arc.0),
                    to: is_arc.then_some(arc.1),
                    begin_ns,
                    end_ns: begin_ns + (device + 1) * MS,
                });
            }
        }
        let downtime = Downtime { stop_ns: MS, transfer_ns: 9 * MS, load_ns: MS, ..Downtime::default() };
        Report { role, devices: names.collect(), timeline, downtime, ..report() }
    }

    fn sender(devices: u64) -> Report {
        use TimelineWhat::{Arc, Config, FirstRead, LastRead, LastSent, Quiesce, Stop};
        side(Role::Sender, devices, &[Quiesce, Stop, Arc, FirstRead, LastRead, Config, LastSent])
    }

    fn receiver(devices: u64) -> Report {
        use TimelineWhat::{Arc, FirstWrite, LastWrite, Load, Run};
        side(Role::Receiver, devices, &[FirstWrite, LastWrite, Load, Arc, Run])
    }

    #[test]
    fn a_side_shows_the_steps_that_it_knows_and_what_its_downtime_waited_for() {
        let text = timeline(&[&sender(2)]);
        assert_eq!(
            text,
            "\n\
             device   quiesce      stop     read    config              slowest change\n\
             net1     2.00 ms   2.00 ms   1.00 s   2.00 ms   PRE_COPY_P2P -> STOP_COPY\n\
             net0     1.00 ms   1.00 ms   1.00 s   1.00 ms   PRE_COPY_P2P -> STOP_COPY\n\
             \n\
             downtime   waited for\n\
             quiesce    net1 2.00 ms\n\
             stop       net1 2.00 ms, of which PRE_COPY_P2P -> STOP_COPY 2.00 ms\n\
             transfer   net1 9.00 ms\n"
        );
        let text = timeline(&[&receiver(1)]);
        assert!(text.contains("device    write      load       run     slowest change\n"), "{text}");
        assert!(text.contains("load       net0 1.00 ms, of which RESUMING -> STOP 1.00 ms\n"), "{text}");
    }

    #[test]
    fn both_sides_share_a_table() {
        let text = timeline(&[&sender(1), &receiver(1)]);
        let header = text.lines().nth(1).unwrap();
        let columns: Vec<_> = header.split_whitespace().collect();
        let expected = "device quiesce stop read config write load run slowest change";
        assert_eq!(columns.join(" "), expected, "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("transfer")).count(), 1, "{text}");
    }

    #[test]
    fn only_the_slowest_devices_have_a_row() {
        let text = timeline(&[&sender(20)]);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("net")).collect();
        assert_eq!(rows.len(), ROWS_MAX, "{text}");
        assert!(rows[0].starts_with("net19 ") && rows[7].starts_with("net12 "), "{text}");
        assert!(text.contains("and 12 more, which took less\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn a_report_without_times_shows_nothing() {
        assert_eq!(timeline(&[&report()]), "");
    }
}
