//! What the downtime was made of: its phases, side by side with what was predicted, and what was done with each device
//! when.
//!
//! Each side counts from its own agreement on settings; the two instants are less than a round trip apart.

use std::collections::BTreeMap;

use ringlift::report::{PreCopyEnd, Report, Role, TimelineEntry, TimelineWhat};
use ringlift::vfio::State;

use super::markup::{Table, missing, paragraph};
use super::scale::{Linear, time_tick};
use super::svg::{self, BOTTOM, Svg};
use super::transfer::{Side, Transfer};
use crate::show::units::{bytes, time};

/// Devices that are drawn.
pub(crate) const DRAWN_MAX: usize = 64;
/// Devices in one picture, so that a page of paper holds it.
const IN_ONE: usize = 8;
/// Entries of a timeline in its table.
const ENTRIES_MAX: usize = 64 * 24;

/// What is drawn, from the beginning of one thing to the end of another; its fill, and its name.
const KINDS: [(TimelineWhat, TimelineWhat, &str, &str); 10] = {
    use TimelineWhat::{
        Config, FirstRead, FirstWrite, LastRead, LastSent, LastWrite, Load, Quiesce, Release, Rollback, Run,
        Stop,
    };
    [
        (Quiesce, Quiesce, "k1", "quiesce"),
        (Stop, Stop, "k0", "stop"),
        (FirstRead, LastRead, "k2", "read"),
        (LastSent, LastSent, "k5", "last packet sent"),
        (Config, Config, "k6", "config state"),
        (FirstWrite, LastWrite, "k3", "write"),
        (Load, Load, "k4", "load"),
        (Run, Run, "k7", "run"),
        (Release, Release, "k8", "release"),
        (Rollback, Rollback, "k9", "rollback"),
    ]
};

/// The axis of the phases, which all transfers of a page share, so that what is longer looks longer. Devices have one of
/// their own: next to a long switchover nothing would be seen of a short one.
pub(crate) fn shared_axis(transfers: &[Transfer]) -> Linear {
    Linear::until(transfers.iter().map(downtime).max().unwrap_or(0) as f64, 4)
}

/// The longest that any side saw or expected.
fn downtime(transfer: &Transfer) -> u64 {
    let of = |side: &Side| {
        let predicted = side.report.prediction.as_ref().map_or(0, |predicted| predicted.downtime_ns);
        side.report.downtime.total_ns.max(predicted)
    };
    transfer.sides().map(of).max().unwrap_or(0)
}

/// All of it for one transfer; `number` makes ids.
pub(crate) fn switchover(transfer: &Transfer, number: usize, axis: &Linear) -> String {
    let mut html = phases(transfer, number, axis) + &precopy(transfer);
    let timeline = transfer.timeline();
    if timeline.is_empty() {
        return html
            + &missing(
                "What was done with each device when is not in this report: later versions have a timeline.",
            );
    }
    html += &devices(transfer, &timeline, number);
    html
}

/// A phase of the downtime: name, fill, and how long it took.
fn phases_of(report: &Report) -> [(&'static str, &'static str, u64); 5] {
    let downtime = &report.downtime;
    [
        ("stop", "k0", downtime.stop_ns),
        ("transfer", "k2", downtime.transfer_ns),
        ("load", "k4", downtime.load_ns),
        ("commit", "k7", downtime.commit_ns),
        ("rollback", "k9", downtime.rollback_ns),
    ]
}

