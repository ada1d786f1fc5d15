//! A small show, recorded at a server of its own and played again twenty times as fast.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use maishou::{
    client::{Config, Http, Merchant, NewProduct, Rest, Viewer},
    id::{Money, ProductId, RoomId, SkuId},
    protocol::{Role, StockCount},
};
use maishou_loadtest::replay::{self, House, Show};
use serde_json::{Value, json};

/// The server's program, built beside this test.
fn program() -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let beside = here.ancestors().nth(2).expect("target/release").join("maishou");
    assert!(beside.is_file(), "{} is not built: cargo build --release", beside.display());
    beside
}

const SCARF: &str = "scarf";

struct Recorded {
    house: House,
    tape: PathBuf,
}

/// Comments, pins, holds of every fate, a change of price, stock edits, a question pinned and one deleted, slow mode.
async fn record() -> Result<Recorded> {
    let mut house = House::of_our_own(&program())?;
    let room: RoomId = "evening".parse()?;
    let http = Http::new(house.server.clone(), Config::default());
    let keeper = Merchant(Rest::new(http.clone(), house.merchant_token(&room, &"main".parse()?, false)));
    let token =
        |role, user: &str| -> Result<String> { Ok(house.token(Some(&room), role, &user.parse()?, Some(user), false)) };
    let admin = Rest::new(http.clone(), token(Role::Admin, "admin")?);
    let anchor = Rest::new(http.clone(), house.token(Some(&room), Role::Anchor, &house.anchor, Some("Mei"), false));
    Merchant(admin.clone())
        .make_room(&room, "Evening show", &house.anchor, &["main".parse()?])
        .await
        .context("room")?;
    let goods = |id: &str, price| -> Result<NewProduct> {
        Ok(NewProduct {
            id: id.parse()?,
            title: format!("A {id}"),
            price: Money { amount: price, currency: "CNY".parse()? },
            image: None,
            skus: vec![
                (format!("{id}-red").parse()?, "Red".into(), 20),
                (format!("{id}-blue").parse()?, "Blue".into(), 3),
            ],
            limit_per_user: Some(4),
            limit_per_order: None,
        })
    };
    for (id, price) in [(SCARF, 19_900), ("tote", 89_900)] {
        keeper.put_product(&goods(id, price)?).await?;
    }
    let (scarf, tote): (ProductId, ProductId) = (SCARF.parse()?, "tote".parse()?);
    let red: SkuId = "scarf-red".parse()?;
    let blue: SkuId = "scarf-blue".parse()?;
    anchor.run_sheet(&room, &[(scarf.clone(), 180), (tote.clone(), 180)]).await?;

    // Something was sold before the show, to nobody on its tape.
    let early = Rest::new(http.clone(), token(Role::Viewer, "early")?);
    let sold = early.hold_one(&red, 4, "early").await?;
    admin.confirm(sold.hold.id, None).await?;
    // A room hears of its stock a moment later; the show's tape begins with what it has heard.
    until_stock(&admin, &room, |stock| stock.get(&red).is_some_and(|red| red.sold == 4)).await?;

    let config = Config::default();
    let mut people = Vec::new();
    for user in ["ann", "bob", "cyd", "dee"] {
        people.push(Viewer::join(&house.server, &room, &token(Role::Viewer, user)?, &config).await?);
    }
    let host = house.token(Some(&room), Role::Anchor, &house.anchor, Some("Mei"), false);
    let host = Viewer::join(&house.server, &room, &host, &config).await?;
    anchor.start_show(&room).await?;
    anchor.pin(&room, &scarf, Some(180)).await?;
    for (number, person) in people.iter().take(3).enumerate() {
        person.comment(&format!("comment {number}")).await?;
        person.like(5).await?;
    }
    host.comment("welcome!").await?;
    let question = people[1].comment("how long is it?").await?;
    host.pin_comment(Some(question.seq)).await?;
    let rude = people[2].comment("buy it at mine").await?;
    host.delete_comment(rude.seq).await?;

    let paid = people[0].hold_one(&red, 2, "a").await?;
    admin.confirm(paid.hold.id, None).await?;
    let given_back = people[1].hold_one(&blue, 3, "b").await?;
    ensure!(people[2].hold_one(&blue, 1, "c").await.is_err(), "they are all held");
    people[1].cancel(given_back.hold.id).await?;
    people[2].hold_one(&blue, 1, "d").await?;
    // A refund in two parts: one piece comes back to be sold, the other does not.
    for (part, restock) in [("one", true), ("other", false)] {
        let lines = json!([{ "sku": red, "quantity": 1 }]);
        let body = json!({ "lines": lines, "restock": restock, "reason": "too small" });
        let path = format!("/v1/orders/{}/refund", paid.hold.id);
        admin.call::<Value>(Method::POST, &path, Some(part), Some(body)).await?;
    }
    keeper.adjust_stock(&red, 7, "found a box", "box").await?;
    keeper.adjust_stock(&blue, -1, "a stain", "stain").await?;
    keeper.put_product(&goods(SCARF, 15_900)?).await?;
    anchor.pin(&room, &tote, Some(180)).await?;
    host.slow_mode(1).await?;
    people[3].comment("beautiful").await?;
    // What the room heard of last is on the tape before the server ends.
    let settled = |view: &maishou::client::View| view.slow_mode == 1;
    host.wait_for(Duration::from_secs(10), settled).await?;
    let is_told = |stock: &BTreeMap<SkuId, StockCount>| {
        stock[&red].available == 22 && stock[&blue].held == 1 && stock[&blue].available == 1
    };
    until_stock(&admin, &room, is_told).await?;
    drop((people, host));
    let tape = house.tapes().context("a server of our own has tapes")?.join(room.as_str());
    house.stop()?;
    Ok(Recorded { house, tape })
}

