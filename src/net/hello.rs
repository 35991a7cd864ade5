//! What a hello and its answer mean, whichever way the bytes travel. Pure: bytes in, bytes out.

use super::host::Host;
use crate::error::{Error, PeerError, Place, Refusal, Side};
use crate::wire::{HELLO_LEN, Hello, Malformed, SessionId, WELCOME_LEN, Welcome};

/// A hello that was received.
pub(super) fn read_hello(bytes: &[u8; HELLO_LEN], place: Place) -> Result<Hello, Error> {
    Hello::decode(bytes).map_err(|what| not_fitting(Side::Receiver, place, what))
}

pub(super) fn bytes_of(hello: &Hello) -> [u8; HELLO_LEN] {
    let mut bytes = [0; HELLO_LEN];
    hello.encode(&mut bytes);
    bytes
}

/// The answer to a hello: 0, or the code of a refusal.
pub(super) fn welcome_of(session: SessionId, host: Host, refusal: u16) -> [u8; WELCOME_LEN] {
    let mut bytes = [0; WELCOME_LEN];
    Welcome { session, boot_id: host.clock, refusal }.encode(&mut bytes);
    bytes
}

/// The name of the receiver's clock, if its answer to `hello` is a welcome.
pub(super) fn read_welcome(
    bytes: &[u8; WELCOME_LEN],
    hello: &Hello,
    place: Place,
) -> Result<[u8; 16], Error> {
    let welcome = Welcome::decode(bytes).map_err(|what| not_fitting(Side::Sender, place, what))?;
    if welcome.refusal != 0 {
        let reason = Refusal::from_wire(welcome.refusal, "");
        return Err(Error::Refused { by: Side::Receiver, reason });
    }
    if welcome.session != hello.session {
        return Err(PeerError::WrongSession { place }.into());
    }
    Ok(welcome.boot_id)
}

fn not_fitting(by: Side, place: Place, what: Malformed) -> Error {
    match what {
        Malformed::Version { .. } => Error::Refused { by, reason: Refusal::Version },
        _ => PeerError::Malformed { place, what }.into(),
    }
}