fn phases(transfer: &Transfer, number: usize, axis: &Linear) -> String {
    const ROW: f64 = 46.0;
    let reports: Vec<&Report> = transfer.sides().map(|side| &side.report).collect();
    let Some(main) = reports.first() else { return String::new() };
    let predicted = main.prediction.as_ref();
    if downtime(transfer) == 0 {
        return missing("No device was stopped.");
    }
    let rows = reports.len() + usize::from(predicted.is_some());
    let height = rows as f64 * ROW;
    let title = format!("Phases of the downtime of {}", transfer.label);
    let describe = |report: &&Report| format!("{}: {}.", report.role, described(report));
    let description = reports.iter().map(describe).collect::<Vec<_>>().join(" ");
    let mut svg = Svg::new(&format!("phases-{number}"), &title, &description, height + BOTTOM);
    ticks(&mut svg, axis, 0.0, height);
    let mut used = BTreeMap::new();
    for (row, report) in reports.iter().enumerate() {
        let y = row as f64 * ROW;
        svg.label(0.0, y + 14.0, &format!("{}: {}", report.role, time(report.downtime.total_ns)));
        let mut begin = 0u64;
        for (name, fill, took) in phases_of(report) {
            let end = begin.saturating_add(took);
            if took > 0 {
                let tip = format!("{name}: {}", time(took));
                svg.bar(axis.at(begin as f64), axis.at(end as f64), y + 20.0, 16.0, fill, &tip);
                used.insert(fill, name);
            }
            begin = end;
        }
    }
    if let Some(predicted) = predicted {
        let y = reports.len() as f64 * ROW;
        let came_true = match predicted.came_true {
            Some(true) => ", which came true",
            Some(false) => ", which did not come true",
            None => "",
        };
        svg.label(0.0, y + 14.0, &format!("predicted: {}{came_true}", time(predicted.downtime_ns)));
        svg.bar(0.0, axis.at(predicted.downtime_ns as f64), y + 20.0, 16.0, "outline", "predicted");
    }
    let used: Vec<_> = used.into_iter().map(|(fill, name)| (fill.to_owned(), name.to_owned())).collect();
    svg::figure("Phases of the downtime", &svg::legend(&used), &svg, &phases_table(&reports))
}

fn described(report: &Report) -> String {
    let phases = phases_of(report).into_iter().filter(|(.., took)| *took > 0);
    let phases: Vec<String> = phases.map(|(name, _, took)| format!("{name} {}", time(took))).collect();
    format!("{} in all, of it {}", time(report.downtime.total_ns), phases.join(", "))
}

fn phases_table(reports: &[&Report]) -> String {
    let predicted = reports.first().and_then(|report| report.prediction.as_ref());
    let mut head = vec!["phase".to_owned()];
    head.extend(reports.iter().map(|report| report.role.to_string()));
    let mut table = Table::new("Phases of the downtime", head);
    for phase in 0..5 {
        let cells: Vec<_> = reports.iter().map(|report| phases_of(report)[phase]).collect();
        let name = cells.first().map_or("", |(name, ..)| name);
        table.row(std::iter::once(name.to_owned()).chain(cells.iter().map(|(.., took)| time(*took))));
    }
    let totals = reports.iter().map(|report| time(report.downtime.total_ns));
    table.row(std::iter::once("in all".to_owned()).chain(totals));
    let mut html = table.html() + &waits(reports);
    if let Some(predicted) = predicted {
        let mut table = Table::new("Predicted downtime", ["part", "time"]);
        predicted.made_of.iter().for_each(|(name, ns)| table.row([name.replace('_', " "), time(*ns)]));
        table.row(["in all".to_owned(), time(predicted.downtime_ns)]);
        html += &table.html();
    }
    html
}

/// Which device each step of a phase waited for.
fn waits(reports: &[&Report]) -> String {
    let head = ["side", "step", "device", "took", "slowest change of state", "took"];
    let mut table = Table::new("What the phases waited for", head).words(3);
    for report in reports {
        for step in report.downtime_account().iter().flat_map(|phase| &phase.steps) {
            let name = report.devices.get(step.device).map_or("?", |device| &device.name);
            let arc = step.arc.map(|arc| (format!("{} → {}", arc.from, arc.to), time(arc.took_ns)));
            let (arc, arc_took) = arc.unwrap_or_default();
            let what = step.what.to_string().replace('_', " ");
            table.row([report.role.to_string(), what, name.to_owned(), time(step.took_ns), arc, arc_took]);
        }
    }
    if table.is_empty() { String::new() } else { table.html() }
}

