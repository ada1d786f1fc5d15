//! The run sheet of a show: what was explained so far, and what comes next when.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{Money, ProductId},
    protocol::{Pinned, Product},
};

/// Explained products that are kept; the oldest goes.
pub const EXPLAINED_MAX: usize = 200;
/// Products that are named as coming up.
pub const NEXT_MAX: usize = 3;

/// A product that was explained in this show. What is left of it is told with the stock of its SKUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    pub product: ProductId,
    /// Only when the product is on the shelf no more, which has the titles of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The price that was last seen while it was explained.
    pub price: Money,
    /// When explaining it began, the last time that it did.
    pub at: UnixMs,
}

/// A product that was not explained yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComingUp {
    pub product: ProductId,
    /// When it may begin, as the run sheet has it; unknown without planned seconds, or while nothing is explained. A
    /// time that has passed: any moment, and the ones behind it later by as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMs>,
}

/// Folded by the room and by every client from the same events. Products come in the order of explaining, each once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSheet {
    pub explained: Vec<Explained>,
    /// How long products on the shelf are meant to be explained, in seconds; not every one has a time.
    pub planned_seconds: BTreeMap<ProductId, u32>,
}

impl RunSheet {
    /// A show begins: what was explained before it does not count, except for the card that is up.
    pub fn start(&mut self, pinned: Option<&Pinned>, at: UnixMs) {
        self.explained.clear();
        if let Some(pinned) = pinned {
            self.explain(&pinned.product, at);
        }
    }

    /// A card was pinned. To pin it again goes on explaining.
    pub fn explain(&mut self, product: &Product, at: UnixMs) {
        if let Some(last) = self.explained.last_mut().filter(|last| last.product == product.id) {
            last.price = product.price;
            return;
        }
        self.explained.retain(|e| e.product != product.id);
        self.explained.push(Explained { product: product.id.clone(), title: None, price: product.price, at });
        if self.explained.len() > EXPLAINED_MAX {
            self.explained.remove(0);
        }
    }

    /// The card that is up shows another price.
    pub fn reprice(&mut self, pinned: Option<&Pinned>) {
        let Some(Pinned { product, .. }) = pinned else { return };
        if let Some(seen) = self.explained.iter_mut().find(|e| e.product == product.id) {
            seen.price = product.price;
        }
    }

    /// The shelf changes from `old` to `new`. A product that leaves it takes its title along.
    pub fn shelve(&mut self, old: &[Product], new: &[Product], planned_seconds: &BTreeMap<ProductId, u32>) {
        self.planned_seconds.clone_from(planned_seconds);
        for seen in &mut self.explained {
            let is_on = |shelf: &[Product]| shelf.iter().find(|p| p.id == seen.product).map(|p| p.title.clone());
            seen.title = match is_on(new) {
                Some(_) => None,
                None => is_on(old).or(seen.title.take()),
            };
        }
    }

    /// What is on the shelf and was not explained yet: first what stands behind the product explained last, then what
    /// was passed over.
    pub fn next(&self, shelf: &[Product], pinned: Option<&Pinned>) -> Vec<ComingUp> {
        let last = self.explained.last().and_then(|last| shelf.iter().position(|p| p.id == last.product));
        let (before, behind) = shelf.split_at(last.map_or(0, |place| place + 1));
        let open = behind.iter().chain(before).filter(|p| self.explained.iter().all(|e| e.product != p.id));
        let mut at = pinned.and_then(|pinned| self.ends_at(pinned));
        open.take(NEXT_MAX)
            .map(|product| {
                let coming = ComingUp { product: product.id.clone(), at };
                at = at.and_then(|at| Some(at.plus(self.planned(&product.id)?)));
                coming
            })
            .collect()
    }

    fn ends_at(&self, pinned: &Pinned) -> Option<UnixMs> {
        let id = &pinned.product.id;
        let planned = || {
            let began = self.explained.iter().find(|e| e.product == *id)?.at;
            Some(began.plus(self.planned(id)?))
        };
        pinned.explain_until.or_else(planned)
    }