async fn until_stock(admin: &Rest, room: &RoomId, holds: impl Fn(&BTreeMap<SkuId, StockCount>) -> bool) -> Result<()> {
    let look = async {
        while !holds(&admin.room(room).await?.stock) {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), look).await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_show_played_again_arrives_at_the_same_state() -> Result<()> {
    let recorded = record().await?;
    let whole = Show::read(&recorded.tape)?;
    let house = House::of_our_own(&program())?;
    let outcome = replay::play(&whole, &house, 20).await?;
    println!("{outcome}");
    assert!(outcome.is_the_same(), "{outcome}");
    assert!(outcome.deeds.refused.is_empty(), "{outcome}");
    assert_eq!((outcome.deeds.stock_edits, outcome.deeds.comments), (2, 7), "{outcome}");
    assert_eq!(outcome.deeds.refunds_not_played, 0, "{outcome}");

    // The show alone: what was sold before it is bought by people who are on no tape.
    let segments = segments(&recorded.tape)?;
    let show = Show::read(segments.last().context("a segment")?)?;
    assert!(show.opening.show.running, "the last segment is the show");
    let alone = replay::play(&show, &house, 100).await?;
    assert!(alone.is_the_same(), "{alone}");
    assert_eq!(alone.recorded, outcome.recorded, "the same end");

    // One word that is another.
    let changed =
        changed(&recorded.tape, segments.last().context("a segment")?, "how long is it?", "how long is she?")?;
    let other = Show::read(&changed)?;
    assert_ne!(other.hash(), whole.hash(), "another tape has another hash");
    let other = replay::play(&other, &house, 100).await?;
    assert!(other.is_the_same() && other.replayed != outcome.replayed, "{other}");

    // A replay that leaves something out does not pass.
    let mut shortened = Show::read(&recorded.tape)?;
    shortened.lines.retain(|line| !serde_json::to_string(line).is_ok_and(|text| text.contains("a stain")));
    let short = replay::play(&shortened, &house, 100).await?;
    assert!(!short.is_the_same() && short.differs.iter().any(|part| part.starts_with("scarf-blue")), "{short}");
    house.close();
    recorded.house.close();
    Ok(())
}

#[tokio::test]
async fn a_tape_of_a_later_version_is_refused_with_both_numbers() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("maishou-later-{:016x}", rand::random::<u64>()));
    fs::create_dir_all(&folder)?;
    let file = folder.join("00000001.jsonl");
    fs::write(&file, "{\"v\":9,\"kind\":\"head\",\"shape\":\"unknown\"}\n")?;
    let refused = Show::read(&file).err().context("it is refused")?;
    let why = format!("{refused:#}");
    assert!(why.contains("version 9") && why.contains("up to 1"), "{why}");
    let nothing = Show::read(&folder.join("nothing.jsonl")).err().context("it is refused")?;
    assert!(format!("{nothing:#}").contains("nothing.jsonl"), "{nothing:#}");
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn segments(tape: &Path) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = fs::read_dir(tape)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    all.sort();
    Ok(all)
}

/// A copy of the tape in which one text is another.
fn changed(tape: &Path, segment: &Path, from: &str, to: &str) -> Result<PathBuf> {
    let copy = tape.with_extension("changed");
    fs::create_dir_all(&copy)?;
    for file in segments(tape)? {
        fs::copy(&file, copy.join(file.file_name().context("a name")?))?;
    }
    let file = copy.join(segment.file_name().context("a name")?);
    let text = fs::read_to_string(&file)?;
    ensure!(text.contains(from), "{from} is not in {}", file.display());
    fs::write(&file, text.replace(from, to))?;
    Ok(copy)
}