fn precopy(transfer: &Transfer) -> String {
    let Some(precopy) = transfer.sides().find_map(|side| side.report.precopy.as_ref()) else {
        return String::new();
    };
    let left = precopy.left_bytes.map_or_else(String::new, |left| format!(", with {} left", bytes(left)));
    let why = match precopy.end {
        PreCopyEnd::Converged => "little enough was left",
        PreCopyEnd::Caller => "the caller said so",
        PreCopyEnd::Time => "its time was up",
        PreCopyEnd::Volume => "the devices gave more than they had promised",
    };
    let moved = format!("{} in {}", bytes(precopy.bytes), time(precopy.duration_ns));
    paragraph(&format!("Pre-copy moved {moved}{left}. It ended because {why}."))
}

/// A device's bars on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bar {
    kind: usize,
    begin: u64,
    end: u64,
}

/// The bars of one device and side, in the order of [`KINDS`].
fn bars(timeline: &[&TimelineEntry], device: u64, side: Role) -> Vec<Bar> {
    let is_it = |entry: &&&TimelineEntry| entry.device == Some(device) && entry.side == side;
    let of: Vec<&TimelineEntry> = timeline.iter().filter(is_it).copied().collect();
    let bar = |(kind, (first, last, ..)): (usize, &(TimelineWhat, TimelineWhat, &str, &str))| {
        let entries = || of.iter().filter(|entry| entry.what == *first || entry.what == *last);
        let begin = entries().map(|entry| entry.begin_ns).min()?;
        let end = entries().map(|entry| entry.end_ns).max()?;
        Some(Bar { kind, begin, end: end.max(begin) })
    };
    KINDS.iter().enumerate().filter_map(bar).collect()
}

/// From when the first device begins to stop to the end of the last entry. What came before is pre-copy.
fn window(timeline: &[&TimelineEntry]) -> (u64, u64) {
    use TimelineWhat::{Arc, FirstWrite, Precopy, PrecopyInfo, Quiesce, Start, Stop};
    let begin_of = |is: &dyn Fn(TimelineWhat) -> bool| {
        timeline.iter().filter(|entry| is(entry.what)).map(|entry| entry.begin_ns).min()
    };
    let stops = begin_of(&|what| matches!(what, Quiesce | Stop));
    let others = begin_of(&|what| !matches!(what, Precopy | PrecopyInfo | Start | FirstWrite | Arc));
    let begin = stops.or(others).or_else(|| begin_of(&|_| true)).unwrap_or(0);
    let end = timeline.iter().map(|entry| entry.end_ns).max().unwrap_or(0);
    (begin, end.max(begin))
}

fn devices(transfer: &Transfer, timeline: &[&TimelineEntry], number: usize) -> String {
    let Some(main) = transfer.main() else { return String::new() };
    let known = main.devices.len();
    let drawn = known.min(DRAWN_MAX);
    let (begin, end) = window(timeline);
    let axis = Linear::until((end - begin) as f64, 4);
    let roles: Vec<Role> = [Role::Sender, Role::Receiver]
        .into_iter()
        .filter(|role| timeline.iter().any(|entry| entry.side == *role))
        .collect();
    let names: Vec<&str> = main.devices.iter().map(|device| &*device.name).take(drawn).collect();
    let mut html = String::new();
    for (picture, names) in names.chunks(IN_ONE).enumerate() {
        let first = picture * IN_ONE;
        let view = View { timeline, axis: &axis, begin, roles: &roles, first };
        let id = format!("timeline-{number}-{picture}");
        let (svg, used) = view.drawn(&id, names);
        let whose = match *roles {
            [one] => one.to_string(),
            _ => "the sender above, the receiver below".to_owned(),
        };
        let last = first + names.len();
        let heading = match known > IN_ONE {
            true if last == first + 1 => format!("Device {last} in the switchover: {whose}"),
            true => format!("Devices {} to {last} in the switchover: {whose}", first + 1),
            false => format!("Devices in the switchover: {whose}"),
        };
        html += &svg::figure(&heading, &svg::legend(&used), &svg, &view.table(names));
    }
    if known > drawn {
        html += &paragraph(&format!("{drawn} of {known} devices are drawn; the report has all of them."));
    }
    if roles.len() == 2 {
        html += &paragraph(
            "Each side counts from its own agreement on settings; the two instants are less than a round trip apart.",
        );
    }
    html
}

