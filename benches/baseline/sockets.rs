//! Connections for the baselines: one for control, on which the receiver sends *ready* and *done*, and the data
//! connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use super::Work;

/// One side's connections.
pub(crate) struct Sockets {
    pub(crate) control: TcpStream,
    pub(crate) data: Vec<TcpStream>,
}

fn socket(congestion: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_congestion(congestion.as_bytes())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Listens on a free port of loopback.
pub(crate) fn listen(work: &Work) -> io::Result<TcpListener> {
    let socket = socket(&work.congestion)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

impl Sockets {
    /// The sender's connections.
    pub(crate) fn connect(to: SocketAddr, work: &Work) -> io::Result<Sockets> {
        let dial = || -> io::Result<TcpStream> {
            let socket = socket(&work.congestion)?;
            socket.connect(&to.into())?;
            Ok(socket.into())
        };
        let control = dial()?;
        let data = (0..work.channels).map(|_| dial()).collect::<io::Result<_>>()?;
        Ok(Sockets { control, data })
    }

    /// The receiver's connections. The control connection comes first.
    pub(crate) fn accept(listener: &TcpListener, work: &Work) -> io::Result<Sockets> {
        let accept = || -> io::Result<TcpStream> {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let control = accept()?;
        let data = (0..work.channels).map(|_| accept()).collect::<io::Result<_>>()?;
        Ok(Sockets { control, data })
    }

    /// Tells the other side that this one has got this far.
    pub(crate) fn tell(&mut self) -> io::Result<()> {
        self.control.write_all(&[1])
    }

    /// Waits for the other side's message.
    pub(crate) fn hear(&mut self) -> io::Result<()> {
        self.control.read_exact(&mut [0])
    }
}
