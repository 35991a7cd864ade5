//! A receiver that somebody by hand speaks to, and what must be true of it afterwards.

use std::sync::{Arc, Mutex, mpsc};

use ringlift::error::Error;
use ringlift::sink::Verify;
use ringlift::source::Synthetic;
use ringlift::wire::Control;
use ringlift::{Event, Finished, Listener, Outcome, Receiver};

use super::device::{Journal, TestSink};
use super::peer::{Connections, PACKET, config_header, greet, greet_and_agree, header};
use super::{PATIENCE, Running, content, listen, pair, receive, run};

/// A receiver of one device `net0` that somebody by hand will speak to.
pub(crate) struct Victim {
    pub(crate) listener: Listener,
    /// Tells when a session has all its connections.
    pub(crate) connected: mpsc::Receiver<()>,
    pub(crate) journal: Journal,
    pub(crate) receiving: Running<Finished>,
    pub(crate) strays: Arc<Mutex<Vec<Error>>>,
}

impl Victim {
    pub(crate) fn start() -> Victim {
        Victim::with(|_| {})
    }

    pub(crate) fn with(prepare: impl FnOnce(&Journal)) -> Victim {
        let (sink, journal) = TestSink::new();
        prepare(&journal);
        let (listener, strays) = (listen(), Arc::new(Mutex::new(Vec::new())));
        let turned_away = Arc::clone(&strays);
        let (tell, connected) = mpsc::channel();
        let receiver =
            Receiver::builder().device("net0", sink).listener(&listener).on_event(move |event| match event {
                Event::Rejected { error, .. } => turned_away.lock().expect("whole").push(error.clone()),
                Event::Connected { .. } => drop(tell.send(())),
                _ => {}
            });
        Victim { receiving: receive(receiver), listener, connected, journal, strays }
    }

    pub(crate) fn greet_and_agree(&self) -> Connections {
        greet_and_agree(self.listener.local_addr(), 2, &["net0"])
    }

    /// A session of one channel that nobody has said anything in. One that its sender leaves before it is complete is
    /// none, and the receiver waits for the next.
    pub(crate) fn greet(&self) -> Connections {
        let peer = greet(self.listener.local_addr(), 1);
        self.connected.recv_timeout(PATIENCE).expect("the receiver takes the session");
        peer
    }

    /// It gave up for this reason, nothing ran, everything was reset, and the next transfer is taken.
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

/// Runs `attack` on a receiver that has agreed on one device and two channels: how the receiver ended, and the last word
/// that it said.
pub(crate) fn attack(attack: impl FnOnce(&mut Connections)) -> (Error, Option<Control>) {
    let victim = Victim::start();
    let mut peer = victim.greet_and_agree();
    attack(&mut peer);
    let last = peer.last_word();
    drop(peer);
    (victim.fails(), last)
}

/// In which phase a receiver says that it is before everything is loaded is its own business.
pub(crate) fn somewhere(text: &str) -> String {
    const BEFORE: [&str; 2] = ["while agreeing on settings", "in pre-copy"];
    BEFORE.iter().fold(text.to_owned(), |text, phase| text.replace(phase, "in the middle of the state"))
}

/// The same for an attack that must be found to be `expected`, in words too.
pub(crate) fn assert_found(expected: &str, what: impl FnOnce(&mut Connections)) {
    let (error, last) = attack(what);
    assert_eq!(somewhere(&error.to_string()), expected);
    assert!(matches!(error, Error::Peer(_)), "{error:?}");
    assert!(error.hint().is_some(), "{error}");
    // the peer is told why, in the same words
    assert_eq!(last, Some(Control::Abort { code: 1, text: error.to_string().into() }));
}

/// A state of 5000 bytes in two packets that come in the wrong order, up to commit.
pub(crate) fn whole_state(peer: &mut Connections) {
    let state = content(5000);
    let (head, tail) = state.split_at(PACKET as usize);
    peer.say(&Control::Switchover);
    peer.packet(1, &config_header(0, 2, b"config"), b"config");
    peer.packet(1, &header(0, 1, tail), tail);
    peer.packet(0, &header(0, 0, head), head);
    let loaded = peer.hear_word().expect("loaded");
    assert!(matches!(loaded, Control::Loaded { device: 0, packets: 3, bytes: 5006, .. }), "{loaded:?}");
    peer.say(&Control::Commit);
}
