//! What a viewer makes of what she is told.

use std::{io::Write as _, rc::Rc, time::Duration};

use maishou::{id::HoldId, protocol::CloseCode};
use memchr::memmem;
use serde::Deserialize;

use super::{Around, End, FollowUp, Heeded, Kind, Network, Stage, Viewer};
use crate::{
    crowd::deeds::{Answer, Fate, Next, What},
    cursor::{Heard, epoch, fingerprint, frame_span},
    frames::{CLOSE, PING, PONG, TEXT, client_frame},
    hist::Class,
    tally::Notes,
    witness::{Batch, Likes},
};

#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    code: String,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct You {
    you: Private,
}

#[derive(Deserialize)]
struct Private {
    n: u64,
    at: i64,
    #[serde(rename = "type")]
    kind: String,
    hold: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: HoldId,
}

impl Viewer {
    /// Most bytes were read by somebody before who stood at the same place: then what they are is known.
    pub(super) fn read(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        let mark = self.cursor.mark().filter(|_| self.is_in() && self.frames.is_empty());
        let mark = mark.filter(|_| self.kind == Kind::WebSocket).map(|mark| (mark, fingerprint(bytes)));
        if let Some(piece) = mark.and_then(|(mark, print)| around.witness.piece(mark, print)) {
            self.cursor.skip_to(piece.to);
            self.count(&piece.batch, around);
            return Ok(());
        }
        drop(around.witness.batch());
        let heeded = match self.kind {
            Kind::WebSocket => self.read_frames(bytes, around),
            Kind::Sse => self.read_lines(bytes, around),
        };
        let batch = around.witness.batch();
        self.count(&batch, around);
        if let Some(((mark, print), to)) = mark.zip(self.cursor.seq)
            && heeded.is_ok()
            && !batch.is_mixed
            && self.frames.is_empty()
        {
            around.witness.remember(mark, print, to, batch);
        }
        heeded
    }

    fn read_lines(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        let (mut heeded, mut lines) = (Ok(()), std::mem::take(&mut self.lines));
        lines.feed(bytes, |data| {
            if heeded.is_ok() {
                heeded = self.hear(data, around);
            }
        });
        self.lines = lines;
        heeded
    }

    fn read_frames(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        let (mut heeded, mut frames) = (Ok(()), std::mem::take(&mut self.frames));
        frames.feed(bytes, |opcode, payload| {
            if heeded.is_ok() {
                if opcode != TEXT {
                    around.witness.other();
                }
                heeded = match opcode {
                    TEXT => self.hear(payload, around),
                    PING => self.pong(payload),
                    CLOSE => Err(closing(payload)),
                    _ => Ok(()),
                };
            }
        });
        self.frames = frames;
        heeded
    }

    fn pong(&mut self, payload: &[u8]) -> Heeded {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        Ok(stream.write_all(&client_frame(PONG, payload))?)
    }

    fn hear(&mut self, text: &[u8], around: &mut Around<'_>) -> Heeded {
        let heard = self.cursor.hear(text);
        if !matches!(heard, Heard::Frame | Heard::Known) {
            around.witness.other();
        }
        match heard {
            Heard::Frame => self.hear_frame(text, around),
            Heard::Known => around.witness.tally(text),
            Heard::Snapshot => self.hear_snapshot(text, around),
            Heard::Joined => {
                if memmem::find(text, b"\"resumed\":true").is_some() {
                    around.notes.tally.resumed += 1;
                    self.come_in(around);
                }
            }
            Heard::Refused => return Err(refused(text, around.notes)),
            Heard::Answer => self.hear_answer(text, around),
            Heard::Other => self.hear_private(text, around),
            Heard::Gap => {
                around.notes.tally.gaps += 1;
                let what =
                    format!("viewer {} stands at {:?} and got a frame after a gap", self.number, self.cursor.seq);
                around.notes.tally.example(&what, text);
                self.cursor.forget();
                return Err(End::Lost);
            }
            Heard::Repeat => {
                around.notes.tally.repeats += 1;
                around.notes.tally.example(&format!("viewer {} got a frame twice", self.number), text);
            }
            Heard::Strange => around.notes.strange(&format!("viewer {} got no message of ours", self.number), text),
        }
        Ok(())
    }

    fn hear_frame(&mut self, text: &[u8], around: &mut Around<'_>) {
        let (prev, seq) = frame_span(text).expect("the cursor has read it");
        if self.stage == Stage::Joining && self.kind == Kind::Sse {
            // A stream that resumes says nothing but what was missed.
            around.notes.tally.resumed += 1;
            self.come_in(around);
        }
        around.witness.frame(prev, seq, text);
    }

