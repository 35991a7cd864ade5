//! How long packets took: percentile curves, in which every further nine has the same width, and histograms.
//!
//! Version 1 has quantiles alone: those are drawn as points, with lines between them that are only guesses.

use hdrhistogram::Histogram;
use ringlift::report::Distribution;

use super::markup::{Table, missing, or_absent};
use super::scale::{Log, Nines, time_tick};
use super::svg::{self, BOTTOM, STROKES, Svg, TOP, steps};
use super::transfer::Transfer;
use crate::show::units::time;

/// Points of a curve: more would be closer together than pixels.
const POINTS_MAX: usize = 400;
/// Bars of a histogram in each decade.
const IN_DECADE: f64 = 10.0;
const CURVES: f64 = 240.0;
const BARS: f64 = 90.0;

/// The stages of a packet's journey, and what they are.
const STAGES: [(&str, &str); 6] = [
    ("read", "Read: reading a packet from the device"),
    ("queue", "Queue: from the end of its read until it is handed to a socket"),
    ("send", "Send: from being handed to the socket until the socket has taken it"),
    ("reorder", "Reorder: from its arrival until it is the next packet of its device"),
    ("write", "Write: writing it into the device"),
    ("end to end", "End to end: from the start of its read to the end of its write"),
];

/// What one stage of one transfer is drawn from.
struct Series<'a> {
    name: String,
    /// Its place among the strokes.
    place: usize,
    distribution: &'a Distribution,
    whole: Option<Histogram<u64>>,
}

