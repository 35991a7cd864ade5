//! tokio-uring: one thread and one ring on each side, a task per device and per channel.
//!
//! The shape is that of the threads' pipeline, because waiting for one operation at a time would waste the ring: the
//! next read of a device is under way while packets are sent, and the next packet is received while one is written.
//! Header and payload lie in one buffer and leave in one operation. Buffers are recycled last in, first out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpStream as Socket};
use std::rc::Rc;

use ringlift::wire::{DATA_HEADER_LEN, DataHeader};
use tokio::sync::Notify;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::sockets::Sockets;
use super::{Ordered, WINDOW_PATIENCE, Work, check, header, window};

/// A buffer, header first; `len` bytes of payload.
struct Packet {
    device: usize,
    idx: u64,
    len: usize,
    buffer: Vec<u8>,
}

impl Packet {
    fn end(&self) -> usize {
        DATA_HEADER_LEN + self.len
    }
}

/// The same as in the threads' baseline.
struct Pool {
    free: RefCell<Vec<Vec<u8>>>,
    size: usize,
}

impl Pool {
    fn new(work: &Work) -> Rc<Pool> {
        Rc::new(Pool { free: RefCell::default(), size: DATA_HEADER_LEN + work.packet_size })
    }

    fn take(&self) -> Vec<u8> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| vec![1; self.size])
    }

    fn put(&self, buffer: Vec<u8>) {
        self.free.borrow_mut().push(buffer);
    }
}

/// A short queue between tasks.
struct Queue {
    packets: RefCell<VecDeque<Packet>>,
    closed: Cell<bool>,
    filled: Notify,
    emptied: Notify,
    capacity: usize,
}

impl Queue {
    fn new(capacity: usize) -> Rc<Queue> {
        Rc::new(Queue {
            packets: RefCell::default(),
            closed: Cell::new(false),
            filled: Notify::new(),
            emptied: Notify::new(),
            capacity,
        })
    }

    async fn push(&self, packet: Packet) {
        while self.packets.borrow().len() >= self.capacity {
            self.emptied.notified().await;
        }
        self.packets.borrow_mut().push_back(packet);
        self.filled.notify_one();
    }