/// Some devices of a timeline.
struct View<'a> {
    timeline: &'a [&'a TimelineEntry],
    axis: &'a Linear,
    begin: u64,
    roles: &'a [Role],
    /// The number of the first of these devices.
    first: usize,
}

impl View<'_> {
    fn device(&self, place: usize) -> u64 {
        (self.first + place) as u64
    }

    fn drawn(&self, id: &str, names: &[&str]) -> (Svg, Vec<(String, String)>) {
        let lane = 24.0 + self.roles.len() as f64 * 22.0;
        let height = names.len() as f64 * lane;
        let description = "A row for each device and side: what was done with it, from left to right.";
        let mut svg = Svg::new(id, "Devices in the switchover", description, height + BOTTOM);
        ticks(&mut svg, self.axis, 0.0, height);
        let mut used = [false; KINDS.len()];
        for (place, name) in names.iter().enumerate() {
            let top = place as f64 * lane;
            svg.label(0.0, top + 14.0, &svg::shortened(name));
            for (row, role) in self.roles.iter().enumerate() {
                let y = top + 20.0 + row as f64 * 22.0;
                for bar in bars(self.timeline, self.device(place), *role) {
                    used[bar.kind] = true;
                    self.bar(&mut svg, bar, *role, y);
                }
                self.arcs(&mut svg, self.device(place), *role, y);
            }
        }
        let used = KINDS.iter().zip(used).filter(|(_, used)| *used);
        let mut legend: Vec<_> =
            used.map(|((.., fill, name), _)| ((*fill).to_owned(), (*name).to_owned())).collect();
        if self.timeline.iter().any(|entry| entry.what == TimelineWhat::Arc) {
            legend.push(("k-arc".to_owned(), "single changes of state (thin)".to_owned()));
        }
        (svg, legend)
    }

    /// The bar that says when the last packet was sent lies within others, so it is thin.
    fn bar(&self, svg: &mut Svg, bar: Bar, role: Role, y: f64) {
        let (what, _, fill, name) = KINDS[bar.kind];
        let (y, height) = if what == TimelineWhat::LastSent { (y + 14.0, 4.0) } else { (y, 13.0) };
        let tip = format!("{role}, {name}: {}", time(bar.end.saturating_sub(bar.begin)));
        svg.bar(self.at(bar.begin), self.at(bar.end), y, height, fill, &tip);
    }

    /// Marks where one state of the kernel's ends and the next begins.
    fn arcs(&self, svg: &mut Svg, device: u64, role: Role, y: f64) {
        let is_arc = |entry: &&&TimelineEntry| {
            entry.what == TimelineWhat::Arc && entry.device == Some(device) && entry.side == role
        };
        for arc in self.timeline.iter().filter(is_arc).filter(|arc| arc.end_ns >= self.begin) {
            let tip = format!("{role}, {}: {}", states(arc), time(arc.took_ns()));
            svg.bar(self.at(arc.begin_ns), self.at(arc.end_ns), y + 14.0, 4.0, "k-arc", &tip);
        }
    }

    fn at(&self, ns: u64) -> f64 {
        self.axis.at(ns.saturating_sub(self.begin) as f64)
    }

    fn table(&self, names: &[&str]) -> String {
        let head = ["device", "side", "what", "begins", "took"];
        let mut table = Table::new("What was done with each device when", head).words(3);
        for (place, name) in names.iter().enumerate() {
            let of = self.timeline.iter().filter(|entry| entry.device == Some(self.device(place)));
            for entry in of.take(ENTRIES_MAX / IN_ONE) {
                let what = entry.what.to_string().replace('_', " ");
                let what = if entry.what == TimelineWhat::Arc { states(entry) } else { what };
                let begins = match entry.begin_ns.checked_sub(self.begin) {
                    Some(after) => time(after),
                    None => format!("-{}", time(self.begin - entry.begin_ns)),
                };
                table.row([(*name).to_owned(), entry.side.to_string(), what, begins, time(entry.took_ns())]);
            }
        }
        table.html()
    }
}

