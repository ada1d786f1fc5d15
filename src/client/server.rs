//! Where a server is.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    str::FromStr,
};

use crate::{
    client::{Config, Error},
    id::RoomId,
};

use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

/// The base address of a server: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    authority: String,
    host: String,
    port: u16,
}

impl Server {
    pub fn at(addr: SocketAddr) -> Self {
        Self { authority: addr.to_string(), host: addr.ip().to_string(), port: addr.port() }
    }

    /// The full address of a path on this server, for plain HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }

    pub(super) fn socket_url(&self, room: &RoomId) -> String {
        format!("ws://{}/v1/rooms/{room}/ws", self.authority)
    }

    /// Opens a TCP connection without Nagle's delay.
    pub(super) async fn connect(&self, config: &Config) -> Result<TcpStream, Error> {
        let connecting = async {
            let addr = self.resolve().await?;
            let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(bind) = config.bind {
                socket.bind((bind, 0).into())?;
            }
            let stream = socket.connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let connected = timeout(config.connect_timeout, connecting).await;
        connected.map_err(|_| Error::Timeout("connect"))?.map_err(Error::Connect)
    }

    /// The local address that the system would use to reach this server: where media sockets are bound.
    pub(super) async fn local_ip(&self, config: &Config) -> Result<IpAddr, Error> {
        if let Some(bind) = config.bind {
            return Ok(bind);
        }
        let route = |addr: SocketAddr| {
            let any: SocketAddr = if addr.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.connect(addr)?;
            Ok(socket.local_addr()?.ip())
        };
        let resolved = timeout(config.connect_timeout, self.resolve()).await.map_err(|_| Error::Timeout("resolve"))?;
        resolved.and_then(route).map_err(Error::Connect)
    }

    async fn resolve(&self) -> io::Result<SocketAddr> {
        let mut found = lookup_host((self.host.as_str(), self.port)).await?;
        found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }
}

impl FromStr for Server {
    type Err = Error;

    /// Accepts `http://host:port`, with or without a slash at the end.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Address(text.to_owned());
        let uri: hyper::Uri = text.parse().map_err(|_| wrong())?;
        let (Some("http"), Some(authority), "" | "/") = (uri.scheme_str(), uri.authority(), uri.path()) else {
            return Err(wrong());
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: authority.to_string(), host, port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_no_path() {
        let server: Server = "http://127.0.0.1:8080/".parse().unwrap();
        assert_eq!(server.url("/healthz"), "http://127.0.0.1:8080/healthz");
        assert_eq!(server, Server::at(([127, 0, 0, 1], 8080).into()));
        let six: Server = "http://[::1]:9000".parse().unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 9000));
        for bad in ["127.0.0.1:8080", "https://shop.example", "http://shop.example/live", "http://", ""] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }
}
