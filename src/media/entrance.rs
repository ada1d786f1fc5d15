//! The way in: an offer is read, a seat taken, an answer built, and the new peer handed to its worker. Runs in the
//! caller's task; nothing of it costs the workers anything.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::mpsc;

use super::{
    Answer, Error,
    negotiate::{Agreed, Server},
    offer::Offer,
    registry::{Admission, Control, Part, Port, Registry, Seat, Session},
};

/// A peer that may come in, and does not count yet.
pub struct Entrance<'a, T> {
    pub seat: Seat,
    pub remote_ufrag: String,
    pub streams: Vec<T>,
    pub pass: Pass<'a>,
}

/// What the worker and the peer will be told.
pub struct Pass<'a> {
    port: &'a Port,
    place: mpsc::Permit<'a, Control>,
    secrets: Secrets,
    certificate: [u8; 32],
    channel: bool,
    sdp: String,
}

impl<'a, T> Entrance<'a, T> {
    /// Answers `offer` with `negotiate` on the worker with the fewest peers. Nothing is entered anywhere before the
    /// worker's mailbox has a place, so that a caller who gives up while waiting leaves nothing behind.
    pub async fn open(
        registry: &'a Arc<Registry>,
        offer: &str,
        negotiate: fn(&Offer, &Server) -> Result<Agreed<T>, Error>,
    ) -> Result<Self, Error> {
        if offer.len() > registry.config.offer_bytes_max {
            return Err(Error::TooLarge);
        }
        let offer = Offer::parse(offer)?;
        let (seat, worker) = registry.take_seat().ok_or(Error::Full)?;
        let port = registry.port(worker);
        let secrets = Secrets::make();
        let agreed = negotiate(
            &offer,
            &Server {
                ufrag: &secrets.ufrag,
                password: &secrets.password,
                fingerprint: &registry.identity.fingerprint,
                candidates: &port.candidates,
            },
        )?;

        let gone = || Error::Io(io::Error::new(io::ErrorKind::BrokenPipe, "the media server is stopping"));
        let place = port.control.reserve().await.map_err(|_| gone())?;
        if registry.is_stopping.load(Ordering::Acquire) {
            return Err(gone());
        }
        let (certificate, channel, sdp) = (offer.fingerprint, agreed.channel, agreed.sdp);
        let pass = Pass { port, place, secrets, certificate, channel, sdp };
        Ok(Self { seat, remote_ufrag: offer.ufrag, streams: agreed.streams, pass })
    }
}

impl Pass<'_> {
    /// Hands the entered session to its worker.
    pub fn admit(self, session: Arc<Session>, part: Part) -> Answer {
        let answer = Answer { session: session.id, sdp: self.sdp, etag: self.secrets.etag };
        self.place.send(Control::Join(Box::new(Admission {
            session,
            ufrag: self.secrets.ufrag,
            password: self.secrets.password,
            certificate: self.certificate,
            channel: self.channel,
            part,
        })));
        self.port.wake();
        answer
    }
}

/// What a session is secured with; nothing of it is ever logged.
struct Secrets {
    ufrag: String,
    password: String,
    etag: String,
}

impl Secrets {
    fn make() -> Self {
        let etag = format!("\"{}\"", ice_characters::<16>());
        Self { ufrag: ice_characters::<12>(), password: ice_characters::<24>(), etag }
    }
}

/// Six random bits a character.
fn ice_characters<const LEN: usize>() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    rand::random::<[u8; LEN]>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
}
