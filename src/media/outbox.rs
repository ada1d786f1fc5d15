//! Events on their way from a worker to the channel that the caller gave. A worker never waits for that channel.
//!
//! When it is full, events stay here in order and are tried again in the next turn. Texts stop being read at
//! `events_backlog_max`, so that their senders' flow control holds them back, and above it the worker gets no new peers.
//! All other events of the peers that it has are few: an opening and an end each, a start and an end for each stall.

use std::collections::VecDeque;

use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::Event;

pub struct Outbox {
    events: Sender<Event>,
    waiting: VecDeque<Event>,
    texts_max: usize,
}

impl Outbox {
    pub fn new(events: Sender<Event>, texts_max: usize) -> Self {
        Self { events, waiting: VecDeque::new(), texts_max }
    }

    pub fn push(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn takes_texts(&self) -> bool {
        self.waiting.len() < self.texts_max
    }

    /// Sends what the channel takes; returns 1 if it was full. Without a receiver nobody wants to know.
    pub fn deliver(&mut self) -> u64 {
        while let Some(event) = self.waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return 1;
                }
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;
    use bytes::Bytes;

    fn text(n: u8) -> Event {
        Event::ChannelText { session: SessionId::make(), text: Bytes::copy_from_slice(&[n]) }
    }

    #[test]
    fn a_full_channel_delays_events_and_keeps_their_order() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
        let mut outbox = Outbox::new(sender, 2);
        (0..4).for_each(|n| outbox.push(text(n)));
        assert!(outbox.deliver() == 1 && !outbox.takes_texts());

        let mut got = Vec::new();
        while let Ok(Event::ChannelText { text, .. }) = receiver.try_recv() {
            got.push(text[0]);
            outbox.deliver();
        }
        assert_eq!(got, [0, 1, 2, 3]);
        assert!(outbox.is_empty() && outbox.takes_texts());
    }

    #[test]
    fn nothing_piles_up_for_a_receiver_that_is_gone() {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        drop(receiver);
        let mut outbox = Outbox::new(sender, 2);
        (0..4).for_each(|n| outbox.push(text(n)));
        outbox.deliver();
        assert!(outbox.is_empty());
    }
}
