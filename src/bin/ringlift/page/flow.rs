//! What moved when: throughput, and beneath it what held the data back.

use ringlift::report::{Interval, Report};

use super::markup::{Table, missing};
use super::scale::{Linear, rate_tick, time_tick};
use super::svg::{self, BOTTOM, Svg, TOP, steps};
use super::switchover::pause;
use super::transfer::{Side, Transfer};
use crate::show::units::{bytes, rate, time};

/// Intervals that are drawn: more would be narrower than a pixel.
const INTERVALS_MAX: usize = 600;

const RATES: f64 = 160.0;
/// Height of a strip of stalls, with its label.
const STRIP: f64 = 44.0;

/// Axes that all transfers of a page share, so that what is faster looks faster.
pub(crate) struct Axes {
    x: Linear,
    y: Linear,
}

impl Axes {
    pub(crate) fn of(transfers: &[Transfer]) -> Axes {
        let sides = transfers.iter().flat_map(measured).flat_map(|(_, intervals)| intervals);
        let ends = sides.map(|one| (one.end_ns, rate_of(&one)));
        let (end, fastest) =
            ends.fold((0, 0.0f64), |(end, fastest), one| (end.max(one.0), fastest.max(one.1)));
        Axes { x: Linear::until(end as f64, 4), y: Linear::covering(fastest, 4) }
    }
}

/// The sides that have intervals.
fn measured(transfer: &Transfer) -> Vec<(&Side, Vec<Interval>)> {
    let sides = transfer.sides().map(|side| (side, merged(&side.report.intervals)));
    sides.filter(|(_, intervals)| !intervals.is_empty()).collect()
}

pub(crate) fn flow(transfer: &Transfer, number: usize, Axes { x, y }: &Axes) -> String {
    let sides = measured(transfer);
    let Some((side, first)) = sides.first() else {
        return missing("What moved when is not in this report: later versions have intervals.");
    };
    let fastest = sides.iter().flat_map(|(_, intervals)| intervals).map(rate_of).fold(0.0, f64::max);
    let title = format!("Throughput of {} over time", transfer.label);
    let description = format!(
        "Up to {}; {} on average. Beneath it, for how much of the time data waited for the receiver's credit and for \
         free slots.",
        rate(fastest),
        rate(side.report.throughput_bytes_per_s)
    );
    let height = TOP + RATES + 2.0 * STRIP;
    let mut svg = Svg::new(&format!("flow-{number}"), &title, &description, height + BOTTOM).with_gutter();
    if let Some((begin, end)) = pause(side) {
        svg.bar(x.at(begin as f64), x.at(end as f64), TOP, RATES, "k-pause", "the devices stand still");
    }
    for tick in y.ticks() {
        svg.level(TOP + RATES * (1.0 - y.at(*tick)), &rate_tick(*tick));
    }
    let mut legend = Vec::new();
    for (place, (side, intervals)) in sides.iter().enumerate() {
        let points = steps(intervals.iter().map(|one| span(x, one, y.at(rate_of(one)))));
        if place == 0 {
            svg.area(TOP, RATES, &points, "under");
        }
        svg.curve(TOP, RATES, &points, &format!("s{place}"));
        legend.push((format!("s{place}"), format!("{}, {}", side.report.role, counted(&side.report))));
    }
    if pause(side).is_some() {
        legend.push(("k-pause".to_owned(), "devices stand still".to_owned()));
    }
    stalls(&mut svg, x, first);
    for tick in x.ticks() {
        svg.tick(x.at(*tick), height + 15.0, &time_tick(*tick));
    }
    let tables: String = sides.iter().map(|(side, intervals)| table(&side.report, intervals)).collect();
    svg::figure("Throughput over time", &svg::legend(&legend), &svg, &tables)
}

fn counted(report: &Report) -> &'static str {
    match report.role {
        ringlift::report::Role::Sender => "read from the devices",
        ringlift::report::Role::Receiver => "written to the devices",
    }
}

/// Fill and name of a cause, and how long it lasted.
type Cause = (&'static str, &'static str, fn(&Interval) -> u64);

