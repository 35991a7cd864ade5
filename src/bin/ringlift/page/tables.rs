//! What is figures and text alone: devices, cost, warnings, settings and hosts.
//!
//! Rows that ought to be the same for all transfers are marked where they are not.

use std::collections::BTreeSet;

use ringlift::report::{Cost, DeviceReport, HostDetails, Report};

use super::markup::{ABSENT, Table, escaped, missing, or_absent, paragraph};
use super::transfer::Transfer;
use crate::show::hints;
use crate::show::units::{bytes, time};

/// Devices in a table.
const DEVICES_MAX: usize = 256;
const GIB: f64 = (1u64 << 30) as f64;

pub(crate) fn devices(transfer: &Transfer) -> String {
    let Some(report) = transfer.main().filter(|report| !report.devices.is_empty()) else {
        return missing("There was no device.");
    };
    let head = ["device", "bytes", "packets", "pre-copied", "config", "expected", "crc32c"];
    let mut table = Table::new("Devices", head);
    report.devices.iter().take(DEVICES_MAX).for_each(|device| table.row(device_row(device)));
    table.html()
}

fn device_row(device: &DeviceReport) -> [String; 7] {
    let instance = if device.instance == 0 { String::new() } else { format!("#{}", device.instance) };
    [
        device.name.clone() + &instance,
        bytes(device.bytes),
        device.packets.to_string(),
        bytes(device.precopy_bytes),
        bytes(device.config_bytes),
        or_absent(device.estimate.map(bytes)),
        or_absent(device.crc32c.clone()),
    ]
}

/// A column for each side of each transfer: its heading and report.
fn sides(transfers: &[Transfer]) -> Vec<(String, &Report)> {
    let is_single = transfers.len() == 1;
    let of = |transfer: &'_ Transfer, report: &Report| match is_single {
        true => report.role.to_string(),
        false => format!("{}, {}", transfer.label, report.role),
    };
    let named =
        transfers.iter().flat_map(|transfer| transfer.sides().map(move |side| (transfer, &side.report)));
    named.map(|(transfer, report)| (of(transfer, report), report)).collect()
}

fn table_of(caption: &str, sides: &[(String, &Report)]) -> Table {
    Table::new(caption, std::iter::once(String::new()).chain(sides.iter().map(|(name, _)| name.clone())))
        .of_transfers()
}

