//! One listener's socket, with TLS or without.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};

pub struct Link {
    pub stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// What a listener trusts: one certificate, for `localhost`.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    pub fn new(certificate: &CertificateDer<'_>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone().into_owned())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl Link {
    pub fn new(stream: TcpStream, trust: Option<&Trust>) -> anyhow::Result<Self> {
        let session = |trust: &Trust| {
            let name = ServerName::try_from("localhost").expect("it is a name");
            ClientConnection::new(trust.0.clone(), name).map(Box::new)
        };
        Ok(Self { stream, tls: trust.map(session).transpose()? })
    }

    /// A listener says little: what does not fit into the socket at once breaks it.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                send(&mut self.stream, tls)
            }
        }
    }

    /// Reads what has arrived; 0 is the end.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(into) };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            tls.read_tls(&mut self.stream)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            send(&mut self.stream, tls)?;
        }
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub fn short_is_empty(&self) -> bool {
        self.tls.is_none()
    }
}

fn send(stream: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(stream)?;
    }
    Ok(())
}
