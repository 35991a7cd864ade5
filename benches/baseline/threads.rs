//! Blocking threads, as a good engineer would write it without io_uring: `read(2)`, `writev(2)`, `read(2)`, `write(2)`.
//!
//! Two shapes:
//!
//! - [`Shape::Inline`]: one thread per channel does everything. At the source it takes the next bytes of a device (a
//!   lock keeps a device's reads in order: a device is a stream) and sends them; at the destination it receives a
//!   packet, and the thread that brings the next packet writes it and those that waited behind it. Bytes stay in one
//!   processor's cache, and with one channel no thread ever waits for another.
//! - [`Shape::Pipeline`]: a reader thread per device, a sender thread per channel, a receiver thread per channel, a
//!   writer thread per device, with short queues between them. Overlaps reading with sending.
//!
//! Which one is faster depends on processors, devices and channels, so both run, and the faster one is the baseline.
//! Buffers are recycled last in, first out, and there are few of them: what was just sent is still in the cache.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use ringlift::wire::{DATA_HEADER_LEN, DataHeader};

use super::sockets::Sockets;
use super::{Ordered, WINDOW_PATIENCE, Work, check, header, window};

/// How work is divided between threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Inline,
    Pipeline,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Free buffers, last in, first out. It allocates when it is empty: queues and windows bound how many there are.
struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    size: usize,
}

impl Pool {
    fn new(size: usize) -> Pool {
        Pool { free: Mutex::default(), size }
    }

    fn take(&self) -> Vec<u8> {
        let free = lock(&self.free).pop();
        free.unwrap_or_else(|| vec![1; self.size])
    }

    fn put(&self, buffer: Vec<u8>) {
        lock(&self.free).push(buffer);
    }
}

/// A packet of a device, on its way.
struct Packet {
    device: usize,
    idx: u64,
    len: usize,
    buffer: Vec<u8>,
}

impl Packet {
    fn payload(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// A short queue. `None` comes out when it is closed and empty.
struct Queue {
    state: Mutex<(VecDeque<Packet>, bool)>,
    filled: Condvar,
    emptied: Condvar,
    capacity: usize,
}

impl Queue {
    fn new(capacity: usize) -> Queue {
        Queue { state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), capacity }
    }

    fn push(&self, packet: Packet) {
        let state = lock(&self.state);
        let full = |state: &mut (VecDeque<Packet>, bool)| state.0.len() >= self.capacity;
        let mut state = self.emptied.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.0.push_back(packet);
        self.filled.notify_one();
    }

    fn pop(&self) -> Option<Packet> {
        let state = lock(&self.state);
        let empty = |state: &mut (VecDeque<Packet>, bool)| state.0.is_empty() && !state.1;
        let mut state = self.filled.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner);
        let packet = state.0.pop_front();
        self.emptied.notify_one();
        packet
    }

    fn close(&self) {
        lock(&self.state).1 = true;
        self.filled.notify_all();
    }
}

