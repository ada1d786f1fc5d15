use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

/// Viewers that share a local address, so that neither ports nor the server's limits per address run out.
const PER_ADDRESS: usize = 100;
/// What the system may hold for somebody who reads slowly.
const SLOW_BUFFER_BYTES: usize = 8 << 10;

/// Starts a connection from a local address of the machine's own network; elsewhere the system chooses one.
pub fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    open(server, number, false)
}

/// The same for somebody who reads slowly: little waits on her side.
pub(super) fn connect_slow(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    open(server, number, true)
}

fn open(server: SocketAddr, number: usize, is_slow: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if is_slow {
        socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    }
    if let SocketAddr::V4(server) = server
        && server.ip().is_loopback()
    {
        let place = u32::try_from(number / PER_ADDRESS % 250).expect("it is small");
        let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 2).to_bits() + place);
        socket.bind(&SocketAddrV4::new(from, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
