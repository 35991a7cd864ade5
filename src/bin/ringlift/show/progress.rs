//! Live progress: a bar on a terminal, otherwise a line for each phase and every ten seconds. Always on stderr.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringlift::error::ErrorCode;
use ringlift::qemu::Answer;
use ringlift::wire::qemu::Reply;
use ringlift::{Event, Phase};

use crate::show::output;
use crate::show::pace::Pace;
use crate::show::repeats::Repeats;
use crate::show::units::time;

/// Shows events. Clones share the same output.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    connected: Arc<AtomicBool>,
    /// Connections that were turned away.
    rejected: Arc<Mutex<Repeats>>,
    /// The phase of the transfer, and what the last line off a terminal told.
    pace: Arc<Mutex<(Option<Phase>, Pace)>>,
    since: Instant,
    /// Something else tells how far it has come.
    is_told: bool,
}

impl Progress {
    /// A bar when stderr is a terminal. Lines of how far it has come off one, unless they are told elsewhere.
    #[expect(clippy::disallowed_methods, reason = "the command has no ring that has the clock")]
    pub(crate) fn new(is_told: bool) -> Progress {
        let bar = output::is_watched().then(ProgressBar::hidden);
        Progress {
            bar,
            connected: Arc::default(),
            rejected: Arc::default(),
            pace: Arc::default(),
            since: Instant::now(),
            is_told,
        }
    }

    /// A new transfer begins.
    pub(crate) fn begin(&self) {
        self.connected.store(false, Ordering::Relaxed);
        *self.pace() = Default::default();
        if let Some(bar) = &self.bar {
            bar.reset();
        }
    }

    /// The transfer ended, well or not: the bar goes away, so that the results stand alone.
    pub(crate) fn end(&self) {
        let ended = self.rejected().end();
        self.sum_up(ended);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Whether a peer has connected since [`begin`](Progress::begin).
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Prints a message line, above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.pause(|| output::say(line));
    }

    /// Does something that prints, without the bar in the way.
    pub(crate) fn pause(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// The handler for `on_event`.
    pub(crate) fn show(&self, event: &Event) {
        let now = self.since.elapsed();
        let ended = self.rejected().ended(now);
        self.sum_up(ended);
        match event {
            Event::Connected { peer, channels, .. } => {
                self.connected.store(true, Ordering::Relaxed);
                self.say(&connected(*peer, *channels));
                if let Some(bar) = &self.bar {
                    bar.set_style(style(false));
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
            }
            Event::Phase(phase) => self.phase(*phase),
            Event::Progress { bytes, estimate, elapsed } => self.moved(*bytes, *estimate, *elapsed),
            Event::Rejected { error, .. } if !self.rejected().admits(ErrorCode::from(error), now) => {}
            Event::Rejected { peer, error } => {
                let peer = peer.map_or("a stranger".to_owned(), |peer| peer.to_string());
                self.say(&format!("a connection of {peer} was turned away: {error}"));
            }
            _ => {}
        }
    }

    /// The handler for `on_event` where many short transfers follow each other: what is told of them is told elsewhere.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Connected { .. } => self.connected.store(true, Ordering::Relaxed),
            Event::Rejected { .. } => self.show(event),
            _ => {}
        }
    }

    /// The handler for a replay's `on_answer`.
    pub(crate) fn show_answer(&self, answer: &Answer) {
        self.say(&answered(answer));
    }

    fn rejected(&self) -> MutexGuard<'_, Repeats> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, (Option<Phase>, Pace)> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum_up(&self, ended: Vec<(ErrorCode, u64)>) {
        for (code, count) in ended {
            self.say(&more(code, count));
        }
    }

    fn phase(&self, phase: Phase) {
        self.pace().0 = Some(phase);
        match &self.bar {
            Some(bar) => bar.set_message(phase.to_string()),
            None if phase == Phase::Done => {}
            None => output::say(&format!("phase: {phase}")),
        }
    }

    fn moved(&self, bytes: u64, estimate: Option<u64>, elapsed: Duration) {
        let Some(bar) = &self.bar else { return self.tell(bytes, estimate, elapsed) };
        match (estimate, bar.length()) {
            // An estimate may be too low: the bar grows instead of sticking at its end.
            (Some(estimate), known) if known != Some(estimate.max(bytes)) => {
                bar.set_style(style(true));
                bar.set_length(estimate.max(bytes));
            }
            _ => {}
        }
        bar.set_position(bytes);
    }

    /// Off a terminal: no long phase is silent.
    fn tell(&self, bytes: u64, estimate: Option<u64>, elapsed: Duration) {
        if self.is_told {
            return;
        }
        let (phase, pace) = &mut *self.pace();
        let phase = phase.map_or_else(String::new, |phase| phase.to_string());
        if let Some(line) = pace.line(elapsed, &phase, bytes, estimate) {
            output::say(&line);
        }
    }
}

fn answered(answer: &Answer) -> String {
    let after = time(u64::try_from(answer.since.as_nanos()).unwrap_or(u64::MAX));
    match answer.reply {
        Reply::Pong(value) => format!("the destination answers PONG {value} after {after}"),
        Reply::SwitchoverAck => format!("the destination answers SWITCHOVER_ACK after {after}"),
        Reply::Shut(value) => format!("the destination answers SHUT {value} after {after}"),
        Reply::Other { kind, .. } => format!("the destination answers with message {kind} after {after}"),
    }
}

fn more(code: ErrorCode, count: u64) -> String {
    let (plural, were) = if count == 1 { ("", "was") } else { ("s", "were") };
    format!(
        "… and {count} more connection{plural} {were} turned away for the same reason: {}",
        code.meaning()
    )
}

fn connected(peer: Option<SocketAddr>, channels: u16) -> String {
    let plural = if channels == 1 { "" } else { "s" };
    match peer {
        Some(peer) => format!("connected with {peer} over {channels} channel{plural}"),
        None => format!("connected over {channels} channel{plural}"),
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = match sized {
        true => "{msg:20} [{wide_bar}] {bytes} of {total_bytes}, {decimal_bytes_per_sec}, {eta} left",
        false => "{msg:20} {bytes}, {decimal_bytes_per_sec}",
    };
    let bars = if output::takes_unicode() { "█▉▊▋▌▍▎▏ " } else { "=> " };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars(bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_well_formed() {
        for template in [style(true), style(false)] {
            let bar = ProgressBar::hidden().with_style(template);
            bar.set_length(10);
            bar.set_position(5);
        }
    }

    #[test]
    fn connections_that_were_only_counted_are_summed_up() {
        let reason = "turned away for the same reason: Bytes that are no message of this protocol";
        assert_eq!(more(ErrorCode::PeerMalformed, 312), format!("… and 312 more connections were {reason}"));
        assert_eq!(more(ErrorCode::PeerMalformed, 1), format!("… and 1 more connection was {reason}"));
    }

    #[test]
    fn the_peer_is_named_when_it_has_an_address() {
        let peer = "192.0.2.1:4711".parse().unwrap();
        assert_eq!(connected(Some(peer), 1), "connected with 192.0.2.1:4711 over 1 channel");
        assert_eq!(connected(None, 4), "connected over 4 channels");
    }
}