/// Sends everything. `files` is empty for transport alone: then buffers leave as they are.
pub(crate) fn send(shape: Shape, sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<()> {
    match shape {
        _ if files.is_empty() => send_nothing(sockets, work),
        Shape::Inline => send_inline(sockets, work, files),
        Shape::Pipeline => send_pipeline(sockets, work, files),
    }
}

/// Receives everything, to the end of every connection.
pub(crate) fn receive(shape: Shape, sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<u64> {
    match shape {
        _ if files.is_empty() => receive_nothing(sockets, work),
        Shape::Inline => receive_inline(sockets, work, files),
        Shape::Pipeline => receive_pipeline(sockets, work, files),
    }
}

fn send_nothing(sockets: &Sockets, work: &Work) -> io::Result<()> {
    let next = AtomicU64::new(0);
    let packets = work.bytes.div_ceil(work.packet_size as u64);
    each_channel(&sockets.data, |_, mut stream| {
        let buffer = vec![1; work.packet_size];
        loop {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            if idx >= packets {
                return stream.shutdown(Shutdown::Write);
            }
            let left = work.bytes - idx * work.packet_size as u64;
            let len = usize::try_from(left).map_or(work.packet_size, |left| left.min(work.packet_size));
            write_packet(&mut stream, 0, idx, &buffer[..len], work.checked)?;
        }
    })
    .map(drop)
}

fn receive_nothing(sockets: &Sockets, work: &Work) -> io::Result<u64> {
    each_channel(&sockets.data, |_, mut stream| {
        let mut buffer = vec![1; work.packet_size];
        let mut bytes = 0;
        while let Some((_, len)) = read_packet(&mut stream, &mut buffer, work.checked)? {
            bytes += len as u64;
        }
        Ok(bytes)
    })
    .map(|bytes| bytes.into_iter().sum())
}

/// A device at the source, and the idx of its next packet; no file once it has been read to its end.
type Stream = Mutex<(Option<File>, u64)>;

/// The next bytes of a device; `None` at its end.
fn read_next(device: &Stream, buffer: &mut [u8]) -> io::Result<Option<(u64, usize)>> {
    let (file, next) = &mut *lock(device);
    let Some(open) = file else { return Ok(None) };
    let len = open.read(buffer)?;
    if len == 0 {
        *file = None;
        return Ok(None);
    }
    *next += 1;
    Ok(Some((*next - 1, len)))
}

fn send_inline(sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<()> {
    let devices: Vec<Stream> = files.into_iter().map(|file| Mutex::new((Some(file), 0))).collect();
    each_channel(&sockets.data, |channel, mut stream| {
        let mut buffer = vec![1; work.packet_size];
        let mut ended = vec![false; devices.len()];
        let mut device = channel;
        while ended.contains(&false) {
            device = (device + 1) % devices.len();
            match read_next(&devices[device], &mut buffer)? {
                Some((idx, len)) => {
                    write_packet(&mut stream, device, idx, &buffer[..len], work.checked)?;
                }
                None => ended[device] = true,
            }
        }
        stream.shutdown(Shutdown::Write)
    })
    .map(drop)
}

/// A device at the destination: its packets, whether no more will come, and a condition variable for both.
struct Landing {
    state: Mutex<(Ordered<Packet>, bool)>,
    changed: Condvar,
    window: u64,
}

impl Landing {
    fn new(file: File, work: &Work) -> Landing {
        let state = Mutex::new((Ordered::new(file), false));
        Landing { state, changed: Condvar::new(), window: window(work) }
    }

    /// Leaves a packet here. One that is far ahead of the next packet waits, so that the others stay in the cache.
    fn leave(&self, packet: Packet) -> MutexGuard<'_, (Ordered<Packet>, bool)> {
        let far = |(ordered, _): &mut (Ordered<Packet>, bool)| packet.idx >= ordered.next + self.window;
        let waited = self.changed.wait_timeout_while(lock(&self.state), WINDOW_PATIENCE, far);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.0.waiting.insert(packet.idx, packet);
        state
    }
}

fn receive_inline(sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<u64> {
    let pool = Pool::new(work.packet_size);
    let devices: Vec<_> = files.into_iter().map(|file| Landing::new(file, work)).collect();
    each_channel(&sockets.data, |_, mut stream| {
        let mut bytes = 0;
        loop {
            let mut buffer = pool.take();
            let Some((header, len)) = read_packet(&mut stream, &mut buffer, work.checked)? else {
                return Ok(bytes);
            };
            bytes += len as u64;
            let device = usize::from(header.device);
            write_in_turn(&devices[device], Packet { device, idx: header.idx, len, buffer }, &pool)?;
        }
    })
    .map(|bytes| bytes.into_iter().sum())
}

/// Leaves a packet with its device, and writes what can be written now, unless another thread is doing so.
fn write_in_turn(device: &Landing, packet: Packet, pool: &Pool) -> io::Result<()> {
    let mut state = device.leave(packet);
    // the thread that holds the file looks again before it puts the file back
    let Some(mut file) = state.0.file.take() else { return Ok(()) };
    while let Some(packet) = state.0.pop() {
        drop(state);
        device.changed.notify_all();
        file.write_all(packet.payload())?;
        pool.put(packet.buffer);
        state = lock(&device.state);
    }
    state.0.file = Some(file);
    Ok(())
}

fn send_pipeline(sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<()> {
    let parties = work.channels + files.len();
    let pool = Pool::new(work.packet_size);
    let queue = Queue::new(parties);
    thread::scope(|scope| {
        let readers = files.into_iter().enumerate().map(|(device, file)| {
            let (pool, queue) = (&pool, &queue);
            scope.spawn(move || read_device(device, file, pool, queue))
        });
        let readers: Vec<_> = readers.collect();
        let senders =
            scope.spawn(|| each_channel(&sockets.data, |_, stream| drain(&queue, &pool, stream, work)));
        let read = readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"));
        queue.close();
        senders.join().expect("a sender does not panic").and(read)
    })
}

fn read_device(device: usize, mut file: File, pool: &Pool, queue: &Queue) -> io::Result<()> {
    for idx in 0.. {
        let mut buffer = pool.take();
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        queue.push(Packet { device, idx, len, buffer });
    }
    Ok(())
}

fn drain(queue: &Queue, pool: &Pool, mut stream: &TcpStream, work: &Work) -> io::Result<()> {
    while let Some(packet) = queue.pop() {
        write_packet(&mut stream, packet.device, packet.idx, packet.payload(), work.checked)?;
        pool.put(packet.buffer);
    }
    stream.shutdown(Shutdown::Write)
}

fn receive_pipeline(sockets: &Sockets, work: &Work, files: Vec<File>) -> io::Result<u64> {
    let pool = Pool::new(work.packet_size);
    let devices: Vec<_> = files.into_iter().map(|file| Landing::new(file, work)).collect();
    thread::scope(|scope| {
        let writers: Vec<_> =
            devices.iter().map(|device| scope.spawn(|| write_device(device, &pool))).collect();
        let received = each_channel(&sockets.data, |_, mut stream| {
            let mut bytes = 0;
            loop {
                let mut buffer = pool.take();
                let Some((header, len)) = read_packet(&mut stream, &mut buffer, work.checked)? else {
                    return Ok(bytes);
                };
                bytes += len as u64;
                let device = usize::from(header.device);
                drop(devices[device].leave(Packet { device, idx: header.idx, len, buffer }));
                devices[device].changed.notify_all();
            }
        });
        for device in &devices {
            lock(&device.state).1 = true;
            device.changed.notify_all();
        }
        let written = writers.into_iter().try_for_each(|writer| writer.join().expect("no panic"));
        written.and(received).map(|bytes| bytes.into_iter().sum())
    })
}

fn write_device(device: &Landing, pool: &Pool) -> io::Result<()> {
    let mut file = lock(&device.state).0.file.take().expect("a device has one writer");
    loop {
        let state = lock(&device.state);
        let idle = |(ordered, ended): &mut (Ordered<Packet>, bool)| {
            !ordered.waiting.contains_key(&ordered.next) && !*ended
        };
        let mut state = device.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let Some(packet) = state.0.pop() else { return Ok(()) };
        drop(state);
        device.changed.notify_all();
        file.write_all(packet.payload())?;
        pool.put(packet.buffer);
    }
}

/// Runs one thread per channel; returns what each of them returned.
fn each_channel<T: Send>(
    streams: &[TcpStream],
    body: impl Fn(usize, &TcpStream) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let body = &body;
        let threads: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(channel, stream)| scope.spawn(move || body(channel, stream)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a channel does not panic")).collect()
    })
}

/// Header and payload in one system call, as long as the socket takes all of it.
fn write_packet(
    stream: &mut &TcpStream,
    device: usize,
    idx: u64,
    payload: &[u8],
    checked: bool,
) -> io::Result<()> {
    let header = header(device, idx, payload, checked);
    let mut pieces = [IoSlice::new(&header), IoSlice::new(payload)];
    let mut left = &mut pieces[..];
    while !left.is_empty() {
        match stream.write_vectored(left)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}

/// A packet, its payload at the front of `buffer`; `None` when the peer ended between two packets.
fn read_packet(
    stream: &mut &TcpStream,
    buffer: &mut [u8],
    checked: bool,
) -> io::Result<Option<(DataHeader, usize)>> {
    let mut bytes = [0; DATA_HEADER_LEN];
    let came = stream.read(&mut bytes)?;
    if came == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut bytes[came..])?;
    let header = DataHeader::decode(&bytes).map_err(io::Error::other)?;
    let payload = &mut buffer[..header.len as usize];
    stream.read_exact(payload)?;
    check(&header, payload, checked);
    Ok(Some((header, payload.len())))
}