    fn planned(&self, product: &ProductId) -> Option<Duration> {
        self.planned_seconds.get(product).map(|seconds| Duration::from_secs(u64::from(*seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(id: &str, amount: i64) -> Product {
        serde_json::from_value(serde_json::json!({
            "id": id, "title": id.to_uppercase(), "price": {"amount": amount, "currency": "CNY"}, "merchant": "main",
            "skus": [],
        }))
        .unwrap()
    }

    fn pinned(id: &str, explain_until: Option<i64>) -> Pinned {
        Pinned { product: product(id, 1), explain_until: explain_until.map(UnixMs), media: None }
    }

    fn sheet(planned: &[(&str, u32)], explained: &[(&str, i64)]) -> RunSheet {
        let planned = planned.iter().map(|(id, seconds)| (id.parse().unwrap(), *seconds)).collect();
        let mut sheet = RunSheet { planned_seconds: planned, ..Default::default() };
        explained.iter().for_each(|(id, at)| sheet.explain(&product(id, 1), UnixMs(*at)));
        sheet
    }

    fn told(coming: &[ComingUp]) -> Vec<(&str, Option<i64>)> {
        coming.iter().map(|c| (c.product.as_str(), c.at.map(|at| at.0))).collect()
    }

    #[test]
    fn what_comes_next_stands_behind_the_card_and_what_was_passed_over_comes_last() {
        let shelf = ["a", "b", "c", "d"].map(|id| product(id, 1));
        let sheet = sheet(&[("b", 60), ("c", 120), ("d", 30)], &[("b", 5_000)]);
        assert_eq!(
            told(&sheet.next(&shelf, Some(&pinned("b", None)))),
            [("c", Some(65_000)), ("d", Some(185_000)), ("a", Some(215_000))]
        );
        let until = sheet.next(&shelf, Some(&pinned("b", Some(9_000))));
        assert_eq!(told(&until)[..2], [("c", Some(9_000)), ("d", Some(129_000))], "the anchor's own time goes first");
        assert_eq!(told(&sheet.next(&shelf, None)), [("c", None), ("d", None), ("a", None)]);
    }

    #[test]
    fn an_estimate_ends_where_no_time_is_planned() {
        let shelf = ["a", "b", "c"].map(|id| product(id, 1));
        let sheet = sheet(&[("a", 60)], &[("a", 0)]);
        assert_eq!(told(&sheet.next(&shelf, Some(&pinned("a", None)))), [("b", Some(60_000)), ("c", None)]);
        assert_eq!(told(&sheet.next(&shelf[..1], Some(&pinned("a", None)))), [], "all was explained");
    }

    #[test]
    fn a_product_is_explained_once_with_the_price_last_seen() {
        let mut sheet = sheet(&[], &[("a", 1), ("b", 2), ("a", 3)]);
        sheet.explain(&product("a", 80), UnixMs(9));
        let seen: Vec<_> = sheet.explained.iter().map(|e| (e.product.as_str(), e.price.amount, e.at.0)).collect();
        assert_eq!(seen, [("b", 1, 2), ("a", 80, 3)]);
        let cheaper = Pinned { product: product("a", 70), explain_until: None, media: None };
        sheet.reprice(Some(&cheaper));
        assert_eq!(sheet.explained[1].price.amount, 70);
        sheet.start(Some(&cheaper), UnixMs(20));
        assert_eq!(sheet.explained.len(), 1);
        assert_eq!((sheet.explained[0].product.as_str(), sheet.explained[0].at.0), ("a", 20));
    }

    #[test]
    fn a_product_that_leaves_the_shelf_takes_its_title_along_and_it_stays_bounded() {
        let (a, b) = (product("a", 1), product("b", 1));
        let mut sheet = sheet(&[], &[("a", 1), ("b", 2)]);
        sheet.shelve(&[a.clone(), b.clone()], std::slice::from_ref(&b), &BTreeMap::new());
        let titles = |sheet: &RunSheet| sheet.explained.iter().map(|e| e.title.clone()).collect::<Vec<_>>();
        assert_eq!(titles(&sheet), [Some("A".to_owned()), None]);
        sheet.shelve(std::slice::from_ref(&b), &[a], &BTreeMap::new());
        assert_eq!(titles(&sheet), [None, Some("B".to_owned())]);
        for n in 0..EXPLAINED_MAX as i64 + 5 {
            sheet.explain(&product(&format!("p{n}"), 1), UnixMs(n));
        }
        assert_eq!((sheet.explained.len(), sheet.explained[0].product.as_str()), (EXPLAINED_MAX, "p5"));
    }
}