impl<'a> Series<'a> {
    fn of(transfer: &'a Transfer, stage: usize, name: &str, place: usize) -> Option<Series<'a>> {
        let side = if stage < 3 { &transfer.sender } else { &transfer.receiver };
        let latency = &side.as_ref()?.report.latency_ns;
        let stages = [
            &latency.read,
            &latency.queue,
            &latency.send,
            &latency.reorder,
            &latency.write,
            &latency.end_to_end,
        ];
        let distribution = stages.into_iter().nth(stage).filter(|distribution| distribution.count > 0)?;
        let whole = distribution.decode().filter(|histogram| !histogram.is_empty());
        Some(Series { name: name.to_owned(), place, distribution, whole })
    }

    fn class(&self) -> String {
        format!("s{}", self.place % STROKES)
    }

    /// Quantiles and their times.
    fn quantiles(&self) -> Vec<(f64, u64)> {
        let Some(histogram) = &self.whole else {
            let Distribution { p50, p90, p99, p999, max, .. } = *self.distribution;
            return vec![(0.5, p50), (0.9, p90), (0.99, p99), (0.999, p999), (1.0, max)];
        };
        let recorded = histogram.iter_recorded();
        let all: Vec<(f64, u64)> =
            recorded.map(|value| (value.quantile_iterated_to(), value.value_iterated_to())).collect();
        let every = all.len().div_ceil(POINTS_MAX).max(1);
        let last = all.last().copied();
        let mut some: Vec<(f64, u64)> = all.into_iter().step_by(every).collect();
        some.extend(last.filter(|last| some.last() != Some(last)));
        some
    }

    fn range(&self) -> (u64, u64) {
        match &self.whole {
            Some(histogram) => (histogram.min(), histogram.max()),
            None => (self.distribution.min, self.distribution.max),
        }
    }

    /// The share of packets in each part of a decade, from the first that has any to the last: where it begins and ends,
    /// as powers of ten.
    fn shares(&self) -> Vec<(f64, f64, f64)> {
        let Some(histogram) = &self.whole else { return Vec::new() };
        let place = |value: u64| ((value.max(1) as f64).log10() * IN_DECADE).floor();
        let mut shares: Vec<(f64, f64, f64)> = Vec::new();
        for recorded in histogram.iter_recorded() {
            let bar = place(histogram.lowest_equivalent(recorded.value_iterated_to()));
            let share = recorded.count_at_value() as f64 / histogram.len() as f64;
            match shares.last_mut() {
                Some(last) if last.0 >= bar => last.2 += share,
                _ => {
                    let from = shares.last().map_or(bar, |last| last.1);
                    if from < bar {
                        shares.push((from, bar, 0.0));
                    }
                    shares.push((bar, bar + 1.0, share));
                }
            }
        }
        shares.iter().map(|(from, to, share)| (from / IN_DECADE, to / IN_DECADE, *share)).collect()
    }
}

/// The section. Of one transfer a plot holds the curves of all stages; of several there is a plot for each stage.
pub(crate) fn latency(transfers: &[Transfer]) -> String {
    let by_stage: Vec<(usize, Vec<Series<'_>>)> = (0..STAGES.len())
        .map(|stage| (stage, of_stage(transfers, stage)))
        .filter(|(_, series)| !series.is_empty())
        .collect();
    if by_stage.is_empty() {
        return missing("No packet was measured.");
    }
    let curves: String = match transfers {
        [_] => {
            let all: Vec<&Series<'_>> = by_stage.iter().flat_map(|(_, series)| series).collect();
            curves("curves", "Percentiles of all stages", &all)
        }
        _ => by_stage
            .iter()
            .map(|(stage, series)| {
                curves(&format!("curves-{stage}"), STAGES[*stage].1, &series.iter().collect::<Vec<_>>())
            })
            .collect(),
    };
    format!("<div class=\"plots\">\n{curves}</div>\n{}", histograms(&by_stage))
}

/// One transfer's series are named after the stage, those of several after the transfers.
fn of_stage(transfers: &[Transfer], stage: usize) -> Vec<Series<'_>> {
    match transfers {
        [one] => Series::of(one, stage, STAGES[stage].0, stage).into_iter().collect(),
        _ => {
            let numbered = transfers.iter().enumerate();
            numbered.filter_map(|(place, one)| Series::of(one, stage, &one.label, place)).collect()
        }
    }
}

fn curves(id: &str, title: &str, all: &[&Series<'_>]) -> String {
    let ranges = all.iter().map(|series| series.range());
    let (low, high) = ranges.fold((u64::MAX, 0), |(low, high), range| (low.min(range.0), high.max(range.1)));
    let most = all.iter().map(|series| series.distribution.count).max().unwrap_or(0);
    let (x, y) = (Nines::covering(most), Log::covering(low as f64, high as f64));
    let described = all.iter().map(|series| {
        let Distribution { p50, p99, max, .. } = series.distribution;
        format!("{}: median {}, p99 {}, largest {}.", series.name, time(*p50), time(*p99), time(*max))
    });
    let description = described.collect::<Vec<_>>().join(" ");
    let mut svg = Svg::new(id, title, &description, TOP + CURVES + BOTTOM).with_gutter();
    for tick in y.ticks(9) {
        svg.level(TOP + CURVES * (1.0 - y.at(tick)), &time_tick(tick));
    }
    for (place, name) in x.ticks() {
        svg.line((place, TOP), (place, TOP + CURVES), "grid");
        svg.tick(place, TOP + CURVES + 15.0, name);
    }
    for series in all {
        let count = series.distribution.count;
        let points: Vec<(f64, f64)> = series
            .quantiles()
            .into_iter()
            .map(|(quantile, ns)| (x.at(quantile, count), y.at(ns as f64)))
            .collect();
        svg.curve(TOP, CURVES, &points, &series.class());
        let dots =
            if series.whole.is_some() { &points[points.len().saturating_sub(1)..] } else { &points[..] };
        dots.iter().for_each(|(x, y)| svg.dot(*x, TOP + CURVES * (1.0 - y), &series.class()));
    }
    let legend: Vec<_> = all.iter().map(|series| (series.class(), series.name.clone())).collect();
    svg::figure(title, &svg::legend(&legend), &svg, &table(title, all))
}

fn table(title: &str, all: &[&Series<'_>]) -> String {
    let mut table = Table::new(title, ["", "packets", "min", "mean", "p50", "p90", "p99", "p99.9", "max"]);
    for series in all {
        let Distribution { count, min, p50, p90, p99, p999, max, mean, .. } = *series.distribution;
        let mean = or_absent((mean > 0.0).then(|| time(super::scale::whole(mean))));
        let times = [p50, p90, p99, p999, max].map(time);
        let cells = [series.name.clone(), count.to_string(), time(min), mean].into_iter().chain(times);
        table.row(cells);
    }
    table.html()
}

fn histograms(by_stage: &[(usize, Vec<Series<'_>>)]) -> String {
    let mut html = String::new();
    for (stage, series) in by_stage {
        let whole: Vec<&Series<'_>> = series.iter().filter(|series| series.whole.is_some()).collect();
        if !whole.is_empty() {
            html += &histogram(*stage, &whole);
        }
    }
    let all = || by_stage.iter().flat_map(|(_, series)| series);
    let mut html = match html.is_empty() {
        true => String::new(),
        false => format!("<div class=\"plots\">\n{html}</div>\n"),
    };
    if all().any(|series| series.whole.is_none()) {
        html += &missing(
            "Reports of version 1 have quantiles alone: they are drawn as points, and there is no histogram. Later \
             versions have whole histograms.",
        );
    }
    html
}

fn histogram(stage: usize, all: &[&Series<'_>]) -> String {
    let ranges = all.iter().map(|series| series.range());
    let (low, high) = ranges.fold((u64::MAX, 0), |(low, high), range| (low.min(range.0), high.max(range.1)));
    let x = Log::covering(low as f64, high as f64);
    let shares: Vec<Vec<(f64, f64, f64)>> = all.iter().map(|series| series.shares()).collect();
    let most = shares.iter().flatten().map(|(.., share)| *share).fold(0.0, f64::max);
    let (name, title) = STAGES[stage];
    let description = format!(
        "The share of packets over time on a logarithmic axis; at most {} in a bar.",
        in_percent(most)
    );
    let mut svg = Svg::new(
        &format!("histogram-{stage}"),
        &format!("Histogram of {name}"),
        &description,
        TOP + BARS + BOTTOM,
    );
    svg.level(TOP, &in_percent(most));
    for tick in x.ticks(5) {
        svg.line((x.at(tick), TOP + BARS), (x.at(tick), TOP + BARS + 4.0), "axis");
        svg.tick(x.at(tick), TOP + BARS + 16.0, &time_tick(tick));
    }
    for (series, shares) in all.iter().zip(&shares) {
        let place = |(from, to, share): &(f64, f64, f64)| {
            (x.at(10f64.powf(*from)), x.at(10f64.powf(*to)), if most > 0.0 { share / most } else { 0.0 })
        };
        let mut points = steps(shares.iter().map(place));
        if let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) {
            points.insert(0, (first.0, 0.0));
            points.push((last.0, 0.0));
        }
        if let [_] = all {
            svg.area(TOP, BARS, &points, "under");
        }
        svg.curve(TOP, BARS, &points, &series.class());
    }
    svg.line((0.0, TOP + BARS), (1.0, TOP + BARS), "axis");
    let legend = match all {
        [_] => String::new(),
        _ => svg::legend(&all.iter().map(|series| (series.class(), series.name.clone())).collect::<Vec<_>>()),
    };
    svg::figure(title, &legend, &svg, &shares_table(title, all, &shares))
}

fn shares_table(title: &str, all: &[&Series<'_>], shares: &[Vec<(f64, f64, f64)>]) -> String {
    let mut table = Table::new(title, ["", "from", "to", "share"]);
    for (series, shares) in all.iter().zip(shares) {
        for (from, to, share) in shares.iter().filter(|(.., share)| *share > 0.0) {
            let [from, to] = [from, to].map(|power| time(super::scale::whole(10f64.powf(*power))));
            table.row([series.name.clone(), from, to, in_percent(*share)]);
        }
    }
    table.html()
}

fn in_percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, ringlift::limits::LATENCY_NS_MAX, 3).unwrap();
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        histogram
    }

    fn series<'a>(distribution: &'a Distribution, whole: Option<Histogram<u64>>) -> Series<'a> {
        Series { name: String::new(), place: 0, distribution, whole }
    }

    #[test]
    fn quantiles_alone_are_five_points() {
        let distribution =
            Distribution { count: 3, p50: 1, p90: 2, p99: 3, p999: 4, max: 5, ..Default::default() };
        let found = series(&distribution, None).quantiles();
        assert_eq!(found, [(0.5, 1), (0.9, 2), (0.99, 3), (0.999, 4), (1.0, 5)]);
    }

    #[test]
    fn a_curve_rises_has_few_points_and_ends_with_the_largest() {
        let histogram = whole((1..100_000).map(|number| number * 997));
        let max = histogram.max();
        let distribution = Distribution::default();
        let found = series(&distribution, Some(histogram)).quantiles();
        assert!(found.len() <= POINTS_MAX + 1, "{}", found.len());
        assert!(found.is_sorted_by(|one, other| one.0 < other.0 && one.1 < other.1));
        assert_eq!(found.last().unwrap().1, max);
    }

    #[test]
    fn shares_join_and_add_up_to_everything() {
        let distribution = Distribution::default();
        let shares = series(&distribution, Some(whole([0, 1, 15, 150, 151, 9_000_000]))).shares();
        let sum: f64 = shares.iter().map(|(.., share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{shares:?}");
        assert!(shares.windows(2).all(|pair| (pair[0].1 - pair[1].0).abs() < 1e-9), "{shares:?}");
    }
}
