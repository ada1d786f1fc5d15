use std::{
    cell::RefCell,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    time::Duration,
};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

/// What rustls may hold of a connection that does not read.
const TLS_BYTES_MAX: usize = 32 << 10;

/// Where a connection's bytes come from and go to. Nothing here waits.
pub(super) enum Sink {
    Plain(TcpStream),
    Tls(TcpStream, Box<RefCell<ServerConnection>>),
}

/// What TLS holds after a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    /// Something, less than before.
    Moving,
    /// Something, and the socket takes nothing.
    Stuck,
}

/// A stream of the runtime as rustls wants it.
struct Direct<'a>(&'a TcpStream);

impl Read for Direct<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }

    pub(super) fn tls(stream: TcpStream, mut session: Box<ServerConnection>) -> Self {
        session.set_buffer_limit(Some(TLS_BYTES_MAX));
        Self::Tls(stream, Box::new(RefCell::new(*session)))
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) | Self::Tls(stream, _) => stream,
        }
    }

    /// Takes as many of `bytes` as it can, or says `WouldBlock`. What TLS has taken may still be on its way: see
    /// [`Sink::flush`].
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            // Past the runtime, whose note of readiness costs a cache miss a viewer; it is told when nothing goes.
            Self::Plain(stream) => match SockRef::from(stream).send(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.try_write(bytes),
                done => done,
            },
            Self::Tls(stream, session) => {
                let session = &mut *session.borrow_mut();
                if send_records(stream, session)? != Held::Nothing {
                    return Err(ErrorKind::WouldBlock.into());
                }
                let taken = session.writer().write(bytes)?;
                send_records(stream, session)?;
                Ok(taken)
            }
        }
    }

    /// Sends what TLS holds, as much as the socket takes.
    pub(super) fn flush(&self) -> io::Result<Held> {
        match self {
            Self::Plain(_) => Ok(Held::Nothing),
            Self::Tls(stream, session) => send_records(stream, &mut session.borrow_mut()),
        }
    }

    /// Reads what has arrived; 0 is the end.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => read_plain(stream, into),
            Self::Tls(stream, session) => read_records(stream, &mut session.borrow_mut(), into),
        }
    }

    /// Says that nothing more will be written, behind all that was. The client may still write.
    pub(super) fn end(&self) {
        if let Self::Tls(stream, session) = self {
            let session = &mut *session.borrow_mut();
            session.send_close_notify();
            let _ = send_records(stream, session);
        }
        let _ = SockRef::from(self.stream()).shutdown(Shutdown::Write);
    }

    /// Cuts the connection: its reader wakes up and finds the end, and the kernel forgets what was not sent.
    pub(super) fn cut(&self) {
        let socket = SockRef::from(self.stream());
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// A read that does not fill `into` has emptied the socket, which the runtime is told, so that it is not tried again
/// for nothing.
fn read_plain(stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let mut emptied = None;
    let read = stream.try_io(Interest::READABLE, || match (&*SockRef::from(stream)).read(into)? {
        0 => Ok(0),
        len if len == into.len() => Ok(len),
        len => {
            emptied = Some(len);
            Err(ErrorKind::WouldBlock.into())
        }
    });
    emptied.map_or(read, Ok)
}

fn send_records(stream: &TcpStream, session: &mut ServerConnection) -> io::Result<Held> {
    let mut held = Held::Stuck;
    while session.wants_write() {
        match session.write_tls(&mut Direct(stream)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => held = Held::Moving,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(held),
            Err(error) => return Err(error),
        }
    }
    Ok(Held::Nothing)
}

fn read_records(stream: &TcpStream, session: &mut ServerConnection, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match session.reader().read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
        session.read_tls(&mut Direct(stream))?;
        if let Err(error) = session.process_new_packets() {
            let _ = send_records(stream, session);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
}
