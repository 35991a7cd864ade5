//! `--fail-if` of a bench: conditions that hold for a cell. It must not know how cells were measured.

use ringlift::compare::series;
use ringlift::report::{BenchOpenLoop, BenchReport};

use super::cells::Measured;
use super::matrix::Cell;
use crate::args::Bench;
use crate::condition;
use crate::exit::Exit;
use crate::metric::{Metric, Run};
use crate::show::warnings;

/// Refuses conditions on what will not be measured.
pub(super) fn check(args: &Bench) -> Result<(), Exit> {
    let is_paced = |metric| matches!(metric, Metric::Paced(..));
    match args.fail_if.iter().find(|condition| is_paced(condition.metric())) {
        Some(condition) if args.rate.is_none() => Err(warnings::usage(
            &format!("{} is measured at a rate only", condition.metric().name()),
            "give one with --rate; without it, duration is what a transfer takes",
        )),
        _ => Ok(()),
    }
}

/// The status of a bench that is about to end with `exit`. Prints every condition that holds, with the cell.
pub(super) fn gate(
    args: &Bench,
    exit: Exit,
    cells: &[Cell],
    measured: &[Measured],
    report: &BenchReport,
) -> Exit {
    let measured = cells.iter().zip(measured).filter(|(_, measured)| !measured.reports.is_empty());
    let subjects = measured.zip(&report.cells).map(|((cell, measured), summed_up)| {
        let runs: Vec<Run> = measured.reports.iter().map(Run::of).collect();
        (cell.to_string(), move |metric| value(metric, &runs, summed_up.open_loop.as_ref()))
    });
    condition::gate_each(&args.fail_if, exit, subjects)
}

/// The median over the transfers, if all of them have it; at a rate, the quantile of all transfers.
fn value(metric: Metric, runs: &[Run], open_loop: Option<&BenchOpenLoop>) -> Option<f64> {
    match metric {
        Metric::Paced(time, quantile) => {
            let times = open_loop?;
            let times = if time == "service" { &times.service_ns } else { &times.response_ns };
            let value = match quantile {
                "p50" => times.p50,
                "p90" => times.p90,
                "p99" => times.p99,
                "p999" => times.p999,
                _ => times.max,
            };
            Some(value as f64)
        }
        _ => {
            let values: Option<Vec<f64>> = runs.iter().map(|run| metric.of(run)).collect();
            values.filter(|values| !values.is_empty()).map(|values| series::median(&values))
        }
    }
}

#[cfg(test)]
mod tests {
    use ringlift::report::{Distribution, Report};

    use super::*;
    use crate::show::samples::report;

    fn of(duration_ns: u64) -> Run {
        Run::of(&Report { duration_ns, ..report() })
    }

    #[test]
    fn a_cell_has_the_median_of_its_transfers_if_all_of_them_have_the_figure() {
        let runs = [of(500), of(10), of(20)];
        assert_eq!(value(Metric::Duration, &runs, None), Some(20.0));
        let lacking = [of(500), Run::default(), of(20)];
        assert_eq!(value(Metric::Duration, &lacking, None), None);
        assert_eq!(value(Metric::Duration, &[], None), None);
    }

    #[test]
    fn times_at_a_rate_are_quantiles_of_all_transfers() {
        let open_loop = BenchOpenLoop {
            service_ns: Distribution { p50: 3, ..Distribution::default() },
            response_ns: Distribution { p99: 7, max: 9, ..Distribution::default() },
            ..BenchOpenLoop::default()
        };
        let of = |time, quantile| value(Metric::Paced(time, quantile), &[], Some(&open_loop));
        assert_eq!(of("service", "p50"), Some(3.0));
        assert_eq!(of("response", "p99"), Some(7.0));
        assert_eq!(of("response", "max"), Some(9.0));
    }
}
