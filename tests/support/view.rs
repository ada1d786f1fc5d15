//! A room as a client folds it from snapshots and frames: the frame rule of the protocol, written a second time.

use serde_json::{Map, Value, json};

/// The parts of a snapshot on which every viewer of a room comes to agree.
const STATE: &[&str] =
    &["show", "shelf", "stock", "pinned", "pinned_comment", "explained", "planned_seconds", "media", "slow_mode"];

/// What one viewer knows.
#[derive(Debug, Default, Clone)]
pub struct View {
    pub epoch: String,
    /// The cursor.
    pub seq: u64,
    pub snapshots: usize,
    /// A frame did not start where this client stood: it has to join again.
    pub missed: bool,
    /// The parts named in [`STATE`], as a snapshot has them.
    state: Map<String, Value>,
    pub comments: Vec<Value>,
    pub viewers: u64,
    pub likes: u64,
    pub left_out: u64,
    pub sales_left_out: u64,
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

    /// What every viewer of the room must come to agree on: equal to that of a snapshot at the same number.
    pub fn state(&self) -> Value {
        Value::Object(self.state.clone())
    }

    pub fn part(&self, name: &str) -> &Value {
        self.state.get(name).unwrap_or(&Value::Null)
    }

    pub fn available(&self, sku: &str) -> Option<u64> {
        self.part("stock")[sku]["available"].as_u64()
    }

    pub fn shelf(&self) -> Vec<&str> {
        list(self.part("shelf")).iter().filter_map(|product| product["id"].as_str()).collect()
    }

    pub fn pinned_product(&self) -> Option<&str> {
        self.part("pinned")["product"]["id"].as_str()
    }

    pub fn is_running(&self) -> bool {
        self.part("show")["running"] == true
    }

    pub fn has_comment(&self, text: &str) -> bool {
        self.comments.iter().any(|comment| comment["text"] == text)
    }

    fn reset(&mut self, snapshot: &Value) {
        self.snapshots += 1;
        self.missed = false;
        self.epoch = snapshot["epoch"].as_str().unwrap_or_default().to_owned();
        self.seq = snapshot["seq"].as_u64().expect("a snapshot has a number");
        self.state = state_of(snapshot);
        self.comments = list(&snapshot["comments"]).clone();
        self.tally(&snapshot["tally"]);
    }

    fn frame(&mut self, frame: &Value) {
        let prev = frame["prev"].as_u64().expect("a frame says where it starts");
        let seq = frame["seq"].as_u64().expect("a frame says where it ends");
        self.tally(&frame["tally"]);
        if self.seq < prev {
            self.missed = true;
        }
        if self.missed || self.seq >= seq {
            return;
        }
        for event in list(&frame["events"]) {
            let number = event["seq"].as_u64().expect("an event has a number");
            assert!(prev < number && number <= seq, "event {number} in a frame of ({prev}, {seq}]");
            if number > self.seq {
                self.apply(event);
                self.events.push(event.clone());
            }
        }
        self.left_out += frame["left_out"].as_u64().unwrap_or(0);
        self.sales_left_out += frame["sales_left_out"].as_u64().unwrap_or(0);
        self.seq = seq;
    }

    fn apply(&mut self, event: &Value) {
        match event["type"].as_str().expect("an event has a type") {
            "comment" => self.comments.push(event.clone()),
            "comment.deleted" => self.comments.retain(|comment| comment["seq"] != event["comment"]),
            "comment.pinned" => self.set("pinned_comment", event["comment"].clone()),
            "card.pinned" => {
                self.explain(&event["product"], &event["at"]);
                self.set("pinned", parts(event, &["product", "explain_until", "media"]));
            }
            "card.unpinned" => self.set("pinned", Value::Null),
            "shelf" => {
                self.set_shelf(list(&event["items"]));
                let planned = event.get("planned_seconds").cloned().unwrap_or_else(|| Map::new().into());
                self.set("planned_seconds", planned);
            }
            "price" => self.set_price(&event["product"], &event["price"]),
            "stock" => {
                let sku = event["sku"].as_str().expect("a stock count names its SKU").to_owned();
                self.state["stock"][sku] = parts(event, &["available", "held", "sold", "entry"]);
            }
            "media" => self.set("media", parts(event, &["live", "tracks"])),
            "slow_mode" => self.set("slow_mode", event["seconds"].clone()),
            "show.started" => {
                self.state["show"]["running"] = true.into();
                self.state["show"]["started_at"] = event["at"].clone();
                self.set("explained", Value::Array(vec![]));
                let card = self.part("pinned")["product"].clone();
                if !card.is_null() {
                    self.explain(&card, &event["at"]);
                }
            }
            "show.ended" => self.state["show"]["running"] = false.into(),
            _ => {}
        }
    }

