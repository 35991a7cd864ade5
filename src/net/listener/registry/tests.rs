//! Which connections become members, which sessions make room, and which one is taken.

use super::*;

const CONTROL: Hello =
    Hello { session: SessionId([1; 16]), role: Role::Control { channels: 1 }, boot_id: [0; 16] };
const DATA: Hello = Hello { role: Role::Data { channel: 0 }, ..CONTROL };

impl SessionRegistry {
    fn gathers(&self, hello: Hello) {
        self.admit(&hello, None).unwrap().join(connection());
    }

    /// A whole session of one channel, with its first message.
    fn completes(&self, number: u8) -> SessionId {
        let session = SessionId([number; 16]);
        self.gathers(Hello { session, ..CONTROL });
        self.gathers(Hello { session, ..DATA });
        self.open(session, vec![number]);
        session
    }

    fn rejected(self: &Arc<SessionRegistry>) -> Vec<String> {
        self.lock().rejected.drain(..).map(|(_, error)| error.to_string()).collect()
    }
}

fn numbered(number: usize) -> SessionId {
    SessionId((number as u128 | 1 << 100).to_be_bytes())
}

fn connection() -> Connection {
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    Connection::plaintext(one, None)
}

#[test]
fn a_place_whose_answer_could_not_be_sent_is_free_again() {
    let registry = SessionRegistry::new(1..=1);
    drop(registry.admit(&CONTROL, None).unwrap());
    registry.admit(&CONTROL, None).unwrap().join(connection());
    drop(registry.admit(&DATA, None).unwrap());
    registry.admit(&DATA, None).unwrap().join(connection());
    registry.open(CONTROL.session, vec![]);
    assert!(registry.take().is_some());
}