fn states(arc: &TimelineEntry) -> String {
    let state = |state: Option<State>| state.map_or_else(|| "?".to_owned(), |state| state.to_string());
    format!("{} → {}", state(arc.from), state(arc.to))
}

/// Grid lines down through a plot, each with its time.
fn ticks(svg: &mut Svg, axis: &Linear, top: f64, bottom: f64) {
    for tick in axis.ticks() {
        let x = axis.at(*tick);
        svg.line((x, top), (x, bottom), "grid");
        svg.tick(x, bottom + 15.0, &time_tick(*tick));
    }
}

/// When the devices of a side stood still, where its timeline shows it.
pub(crate) fn pause(side: &Side) -> Option<(u64, u64)> {
    let Report { role, timeline, downtime, .. } = &side.report;
    let stops = |entry: &&TimelineEntry| {
        entry.side == *role && matches!(entry.what, TimelineWhat::Quiesce | TimelineWhat::Stop)
    };
    let begin = timeline.iter().filter(stops).map(|entry| entry.begin_ns).min()?;
    Some((begin, begin.saturating_add(downtime.total_ns)))
}

#[cfg(test)]
mod tests {
    use TimelineWhat::{FirstRead, FirstWrite, LastRead, Load, Precopy, Release, Run, Start, Stop};

    use super::*;

    fn entry(what: TimelineWhat, begin_ns: u64, end_ns: u64) -> TimelineEntry {
        let (device, channel) = (Some(0), None);
        TimelineEntry { side: Role::Sender, device, channel, what, from: None, to: None, begin_ns, end_ns }
    }

    #[test]
    fn reading_reaches_from_the_first_to_the_last_and_writing_too() {
        let entries = [entry(FirstRead, 10, 12), entry(LastRead, 90, 95), entry(Stop, 1, 9)];
        let found = bars(&entries.iter().collect::<Vec<_>>(), 0, Role::Sender);
        assert_eq!(found, [Bar { kind: 1, begin: 1, end: 9 }, Bar { kind: 2, begin: 10, end: 95 }]);
        assert!(bars(&entries.iter().collect::<Vec<_>>(), 1, Role::Sender).is_empty());
    }

    #[test]
    fn the_switchover_begins_when_the_first_device_begins_to_stop() {
        let entries = [entry(Precopy, 0, 900), entry(Stop, 1000, 1100), entry(Release, 2000, 2100)];
        assert_eq!(window(&entries.iter().collect::<Vec<_>>()), (1000, 2100));
        let receiver = [entry(Start, 0, 5), entry(FirstWrite, 100, 101), entry(Load, 700, 800)];
        assert_eq!(window(&receiver.iter().collect::<Vec<_>>()), (700, 800));
        assert_eq!(window(&[]), (0, 0));
    }

    #[test]
    fn an_entry_that_ends_before_it_begins_does_no_harm() {
        let entries = [entry(Stop, u64::MAX, 0), entry(Run, 5, 1)];
        let entries: Vec<_> = entries.iter().collect();
        assert!(!bars(&entries, 0, Role::Sender).is_empty());
        let (begin, end) = window(&entries);
        assert!(begin <= end);
    }
}