    fn set(&mut self, part: &str, value: Value) {
        self.state.insert(part.to_owned(), value);
    }

    /// The product is the last of those explained, with the price that it has on the card.
    fn explain(&mut self, product: &Value, at: &Value) {
        let mut explained = list(self.part("explained")).clone();
        let goes_on = explained.last().filter(|last| last["product"] == product["id"]).map(|last| last["at"].clone());
        explained.retain(|seen| seen["product"] != product["id"]);
        let at = goes_on.unwrap_or_else(|| at.clone());
        explained.push(json!({ "product": product["id"], "price": product["price"], "at": at }));
        self.set("explained", explained.into());
    }

    /// What the card shows now was seen.
    fn see_price(&mut self) {
        let card = self.part("pinned")["product"].clone();
        for seen in self.state["explained"].as_array_mut().into_iter().flatten() {
            if seen["product"] == card["id"] {
                seen["price"] = card["price"].clone();
            }
        }
    }

    fn set_shelf(&mut self, items: &[Value]) {
        let title =
            |shelf: &[Value], id: &Value| shelf.iter().find(|item| item["id"] == *id).map(|item| item["title"].clone());
        let old = list(self.part("shelf")).clone();
        for seen in self.state["explained"].as_array_mut().into_iter().flatten() {
            let id = seen["product"].clone();
            let seen = seen.as_object_mut().expect("an explained product is an object");
            match title(items, &id) {
                Some(_) => drop(seen.remove("title")),
                None => {
                    if let Some(title) = title(&old, &id) {
                        seen.insert("title".into(), title);
                    }
                }
            }
        }
        let pinned = &mut self.state["pinned"];
        if let Some(item) = items.iter().find(|item| item["id"] == pinned["product"]["id"]) {
            pinned["product"] = item.clone();
        }
        let skus = || items.iter().flat_map(|item| list(&item["skus"]));
        if let Some(stock) = self.state["stock"].as_object_mut() {
            stock.retain(|sku, _| skus().any(|known| known["id"] == sku.as_str()));
        }
        self.set("shelf", items.into());
        self.see_price();
    }

    fn set_price(&mut self, product: &Value, price: &Value) {
        if self.state["pinned"]["product"]["id"] == *product {
            self.state["pinned"]["product"]["price"] = price.clone();
        }
        for item in self.state["shelf"].as_array_mut().into_iter().flatten() {
            if item["id"] == *product {
                item["price"] = price.clone();
            }
        }
        self.see_price();
    }

    fn tally(&mut self, tally: &Value) {
        self.viewers = tally["viewers"].as_u64().unwrap_or(self.viewers);
        self.likes = tally["likes"].as_u64().unwrap_or(self.likes);
    }
}

/// The agreed parts of a snapshot.
pub fn state_of(snapshot: &Value) -> Map<String, Value> {
    STATE.iter().map(|part| ((*part).to_owned(), snapshot[part].clone())).collect()
}

fn parts(event: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), event[name].clone())).collect::<Map<_, _>>().into()
}

fn list(value: &Value) -> &Vec<Value> {
    static EMPTY: Vec<Value> = Vec::new();
    value.as_array().unwrap_or(&EMPTY)
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

    #[test]
    fn what_is_folded_is_what_a_snapshot_would_say() {
        let cup = |amount: u32| json!({ "id": "cup", "price": { "amount": amount }, "skus": [{ "id": "s" }] });
        let mut view = standing_at(1);
        view.take(&json!({ "prev": 1, "seq": 6, "events": [
            { "seq": 2, "at": 20, "type": "show.started" },
            { "seq": 3, "type": "shelf", "products": ["cup"], "items": [cup(1)] },
            { "seq": 4, "type": "card.pinned", "product": cup(1), "explain_until": 9 },
            { "seq": 5, "type": "price", "product": "cup", "price": { "amount": 2 } },
            { "seq": 6, "type": "stock", "sku": "s", "available": 1, "held": 0, "sold": 4, "entry": 8, "hash": "x" },
        ] }));
        assert_eq!(view.part("show"), &json!({ "running": true, "started_at": 20 }));
        assert_eq!(view.part("shelf"), &json!([cup(2)]));
        assert_eq!(view.part("pinned"), &json!({ "product": cup(2), "explain_until": 9, "media": null }));
        assert_eq!(view.part("stock"), &json!({ "s": { "available": 1, "held": 0, "sold": 4, "entry": 8 } }));
    }
}
