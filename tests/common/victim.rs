//! A receiver with a hand-written sender, and what must be true of it afterwards.

use std::sync::{Arc, Mutex, mpsc};

use ringlift::error::Error;
use ringlift::sink::Verify;
use ringlift::source::Synthetic;
use ringlift::wire::Control;
use ringlift::{Event, Finished, Listener, Outcome, Receiver};

use super::device::{Journal, TestSink};
use super::peer::{Connections, PACKET, config_header, greet, greet_and_agree, header};
use super::{PATIENCE, Running, content, listen, pair, receive, run};

/// A receiver of one device `net0`, for a hand-written sender.
pub(crate) struct Victim {
    pub(crate) listener: Listener,
    /// Signals when a session was taken.
    pub(crate) connected: mpsc::Receiver<()>,
    pub(crate) journal: Journal,
    pub(crate) receiving: Running<Finished>,
    pub(crate) rejected: Arc<Mutex<Vec<Error>>>,
}

impl Victim {
    pub(crate) fn start() -> Victim {
        Victim::with(|_| {})
    }

    pub(crate) fn with(prepare: impl FnOnce(&Journal)) -> Victim {
        let (sink, journal) = TestSink::new();
        prepare(&journal);
        let (listener, rejected) = (listen(), Arc::new(Mutex::new(Vec::new())));
        let turned_away = Arc::clone(&rejected);
        let (tell, connected) = mpsc::channel();
        let receiver =
            Receiver::builder().device("net0", sink).listener(&listener).on_event(move |event| match event {
                Event::Rejected { error, .. } => turned_away.lock().expect("whole").push(error.clone()),
                Event::Connected { .. } => drop(tell.send(())),
                _ => {}
            });
        Victim { receiving: receive(receiver), listener, connected, journal, rejected }
    }

    pub(crate) fn greet_and_agree(&self) -> Connections {
        greet_and_agree(self.listener.local_addr(), 2, &["net0"])
    }

    /// A session of one channel in which nothing has been sent yet. The receiver takes it when a message has come.
    pub(crate) fn greet(&self) -> Connections {
        greet(self.listener.local_addr(), 1)
    }

    /// Waits until the receiver has taken a session. One whose sender leaves before does not count.
    pub(crate) fn await_taken(&self) {
        self.connected.recv_timeout(PATIENCE).expect("the receiver takes the session");
    }

    /// A sender that cancels before its offer, so that the receiver gives up.
    pub(crate) fn cancel(&self) {
        let mut peer = self.greet();
        peer.send(&Control::Cancel);
        self.await_taken();
    }

    /// Asserts that it gave up, nothing ran, everything was reset, and the next transfer succeeds; returns its error.
    pub(crate) fn fails(self) -> Error {
        let finished = self.receiving.finish();
        assert_eq!(finished.outcome, Outcome::Aborted);
        let steps = self.journal.steps();
        assert!(!steps.contains(&"run") && !steps.contains(&"pre_run"), "{steps:?}");
        assert_eq!(steps.last(), Some(&"rollback"), "{steps:?}");
        assert_takes_the_next(&self.listener);
        finished.error.expect("an aborted transfer says why")
    }
}

pub(crate) fn assert_takes_the_next(listener: &Listener) {
    let (sender, receiver) = pair(listener, Synthetic::new(100_000), Verify::new());
    let (sent, received) = run(sender, receiver);
    assert!(received.error.is_none(), "the next transfer: {}", received.error.as_ref().expect("some"));
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete));
}

/// Runs `attack` on a receiver that has agreed on one device and two channels; returns the receiver's error and the
/// final message that it sent.
pub(crate) fn attack(attack: impl FnOnce(&mut Connections)) -> (Error, Option<Control>) {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    attack(&mut peer);
    let last = peer.final_message();
    drop(peer);
    (victim.fails(), last)
}

/// Replaces the phase in a message: which phase a receiver reports before everything is loaded does not matter.
pub(crate) fn somewhere(text: &str) -> String {
    const BEFORE: [&str; 2] = ["while agreeing on settings", "in pre-copy"];
    BEFORE.iter().fold(text.to_owned(), |text, phase| text.replace(phase, "in the middle of the state"))
}

/// The same for an attack that must fail with exactly the text `expected`.
pub(crate) fn assert_found(expected: &str, what: impl FnOnce(&mut Connections)) {
    let (error, last) = attack(what);
    assert_eq!(somewhere(&error.to_string()), expected);
    assert!(matches!(error, Error::Peer(_)), "{error:?}");
    assert!(error.hint().is_some(), "{error}");
    // the peer receives the reason, with the same text
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

/// A state of 5000 bytes in two packets that arrive in the wrong order, up to commit.
pub(crate) fn whole_state(peer: &mut Connections) {
    move_state(peer);
    peer.send(&Control::Commit);
}

/// The same, up to *loaded*.
pub(crate) fn move_state(peer: &mut Connections) {
    let state = content(5000);
    let (head, tail) = state.split_at(PACKET as usize);
    peer.send(&Control::Switchover);
    peer.packet(1, &config_header(0, 2, b"config"), b"config");
    peer.packet(1, &header(0, 1, tail), tail);
    peer.packet(0, &header(0, 0, head), head);
    let loaded = peer.next_message().expect("loaded");
    assert!(matches!(loaded, Control::Loaded { device: 0, packets: 3, bytes: 5006, .. }), "{loaded:?}");
}
