//! A room as a client folds it from snapshots and frames: the frame rule of the protocol, written a second time.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What one viewer knows.
#[derive(Debug, Default, Clone)]
pub struct View {
    pub epoch: String,
    /// The cursor.
    pub seq: u64,
    pub snapshots: usize,
    /// A frame did not start where this client stood: it has to join again.
    pub missed: bool,
    pub show: Value,
    pub shelf: Vec<String>,
    pub products: BTreeMap<String, Value>,
    pub stock: BTreeMap<String, Value>,
    pub pinned: Value,
    pub pinned_comment: Value,
    pub media: Value,
    pub comments: Vec<Value>,
    pub viewers: u64,
    pub likes: u64,
    pub left_out: u64,
    /// Every event that was applied, in order.
    pub events: Vec<Value>,
    /// Private messages, in the order of arrival.
    pub private: Vec<Value>,
}

impl View {
    /// Takes in one message of the server that is not an answer.
    pub fn take(&mut self, message: &Value) {
        if let Some(snapshot) = message.get("snapshot") {
            self.reset(snapshot);
        } else if let Some(you) = message.get("you") {
            self.private.push(you.clone());
        } else if message.get("prev").is_some() {
            self.frame(message);
        }
    }

    pub fn available(&self, sku: &str) -> Option<u64> {
        self.stock.get(sku)?.get("available")?.as_u64()
    }

    pub fn pinned_product(&self) -> Option<&str> {
        product_id(self.pinned.get("product")?)
    }

    pub fn has_comment(&self, text: &str) -> bool {
        self.comments.iter().any(|comment| comment["text"] == text)
    }

    /// The state without chat and tallies: what every viewer of a room must come to agree on.
    pub fn state(&self) -> Value {
        serde_json::json!({
            "show": self.show, "shelf": self.shelf, "stock": self.stock, "pinned": self.pinned,
            "pinned_comment": self.pinned_comment,
        })
    }

    fn reset(&mut self, snapshot: &Value) {
        self.snapshots += 1;
        self.missed = false;
        self.epoch = text(&snapshot["epoch"]);
        self.seq = snapshot["seq"].as_u64().expect("a snapshot has a number");
        self.show = snapshot["show"].clone();
        self.pinned = snapshot["pinned"].clone();
        self.pinned_comment = snapshot["pinned_comment"].clone();
        self.media = snapshot["media"].clone();
        self.stock = map(&snapshot["stock"]);
        self.comments = list(&snapshot["comments"]);
        let products = list(&snapshot["shelf"]);
        self.shelf = products.iter().filter_map(product_id).map(str::to_owned).collect();
        self.products = products.into_iter().map(|product| (text(&product["id"]), product)).collect();
        self.tally(&snapshot["tally"]);
    }

    fn frame(&mut self, frame: &Value) {
        let prev = frame["prev"].as_u64().expect("a frame says where it starts");
        let seq = frame["seq"].as_u64().expect("a frame says where it ends");
        if self.seq < prev {
            self.missed = true;
            return;
        }
        if self.seq >= seq {
            // A frame that only carries a tally covers no numbers; the tally still holds.
            if prev == seq && self.seq == seq {
                self.tally(&frame["tally"]);
            }
            return;
        }
        for event in list(&frame["events"]) {
            let number = event["seq"].as_u64().expect("an event has a number");
            assert!(prev < number && number <= seq, "event {number} in a frame of ({prev}, {seq}]");
            if number > self.seq {
                self.apply(event);
            }
        }
        self.tally(&frame["tally"]);
        self.left_out += frame["left_out"].as_u64().unwrap_or(0);
        self.seq = seq;
    }

    fn apply(&mut self, event: Value) {
        match event["type"].as_str().expect("an event has a type") {
            "comment" => self.comments.push(event.clone()),
            "comment.deleted" => {
                let deleted = if event["comment"].is_null() { &event["id"] } else { &event["comment"] };
                self.comments.retain(|comment| comment["seq"] != *deleted);
            }
            "comment.pinned" => self.pinned_comment = event["comment"].clone(),
            "card.pinned" => self.pinned = event.clone(),
            "card.unpinned" => self.pinned = Value::Null,
            "shelf" => self.shelf = list(&event["products"]).iter().filter_map(product_id).map(str::to_owned).collect(),
            "stock" => {
                self.stock.insert(text(&event["sku"]), event.clone());
            }
            "media" => self.media = event.clone(),
            kind @ ("show.started" | "show.ended") => self.show["running"] = Value::Bool(kind == "show.started"),
            _ => {}
        }
        self.events.push(event);
    }

    fn tally(&mut self, tally: &Value) {
        self.viewers = tally["viewers"].as_u64().unwrap_or(self.viewers);
        self.likes = tally["likes"].as_u64().unwrap_or(self.likes);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn map(value: &Value) -> BTreeMap<String, Value> {
    let empty = Map::new();
    value.as_object().unwrap_or(&empty).iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A product is named by its id or stands there whole.
fn product_id(product: &Value) -> Option<&str> {
    product.as_str().or_else(|| product.get("id")?.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn standing_at(seq: u64) -> View {
        let mut view = View::default();
        view.take(
            &json!({ "snapshot": { "epoch": "e", "seq": seq, "stock": { "s": { "available": 5 } }, "shelf": [] } }),
        );
        view
    }

    fn stock(seq: u64, available: u64) -> Value {
        json!({ "seq": seq, "type": "stock", "sku": "s", "available": available })
    }

    #[test]
    fn a_frame_that_overlaps_is_applied_above_the_cursor_only() {
        let mut view = standing_at(7);
        view.take(&json!({ "prev": 5, "seq": 9, "events": [stock(6, 1), stock(8, 3)] }));
        assert_eq!((view.seq, view.available("s"), view.events.len()), (9, Some(3), 1));
    }

    #[test]
    fn an_old_frame_is_ignored_and_a_gap_is_noticed() {
        let mut view = standing_at(7);
        view.take(&json!({ "prev": 3, "seq": 7, "events": [stock(7, 1)] }));
        assert_eq!((view.seq, view.available("s"), view.missed), (7, Some(5), false));

        view.take(&json!({ "prev": 8, "seq": 9, "events": [stock(9, 1)] }));
        assert_eq!((view.seq, view.available("s"), view.missed), (7, Some(5), true));
        view.take(&json!({ "snapshot": { "epoch": "e", "seq": 9, "stock": {} } }));
        assert!(!view.missed);
    }

    #[test]
    fn a_tally_without_events_is_heard() {
        let mut view = standing_at(7);
        view.take(&json!({ "prev": 7, "seq": 7, "tally": { "viewers": 3, "likes": 9 } }));
        assert_eq!((view.viewers, view.likes, view.seq), (3, 9, 7));
    }
}
