//! A viewer who remembers all that she was shown, to be held against the tape.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{chain::Chain, server::Server, shop::Shop, tape::Tape, view::View, ws::Ws};

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
        for (part, taped) in tape.state_at(view.seq) {
            assert_eq!(*view.part(&part), taped, "{part} at {}", view.seq);
        }
        assert!(!view.missed, "no frame is left out");
        assert_eq!(view.snapshots, 1, "she never fell behind");
        assert_eq!(view.events, self.shown_on(tape, view), "event for event");
    }

    /// Every count that she was left with stood in the ledger, at the entry that it names.
    pub fn was_told_true_counts(&self, chains: &BTreeMap<&str, Chain>) {
        let stock = self.ws.view.part("stock").as_object().expect("counts");
        for (sku, chain) in chains {
            let entry = stock[*sku]["entry"].as_u64().expect("an entry");
            let counts = ["available", "held", "sold"].map(|name| stock[*sku][name].as_u64().expect("a count"));
            assert!(entry <= chain.entries.len() as u64, "{sku}: entry {entry} is in the ledger");
            assert_eq!(counts, chain.counts_at(entry), "{sku} at entry {entry}");
        }
    }

    fn shown_on(&self, tape: &Tape, view: &View) -> Vec<Value> {
        let range = self.from + 1..=view.seq;
        let shown = tape.events().filter(|(event, left_out)| range.contains(&event.seq) && !left_out);
        shown.map(|(event, _)| serde_json::to_value(event).expect("an event is plain data")).collect()
    }
}
