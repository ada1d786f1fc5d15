use std::io::{self, ErrorKind, Read, Write};

use maishou::protocol::SUBPROTOCOL;
use memchr::memmem;
use mio::net::TcpStream;
use serde_json::json;

use crate::{
    crowd::Plan,
    cursor::{Cursor, Heard},
    frames::{CLOSE, Frames, PING, PONG, TEXT, client_frame},
    rush::Purchase,
    tally::Notes,
};

/// One cheap viewer: a socket, the number it stands at, and half a frame now and then.
pub struct Viewer {
    stream: TcpStream,
    stage: Stage,
    frames: Frames,
    cursor: Cursor,
    pub is_sampled: bool,
    purchase: Option<Purchase>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Joining,
    Watching,
    Gone,
}

impl Viewer {
    pub fn new(stream: TcpStream, is_sampled: bool) -> Self {
        let (frames, cursor) = Default::default();
        Self { stream, stage: Stage::Connecting, frames, cursor, is_sampled, purchase: None }
    }

    /// In, or out again: no longer on the way.
    pub fn is_in(&self) -> bool {
        matches!(self.stage, Stage::Watching | Stage::Gone)
    }

    pub fn stands_at(&self) -> Option<u64> {
        self.cursor.seq.filter(|_| self.stage == Stage::Watching)
    }

    /// Presses buy. Who has gone presses nothing, and is missing among the answers.
    pub fn press(&mut self, (purchase, command): (Purchase, String)) {
        if self.stage == Stage::Watching && self.stream.write_all(&client_frame(TEXT, command.as_bytes())).is_ok() {
            self.purchase = Some(purchase);
        }
    }

    /// Does what the socket is ready for.
    pub fn look(&mut self, plan: &Plan, number: usize, notes: &mut Notes, buffer: &mut [u8]) {
        if self.stage == Stage::Gone {
            return;
        }
        if self.try_look(plan, number, notes, buffer).is_err() {
            notes.tally.lost += u64::from(self.stage == Stage::Watching);
            self.stage = Stage::Gone;
            let _ = self.stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn try_look(&mut self, plan: &Plan, number: usize, notes: &mut Notes, buffer: &mut [u8]) -> io::Result<()> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => self.stream.write_all(upgrade(plan).as_bytes())?,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
            self.stage = Stage::Upgrading;
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    let mut bytes = &buffer[..len];
                    if self.stage == Stage::Upgrading {
                        bytes = self.upgraded(plan, number, notes, bytes)?;
                    }
                    self.hear(bytes, notes)?;
                    if len < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The answer to the upgrade comes in one piece; what is behind it are frames already.
    fn upgraded<'a>(&mut self, plan: &Plan, number: usize, notes: &mut Notes, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let end = memmem::find(bytes, b"\r\n\r\n").filter(|_| bytes.starts_with(b"HTTP/1.1 101 "));
        let Some(end) = end else {
            notes.tally.refused += 1;
            notes.example(bytes);
            return Err(ErrorKind::ConnectionRefused.into());
        };
        let join = json!({"id": 1, "join": {"token": plan.tokens[number]}}).to_string();
        self.stream.write_all(&client_frame(TEXT, join.as_bytes()))?;
        self.stage = Stage::Joining;
        Ok(&bytes[end + 4..])
    }

    fn hear(&mut self, bytes: &[u8], notes: &mut Notes) -> io::Result<()> {
        let Self { stream, stage, frames, cursor, is_sampled, purchase } = self;
        let mut outcome = Ok(());
        frames.feed(bytes, |opcode, payload| match opcode {
            TEXT => match hear_text(cursor, stage, *is_sampled, payload, notes) {
                Heard::Answer => {
                    let said = purchase.as_mut().and_then(|purchase| purchase.hear(payload, &mut notes.rush));
                    match said {
                        Some(Some(command)) => outcome = stream.write_all(&client_frame(TEXT, command.as_bytes())),
                        Some(None) => {}
                        None => notes.strange(payload),
                    }
                }
                Heard::Strange => notes.strange(payload),
                _ => {}
            },
            PING => outcome = stream.write_all(&client_frame(PONG, payload)),
            CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                *notes.tally.closes.entry(code).or_default() += 1;
                let _ = stream.write_all(&client_frame(CLOSE, payload));
                outcome = Err(ErrorKind::ConnectionAborted.into());
            }
            _ => {}
        });
        outcome
    }
}

fn hear_text(cursor: &mut Cursor, stage: &mut Stage, is_sampled: bool, text: &[u8], notes: &mut Notes) -> Heard {
    let heard = cursor.hear(text);
    match heard {
        Heard::Frame | Heard::Known => notes.frame(text, is_sampled),
        Heard::Snapshot => {
            notes.tally.snapshots += 1;
            if *stage == Stage::Joining {
                notes.tally.joined += 1;
                *stage = Stage::Watching;
            }
        }
        Heard::Joined | Heard::Other | Heard::Answer | Heard::Strange => {}
        Heard::Refused => {
            notes.tally.refused += 1;
            notes.example(text);
        }
        Heard::Gap => {
            notes.tally.gaps += 1;
            notes.example(text);
        }
    }
    heard
}

fn upgrade(plan: &Plan) -> String {
    format!(
        "GET /v1/rooms/{}/ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: bWFpc2hvdS1sb2FkdGVzdA==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
        plan.room, plan.server
    )
}
