//! Acts on media: publishing, watching, leaving.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tracing::info;

use crate::{
    id::{RoomId, SessionId},
    media::{self, Answer, SessionQuality, View, Watched, Wish},
    protocol::{ErrorCode, Fault, LayerWish, Quality, QualityReport, Role, ViewRequest},
    session::{Person, Shop, limits::Place, presence::MediaOwner},
};

impl Shop {
    /// Makes the person the room's publisher. The room's anchor replaces her own running session; anybody else is told
    /// that the room is already live.
    /// `from`: the address that asks, where one is known.
    pub async fn publish(
        &self,
        person: &Person,
        room: &RoomId,
        offer: &str,
        from: Option<IpAddr>,
    ) -> Result<Answer, Fault> {
        self.may_act(person)?;
        let handle = self.room(room)?;
        person.may_enter(room)?;
        let anchor = person.is_anchor_of(handle.facts());
        let may_ask = matches!(person.role(), Role::Anchor | Role::Assistant | Role::Admin);
        if may_ask && !anchor && self.media.publisher(room).is_some() {
            return Err(Fault::new(ErrorCode::AlreadyLive, "the room is already live"));
        }
        if !anchor && person.role() != Role::Admin {
            return Err(Fault::forbidden("only the room's anchor publishes"));
        }
        let place = self.video_place(from)?;
        let answer = self.media.publish(room, offer).await.map_err(media_fault)?;
        info!(room = %room, session = %answer.session, "publishing");
        self.own(person, room, true, &answer, place);
        Ok(answer)
    }

    /// `from`: as in [`Shop::publish`].
    pub async fn watch(
        &self,
        person: &Person,
        room: &RoomId,
        offer: &str,
        from: Option<IpAddr>,
    ) -> Result<Answer, Fault> {
        self.room(room)?;
        person.may_enter(room)?;
        self.refuse_kicked(person, room).await?;
        if self.presence.media_of(room, &person.who(room)) >= self.limits.config().connections_per_person {
            let fault = Fault::new(ErrorCode::RateLimited, "too many video sessions of one person");
            return Err(fault.retry_after(5_000));
        }
        let place = self.video_place(from)?;
        let answer = self.media.watch(room, offer).await.map_err(media_fault)?;
        self.own(person, room, false, &answer, place);
        // A kick that was shown meanwhile did not find this session yet.
        if let Err(kicked) = self.refuse_kicked(person, room).await {
            self.presence.remove_media(answer.session);
            self.media.leave(answer.session);
            return Err(kicked);
        }
        Ok(answer)
    }

    fn video_place(&self, from: Option<IpAddr>) -> Result<Option<Arc<Place>>, Fault> {
        let Some(address) = from else { return Ok(None) };
        let too_many = || Fault::new(ErrorCode::RateLimited, "too many video sessions of one address");
        let place = self.limits.video(address).ok_or_else(|| too_many().retry_after(5_000))?;
        Ok(Some(Arc::new(place)))
    }

    fn own(&self, person: &Person, room: &RoomId, publishes: bool, answer: &Answer, place: Option<Arc<Place>>) {
        let etag = answer.etag.clone();
        let (sub, who) = (person.sub().clone(), person.who(room));
        let owner = MediaOwner { publishes, etag, room: room.clone(), sub, who, place };
        self.presence.add_media(answer.session, owner);
    }

    /// A person who was removed from the show stays out until it ends.
    pub async fn refuse_kicked(&self, person: &Person, room: &RoomId) -> Result<(), Fault> {
        let kicked = self.room(room)?.brief().kicks.contains(&person.who(room));
        match kicked {
            true => Err(Fault::new(ErrorCode::Kicked, "you were removed from this show")),
            false => Ok(()),
        }
    }

    /// Ends a session of this person; an admin ends anybody's. Another's session is not found.
    pub fn leave(&self, person: &Person, room: &RoomId, session: SessionId) -> Result<(), Fault> {
        self.owned(person, room, session)?;
        self.presence.remove_media(session);
        match self.media.leave(session) {
            true => Ok(()),
            false => Err(Fault::not_found("session")),
        }
    }