    async fn pop(&self) -> Option<Packet> {
        loop {
            let packet = self.packets.borrow_mut().pop_front();
            if packet.is_some() || self.closed.get() {
                self.emptied.notify_one();
                return packet;
            }
            self.filled.notified().await;
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.filled.notify_waiters();
    }
}

/// Sends everything. `files` is empty for transport alone: then buffers leave as they are.
pub(crate) fn send(sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<()> {
    let streams = streams(sockets)?;
    let work = Rc::new(work.clone());
    tokio_uring::start(async move {
        match files.is_empty() {
            true => send_nothing(streams, &work).await,
            false => send_devices(streams, &work, files).await,
        }
    })
}

/// Receives everything, to the end of every connection.
pub(crate) fn receive(sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<u64> {
    let streams = streams(sockets)?;
    let work = Rc::new(work.clone());
    tokio_uring::start(async move {
        match files.is_empty() {
            true => receive_nothing(streams, &work).await,
            false => receive_devices(streams, &work, files).await,
        }
    })
}

fn streams(sockets: &Sockets) -> io::Result<Vec<Socket>> {
    sockets.data.iter().map(Socket::try_clone).collect()
}

/// Waits for every task.
async fn join<T>(tasks: Vec<::tokio::task::JoinHandle<io::Result<T>>>) -> io::Result<Vec<T>> {
    let mut given = Vec::new();
    for task in tasks {
        given.push(task.await.map_err(io::Error::other)??);
    }
    Ok(given)
}

async fn send_nothing(streams: Vec<Socket>, work: &Rc<Work>) -> io::Result<()> {
    let next = Rc::new(Cell::new(0));
    let spawn = |stream| {
        let (next, work) = (Rc::clone(&next), Rc::clone(work));
        tokio_uring::spawn(async move {
            let stream = TcpStream::from_std(stream);
            let mut buffer = vec![1; DATA_HEADER_LEN + work.packet_size];
            loop {
                let idx = next.get();
                let at = idx * work.packet_size as u64;
                if at >= work.bytes {
                    return stream.shutdown(Shutdown::Write);
                }
                next.set(idx + 1);
                let len = usize::try_from(work.bytes - at)
                    .map_or(work.packet_size, |left| left.min(work.packet_size));
                let packet = Packet { device: 0, idx, len, buffer };
                buffer = write_packet(&stream, packet, work.checked).await?;
            }
        })
    };
    join(streams.into_iter().map(spawn).collect()).await.map(drop)
}

async fn receive_nothing(streams: Vec<Socket>, work: &Rc<Work>) -> io::Result<u64> {
    let spawn = |stream| {
        let work = Rc::clone(work);
        tokio_uring::spawn(async move {
            let stream = TcpStream::from_std(stream);
            let mut buffer = vec![1; DATA_HEADER_LEN + work.packet_size];
            let mut bytes = 0;
            loop {
                let (packet, back) = read_packet(&stream, buffer, work.checked).await?;
                let Some(header) = packet else { return Ok(bytes) };
                bytes += u64::from(header.len);
                buffer = back;
            }
        })
    };
    Ok(join(streams.into_iter().map(spawn).collect()).await?.into_iter().sum())
}

async fn send_devices(streams: Vec<Socket>, work: &Rc<Work>, files: Vec<File>) -> io::Result<()> {
    let parties = streams.len() + files.len();
    let pool = Pool::new(work);
    let queue = Queue::new(parties);
    let reader =
        |(device, file)| tokio_uring::spawn(read_device(device, file, Rc::clone(&pool), Rc::clone(&queue)));
    let readers = files.into_iter().enumerate().map(reader).collect();
    let sender = |stream| {
        let (pool, queue, work) = (Rc::clone(&pool), Rc::clone(&queue), Rc::clone(work));
        tokio_uring::spawn(async move {
            let stream = TcpStream::from_std(stream);
            while let Some(packet) = queue.pop().await {
                pool.put(write_packet(&stream, packet, work.checked).await?);
            }
            stream.shutdown(Shutdown::Write)
        })
    };
    let senders = streams.into_iter().map(sender).collect();
    let read = join(readers).await;
    queue.close();
    join(senders).await?;
    read.map(drop)
}

async fn read_device(device: usize, file: File, pool: Rc<Pool>, queue: Rc<Queue>) -> io::Result<()> {
    let file = tokio_uring::fs::File::from_std(file);
    let mut at = 0;
    for idx in 0.. {
        let (read, buffer) = file.read_at(pool.take().slice(DATA_HEADER_LEN..), at).await;
        let (len, buffer) = (read?, buffer.into_inner());
        if len == 0 {
            break;
        }
        at += len as u64;
        queue.push(Packet { device, idx, len, buffer }).await;
    }
    Ok(())
}

/// A device at the destination: its packets, and a notification.
struct Landing {
    ordered: RefCell<Ordered<Packet>>,
    ended: Cell<bool>,
    filled: Notify,
    emptied: Notify,
    window: u64,
}

impl Landing {
    /// Leaves a packet here. One that is far ahead of the next packet waits.
    async fn leave(&self, packet: Packet) {
        while packet.idx >= self.ordered.borrow().next + self.window {
            if tokio::time::timeout(WINDOW_PATIENCE, self.emptied.notified()).await.is_err() {
                break;
            }
        }
        self.ordered.borrow_mut().waiting.insert(packet.idx, packet);
        self.filled.notify_one();
    }
}

async fn receive_devices(streams: Vec<Socket>, work: &Rc<Work>, files: Vec<File>) -> io::Result<u64> {
    let pool = Pool::new(work);
    let landing = |file| Landing {
        ordered: RefCell::new(Ordered::new(file)),
        ended: Cell::new(false),
        filled: Notify::new(),
        emptied: Notify::new(),
        window: window(work),
    };
    let devices: Rc<[Landing]> = files.into_iter().map(landing).collect();
    let writer = |device| tokio_uring::spawn(write_device(Rc::clone(&devices), device, Rc::clone(&pool)));
    let writers = (0..devices.len()).map(writer).collect();
    let receiver = |stream| {
        let (devices, pool, work) = (Rc::clone(&devices), Rc::clone(&pool), Rc::clone(work));
        tokio_uring::spawn(async move {
            let stream = TcpStream::from_std(stream);
            let mut bytes = 0;
            loop {
                let (header, buffer) = read_packet(&stream, pool.take(), work.checked).await?;
                let Some(header) = header else { return Ok(bytes) };
                bytes += u64::from(header.len);
                let device = usize::from(header.device);
                let packet = Packet { device, idx: header.idx, len: header.len as usize, buffer };
                devices[device].leave(packet).await;
            }
        })
    };
    let bytes = join(streams.into_iter().map(receiver).collect()).await;
    for device in &*devices {
        device.ended.set(true);
        device.filled.notify_one();
    }
    join(writers).await?;
    Ok(bytes?.into_iter().sum())
}

async fn write_device(devices: Rc<[Landing]>, device: usize, pool: Rc<Pool>) -> io::Result<()> {
    let device = &devices[device];
    let file = device.ordered.borrow_mut().file.take().expect("a device has one writer");
    let file = tokio_uring::fs::File::from_std(file);
    let mut at = 0;
    loop {
        let packet = device.ordered.borrow_mut().pop();
        let Some(packet) = packet else {
            if device.ended.get() {
                return Ok(());
            }
            device.filled.notified().await;
            continue;
        };
        device.emptied.notify_waiters();
        let end = packet.end();
        let (written, buffer) = file.write_all_at(packet.buffer.slice(DATA_HEADER_LEN..end), at).await;
        written?;
        at += packet.len as u64;
        pool.put(buffer.into_inner());
    }
}

/// Sends header and payload in one operation; returns the buffer.
async fn write_packet(stream: &TcpStream, mut packet: Packet, checked: bool) -> io::Result<Vec<u8>> {
    let end = packet.end();
    let header = header(packet.device, packet.idx, &packet.buffer[DATA_HEADER_LEN..end], checked);
    packet.buffer[..DATA_HEADER_LEN].copy_from_slice(&header);
    let (written, buffer) = stream.write_all(packet.buffer.slice(..end)).await;
    written?;
    Ok(buffer.into_inner())
}

/// A packet; no header when the peer ended between two packets.
async fn read_packet(
    stream: &TcpStream,
    buffer: Vec<u8>,
    checked: bool,
) -> io::Result<(Option<DataHeader>, Vec<u8>)> {
    let (filled, buffer) = read_exact(stream, buffer, 0, DATA_HEADER_LEN).await?;
    if filled == 0 {
        return Ok((None, buffer));
    }
    let bytes = buffer[..DATA_HEADER_LEN].try_into().expect("as long as a header");
    let header = DataHeader::decode(bytes).map_err(io::Error::other)?;
    let end = DATA_HEADER_LEN + header.len as usize;
    let (_, buffer) = read_exact(stream, buffer, DATA_HEADER_LEN, end).await?;
    check(&header, &buffer[DATA_HEADER_LEN..end], checked);
    Ok((Some(header), buffer))
}

/// Fills a range of the buffer. Returns 0 when nothing came at all, which is an end only at the start of a packet.
async fn read_exact(
    stream: &TcpStream,
    mut buffer: Vec<u8>,
    begin: usize,
    end: usize,
) -> io::Result<(usize, Vec<u8>)> {
    let mut at = begin;
    while at < end {
        let (read, back) = stream.read(buffer.slice(at..end)).await;
        buffer = back.into_inner();
        match read? {
            0 if at == 0 => break,
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            came => at += came,
        }
    }
    Ok((at - begin, buffer))
}