/// A figure of the cost, and how it is written.
type CostRow = (&'static str, fn(&Cost, &Report) -> String);

const COST: [CostRow; 9] = [
    ("processor, user", |cost, _| time(cost.user_ns)),
    ("processor, kernel", |cost, _| time(cost.system_ns)),
    ("of both, the worker's thread", |cost, _| time(cost.worker_ns)),
    ("processor per GiB", |cost, report| match report.bytes {
        0 => ABSENT.to_owned(),
        bytes => time(super::scale::whole(
            cost.user_ns.saturating_add(cost.system_ns) as f64 / (bytes as f64 / GIB),
        )),
    }),
    ("times that a thread waited", |cost, _| cost.voluntary_switches.to_string()),
    ("times that a thread was interrupted", |cost, _| cost.involuntary_switches.to_string()),
    ("kernel threads of the ring", |cost, _| or_absent(cost.iowq_workers.map(|count| count.to_string()))),
    ("calls of io_uring_enter", |cost, _| cost.enters.to_string()),
    ("most memory in use", |cost, _| bytes(cost.peak_rss_bytes)),
];

/// What each side cost its host.
pub(crate) fn cost(transfers: &[Transfer]) -> String {
    let sides = sides(transfers);
    if sides.iter().all(|(_, report)| report.cost.is_none()) {
        return missing("What it cost is not in this report: reports of version 2 have it.");
    }
    let mut table = table_of("Cost", &sides);
    for (name, figure) in COST {
        let cell = |report: &Report| or_absent(report.cost.as_ref().map(|cost| figure(cost, report)));
        table.row(std::iter::once(name.to_owned()).chain(sides.iter().map(|(_, report)| cell(report))));
    }
    table.html()
        + &paragraph("A process is counted as a whole: two sides in one process have the same figures.")
}

/// Every warning once, with what to do and where it came.
pub(crate) fn warnings(transfers: &[Transfer]) -> String {
    let sides = sides(transfers);
    let mut html = String::new();
    let mut seen = BTreeSet::new();
    for warning in sides.iter().flat_map(|(_, report)| &report.warnings) {
        if !seen.insert((&warning.text, &warning.hint)) {
            continue;
        }
        let has = |report: &Report| report.warnings.iter().any(|other| other.text == warning.text);
        let of = sides.iter().filter(|(_, report)| has(report)).map(|(name, _)| &**name);
        html += &format!(
            "<div class=\"note\"><p><strong>{}</strong> <code>{}</code> <span class=\"beside\">{}</span></p><p>{}</p></div>\n",
            escaped(&warning.text),
            escaped(&warning.code.to_string()),
            escaped(&of.collect::<Vec<_>>().join("; ")),
            escaped(&hints::of_warning(warning))
        );
    }
    if html.is_empty() { paragraph("There are none.") } else { html }
}

/// A row of text: its name, whether it ought to be the same everywhere, and where it stands in a report.
type TextRow = (&'static str, bool, fn(&Report) -> Option<String>);

const SETTINGS: [TextRow; 11] = [
    ("protocol", true, |report| Some(report.settings.dialect.clone())),
    ("channels", true, |report| Some(report.settings.channels.to_string())),
    ("packet size", true, |report| Some(bytes(report.settings.packet_size))),
    ("pool", true, |report| Some(bytes(report.settings.pool))),
    ("slots of the pool", true, |report| Some(report.settings.pool_slots.to_string())),
    ("checksum", true, |report| Some(report.settings.checksum.to_string())),
    ("zero copy", true, |report| report.settings.zero_copy.map(|mode| mode.to_string())),
    ("congestion control", true, |report| Some(report.settings.congestion.clone())),
    ("huge pages", true, |report| Some(report.settings.huge_pages.to_string())),
    ("registered buffers", true, |report| Some(yes_or_no(report.settings.registered_buffers))),
    ("command", false, |report| Some(report.run.as_ref()?.command_line.join(" "))),
];

pub(crate) fn settings(transfers: &[Transfer]) -> String {
    rows("Settings", &sides(transfers), &SETTINGS)
}

const HOSTS: [TextRow; 13] = [
    ("name", false, |report| Some(report.host.name.clone())),
    ("kernel", true, |report| Some(report.host.kernel.clone())),
    ("processor", true, |report| Some(report.host.cpu.clone())),
    ("processors", true, |report| Some(report.host.cpus.to_string())),
    ("of these, allowed", false, |report| report.host.affinity.clone()),
    ("frequency governor", true, |report| report.host.governor.clone()),
    ("NUMA nodes", true, |report| Some(report.host.numa_nodes?.to_string())),
    ("lockable memory", true, |report| Some(bytes(report.host.memlock?))),
    ("network card", true, |report| network_card(&report.host)),
    ("ringlift", true, |report| Some(report.host.ringlift.clone())),
    ("commit", true, |report| report.host.git.clone()),
    ("build", true, |report| Some(report.host.profile.clone())),
    ("address of the other side", false, |report| report.peer.as_ref()?.address.clone()),
];

pub(crate) fn hosts(transfers: &[Transfer]) -> String {
    let sides = sides(transfers);
    let mut html = rows("Hosts", &sides, &HOSTS);
    let names: BTreeSet<&String> = sides.iter().flat_map(|(_, report)| report.host.sysctls.keys()).collect();
    if names.is_empty() {
        return html
            + &missing("Names, network cards and kernel settings of hosts are in reports of version 2.");
    }
    let mut table = table_of("Settings of the kernels", &sides).words(sides.len() + 1);
    for name in names {
        let value = |report: &Report| or_absent(report.host.sysctls.get(name).cloned().flatten());
        let cells = std::iter::once(name.clone()).chain(sides.iter().map(|(_, report)| value(report)));
        table.row_of_same(cells.collect());
    }
    html += &table.html();
    html + &clocks(transfers)
}

fn rows(caption: &str, sides: &[(String, &Report)], rows: &[TextRow]) -> String {
    let mut table = table_of(caption, sides).words(sides.len() + 1);
    for (name, ought_to_be_same, text) in rows {
        let cells: Vec<String> = sides.iter().map(|(_, report)| or_absent(text(report))).collect();
        if cells.iter().all(|cell| *cell == ABSENT) {
            continue;
        }
        let cells = std::iter::once((*name).to_owned()).chain(cells).collect();
        if *ought_to_be_same { table.row_of_same(cells) } else { table.row::<String>(cells) }
    }
    table.html()
}

fn clocks(transfers: &[Transfer]) -> String {
    let clocks = transfers.iter().filter_map(|transfer| Some((transfer, transfer.main()?.clock?)));
    let told = clocks.map(|(transfer, clock)| {
        let direction = if clock.offset_ns < 0 { "behind" } else { "ahead" };
        let (by, error) = (time(clock.offset_ns.unsigned_abs()), time(clock.error_ns));
        paragraph(&format!(
            "{}: the other side's clock is {by} {direction}, give or take {error}.",
            transfer.label
        ))
    });
    told.collect()
}

fn network_card(host: &HostDetails) -> Option<String> {
    let nic = host.nic.as_ref()?;
    let driver = nic.driver.as_ref().map(|driver| format!("driver {driver}"));
    let speed = nic.speed.map(|speed| format!("{speed} Mbit/s"));
    let mtu = nic.mtu.map(|mtu| format!("MTU {mtu}"));
    let node = nic.numa_node.map(|node| format!("NUMA node {node}"));
    let rest = [driver, speed, mtu, node].into_iter().flatten();
    Some(std::iter::once(nic.name.clone()).chain(rest).collect::<Vec<_>>().join(", "))
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
