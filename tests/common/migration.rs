//! A migration larger than the recorded fixtures: the main connection of a real one, with more barriers, more channels,
//! and more state of its device.

use std::fs;
use std::path::Path;

use ringlift::wire::qemu::{
    DevicePacket, INIT_LEN, Idstr, Init, PREFIX_LEN, Packet, PageSize, RamPacket, SyncPacket,
};

use super::source::Streams;

/// Bytes of state in each packet.
const STATE: u32 = 256 << 10;
/// The bytes in front of the page flag that ends a part of RAM.
const RAM_PART: [u8; 13] = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10];

/// Extends the recorded capture to this many channels, additional barriers and packets of state.
pub(crate) fn grown(channels: u8, rounds: u32, packets: u32) -> Streams {
    let kept = Streams::of("device-on-channels-ack");
    let config = |channel: usize| {
        let mut packets = kept.packets(channel).into_iter();
        let (offset, _) =
            packets.find(|(_, packet)| matches!(packet, Packet::Device(packet) if packet.config))?;
        Some(&kept.multifd[channel][offset + PREFIX_LEN..][..4132])
    };
    let blob = (0..kept.multifd.len()).find_map(config).expect("there is one");
    let mut streams = Streams { main: with_flushes(&kept.main, rounds), multifd: Vec::new() };
    let flushes = rounds + count_flushes(&kept.main);
    for id in 0..channels {
        let mut bytes = vec![0; INIT_LEN];
        Init { uuid: [0; 16], id }.encode(bytes.as_mut_slice().try_into().expect("its length"));
        streams.multifd.push(bytes);
    }
    // the last two barriers come behind the switchover: device state lies before them, between them and behind them
    let state = |idx: u32| (idx, vec![u8::try_from(idx % 251).expect("small"); STATE as usize]);
    let mut state = (0..packets).map(state);
    for round in 0..flushes {
        if round + 2 >= flushes {
            state
                .by_ref()
                .take(packets as usize / 3)
                .for_each(|(idx, data)| device(&mut streams, idx, false, &data));
        }
        for bytes in &mut streams.multifd {
            ram(bytes, round);
            append(bytes, Packet::Sync(SyncPacket::new(round.into(), PageSize::default())), &[]);
        }
    }
    state.for_each(|(idx, data)| device(&mut streams, idx, false, &data));
    device(&mut streams, packets, true, blob);
    streams
}

impl Streams {
    /// Writes them as a capture does.
    pub(crate) fn write_to(&self, folder: &Path) {
        fs::write(folder.join("main.bin"), &self.main).expect("written");
        for (id, bytes) in self.multifd.iter().enumerate() {
            fs::write(folder.join(format!("multifd-{id}.bin")), bytes).expect("written");
        }
    }

    /// All bytes.
    pub(crate) fn len(&self) -> usize {
        self.main.len() + self.multifd.iter().map(Vec::len).sum::<usize>()
    }
}

fn with_flushes(main: &[u8], more: u32) -> Vec<u8> {
    let at = main.windows(RAM_PART.len()).position(|window| window == RAM_PART).expect("a part of RAM") + 5;
    let flags = (0..more).flat_map(|_| 0x200_u64.to_be_bytes());
    main[..at].iter().copied().chain(flags).chain(main[at..].iter().copied()).collect()
}

fn count_flushes(main: &[u8]) -> u32 {
    use ringlift::wire::qemu::{Event, MainStream};
    let (mut stream, mut rest, mut count) = (MainStream::new(), main, 0);
    while let (taken, Some(event)) = stream.next(rest).expect("a good stream") {
        rest = &rest[taken..];
        count += u32::from(event == Event::RamFlush);
        if event == Event::Tail {
            break;
        }
    }
    count
}

fn ram(bytes: &mut Vec<u8>, round: u32) {
    append(bytes, Packet::Ram(RamPacket::new(round.into(), 16, 0, PageSize::default())), &[]);
}

/// A packet of device state, on the next channel.
fn device(streams: &mut Streams, idx: u32, config: bool, data: &[u8]) {
    let channel = idx as usize % streams.multifd.len();
    let len = u32::try_from(data.len()).expect("small");
    let idstr = Idstr::new(b"0000:00:01.0/vfio").expect("a name");
    append(
        &mut streams.multifd[channel],
        Packet::Device(DevicePacket { idstr, instance: 0, idx, config, len }),
        data,
    );
}

/// A packet, and what follows its prefix: zeros if nothing is given.
fn append(bytes: &mut Vec<u8>, packet: Packet, rest: &[u8]) {
    let mut prefix = [0; PREFIX_LEN];
    packet.encode(&mut prefix, PageSize::default());
    bytes.extend(prefix);
    bytes.extend(rest);
    bytes.resize(bytes.len() + packet.rest() as usize - rest.len(), 0);
}
