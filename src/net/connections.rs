//! All connections of a session, once every hello is answered. Knows nothing of how they came.

use std::net::SocketAddr;

use super::socket::Congestion;
use super::{Busy, Connection, socket};
use crate::error::Error;
use crate::wire::SessionId;

/// Every connection of a session, after its hello. All sockets are blocking.
#[derive(Debug)]
pub(crate) struct Connections {
    /// The control connection.
    pub(crate) control: Connection,
    /// The data connections, by channel number.
    pub(crate) data: Vec<Connection>,
    /// What was received on the control connection after the hello.
    pub(crate) opening: Vec<u8>,
    /// Which session it is.
    pub(crate) session: SessionId,
    /// Both sides read the same monotonic clock, so their timestamps can be compared.
    pub(crate) same_clock: bool,
    /// While it lives, the listener rejects other sessions. `None` on the sender's side and with an embedder's sockets.
    pub(crate) busy: Option<Busy>,
}

impl Connections {
    /// The peer's address, if it has one.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.control.peer()
    }

    /// The number of data connections.
    pub(crate) fn channels(&self) -> u16 {
        u16::try_from(self.data.len()).expect("channels are bounded by CHANNELS_MAX")
    }

    /// The congestion control in effect; `None` unless the data connections are TCP.
    pub(crate) fn congestion(&self) -> Option<Congestion> {
        self.data.first().and_then(Congestion::of)
    }

    /// Sets the congestion control of every TCP connection, if one is named.
    pub(crate) fn use_congestion(self, name: Option<&str>) -> Result<Connections, Error> {
        if let Some(name) = name {
            socket::set_congestion(std::iter::once(&self.control).chain(&self.data), name)?;
        }
        Ok(self)
    }
}
