//! A viewer who remembers all that she was shown, to be held against the tape.

use serde_json::Value;

use crate::support::{server::Server, shop::Shop, tape::Tape, view::View, ws::Ws};

pub struct Witness {
    ws: Ws,
    /// Where she stood when she had joined.
    from: u64,
}

impl Witness {
    pub async fn join(server: &Server, shop: &Shop, number: usize) -> Self {
        let mut ws = server.ws(&shop.room).await;
        ws.join(&shop.viewer_token(server, &format!("witness-{number}"))).await;
        let from = ws.view.seq;
        Self { ws, from }
    }

    /// Looks on until the server is gone.
    pub async fn follow(mut self) -> Self {
        while self.ws.next().await.is_some() {}
        self
    }

    /// Logged before shown: the tape has all that she saw, in her order, and folds to the state that she was left with.
    pub fn agrees_with(&self, tape: &Tape) {
        let view = &self.ws.view;
        assert!(view.seq > self.from, "she saw something");
        assert!(view.seq <= tape.last_seq(), "she stands at {}, the tape ends at {}", view.seq, tape.last_seq());
        assert_eq!(Value::Object(tape.state_at(view.seq)), view.state(), "the state at {}", view.seq);
        assert!(!view.missed, "no frame is left out");
        assert_eq!(view.snapshots, 1, "she never fell behind");
        assert_eq!(view.events, self.shown_on(tape, view), "event for event");
    }

    fn shown_on(&self, tape: &Tape, view: &View) -> Vec<Value> {
        let range = self.from + 1..=view.seq;
        let shown = tape.events().filter(|(event, left_out)| range.contains(&event.seq) && !left_out);
        shown.map(|(event, _)| serde_json::to_value(event).expect("an event is plain data")).collect()
    }
}
