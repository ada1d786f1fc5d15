//! Holds, orders and limits.

use std::time::Duration;

use super::shop::*;
use crate::{
    clock::UnixMs,
    id::HoldId,
    order::{
        Config, Event, Party, ProductTerms, Refusal, StockChange,
        entry::{Digest, EntryType},
    },
    protocol::{HoldState, OrderState, PrivateBody},
};

#[tokio::test]
async fn a_hold_becomes_an_order_and_everybody_concerned_hears_of_it() {
    let folder = Folder::new();
    let mut shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    let hold = shop.hold("ann", "k1", "red", 2).await.unwrap().value;
    assert_eq!((hold.state, hold.total, hold.expires_at), (HoldState::Held, yuan(200), UnixMs(1_700_000_300_000)));
    assert_eq!(shop.count("red"), [3, 2, 0]);

    let order = shop.desk.confirm(buyer("ann"), hold.id, Some("pay-1".to_owned())).await.unwrap().value;
    assert_eq!((order.state, order.payment.as_deref(), order.buyer), (OrderState::Paid, Some("pay-1"), None));
    assert_eq!(shop.count("red"), [3, 0, 2]);

    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.push(shop.events.recv().await.unwrap());
    }
    let private: Vec<_> = heard
        .iter()
        .filter_map(|event| match event {
            Event::Private { sub: to, told } if *to == sub("ann") => Some(told.message()),
            _ => None,
        })
        .collect();
    assert_eq!(private.iter().map(|message| message.n).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(&private[1].body, PrivateBody::OrderPaid { order } if order.id == hold.id));
    assert_eq!(shop.desk.messages(&sub("ann"), 0, 10).await.unwrap(), private);
    let sold = Event::Sold {
        room: Some("hall".parse().unwrap()),
        sku: "red".parse().unwrap(),
        quantity: 2,
        shown_as: Some("A".to_owned()),
    };
    assert!(heard.contains(&sold));
    let chain = shop.check_chain("red").await;
    assert_eq!(chain, [(EntryType::Opened, 5), (EntryType::Held, 2), (EntryType::Confirmed, 2)]);
}

#[tokio::test]
async fn the_public_holder_is_who_knows_the_nonce() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    let hold = shop.hold("ann", "k1", "red", 2).await.unwrap().value;
    let export = shop.desk.ledger(&"red".parse().unwrap(), 1, 10).await.unwrap();
    let expected = Digest::of(format!("{}{}", hold.id, hold.nonce).as_bytes());
    assert_eq!(export.entries[0].holder, Some(expected));
    let seen = shop.desk.hold_of(merchant("main"), hold.id).await.unwrap();
    assert_eq!((seen.id, seen.nonce.as_str()), (hold.id, ""));
}

#[tokio::test]
async fn a_hold_expires_in_time_and_gives_its_stock_back() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", Some(1), &[("red", 1)]).await;
    let hold = shop.hold("ann", "k1", "red", 1).await.unwrap().value;
    let extended = shop.desk.extend(buyer("ann"), hold.id).await.unwrap();
    assert_eq!((extended.value.expires_at.0 - hold.expires_at.0, extended.replayed), (300_000, false));
    let again = shop.desk.extend(buyer("ann"), hold.id).await.unwrap();
    assert_eq!((again.value, again.replayed), (extended.value, true));

    shop.clock.advance(Duration::from_secs(599));
    assert_eq!(shop.hold("bob", "k2", "red", 1).await.unwrap_err(), sold_out("red", 0));
    shop.clock.advance(Duration::from_secs(1));
    let late = shop.desk.confirm(buyer("ann"), hold.id, None).await;
    assert_eq!(late.unwrap_err(), Refusal::HoldExpired);
    shop.until_count("red", [1, 0, 0]).await;
    assert_eq!(shop.desk.hold_of(buyer("ann"), hold.id).await.unwrap().state, HoldState::Expired);
    assert!(shop.hold("ann", "k3", "red", 1).await.is_ok(), "the limit was given back");
    assert_eq!(shop.check_chain("red").await[2], (EntryType::Expired, 1));
}