    /// The ETag of a session of this person that publishes, or watches.
    pub fn etag(&self, person: &Person, room: &RoomId, session: SessionId, publishes: bool) -> Result<String, Fault> {
        let owner = self.owned(person, room, session)?;
        (owner.publishes == publishes).then_some(owner.etag).ok_or_else(|| Fault::not_found("session"))
    }

    pub async fn candidate(&self, person: &Person, room: &RoomId, session: SessionId, sdp: &str) -> Result<(), Fault> {
        self.owned(person, room, session)?;
        // The end of candidates.
        if sdp.trim().is_empty() {
            return Ok(());
        }
        self.media.candidate(session, sdp).await.map_err(media_fault)
    }

    /// Takes what a viewer's player counted, and says what her connection is like. Without a session it is about the
    /// room's publisher, for those who run the show; null while there is none.
    pub fn quality(&self, person: &Person, room: &RoomId, report: &QualityReport) -> Result<Option<Quality>, Fault> {
        let Some(session) = report.session else {
            person.may_run_the_show(self.room(room)?.facts())?;
            let publisher = self.media.publisher(room);
            return Ok(publisher.and_then(|session| self.media.quality_of(session)).map(quality));
        };
        self.owned(person, room, session)?;
        if report.tells() && !self.is_uncounted(person) {
            let told = self.media.watched(session, watched(report));
            told.map_err(|soon| self.limits.too_soon(soon.wait))?;
        }
        Ok(self.media.quality_of(session).map(quality))
    }

    /// Notes what a viewer wants to see of her session's picture.
    pub fn view(&self, person: &Person, room: &RoomId, request: &ViewRequest) -> Result<(), Fault> {
        self.owned(person, room, request.session)?;
        let wish = match request.layer {
            LayerWish::Auto => Wish::Auto,
            LayerWish::Low => Wish::Layer(0),
            LayerWish::Middle => Wish::Layer(1),
            LayerWish::High => Wish::Layer(u8::MAX),
            LayerWish::Audio => Wish::AudioOnly,
        };
        match self.media.view(request.session, View { wish, height: request.height }) {
            true => Ok(()),
            false => Err(Fault::not_found("session")),
        }
    }

    fn owned(&self, person: &Person, room: &RoomId, session: SessionId) -> Result<MediaOwner, Fault> {
        let owner = self.presence.media(session).filter(|o| o.room == *room);
        let own = owner.filter(|o| o.sub == *person.sub() || person.role() == Role::Admin);
        own.ok_or_else(|| Fault::not_found("session"))
    }
}

fn watched(report: &QualityReport) -> Watched {
    Watched {
        first_frame: report.first_frame_ms.map(Duration::from_millis),
        freezes: report.freezes.unwrap_or(0),
        frozen: Duration::from_millis(report.freeze_ms.unwrap_or(0)),
    }
}

fn quality(seen: SessionQuality) -> Quality {
    Quality {
        bits: seen.bits,
        frames: seen.frames,
        loss: seen.loss,
        round_trip_ms: seen.round_trip.map(|time| (time.as_secs_f64() * 1e4).round() / 10.0),
        link_bits: seen.link_bits,
        layer: seen.layer,
    }
}

fn media_fault(error: media::Error) -> Fault {
    match error {
        media::Error::BadOffer(why) => Fault { param: Some("sdp".into()), ..Fault::new(ErrorCode::BadOffer, why) },
        media::Error::NoCommonCodec => Fault {
            param: Some("sdp".into()),
            ..Fault::new(ErrorCode::BadOffer, "no codec that both sides can do: VP8 or H.264, and Opus")
        },
        media::Error::TooLarge => Fault::new(ErrorCode::TooLarge, "the offer is too large"),
        media::Error::Full => Fault::new(ErrorCode::Busy, "no room for more peers").retry_after(5_000),
        media::Error::Unknown => Fault::not_found("session"),
        other => super::shop::internal(other),
    }
}
