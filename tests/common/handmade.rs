//! Generates what a QEMU source sends: devices of any size on any number of channels, with memory pages between them.

use ringlift::vfio::config_state::{CONFIG_STATE_TAG, END_OF_STATE_TAG};
use ringlift::wire::qemu::{
    DevicePacket, INIT_LEN, Idstr, Init, PREFIX_LEN, Packet, PageSize, RamPacket, SyncPacket,
};

/// A device and its state.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// Pieces that travel on the main connection before it stops.
    pub(crate) precopy: Vec<Vec<u8>>,
    /// Pieces that travel when it has stopped.
    pub(crate) state: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
}

impl Device {
    /// A device with `pieces` pieces of state of `len` bytes each.
    pub(crate) fn new(number: u8, pieces: usize, len: usize) -> Device {
        let byte = |at: usize| u8::try_from(at % 251).expect("less than 256");
        let piece = |of: usize| (0..len).map(|at| byte(at / 7 + of * 31 + usize::from(number))).collect();
        let mut config = CONFIG_STATE_TAG.to_be_bytes().to_vec();
        config.extend([0, 0, 0, 2]);
        config.extend([number; 4096]);
        config.extend([0; 16]);
        config.extend(END_OF_STATE_TAG.to_be_bytes());
        Device {
            name: format!("0000:00:{number:02x}.0/vfio"),
            precopy: vec![piece(1), piece(2)],
            state: (3..3 + pieces).map(piece).collect(),
            config,
        }
    }

    /// What the device must receive, besides its config state.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.precopy.iter().chain(&self.state).flatten().copied().collect()
    }
}

/// A migration.
#[derive(Debug, Clone)]
pub(crate) struct Migration {
    pub(crate) devices: Vec<Device>,
    pub(crate) channels: usize,
    pub(crate) return_path: bool,
    /// The state of stopped devices travels on the channels.
    pub(crate) on_channels: bool,
    /// Which channel takes the next packet; repeated as needed.
    pub(crate) choices: Vec<usize>,
}

impl Migration {
    pub(crate) fn new(devices: Vec<Device>, channels: usize) -> Migration {
        Migration {
            devices,
            channels,
            return_path: true,
            on_channels: true,
            choices: (0..channels).collect(),
        }
    }