/// A strip for each cause, full where data waited all the time.
fn stalls(svg: &mut Svg, x: &Linear, intervals: &[Interval]) {
    let causes: [Cause; 2] = [
        ("k0", "waiting for the receiver's credit", |one| one.credit_stall_ns),
        ("k2", "waiting for a free slot", |one| one.pool_stall_ns),
    ];
    for (strip, (fill, name, stalled)) in causes.into_iter().enumerate() {
        let top = TOP + RATES + strip as f64 * STRIP;
        let waited: u64 = intervals.iter().map(stalled).fold(0, u64::saturating_add);
        svg.label(0.0, top + 16.0, &format!("{name}: {}", time(waited)));
        let (y, height) = (top + 20.0, STRIP - 22.0);
        svg.line((0.0, y + height), (1.0, y + height), "grid");
        let share = |one: &Interval| stalled(one) as f64 / (length(one).max(1) as f64);
        if waited > 0 {
            svg.area(y, height, &steps(intervals.iter().map(|one| span(x, one, share(one)))), fill);
        }
    }
}

fn span(x: &Linear, interval: &Interval, value: f64) -> (f64, f64, f64) {
    (x.at(interval.begin_ns as f64), x.at(interval.end_ns as f64), value)
}

fn length(interval: &Interval) -> u64 {
    interval.end_ns.saturating_sub(interval.begin_ns)
}

fn moved(interval: &Interval) -> u64 {
    interval.device_bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

fn rate_of(interval: &Interval) -> f64 {
    match length(interval) {
        0 => 0.0,
        ns => moved(interval) as f64 * 1e9 / ns as f64,
    }
}

/// At most as many intervals as are drawn: neighbours are added up.
fn merged(intervals: &[Interval]) -> Vec<Interval> {
    let in_one = intervals.len().div_ceil(INTERVALS_MAX).max(1);
    intervals.chunks(in_one).map(|neighbours| neighbours.iter().fold(Interval::default(), merge)).collect()
}

fn merge(mut one: Interval, next: &Interval) -> Interval {
    if one.end_ns == 0 {
        return next.clone();
    }
    for (sums, values) in
        [(&mut one.device_bytes, &next.device_bytes), (&mut one.channel_bytes, &next.channel_bytes)]
    {
        sums.resize(sums.len().max(values.len()), 0);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.saturating_add(*value));
    }
    one.end_ns = next.end_ns;
    one.credit_stall_ns = one.credit_stall_ns.saturating_add(next.credit_stall_ns);
    one.pool_stall_ns = one.pool_stall_ns.saturating_add(next.pool_stall_ns);
    one.in_flight_bytes = one.in_flight_bytes.max(next.in_flight_bytes);
    one.reorder_depth = one.reorder_depth.max(next.reorder_depth);
    one.cpu_ns = one.cpu_ns.saturating_add(next.cpu_ns);
    one.retransmits = one.retransmits.saturating_add(next.retransmits);
    one
}

fn table(report: &Report, intervals: &[Interval]) -> String {
    let caption = format!("Intervals of the {}", report.role);
    let head = [
        "from",
        "to",
        "moved",
        "rate",
        "no credit",
        "no slot",
        "in flight",
        "reordering",
        "processor",
        "retransmits",
    ];
    let mut table = Table::new(&caption, head).words(0);
    for one in intervals {
        table.row([
            time(one.begin_ns),
            time(one.end_ns),
            bytes(moved(one)),
            rate(rate_of(one)),
            time(one.credit_stall_ns),
            time(one.pool_stall_ns),
            bytes(one.in_flight_bytes),
            one.reorder_depth.to_string(),
            time(one.cpu_ns),
            one.retransmits.to_string(),
        ]);
    }
    table.html()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(begin_ns: u64, device_bytes: &[u64]) -> Interval {
        let device_bytes = device_bytes.to_vec();
        Interval {
            begin_ns,
            end_ns: begin_ns + 10,
            device_bytes,
            in_flight_bytes: begin_ns,
            ..Interval::default()
        }
    }

    #[test]
    fn few_intervals_stay_as_they_are_and_many_are_added_up() {
        let few = [interval(0, &[1, 2]), interval(10, &[3, 4])];
        assert_eq!(merged(&few), few);
        let many: Vec<_> =
            (0..2 * INTERVALS_MAX as u64).map(|number| interval(number * 10, &[1, number])).collect();
        let found = merged(&many);
        assert_eq!(found.len(), INTERVALS_MAX);
        assert_eq!((found[0].begin_ns, found[0].end_ns, found[0].in_flight_bytes), (0, 20, 10));
        assert_eq!(found[1].device_bytes, [2, 5]);
    }

    #[test]
    fn a_rate_is_bytes_over_time_and_none_in_no_time() {
        assert!((rate_of(&interval(0, &[4, 6])) - 1e9).abs() < 1e-3);
        assert!(rate_of(&Interval::default()).abs() < 1e-9);
    }
}