#[tokio::test]
async fn money_taken_late_gets_stock_or_a_refund_due() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1)]).await;
    let late = shop.hold("ann", "k1", "red", 1).await.unwrap().value;
    shop.desk.cancel(buyer("ann"), late.id).await.unwrap();
    assert_eq!(shop.desk.confirm(buyer("ann"), late.id, None).await.unwrap_err(), Refusal::HoldExpired);
    assert_eq!(shop.desk.confirm(merchant("other"), late.id, None).await.unwrap_err(), Refusal::UnknownHold);
    let paid = shop.desk.confirm(merchant("main"), late.id, None).await.unwrap().value;
    assert_eq!((paid.state, paid.buyer.as_deref()), (OrderState::Paid, Some("ann")));
    assert_eq!(shop.count("red"), [0, 0, 1]);

    shop.desk
        .adjust(merchant("main"), &"red".parse().unwrap(), "a".into(), StockChange::Delta(1), "more".into())
        .await
        .unwrap();
    let later = shop.hold("bob", "k2", "red", 1).await.unwrap().value;
    shop.desk.cancel(buyer("bob"), later.id).await.unwrap();
    shop.hold("eve", "k3", "red", 1).await.unwrap();
    let due = shop.desk.confirm(merchant("main"), later.id, None).await.unwrap();
    assert_eq!((due.value.state, due.replayed), (OrderState::RefundDue, false));
    let again = shop.desk.confirm(merchant("main"), later.id, None).await.unwrap();
    assert_eq!((again.value, again.replayed), (due.value, true));
    let told = shop.desk.messages(&sub("bob"), 2, 10).await.unwrap();
    assert!(matches!(&told[0].body, PrivateBody::OrderRefundDue { order } if order.buyer.is_none()));
    let back = shop.desk.refund(merchant("main"), later.id, "r".into(), None, true, "no stock".into()).await.unwrap();
    assert_eq!(back.value.state, OrderState::Refunded);
    assert_eq!(shop.count("red"), [0, 1, 1], "no stock moves for an order that had none");
    shop.check_chain("red").await;
}

/// Bob pays for what Eve has by then; `by` confirms it.
async fn paid_in_vain(shop: &Shop, by: Party) -> HoldId {
    let late = shop.hold("bob", "late", "red", 1).await.unwrap().value;
    shop.desk.cancel(buyer("bob"), late.id).await.unwrap();
    shop.hold("eve", "in time", "red", 1).await.unwrap();
    let due = shop.desk.confirm(by, late.id, None).await.unwrap().value;
    assert_eq!(due.state, OrderState::RefundDue);
    late.id
}

#[tokio::test]
async fn who_confirmed_hears_that_a_refund_is_due_also_after_a_restart() {
    let folder = Folder::new();
    let mut shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1)]).await;
    let order = paid_in_vain(&shop, merchant("main")).await;
    let told = shop.desk.messages(&sub("clerk"), 0, 10).await.unwrap();
    assert_eq!(told.iter().map(|message| message.n).collect::<Vec<_>>(), [1]);
    let PrivateBody::OrderRefundDue { order: due } = &told[0].body else { panic!("{told:?}") };
    assert_eq!((due.id, due.buyer.as_deref()), (order, Some("bob")));
    let pushed = loop {
        match shop.events.recv().await.unwrap() {
            Event::Private { sub: to, told } if to == sub("clerk") => break told.message(),
            _ => {}
        }
    };
    assert_eq!(pushed, told[0]);
    shop.desk.confirm(merchant("main"), order, None).await.unwrap();
    assert_eq!(shop.desk.messages(&sub("clerk"), 0, 10).await.unwrap(), told, "once is enough");

    let crashed = folder.as_after_a_crash();
    let shop = Shop::open_at(&crashed, Config::default(), shop.clock.clone());
    assert_eq!(shop.desk.messages(&sub("clerk"), 0, 10).await.unwrap(), told);
    shop.sells("scarf", None, &[("red", 1), ("blue", 1)]).await;
    let hold = shop.hold("clerk", "k", "blue", 1).await.unwrap().value;
    let told = shop.desk.messages(&sub("clerk"), 0, 10).await.unwrap();
    assert_eq!(told.iter().map(|message| message.n).collect::<Vec<_>>(), [1, 2], "one numbering for all she is told");
    assert!(matches!(&told[1].body, PrivateBody::HoldCreated { hold: made } if made.id == hold.id));
    let bob = shop.desk.messages(&sub("bob"), 0, 10).await.unwrap();
    assert_eq!(bob.iter().map(|message| message.n).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn who_confirms_her_own_purchase_is_told_once() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1), ("blue", 1)]).await;
    paid_in_vain(&shop, Party::Admin { sub: sub("bob") }).await;
    shop.hold("bob", "next", "blue", 1).await.unwrap();
    let told = shop.desk.messages(&sub("bob"), 0, 10).await.unwrap();
    assert_eq!(told.iter().map(|message| message.n).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn two_hundred_callers_for_ten_pieces_are_ten_winners() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 10)]).await;
    let attempt = |n: usize| {
        let desk = shop.desk.clone();
        tokio::spawn(async move { desk.hold(request(&format!("buyer-{n}"), "k", &[("red", 1)])).await })
    };
    let mut winners = Vec::new();
    for (n, task) in (0..200).map(attempt).collect::<Vec<_>>().into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(answer) => winners.push((n, answer.value)),
            Err(refusal) => assert_eq!(refusal, sold_out("red", 0)),
        }
    }
    assert_eq!(winners.len(), 10);
    assert_eq!(shop.count("red"), [0, 10, 0]);
    for (n, hold) in winners {
        let again = attempt(n).await.unwrap().unwrap();
        assert_eq!((again.value, again.replayed), (hold, true), "a winner's retry passes the sold-out path");
    }
    assert_eq!(shop.desk.stats().holds.accepted, 10);
}

