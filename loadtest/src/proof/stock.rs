use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use maishou::{client::Rest, id::SkuId, order::verify::verify, protocol::StockCount};
use serde::Deserialize;
use serde_json::Value;

use super::Proof;
use crate::crowd::deeds::{Deeds, Fate};

const PAGE: u32 = 1_000;
/// Pages of one chain; a billion entries are no run of ours.
const PAGES_MAX: usize = 1_000_000;

/// What the chains say: the counts after the last entry of each, or why a chain is broken.
pub type Chains = BTreeMap<SkuId, Result<StockCount, String>>;

/// Reads every chain from its first entry, and lets the product's own verifier check it against the published key.
pub async fn chains(open: &Rest, skus: impl Iterator<Item = &SkuId>) -> anyhow::Result<Chains> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<Key>,
    }
    #[derive(Deserialize)]
    struct Key {
        key: String,
    }
    let keys: Keys = open.call(hyper::Method::GET, "/v1/keys", None, None).await.context("the server's keys")?;
    let key = keys.keys.first().context("the server publishes no key")?;
    let mut chains = Chains::new();
    for sku in skus {
        let checked = verify(&export(open, sku).await?, Some(&key.key));
        chains.insert(sku.clone(), checked.map(|report| report.count).map_err(|broken| broken.to_string()));
    }
    Ok(chains)
}

/// The pages of a chain, one after another.
async fn export(open: &Rest, sku: &SkuId) -> anyhow::Result<String> {
    let (mut pages, mut after) = (String::new(), 0);
    for _ in 0..PAGES_MAX {
        let path = format!("/v1/skus/{sku}/ledger?after={after}&limit={PAGE}");
        let page: Value = open.call(hyper::Method::GET, &path, None, None).await.context("the ledger")?;
        pages.push_str(&page.to_string());
        let last = page["entries"].as_array().and_then(|entries| entries.last()?["n"].as_u64());
        match last {
            Some(last) if last > after && page["head"]["n"].as_u64().is_some_and(|head| last < head) => after = last,
            _ => return Ok(pages),
        }
    }
    bail!("the chain of {sku} does not end")
}

/// Nothing was oversold: every chain is whole and signed, never moves more pieces than there are, and counts exactly
/// what was acknowledged. `unsure`: edits of stock whose answers were lost; `missing`: holds that cannot be found.
pub fn stock(
    chains: &Chains,
    opening: &BTreeMap<SkuId, u64>,
    added: &BTreeMap<SkuId, i64>,
    unsure: u64,
    deeds: &Deeds,
    missing: &[String],
) -> Proof {
    let mut evidence = missing.to_vec();
    let mut sold = 0;
    for (sku, opened) in opening {
        let count = match chains.get(sku) {
            Some(Ok(count)) => count,
            Some(Err(broken)) => {
                evidence.push(format!("the chain of {sku} is broken: {broken}"));
                continue;
            }
            None => {
                evidence.push(format!("there is no chain of {sku}"));
                continue;
            }
        };
        sold += count.sold;
        let total = count.available + count.held + count.sold;
        let expected = opened.saturating_add_signed(added.get(sku).copied().unwrap_or(0));
        if unsure == 0 && total != expected {
            evidence.push(format!("{sku}: {expected} pieces became {total}"));
        }
        let pieces = |fate: Fate| -> u64 {
            let ours = deeds.bought.iter().filter(|bought| bought.sku == *sku && bought.state == fate);
            ours.map(|bought| u64::from(bought.pieces)).sum()
        };
        for (what, ours, theirs) in [("sold", pieces(Fate::Paid), count.sold), ("held", pieces(Fate::Held), count.held)]
        {
            if ours != theirs {
                evidence.push(format!("{sku}: {ours} pieces were acknowledged as {what}, its chain has {theirs}"));
            }
        }
    }
    let said = format!("{sold} pieces of {} SKUs were sold, as {} signed chains count", opening.len(), chains.len());
    Proof::new("stock", format!("{said}; none was oversold"), evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::deeds::Bought;

    fn proof(chain: Result<StockCount, String>, paid: usize, held: usize) -> Proof {
        let sku: SkuId = "red".parse().unwrap();
        let bought = |state| Bought {
            who: 1,
            hold: "0199d0a0-0000-7000-8000-000000000001".parse().unwrap(),
            sku: sku.clone(),
            pieces: 1,
            state,
        };
        let paid = std::iter::repeat_with(|| bought(Fate::Paid)).take(paid);
        let held = std::iter::repeat_with(|| bought(Fate::Held)).take(held);
        let deeds = Deeds { bought: paid.chain(held).collect(), ..Deeds::default() };
        let opening = BTreeMap::from([(sku.clone(), 10)]);
        stock(&BTreeMap::from([(sku.clone(), chain)]), &opening, &BTreeMap::from([(sku, 2)]), 0, &deeds, &[])
    }

    fn count(available: u64, held: u64, sold: u64) -> StockCount {
        StockCount { available, held, sold, entry: 9 }
    }

    #[test]
    fn the_chain_counts_what_was_acknowledged_and_no_more() {
        assert_eq!(proof(Ok(count(7, 2, 3)), 3, 2).held, Some(true));
        assert_eq!(proof(Ok(count(7, 2, 3)), 4, 1).held, Some(false), "an acknowledged order is not in the chain");
        assert_eq!(proof(Ok(count(6, 2, 3)), 3, 2).held, Some(false), "a piece is gone");
        assert_eq!(proof(Err("forged".to_owned()), 0, 0).evidence[0], "the chain of red is broken: forged");
    }
}
