//! The first message of each connection, and its answer.

/// A random number that names one session, so that no stranger's and no stale connection can join it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The control connection, always the first.
    Control {
        /// Data connections that will follow.
        channels: u16,
    },
    /// A data connection.
    Data {
        /// Its number, from 0.
        channel: u16,
    },
}

/// Bytes of an encoded [`Hello`].
pub const HELLO_LEN: usize = 64;

/// The first message on each connection, from the sender's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The session that the connection belongs to.
    pub session: SessionId,
    /// What the connection is for.
    pub role: Role,
    /// The host's boot id: two sides with the same one share a monotonic clock.
    pub boot_id: [u8; 16],
}

/// Bytes of an encoded [`Welcome`].
pub const WELCOME_LEN: usize = 64;

/// The answer to a [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The session of the hello that is answered.
    pub session: SessionId,
    /// The receiver's host.
    pub boot_id: [u8; 16],
    /// 0 when welcome, else the code of a refusal (see `control::Control::Refuse`).
    pub refusal: u16,
}