#[tokio::test]
async fn fifty_sockets_of_one_person_do_not_pass_a_limit_of_two() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", Some(2), &[("red", 100), ("blue", 100)]).await;
    let attempts: Vec<_> = (0..50)
        .map(|n| {
            let (desk, sku) = (shop.desk.clone(), if n % 2 == 0 { "red" } else { "blue" });
            tokio::spawn(async move { desk.hold(request("ann", &format!("k{n}"), &[(sku, 1)])).await })
        })
        .collect();
    let mut won = Vec::new();
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(answer) => won.push(answer.value),
            Err(refusal) => assert_eq!(refusal, Refusal::LimitReached { limit: 2, have: 2 }),
        }
    }
    assert_eq!(won.len(), 2);
    shop.desk.confirm(buyer("ann"), won[0].id, None).await.unwrap();
    assert!(shop.hold("ann", "l", "red", 1).await.is_err(), "orders count too");
    shop.desk.refund(merchant("main"), won[0].id, "r".into(), None, true, "back".into()).await.unwrap();
    assert!(shop.hold("ann", "l", "red", 1).await.is_ok(), "a refund gives the limit back");
    let mut in_show = request("ann", "s", &[("red", 2)]);
    in_show.show = Some("show-1".to_owned());
    assert!(shop.desk.hold(in_show).await.is_ok(), "a show has its own count");
}

#[tokio::test]
async fn several_lines_are_all_or_nothing() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5), ("blue", 1)]).await;
    shop.desk
        .define(ProductTerms { merchant: "wang".parse().unwrap(), ..terms("tea", None, &[("green", 9)]) })
        .await
        .unwrap();
    let lines = |lines: &[(&str, u32)]| shop.desk.hold(request("ann", "k", lines));
    assert_eq!(lines(&[("red", 1), ("blue", 2)]).await.unwrap_err(), sold_out("blue", 1));
    assert_eq!(lines(&[("red", 3), ("blue", 1), ("red", 3)]).await.unwrap_err(), sold_out("red", 5));
    assert_eq!(lines(&[("red", 1), ("none", 1)]).await.unwrap_err(), Refusal::UnknownSku);
    assert!(matches!(lines(&[("red", 1), ("green", 1)]).await.unwrap_err(), Refusal::Malformed { .. }));
    assert_eq!((shop.count("red"), shop.count("blue")), ([5, 0, 0], [1, 0, 0]));
    let hold = lines(&[("red", 1), ("blue", 1), ("red", 1)]).await.unwrap().value;
    assert_eq!(hold.lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((shop.count("red"), shop.count("blue")), ([3, 2, 0], [0, 1, 0]));
    let of = |sku: &str| {
        let (desk, sku) = (shop.desk.clone(), sku.parse().unwrap());
        async move { desk.ledger(&sku, 1, 10).await.unwrap().entries[0].tx }
    };
    assert_eq!(of("red").await, of("blue").await, "the entries of one command have one tx");
}

#[tokio::test]
async fn refusals_are_looked_at_in_the_order_of_the_contract() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    let start = shop.clock.now().plus(Duration::from_secs(60));
    let terms = ProductTerms { on_sale_at: Some(start), ..terms("scarf", Some(1), &[("red", 1)]) };
    shop.desk.define(terms.clone()).await.unwrap();
    let ask = |key: &str, price: i64, quantity: u32| {
        let mut request = request("ann", key, &[("red", quantity)]);
        request.lines[0].price = Some(yuan(price));
        shop.desk.hold(request)
    };
    assert!(matches!(ask("", 1, 0).await.unwrap_err(), Refusal::Malformed { .. }));
    assert_eq!(ask("k", 1, 9).await.unwrap_err(), Refusal::NotStarted { at: start });
    shop.clock.advance(Duration::from_secs(60));
    let now = Refusal::PriceChanged { sku: "red".parse().unwrap(), price: yuan(100) };
    assert_eq!(ask("k", 1, 1).await.unwrap_err(), now);
    ask("k", 100, 1).await.unwrap();
    assert_eq!(ask("k", 1, 1).await.unwrap_err(), Refusal::KeyReused);
    assert_eq!(ask("l", 1, 1).await.unwrap_err(), now, "also when it is sold out");
    assert!(matches!(ask("l", 100, 1).await.unwrap_err(), Refusal::SoldOut { .. } | Refusal::LimitReached { .. }));
}
