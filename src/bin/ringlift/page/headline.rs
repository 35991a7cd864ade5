//! The top of the page: how each transfer ended, what it took, when and where.

use ringlift::report::{Report, Role, RunInfo, TransferOutcome};

use super::markup::{ABSENT, Table, escaped, missing, or_absent};
use super::transfer::Transfer;
use crate::show::units::{bytes, rate, time};

/// Figures at a glance for a single transfer; columns, with the differences, for several.
pub(crate) fn headline(transfers: &[Transfer]) -> String {
    let mut html = match transfers {
        [one] => one.main().map(tiles).unwrap_or_default(),
        _ => String::new(),
    };
    html += &overview(transfers).html();
    for transfer in transfers {
        for side in transfer.sides() {
            html += &error(transfer, &side.report, transfers.len() > 1);
        }
    }
    html + &hints(transfers)
}

fn tiles(report: &Report) -> String {
    let simulated = if report.downtime.simulated { "simulated: no guest stood still" } else { "" };
    let moved = format!("{} devices, {} channels", report.devices.len(), report.channels.len());
    let tile = |name: &str, figure: &str, beside: &str| {
        format!(
            "<div><dt>{name}</dt><dd>{}</dd><dd class=\"beside\">{}</dd></div>\n",
            escaped(figure),
            escaped(beside)
        )
    };
    format!(
        "<dl class=\"tiles\">\n{}{}{}{}</dl>\n",
        tile("Outcome", &outcome(report), ""),
        tile("Downtime", &time(report.downtime.total_ns), simulated),
        tile(
            "Throughput",
            &rate(report.throughput_bytes_per_s),
            &format!("over {}", time(report.duration_ns))
        ),
        tile("State moved", &bytes(report.bytes), &moved),
    )
}

fn outcome(report: &Report) -> String {
    report.outcome.to_string().replace('_', " ")
}

fn overview(transfers: &[Transfer]) -> Table {
    let labels = transfers.iter().map(|transfer| transfer.label.clone());
    let mut table = Table::new("Transfers", std::iter::once(String::new()).chain(labels)).of_transfers();
    if let [_] = transfers {
        table = table.words(2);
    }
    let text = |name: &str, figure: &dyn Fn(&Transfer, &Report) -> String| {
        let cell = |transfer: &Transfer| or_absent(transfer.main().map(|main| figure(transfer, main)));
        std::iter::once(name.to_owned()).chain(transfers.iter().map(cell)).collect::<Vec<_>>()
    };
    let number = |name: &str, value: &dyn Fn(&Report) -> f64, show: &dyn Fn(&Report) -> String| {
        let first = transfers.first().and_then(Transfer::main);
        let is_whole = |report: &Report| report.outcome == TransferOutcome::Complete;
        text(name, &|_, report| match first.filter(|first| is_whole(first) && is_whole(report)) {
            Some(first) if !std::ptr::eq(first, report) => {
                show(report) + &change(value(first), value(report))
            }
            _ => show(report),
        })
    };
    if transfers.len() > 1 {
        // a single one has them in its tiles
        table.row_of_same(text("outcome", &|_, report| outcome(report)));
        table.row(number("downtime", &|one| one.downtime.total_ns as f64, &downtime));
        let throughput = |one: &Report| one.throughput_bytes_per_s;
        table.row(number("throughput", &throughput, &|one| rate(throughput(one))));
        table.row(number("state moved", &|one| one.bytes as f64, &|one| bytes(one.bytes)));
        table.row(number("duration", &|one| one.duration_ns as f64, &|one| time(one.duration_ns)));
    }
    table.row(number("packets", &|one| one.packets as f64, &|one| one.packets.to_string()));
    table.row_of_same(text("devices", &|_, report| report.devices.len().to_string()));
    table.row_of_same(text("channels", &|_, report| report.settings.channels.to_string()));
    let of_run: [(&str, RunFigure); 5] = [
        ("began", |run| Some(run.started_at.clone())),
        ("run", |run| Some(run.id.clone())),
        ("arm", |run| run.arm.clone()),
        ("round", |run| run.round.map(|round| round.to_string())),
        ("notes", notes),
    ];
    for (name, figure) in of_run {
        let cells = text(name, &|_, report| run(report, figure));
        if cells[1..].iter().any(|cell| *cell != ABSENT) {
            table.row(cells);
        }
    }
    table.row_of_same(text("source host", &|transfer, _| host(transfer, Role::Sender)));
    table.row_of_same(text("destination host", &|transfer, _| host(transfer, Role::Receiver)));
    table.row(text("reports of", &|transfer, _| {
        transfer.sides().map(|side| side.report.role.to_string()).collect::<Vec<_>>().join(" and ")
    }));
    table.row(text("session", &|_, report| or_absent(report.session.clone())));
    table
}

