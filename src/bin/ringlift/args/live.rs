//! The options that show a transfer while it goes on. They change nothing of it.

use std::time::Duration;

use clap::Args;
use ringlift::limits;

use crate::show::json::JsonTarget;
use crate::show::units::duration;

/// How long intervals are for those who want them without a length.
const DEFAULT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Live {
    /// Prints a line for each interval of this length, such as 1s: what moved in it and what it waited for. At least 100ms
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    pub(crate) interval: Option<Duration>,
    /// Writes what happens to FILE as it happens, a JSON document per line; - is stdout, and the tables go to stderr
    #[arg(long, value_name = "FILE", value_parser = super::json())]
    pub(crate) events: Option<JsonTarget>,
}

impl Live {
    /// How often to be told what moved, if anything shows it.
    pub(crate) fn every(&self) -> Option<Duration> {
        self.interval.or_else(|| self.events.as_ref().map(|_| DEFAULT))
    }

    /// Whether stdout is for events alone.
    pub(crate) fn takes_stdout(&self) -> bool {
        self.events == Some(JsonTarget::Stdout)
    }
}

fn interval(typed: &str) -> Result<Duration, String> {
    duration(typed).and_then(|interval| match interval < limits::INTERVAL {
        true => Err("an interval lasts 100ms at least\nhint: 1s shows every stall".to_owned()),
        false => Ok(interval),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lasts_a_tenth_of_a_second_at_least() {
        assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
        for typed in ["99ms", "0s", "1", "-1s"] {
            assert!(interval(typed).unwrap_err().contains("hint: "), "{typed}");
        }
    }

    #[test]
    fn events_alone_have_an_interval_a_second() {
        let live = |interval, events| Live { interval, events };
        let half = Some(Duration::from_millis(500));
        assert_eq!(live(None, None).every(), None);
        assert_eq!(live(None, Some(JsonTarget::Stdout)).every(), Some(DEFAULT));
        assert_eq!(live(half, Some(JsonTarget::Stdout)).every(), half);
    }
}