    /// Counts what was read at one time.
    fn count(&mut self, batch: &Batch, around: &mut Around<'_>) {
        self.sum = self.sum.wrapping_add(batch.sum);
        if let Some(likes) = batch.likes {
            self.hear_likes(likes, around.notes);
        }
        if !around.notes.is_measuring() || batch.frames == 0 {
            return;
        }
        let tally = &mut around.notes.tally;
        tally.frames += batch.frames;
        tally.bytes += batch.bytes;
        tally.events += batch.times.len() as u64;
        if !self.is_sampled {
            return;
        }
        let now_us = around.plan.base.now_us();
        for (class, at_us) in &batch.times {
            // What was said while one was away is not late.
            if *at_us >= self.live_since_us {
                around.notes.latency(*class, u64::try_from(now_us - at_us).unwrap_or(0));
            }
        }
        if batch.likes.is_some() {
            self.time_tally(now_us, around.notes);
        }
    }

    fn hear_likes(&mut self, likes: Likes, notes: &mut Notes) {
        if likes.fell || likes.first < self.likes {
            let what = format!("viewer {} was told of fewer likes than the {} before", self.number, self.likes);
            notes.strange(&what, format!("{likes:?}").as_bytes());
        }
        self.likes = likes.last;
    }

    fn time_tally(&mut self, now_us: i64, notes: &mut Notes) {
        if self.tally_at_us >= self.live_since_us {
            notes.latency(Class::Tally, u64::try_from(now_us - self.tally_at_us).unwrap_or(0));
        }
        self.tally_at_us = now_us;
    }

    fn hear_snapshot(&mut self, text: &[u8], around: &mut Around<'_>) {
        around.notes.tally.snapshots += 1;
        let seq = self.cursor.seq.unwrap_or(0);
        around.witness.snapshot(seq, text);
        (self.from, self.sum) = (seq, 0);
        let name = epoch(text).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        if self.epoch.as_deref() != Some(name) {
            self.epoch = Some(Rc::from(name));
        }
        if self.stage == Stage::Joining {
            self.come_in(around);
        }
    }

    fn come_in(&mut self, around: &mut Around<'_>) {
        let tally = &mut around.notes.tally;
        tally.joined += u64::from(!self.has_been_in);
        tally.returned += u64::from(self.has_been_in);
        self.has_been_in = true;
        self.stage = Stage::Watching;
        self.live_since_us = around.plan.base.now_us();
        if self.network != Network::Slow {
            let took = self.since.elapsed();
            around.notes.arrived(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn hear_answer(&mut self, text: &[u8], around: &mut Around<'_>) {
        let answer: Answer = match serde_json::from_slice(text) {
            Ok(answer) => answer,
            Err(_) => return around.notes.strange("an answer cannot be read", text),
        };
        let Some(at) = self.pending.iter().position(|asked| asked.id == answer.re) else {
            return around.notes.strange("an answer to what nobody asked, or a second one", text);
        };
        let asked = self.pending.swap_remove(at);
        match around.deeds.answered(self.number, &asked, answer, around.notes) {
            Ok(Next::Nothing) => {}
            Ok(Next::Decide(hold)) => around.follow_ups.push((self.number, FollowUp::Decide(hold))),
            Ok(Next::Again(wait)) => around.follow_ups.push((self.number, FollowUp::Again(asked.what.clone(), wait))),
            Err(why) => around.notes.strange(&why, text),
        }
        let is_told = memmem::find(text, b"\"ok\":").is_some();
        self.you_due += u64::from(is_told && !matches!(asked.what, What::Comment | What::Like));
    }

    fn hear_private(&mut self, text: &[u8], around: &mut Around<'_>) {
        // The other thing said is that the token ends, which those of a run do not.
        let Ok(You { you }) = serde_json::from_slice(text) else { return };
        let notes = &mut *around.notes;
        notes.tally.private += 1;
        if around.plan.is_alone && you.n != self.you + 1 {
            notes.tally.private_gaps += 1;
            notes.tally.example(&format!("viewer {} had private message {}", self.number, self.you), text);
        }
        self.you = self.you.max(you.n);
        if you.kind == "hold.expired"
            && let Some(hold) = you.hold
        {
            self.you_due += 1;
            around.deeds.came_to(hold.id, Fate::Expired);
        }
        let at_us = you.at * 1_000 - around.plan.server_ahead_us;
        if at_us >= self.live_since_us && self.network == Network::Good {
            notes.latency(Class::Private, u64::try_from(around.plan.base.now_us() - at_us).unwrap_or(0));
        }
    }
}

fn closing(payload: &[u8]) -> End {
    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
    if code != CloseCode::Bye.number() {
        return End::Closed(code);
    }
    let reason = payload.get(2..).and_then(|reason| std::str::from_utf8(reason).ok());
    End::PutOff(Duration::from_millis(reason.and_then(|reason| reason.parse().ok()).unwrap_or(1_000)))
}

fn refused(text: &[u8], notes: &mut Notes) -> End {
    match serde_json::from_slice::<Refusal>(text) {
        Ok(Refusal { error }) if matches!(&*error.code, "busy" | "rate_limited") => {
            End::PutOff(Duration::from_millis(error.retry_after_ms.unwrap_or(1_000)))
        }
        _ => {
            notes.tally.example("a join was refused", text);
            End::Refused
        }
    }
}
