//! Hand-written peers that speak the protocol and can violate it: they use `std::net` and [`ringlift::wire`] alone.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use ringlift::wire::{
    CONTROL_HEADER_LEN, Checksum, Control, ControlHeader, DATA_HEADER_LEN, DataHeader, DeviceOffer,
    HELLO_LEN, Hello, Offer, Role, SessionId, WELCOME_LEN, Welcome, crc32c,
};

use super::{PATIENCE, loopback};

/// The packet size in hand-written offers.
pub(crate) const PACKET: u32 = 4096;
/// The pool size in hand-written offers: 15 slots.
pub(crate) const HAND_POOL: u64 = 1 << 20;

pub(crate) fn control_bytes(message: &Control) -> Vec<u8> {
    let mut line = vec![0; ringlift::limits::CONTROL_BUFFER_SIZE];
    let len = message.encode(&mut line);
    assert!(len > 0, "{message:?} fits in the buffer");
    line.truncate(len);
    line
}

/// A control message that is malformed except for its checksum.
pub(crate) fn forged_control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut head = [0; CONTROL_HEADER_LEN];
    let len = u32::try_from(body.len()).expect("short");
    ControlHeader { kind, len, crc32c: 0 }.encode(&mut head);
    let check = crc32c(crc32c(0, &head[..12]), body);
    ControlHeader { kind, len, crc32c: check }.encode(&mut head);
    [&head, body].concat()
}

pub(crate) fn hello_bytes(session: SessionId, role: Role) -> [u8; HELLO_LEN] {
    let mut bytes = [0; HELLO_LEN];
    Hello { session, role, boot_id: [7; 16] }.encode(&mut bytes);
    bytes
}

pub(crate) fn welcome_bytes(session: SessionId, refusal: u16) -> [u8; WELCOME_LEN] {
    let mut bytes = [0; WELCOME_LEN];
    Welcome { session, boot_id: [7; 16], refusal }.encode(&mut bytes);
    bytes
}

/// Writes `value` at `offset` into a message that ends with its checksum, and corrects the checksum.
pub(crate) fn with<const LEN: usize>(mut bytes: [u8; LEN], offset: usize, value: &[u8]) -> [u8; LEN] {
    bytes[offset..offset + value.len()].copy_from_slice(value);
    let check = crc32c(0, &bytes[..LEN - 4]);
    bytes[LEN - 4..].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// The header of a well-formed packet.
pub(crate) fn header(device: u16, idx: u64, payload: &[u8]) -> DataHeader {
    let len = u32::try_from(payload.len()).expect("short");
    DataHeader { device, idx, config: false, len, crc32c: crc32c(0, payload), read_at_ns: 0, sent_at_ns: 0 }
}

pub(crate) fn config_header(device: u16, idx: u64, payload: &[u8]) -> DataHeader {
    DataHeader { config: true, ..header(device, idx, payload) }
}

pub(crate) fn header_bytes(header: &DataHeader) -> [u8; DATA_HEADER_LEN] {
    let mut bytes = [0; DATA_HEADER_LEN];
    header.encode(&mut bytes);
    bytes
}

pub(crate) fn packet_bytes(header: &DataHeader, payload: &[u8]) -> Vec<u8> {
    [&header_bytes(header)[..], payload].concat()
}

pub(crate) fn an_offer(names: &[&str]) -> Offer {
    let device = |name: &&str| DeviceOffer { name: (*name).into(), instance: 0, estimate: 0 };
    Offer {
        features: 0,
        packet_size: PACKET,
        pool_size: HAND_POOL,
        checksum: Checksum::Crc32c,
        devices: names.iter().map(device).collect(),
    }
}

pub(crate) fn dial(addr: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect(addr).expect("a receiver listens"))
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
    stream.set_nodelay(true).expect("TCP");
    stream
}

/// The answer to a hello.
pub(crate) fn welcome_of(stream: &mut TcpStream) -> io::Result<Welcome> {
    let mut bytes = [0; WELCOME_LEN];
    stream.read_exact(&mut bytes)?;
    Ok(Welcome::decode(&bytes).expect("a welcome"))
}