#[test]
fn a_place_belongs_to_one_connection_while_its_answer_is_on_its_way() {
    let registry = SessionRegistry::new(1..=1);
    let control = registry.admit(&CONTROL, None).unwrap();
    assert_eq!(registry.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
    let data = registry.admit(&DATA, None).unwrap();
    assert_eq!(registry.admit(&DATA, None).unwrap_err(), Refusal::Channel);
    data.join(connection());
    registry.open(CONTROL.session, vec![]);
    assert!(registry.take().is_none(), "the control connection has no answer yet");
    control.join(connection());
    let running = registry.take().unwrap();
    running.busy.agreed();
    assert_eq!(registry.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
    drop(running);
    assert!(registry.admit(&CONTROL, None).is_ok());
}

#[test]
fn a_complete_session_does_not_expire_and_is_taken_when_its_settings_came() {
    let registry = SessionRegistry::new(1..=1);
    registry.gathers(CONTROL);
    registry.gathers(DATA);
    registry.expire(CONTROL.session);
    assert!(registry.is_complete(CONTROL.session) && registry.take().is_none());
    registry.open(CONTROL.session, vec![7]);
    registry.give_up(CONTROL.session);
    assert_eq!(registry.take().unwrap().opening, [7]);
}

#[test]
fn a_session_whose_settings_do_not_come_is_given_up() {
    let registry = SessionRegistry::new(1..=1);
    registry.gathers(CONTROL);
    registry.gathers(DATA);
    registry.give_up(CONTROL.session);
    assert_eq!(registry.rejected(), [PeerError::AgreementTimeout.to_string()]);
}

#[test]
fn sessions_that_gather_do_not_keep_another_one_out() {
    // One that announced 255 channels and brought none kept everybody else out.
    let registry = SessionRegistry::new(1..=255);
    let role = Role::Control { channels: 255 };
    for number in 0..2 * limits::GATHERINGS_MAX {
        registry.gathers(Hello { session: numbered(number), role, ..CONTROL });
    }
    let session = registry.completes(200);
    assert_eq!(registry.take().unwrap().session, session);
    let displaced = registry.rejected();
    assert_eq!(displaced.len(), REJECTED_MAX, "of {}", limits::GATHERINGS_MAX + 1);
    assert!(
        displaced.iter().all(|error| *error == PeerError::Displaced { place: Place::Control }.to_string())
    );
    assert_eq!(registry.lock().gathering.len(), limits::GATHERINGS_MAX - 1);
}

#[test]
fn the_session_that_makes_no_progress_makes_room() {
    let registry = SessionRegistry::new(1..=255);
    let role = Role::Control { channels: 255 };
    let [idle, busy] = [1, 2].map(|number| SessionId([number; 16]));
    for session in [busy, idle] {
        registry.gathers(Hello { session, role, ..CONTROL });
    }
    registry.gathers(Hello { session: busy, ..DATA });
    for number in 0..limits::GATHERINGS_MAX - 1 {
        registry.gathers(Hello { session: numbered(number), role, ..CONTROL });
    }
    let state = registry.lock();
    assert!(state.position(idle).is_none() && state.position(busy).is_some());
}

#[test]
fn a_session_that_has_brought_a_data_connection_outlasts_any_number_that_have_not() {
    let registry = SessionRegistry::new(1..=255);
    let role = Role::Control { channels: 2 };
    registry.gathers(Hello { role, ..CONTROL });
    registry.gathers(DATA);
    for number in 0..3 * limits::GATHERINGS_MAX {
        registry.gathers(Hello { session: numbered(number), role, ..CONTROL });
    }
    assert!(registry.lock().position(CONTROL.session).is_some());
}

#[test]
fn connections_of_sessions_that_gather_are_bounded() {
    let registry = SessionRegistry::new(1..=255);
    for number in 0..4 {
        let hello =
            Hello { session: SessionId([number; 16]), role: Role::Control { channels: 255 }, ..CONTROL };
        registry.gathers(hello);
        for channel in 0..255 {
            registry.gathers(Hello { role: Role::Data { channel }, ..hello });
        }
        let state = registry.lock();
        let connections: usize = state.gathering.iter().map(Gathering::connections).sum();
        assert!(connections <= limits::GATHERED_CONNECTIONS_MAX, "{connections}");
        assert!(state.gathering.last().unwrap().is_complete());
    }
}

#[test]
fn others_go_on_until_the_settings_of_the_one_that_was_taken_are_accepted() {
    let registry = SessionRegistry::new(1..=1);
    let first = registry.completes(1);
    let taken = registry.take().unwrap();
    let second = registry.completes(2);
    assert!(registry.take().is_none(), "one at a time");
    drop(taken);
    let taken = registry.take().unwrap();
    assert_eq!((first, taken.session), (SessionId([1; 16]), second));
    let third = registry.completes(3);
    taken.busy.agreed();
    let context = &Context::from_waker(Waker::noop());
    assert_eq!(registry.poll_left(third, context), Poll::Ready(Left::TooLate));
    assert_eq!(registry.poll_left(third, context), Poll::Ready(Left::Gone));
    assert_eq!(registry.admit(&CONTROL, None).unwrap_err(), Refusal::Busy);
    drop(taken);
    assert!(registry.take().is_none());
}

#[test]
fn a_connection_that_comes_to_a_session_that_has_left_is_closed() {
    let registry = SessionRegistry::new(1..=1);
    registry.admit(&CONTROL, None).unwrap().join(connection());
    let data = registry.admit(&DATA, None).unwrap();
    registry.abandon(CONTROL.session);
    data.join(connection());
    assert!(registry.take().is_none());
    assert!(registry.admit(&CONTROL, None).is_ok());
}

#[test]
fn only_the_latest_rejected_connections_are_remembered() {
    let registry = SessionRegistry::new(1..=1);
    for _ in 0..2 * REJECTED_MAX {
        registry.report(None, Error::Cancelled);
    }
    assert_eq!(registry.wait(Duration::ZERO).0.len(), REJECTED_MAX);
    assert!(registry.wait(Duration::ZERO).0.is_empty());
}