    /// The main connection's bytes.
    pub(crate) fn main(&self) -> Vec<u8> {
        let mut main = Main(Vec::new());
        main.put(b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0");
        if self.return_path {
            main.put(&[8, 0, 1, 0, 0, 8, 0, 2, 0, 4, 0, 0, 0, 1]);
        }
        main.section(1, 2, Some(("ram", 4)), |main| {
            main.words(&[(64 << 20) | 4]);
            main.put(b"\x06pc.ram");
            main.words(&[64 << 20, 0x200, 0x10]);
        });
        let sections = || (30..).zip(&self.devices);
        for (id, device) in sections() {
            main.section(1, id, Some((&device.name, 1)), |main| main.words(&[SETUP, END_OF_STATE_TAG]));
        }
        let rounds = self.devices.iter().map(|device| device.precopy.len()).max().unwrap_or(0);
        for round in 0..rounds {
            main.section(2, 2, None, |main| main.words(&[0x10]));
            for (id, device) in sections() {
                let last = if round + 1 == rounds { INITIAL_SENT } else { END_OF_STATE_TAG };
                main.section(2, id, None, |main| {
                    device.precopy.get(round).into_iter().for_each(|piece| main.piece(piece));
                    main.words(&[last]);
                });
            }
        }
        if self.on_channels {
            main.put(&[8, 0, 11, 0, 0]);
        }
        main.section(3, 2, None, |main| main.words(&[0x200, 0x10]));
        for (id, device) in sections() {
            main.section(3, id, None, |main| {
                if !self.on_channels {
                    device.state.iter().for_each(|piece| main.piece(piece));
                }
                main.words(&[END_OF_STATE_TAG]);
            });
        }
        self.tail(&mut main);
        main.0
    }

    /// Full sections, and their description.
    fn tail(&self, main: &mut Main) {
        let mut described =
            vec![r#"{"name": "timer", "instance_id": 0, "fields": [{"size": 5}]}"#.to_owned()];
        main.section(4, 3, Some(("timer", 2)), |main| main.put(b"ticks"));
        for (id, device) in (30..).zip(&self.devices) {
            let config = if self.on_channels {
                END_OF_STATE_TAG.to_be_bytes().to_vec()
            } else {
                device.config.clone()
            };
            main.section(4, id, Some((&device.name, 1)), |main| main.put(&config));
            described.push(format!(
                r#"{{"name": "{}", "instance_id": 0, "fields": [{{"name": "data", "size": {}}}]}}"#,
                device.name,
                config.len()
            ));
        }
        let json = format!(r#"{{"page_size": 4096, "devices": [{}]}}"#, described.join(", "));
        main.put(&[0, 6]);
        main.put(&u32::try_from(json.len()).expect("short").to_be_bytes());
        main.put(json.as_bytes());
    }

    /// Each channel's packets, encoded, in the order in which a source hands them out: round robin over the devices,
    /// each device's in order of idx, with memory pages between them.
    pub(crate) fn packets(&self) -> Vec<Vec<Vec<u8>>> {
        let mut channels: Vec<Vec<Vec<u8>>> = (0..self.channels).map(|_| vec![sync(0)]).collect();
        let mut choices = self.choices.iter().cycle();
        let mut choose = || *choices.next().expect("endless") % self.channels.max(1);
        let most = self.devices.iter().map(|device| device.state.len() + 1).max().unwrap_or(0);
        for idx in (0..most).filter(|_| self.on_channels && self.channels > 0) {
            if idx % 3 == 0 {
                channels[choose()].push(ram(idx as u64));
            }
            for device in &self.devices {
                let (bytes, config) = match device.state.get(idx) {
                    Some(piece) => (piece, false),
                    None if idx == device.state.len() => (&device.config, true),
                    None => continue,
                };
                let idstr = Idstr::try_from(&*device.name).expect("a name");
                let (idx, len) =
                    (u32::try_from(idx).expect("few"), u32::try_from(bytes.len()).expect("short"));
                let packet = Packet::Device(DevicePacket { idstr, instance: 0, idx, config, len });
                channels[choose()].push(encoded(&packet, bytes));
            }
        }
        channels.iter_mut().for_each(|packets| packets.push(sync(9)));
        channels
    }

    /// Each channel's bytes, inits included.
    pub(crate) fn multifd(&self) -> Vec<Vec<u8>> {
        let channel = |(id, packets): (u8, Vec<Vec<u8>>)| {
            let mut bytes = vec![0; INIT_LEN];
            let init = bytes.first_chunk_mut().expect("as long as an init");
            Init { uuid: [0; 16], id }.encode(init);
            bytes.extend(packets.concat());
            bytes
        };
        (0..).zip(self.packets()).map(channel).collect()
    }
}

const SETUP: u64 = 0xffff_ffff_ef10_0003;
const DATA: u64 = 0xffff_ffff_ef10_0004;
const INITIAL_SENT: u64 = 0xffff_ffff_ef10_0005;

struct Main(Vec<u8>);

impl Main {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.put(&word.to_be_bytes()));
    }

    fn piece(&mut self, piece: &[u8]) {
        self.words(&[DATA, piece.len() as u64]);
        self.put(piece);
    }

    /// A section of this kind; one that begins has a name and a version.
    fn section(&mut self, kind: u8, id: u32, name: Option<(&str, u32)>, content: impl FnOnce(&mut Main)) {
        self.put(&[kind]);
        self.put(&id.to_be_bytes());
        if let Some((name, version)) = name {
            self.put(&[u8::try_from(name.len()).expect("short")]);
            self.put(name.as_bytes());
            self.put(&[0; 4]);
            self.put(&version.to_be_bytes());
        }
        content(self);
        self.put(&[0x7e]);
        self.put(&id.to_be_bytes());
    }
}

fn encoded(packet: &Packet, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; PREFIX_LEN];
    packet.encode(bytes.first_chunk_mut().expect("as long as a prefix"), PageSize::default());
    bytes.extend_from_slice(rest);
    bytes.resize(PREFIX_LEN + packet.rest() as usize, 0);
    bytes
}

fn sync(number: u64) -> Vec<u8> {
    encoded(&Packet::Sync(SyncPacket::new(number, PageSize::default())), &[])
}

fn ram(number: u64) -> Vec<u8> {
    encoded(&Packet::Ram(RamPacket::new(number, 3, 2, PageSize::default())), &[])
}
