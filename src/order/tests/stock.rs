//! Stock and refunds: what merchants change. And the lists that people read.

use super::shop::*;
use crate::{
    id::SkuId,
    order::{
        Answered, Config, Event, Party, ProductTerms, Refusal, StockChange, entry::EntryType, request::RefundLine,
    },
    protocol::{Order, OrderState},
};

#[tokio::test]
async fn stock_is_changed_by_its_merchant_down_to_what_is_held_and_sold() {
    let folder = Folder::new();
    let mut shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    shop.hold("ann", "k", "red", 2).await.unwrap();
    let red: SkuId = "red".parse().unwrap();
    let adjust = |by: Party, key: &str, change| shop.desk.adjust(by, &red, key.to_owned(), change, "盘点".to_owned());
    assert_eq!(adjust(buyer("ann"), "a", StockChange::Delta(1)).await.unwrap_err(), Refusal::UnknownSku);
    assert_eq!(adjust(merchant("other"), "a", StockChange::Delta(1)).await.unwrap_err(), Refusal::UnknownSku);
    let below = Refusal::StockBelowHeld { held: 2, sold: 0 };
    assert_eq!(adjust(merchant("main"), "a", StockChange::Delta(-4)).await.unwrap_err(), below);
    assert_eq!(adjust(merchant("main"), "a", StockChange::Set(1)).await.unwrap_err(), below);
    let set = adjust(merchant("main"), "a", StockChange::Set(12)).await.unwrap();
    assert_eq!((set.value.available, set.replayed), (10, false));
    assert_eq!(adjust(merchant("main"), "a", StockChange::Set(12)).await.unwrap(), Answered { replayed: true, ..set });
    assert_eq!(adjust(merchant("main"), "a", StockChange::Set(13)).await.unwrap_err(), Refusal::KeyReused);
    assert!(adjust(merchant("main"), "b", StockChange::Delta(i64::MAX)).await.is_err());
    assert_eq!(shop.check_chain("red").await[2], (EntryType::Adjusted, 7));
    let told = Event::Adjusted { sku: red.clone(), delta: 7, reason: "盘点".to_owned(), entry: 3 };
    while shop.events.recv().await.unwrap() != told {}
    let other = shop.desk.define(terms("tea", None, &[("red", 1)])).await;
    assert_eq!(other.unwrap_err(), Refusal::Taken { sku: red }, "a SKU is not taken over");
    let merchant_of = ProductTerms { merchant: "wang".parse().unwrap(), ..terms("scarf", None, &[("new", 1)]) };
    assert_eq!(shop.desk.define(merchant_of).await.unwrap_err(), Refusal::ProductTaken);
    let again = shop.desk.define(terms("scarf", None, &[("red", 99)])).await.unwrap();
    assert_eq!(again[0].1.available, 10, "opening stock counts once");
}

#[tokio::test]
async fn a_sku_that_left_its_product_is_not_sold_on_old_terms() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1), ("blue", 1)]).await;
    shop.sells("scarf", None, &[("blue", 1)]).await;
    assert_eq!(shop.hold("ann", "k", "red", 1).await.unwrap_err(), Refusal::UnknownSku);
    shop.hold("ann", "k", "blue", 1).await.unwrap();
    assert_eq!(shop.count("red"), [1, 0, 0]);
    shop.sells("scarf", None, &[("blue", 1), ("red", 7)]).await;
    shop.hold("ann", "l", "red", 1).await.unwrap();
}