fn downtime(report: &Report) -> String {
    let simulated = if report.downtime.simulated { " (simulated)" } else { "" };
    time(report.downtime.total_ns) + simulated
}

/// How a figure differs from the first one.
fn change(first: f64, value: f64) -> String {
    match (value - first) / first * 100.0 {
        change if !change.is_finite() => String::new(),
        change if change.abs() < 0.05 => " (same)".to_owned(),
        change => format!(" ({change:+.1} %)"),
    }
}

/// Something that a report says of its run.
type RunFigure = fn(&RunInfo) -> Option<String>;

fn run(report: &Report, figure: RunFigure) -> String {
    or_absent(report.run.as_ref().and_then(figure))
}

fn notes(run: &RunInfo) -> Option<String> {
    let notes: Vec<String> = run.note.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(notes.join(", "))
}

/// The host of a side: its name, or the processor where the report has no name.
fn host(transfer: &Transfer, role: Role) -> String {
    let Some(side) = transfer.sides().find(|side| side.report.role == role) else { return ABSENT.to_owned() };
    let host = &side.report.host;
    match host.name.is_empty() {
        true => format!("Linux {}, {}", host.kernel, host.cpu),
        false => host.name.clone(),
    }
}

fn error(transfer: &Transfer, report: &Report, is_one_of_many: bool) -> String {
    let Some(error) = &report.error else { return String::new() };
    let whose =
        if is_one_of_many { format!("{}, {}", transfer.label, report.role) } else { report.role.to_string() };
    let hint = error.hint.as_ref().map(|hint| format!("<p>{}</p>", escaped(hint))).unwrap_or_default();
    format!(
        "<div class=\"note error\"><p><strong>{}: {}</strong></p>{hint}</div>\n",
        escaped(&whose),
        escaped(&error.text)
    )
}

/// What these reports do not say, and what would make them say it.
fn hints(transfers: &[Transfer]) -> String {
    let mut html = String::new();
    if transfers.iter().any(|transfer| transfer.main().is_some_and(|report| report.run.is_none())) {
        html += &missing(
            "When and as what a transfer ran is in reports of version 2; --run-id, --arm, --round and --note name it.",
        );
    }
    for (role, other) in [(Role::Sender, "send --json"), (Role::Receiver, "recv --json")] {
        let lacks = |transfer: &&Transfer| !transfer.sides().any(|side| side.report.role == role);
        let lacking: Vec<&str> = transfers.iter().filter(lacks).map(|transfer| &*transfer.label).collect();
        if !lacking.is_empty() {
            html += &missing(&format!(
                "The {role}'s figures are missing for {}: add the report that {other} writes to the command line.",
                lacking.join(", ")
            ));
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_as_a_share_of_the_first() {
        assert_eq!(change(100.0, 112.34), " (+12.3 %)");
        assert_eq!(change(100.0, 80.0), " (-20.0 %)");
        assert_eq!(change(100.0, 100.01), " (same)");
        assert_eq!(change(0.0, 1.0), "");
        assert_eq!(change(0.0, 0.0), "");
    }
}
