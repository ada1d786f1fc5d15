use std::collections::HashMap;

use maishou::{
    client::Rest,
    protocol::{Order, OrderPage, OrderState},
};

use super::Proof;
use crate::{
    callers::Callers,
    crowd::deeds::{Bought, Deeds, Fate},
};

const PAGE: u32 = 1_000;
/// Buyers who read their own order; the merchant reads all.
const BUYERS: usize = 20;

/// Every acknowledged payment is an order that the merchant can read, and the buyer.
pub async fn orders(deeds: &Deeds, since: i64, merchant: &Rest, callers: &Callers<'_>) -> anyhow::Result<Proof> {
    let paid: Vec<&Bought> = deeds.bought.iter().filter(|bought| bought.state == Fate::Paid).collect();
    if paid.is_empty() {
        return Ok(Proof::none("orders", "nothing was bought"));
    }
    let mut evidence = Vec::new();
    let kept = read_all(merchant, since).await?;
    for bought in &paid {
        match kept.get(&bought.hold.to_string()) {
            None => evidence.push(format!("order {} was acknowledged and is not among the merchant's", bought.hold)),
            Some(order) if !is_of(order, bought) => {
                evidence.push(format!("order {} is not what was acknowledged: {order:?}", bought.hold));
            }
            Some(_) => {}
        }
    }
    for bought in paid.iter().step_by(paid.len().div_ceil(BUYERS).max(1)) {
        let own = callers.person(bought.who).await?.order(bought.hold.to_string().parse()?).await;
        if !own.as_ref().is_ok_and(|order| is_of(order, bought)) {
            evidence.push(format!("the buyer of order {} cannot read it: {own:?}", bought.hold));
        }
    }
    Ok(Proof::new("orders", format!("{} acknowledged orders can be read", paid.len()), evidence))
}

fn is_of(order: &Order, bought: &Bought) -> bool {
    let is_line = |line: &maishou::protocol::OrderLine| line.sku == bought.sku && line.quantity == bought.pieces;
    order.state == OrderState::Paid && order.lines.len() == 1 && order.lines.iter().all(is_line)
}

/// The merchant's orders of this run, by their ids.
async fn read_all(merchant: &Rest, since: i64) -> anyhow::Result<HashMap<String, Order>> {
    let (mut orders, mut after) = (HashMap::new(), String::new());
    loop {
        let path = format!("/v1/orders?limit={PAGE}{after}");
        let page: OrderPage = merchant.call(hyper::Method::GET, &path, None, None).await?;
        let is_older = page.orders.last().is_some_and(|order| order.at.0 < since);
        orders.extend(page.orders.into_iter().map(|order| (order.id.to_string(), order)));
        let Some(next) = page.next.filter(|_| !is_older) else { return Ok(orders) };
        after = format!("&after={next}");
    }
}
