//! What a sweep is measured against, each in a process of its own: tokio-tungstenite's `send` in a task per
//! connection, and a bare loop of `send` over all sockets. Both give every message of a publisher to everybody.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    sync::mpsc,
    thread,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        handshake::server::{Request, Response},
        protocol::WebSocketConfig,
    },
};

const MESSAGES_KEPT: usize = 1_024;
/// With the 128 KiB that tungstenite takes otherwise, a handshake costs four times as much.
const READ_BUFFER: usize = 4 << 10;

/// One task for each connection, on one thread.
pub fn task_each(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let (say, _) = broadcast::channel(MESSAGES_KEPT);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(attend(stream, say.clone()));
        }
    })
}

#[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
async fn attend(stream: TcpStream, say: broadcast::Sender<Message>) {
    let mut publishes = false;
    let look = |request: &Request, response: Response| {
        publishes = request.uri().path() == "/publish";
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let Ok(mut socket) = accept_hdr_async_with_config(stream, look, Some(config)).await else { return };
    let mut hear = say.subscribe();
    loop {
        tokio::select! {
            said = socket.next() => match said {
                Some(Ok(message)) if publishes => drop(say.send(message)),
                Some(Ok(_)) => {}
                _ => return,
            },
            message = hear.recv(), if !publishes => match message {
                Ok(message) => if socket.send(message).await.is_err() { return },
                Err(_) => return,
            },
        }
    }
}

/// `send` to one socket after another, on one thread.
pub fn bare_loop(address: SocketAddr) -> anyhow::Result<()> {
    let listener = StdListener::bind(address)?;
    let (tell, told) = mpsc::sync_channel(MESSAGES_KEPT);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok((stream, publishes)) = shake_hands(stream) {
                drop(tell.send((stream, publishes)));
            }
        }
    });
    let mut listeners: Vec<StdStream> = Vec::new();
    let mut publisher = loop {
        let (stream, publishes) = told.recv()?;
        if publishes {
            break stream;
        }
        stream.set_nonblocking(true)?;
        listeners.push(stream);
    };
    let mut message = vec![0; 64 << 10];
    loop {
        let len = publisher.read(&mut message)?;
        anyhow::ensure!(len > 0, "the publisher is gone");
        let frame = server_frame(&message[..len]);
        for listener in &mut listeners {
            match listener.write(&frame) {
                Ok(len) if len == frame.len() => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock => {}
                _ => anyhow::bail!("a listener does not read: the comparison is off"),
            }
        }
    }
}

#[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
fn shake_hands(stream: StdStream) -> io::Result<(StdStream, bool)> {
    stream.set_nodelay(true)?;
    let mut publishes = false;
    let look = |request: &Request, response: Response| {
        publishes = request.uri().path() == "/publish";
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let socket = tungstenite::accept_hdr_with_config(stream, look, Some(config));
    let socket = socket.map_err(|_| io::Error::other("no handshake"))?;
    Ok((socket.into_inner(), publishes))
}

/// A client's frame (its mask is zero) as a server's.
fn server_frame(client: &[u8]) -> Vec<u8> {
    let header = if client[1] & 0x7F == 126 { 4 } else { 2 };
    let mut frame = client[..header].to_vec();
    frame[1] &= 0x7F;
    frame.extend_from_slice(&client[header + 4..]);
    frame
}