#[tokio::test]
async fn a_refund_in_parts_gives_back_what_was_asked() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5), ("blue", 5)]).await;
    let hold = shop.desk.hold(request("ann", "k", &[("red", 3), ("blue", 1)])).await.unwrap().value;
    shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap();
    let refund = |key: &str, lines: Option<&[(&str, u32)]>, restock| {
        let line = |(sku, quantity): &(&str, u32)| RefundLine { sku: sku.parse().unwrap(), quantity: *quantity };
        let lines = lines.map(|lines| lines.iter().map(line).collect());
        shop.desk.refund(merchant("main"), hold.id, key.to_owned(), lines, restock, "return".to_owned())
    };
    let part = refund("r1", Some(&[("red", 1)]), true).await.unwrap();
    assert_eq!((part.value.state, shop.count("red")), (OrderState::Paid, [3, 0, 2]));
    assert_eq!(refund("r2", Some(&[("red", 3)]), true).await.unwrap_err(), Refusal::RefundTooLarge);
    let refunded = |order: &Order| order.lines.iter().map(|line| line.refunded).collect::<Vec<_>>();
    assert_eq!((refunded(&part.value), part.value.refunded_total), (vec![1, 0], Some(yuan(100))));
    let rest = refund("r3", None, false).await.unwrap();
    assert_eq!((refunded(&rest.value), rest.value.refunded_total), (vec![3, 1], Some(rest.value.total)));
    let told = shop.desk.messages(&sub("ann"), 2, 10).await.unwrap();
    let first = serde_json::to_value(&told[0]).unwrap();
    assert_eq!(
        (&first["order"]["lines"][0]["refunded"], &first["order"]["refunded_total"]["amount"]),
        (&1.into(), &10_000.into())
    );
    assert_eq!(first["order"]["lines"][1].get("refunded"), None, "what was not refunded says nothing");
    assert_eq!((rest.value.state, shop.count("red")), (OrderState::Refunded, [3, 0, 2]));
    assert_eq!(refund("r4", None, true).await.unwrap_err(), Refusal::RefundTooLarge);
    assert_eq!(refund("r1", Some(&[("red", 1)]), true).await.unwrap(), Answered { replayed: true, ..part });
    assert_eq!(refund("r1", None, true).await.unwrap_err(), Refusal::KeyReused);
    let by_buyer = shop.desk.refund(buyer("ann"), hold.id, "r5".into(), None, true, String::new()).await;
    assert_eq!(by_buyer.unwrap_err(), Refusal::UnknownOrder);
    let chain = shop.check_chain("red").await;
    assert_eq!(chain[3..], [(EntryType::Refunded, 1), (EntryType::Refunded, 0)]);
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1_000), ("blue", 1_000)]).await;
    let mut orders = Vec::new();
    for n in 0..150 {
        let who = if n % 3 == 0 { "ann" } else { "bob" };
        let sku = if n % 2 == 0 { "red" } else { "blue" };
        let hold = shop.hold(who, &format!("k{n}"), sku, 1).await.unwrap().value;
        shop.desk.confirm(buyer(who), hold.id, None).await.unwrap();
        orders.push((who, hold.id));
    }
    orders.reverse();
    for (by, whose) in
        [(buyer("ann"), Some("ann")), (merchant("main"), None), (Party::Admin { sub: sub("root") }, None)]
    {
        let expected: Vec<_> = orders.iter().filter(|(who, _)| whose.is_none_or(|w| w == *who)).map(|o| o.1).collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = shop.desk.orders(by.clone(), None, after, 7).await.unwrap().orders;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page.iter().map(|order| order.id));
        }
        assert_eq!(found, expected);
    }
    let foreign = shop.desk.orders(buyer("ann"), None, Some(orders.iter().find(|o| o.0 == "bob").unwrap().1), 7).await;
    assert_eq!(foreign.unwrap_err(), Refusal::UnknownOrder);
    let unknown = shop.desk.order(buyer("ann"), crate::id::HoldId::make()).await;
    assert_eq!(unknown.unwrap_err(), Refusal::UnknownOrder);

    let red: SkuId = "red".parse().unwrap();
    let whole: Vec<_> = shop.desk.ledger(&red, 0, 1_000).await.unwrap().entries;
    assert_eq!(whole.len(), 151);
    for after in [0, 1, 100, 126, 127, 128, 129, 149, 150, 151, 500] {
        for limit in [1, 20, 128, 1_000] {
            let page = shop.desk.ledger(&red, after, limit).await.unwrap().entries;
            let from = (after as usize).min(whole.len());
            assert_eq!(page, whole[from..(from + limit).min(whole.len())], "{limit} after {after}");
        }
    }
    let messages = shop.desk.messages(&sub("ann"), 90, 4).await.unwrap();
    assert_eq!(messages.iter().map(|message| message.n).collect::<Vec<_>>(), [91, 92, 93, 94]);
}

#[tokio::test]
async fn orders_of_one_state_are_found_however_many_stand_before_them() {
    let folder = Folder::new();
    let config = Config { orders_looked_at_max: 10, ..Config::default() };
    let shop = Shop::open(&folder, config);
    shop.sells("scarf", None, &[("red", 1_000)]).await;
    let mut refunded = Vec::new();
    for n in 0..60 {
        let hold = shop.hold("ann", &format!("k{n}"), "red", 1).await.unwrap().value;
        shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap();
        if [3, 4, 40].contains(&n) {
            shop.desk
                .refund(merchant("main"), hold.id, "r".to_owned() + &n.to_string(), None, true, "x".into())
                .await
                .unwrap();
            refunded.insert(0, hold.id);
        }
    }
    for by in [buyer("ann"), merchant("main"), Party::Admin { sub: sub("root") }] {
        for limit in [1, 2, 50] {
            let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = shop.desk.orders(by.clone(), Some(OrderState::Refunded), after, limit).await.unwrap();
                assert!(page.orders.len() <= limit && page.orders.iter().all(|o| o.state == OrderState::Refunded));
                found.extend(page.orders.iter().map(|order| order.id));
                (after, pages) = (page.next, pages + 1);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, refunded);
            assert!(pages >= 6, "ten orders are looked at in one answer: {pages} pages");
        }
    }
    let none = shop.desk.orders(merchant("other"), Some(OrderState::Refunded), None, 9).await.unwrap();
    assert_eq!((none.orders.len(), none.next), (0, None));
}