/// Reads until the other side closes; a reset counts as an end, too.
pub(crate) fn await_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Reads one control message.
pub(crate) fn read_message(stream: &mut TcpStream) -> io::Result<Control> {
    let mut head = [0; CONTROL_HEADER_LEN];
    stream.read_exact(&mut head)?;
    let header = ControlHeader::decode(&head).expect("ringlift writes good headers");
    let mut body = vec![0; header.len as usize];
    stream.read_exact(&mut body)?;
    match Control::decode(&header, &body).expect("ringlift writes good messages") {
        // a receiver that answers no question is one, too
        Control::Ping { .. } => read_message(stream),
        message => Ok(message),
    }
}

/// The control and data connections of a session, on either side.
pub(crate) struct Connections {
    pub(crate) control: TcpStream,
    pub(crate) data: Vec<TcpStream>,
    pub(crate) session: SessionId,
}

impl Connections {
    pub(crate) fn send(&mut self, message: &Control) {
        self.write(&control_bytes(message));
    }

    /// Sends bytes on the control connection. The other side may have given up already, which is not an error here.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.control.write_all(bytes);
    }

    pub(crate) fn write_data(&mut self, channel: usize, bytes: &[u8]) {
        let _ = self.data[channel].write_all(bytes);
    }

    pub(crate) fn packet(&mut self, channel: usize, header: &DataHeader, payload: &[u8]) {
        self.write_data(channel, &packet_bytes(header, payload));
    }

    /// The next message, skipping heartbeats and credit; `None` at the end.
    pub(crate) fn next_message(&mut self) -> Option<Control> {
        loop {
            match read_message(&mut self.control) {
                Ok(Control::Heartbeat | Control::Credit { .. }) => {}
                Ok(other) => return Some(other),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    unreachable!("the other side neither sent a message nor closed")
                }
                Err(_) => return None,
            }
        }
    }

    /// The final message that the other side sends before it closes.
    pub(crate) fn final_message(&mut self) -> Option<Control> {
        let mut last = None;
        while let Some(message) = self.next_message() {
            last = Some(message);
        }
        last
    }

    /// Sends no more, but still receives.
    pub(crate) fn fall_silent(&self) {
        let _ = self.control.shutdown(Shutdown::Write);
    }
}

/// Sets a session up as a sender does.
pub(crate) fn greet(addr: SocketAddr, channels: u16) -> Connections {
    let session = SessionId(nix_random());
    let mut control = dial(addr);
    control.write_all(&hello_bytes(session, Role::Control { channels })).expect("sent");
    assert_eq!(welcome_of(&mut control).expect("welcome").refusal, 0);
    let data = (0..channels).map(|channel| {
        let mut data = dial(addr);
        data.write_all(&hello_bytes(session, Role::Data { channel })).expect("sent");
        assert_eq!(welcome_of(&mut data).expect("welcome").refusal, 0);
        data
    });
    let data = data.collect();
    Connections { control, data, session }
}

/// A session of devices `names` up to the first credit of each of them.
pub(crate) fn greet_and_agree(addr: SocketAddr, channels: u16, names: &[&str]) -> Connections {
    agree(greet(addr, channels), &an_offer(names))
}

pub(crate) fn agree(mut peer: Connections, offer: &Offer) -> Connections {
    peer.send(&Control::Offer(offer.clone()));
    assert_eq!(peer.next_message(), Some(Control::Accept));
    assert_eq!(peer.next_message(), Some(Control::Ready));
    for _ in &offer.devices {
        while !matches!(read_message(&mut peer.control).expect("credit"), Control::Credit { .. }) {}
    }
    peer
}

/// A session id that no other test uses.
fn nix_random() -> [u8; 16] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let number = || RandomState::new().build_hasher().finish();
    (u128::from(number()) << 64 | u128::from(number())).to_be_bytes()
}

/// A hand-written receiver that listens.
pub(crate) struct Acceptor {
    listening: TcpListener,
    pub(crate) addr: SocketAddr,
}

impl Acceptor {
    pub(crate) fn open() -> Acceptor {
        let listening = TcpListener::bind(loopback()).expect("a free port");
        socket2::SockRef::from(&listening).set_read_timeout(Some(PATIENCE)).expect("a bound");
        let addr = listening.local_addr().expect("bound");
        Acceptor { listening, addr }
    }

    /// The next connection and its hello.
    pub(crate) fn hello(&self) -> (TcpStream, Hello) {
        let mut stream = bounded(self.listening.accept().expect("a sender connects").0);
        let mut bytes = [0; HELLO_LEN];
        stream.read_exact(&mut bytes).expect("a hello");
        (stream, Hello::decode(&bytes).expect("a good hello"))
    }

    /// Sets a session up as a receiver does.
    pub(crate) fn welcome(&self) -> Connections {
        let (mut control, hello) = self.hello();
        let Role::Control { channels } = hello.role else { unreachable!("control comes first") };
        control.write_all(&welcome_bytes(hello.session, 0)).expect("sent");
        let mut data: Vec<Option<TcpStream>> = (0..channels).map(|_| None).collect();
        for _ in 0..channels {
            let (mut stream, hello) = self.hello();
            let Role::Data { channel } = hello.role else { unreachable!("one control connection") };
            stream.write_all(&welcome_bytes(hello.session, 0)).expect("sent");
            data[usize::from(channel)] = Some(stream);
        }
        let data = data.into_iter().map(|stream| stream.expect("each once")).collect();
        Connections { control, data, session: hello.session }
    }

    /// A session in which the sender may send everything immediately.
    pub(crate) fn welcome_and_agree(&self) -> (Connections, Offer) {
        let mut peer = self.welcome();
        let Some(Control::Offer(offer)) = peer.next_message() else { unreachable!("an offer comes first") };
        peer.send(&Control::Accept);
        peer.send(&Control::Ready);
        for device in 0..offer.devices.len() {
            let device = u16::try_from(device).expect("few");
            peer.send(&Control::Credit { device, limit: 1 << 40 });
        }
        (peer, offer)
    }

    /// A session in which everything has arrived, over one channel; returns the correct *loaded* messages.
    pub(crate) fn welcome_and_take_all(&self) -> (Connections, Vec<Control>) {
        let (mut peer, offer) = self.welcome_and_agree();
        let loaded = take_all(&mut peer, offer.devices.len());
        (peer, loaded)
    }
}

/// Reads all packets of channel 0, until the config packet of every device has arrived.
pub(crate) fn take_all(peer: &mut Connections, devices: usize) -> Vec<Control> {
    let mut totals = vec![(0_u64, 0_u64, 0_u32, false); devices];
    while totals.iter().any(|total| !total.3) {
        let (header, payload) = read_packet(&mut peer.data[0]).expect("a packet");
        let total = &mut totals[usize::from(header.device)];
        assert_eq!(header.idx, total.0, "one channel keeps the order");
        let bytes = total.1 + u64::from(header.len);
        *total = (total.0 + 1, bytes, crc32c(total.2, &payload), header.config);
    }
    let loaded = |(device, &(packets, bytes, crc32c, _)): (u16, &(u64, u64, u32, bool))| Control::Loaded {
        device,
        packets,
        bytes,
        crc32c,
    };
    (0_u16..).zip(&totals).map(loaded).collect()
}

pub(crate) fn read_packet(stream: &mut TcpStream) -> io::Result<(DataHeader, Vec<u8>)> {
    let mut bytes = [0; DATA_HEADER_LEN];
    stream.read_exact(&mut bytes)?;
    let header = DataHeader::decode(&bytes).expect("ringlift writes good headers");
    let mut payload = vec![0; header.len as usize];
    stream.read_exact(&mut payload)?;
    Ok((header, payload))
}
