//! Pictures of the pages for people to look at, when `MAISHOU_SCREENSHOTS` names a folder.

use std::{env, fs, path::PathBuf};

use super::stage::{Stage, comment, go_live, hook, on_shelf, picture_runs, reserve_pinned, shows_card, shows_comment};
use crate::support::shop::TOTE;

#[tokio::test]
async fn the_pages_can_be_looked_at() {
    let Some(folder) = env::var_os("MAISHOU_SCREENSHOTS").map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).expect("the folder can be made");
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    go_live(&studio).await;
    let alice = stage.watch("alice").await;
    picture_runs(&alice, 30).await;
    studio.click(&on_shelf(TOTE, "pin")).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    for text in ["Good evening!", "一米六五穿 M 可以吗", "Does it fit a laptop?"] {
        comment(&alice, text).await;
        studio.wait_for(&shows_comment(text)).await;
    }

    alice.screenshot(&folder.join("viewer-390x844.png")).await;
    studio.screenshot(&folder.join("studio-1440x900.png")).await;
    reserve_pinned(&alice).await;
    alice.screenshot(&folder.join("viewer-hold-390x844.png")).await;

    let desk = stage.watch("bob").await;
    desk.resize(1440, 900).await;
    picture_runs(&desk, 10).await;
    desk.screenshot(&folder.join("viewer-1440x900.png")).await;
    let phone = stage.watch("carol").await;
    phone.click(&hook("shelf-open")).await;
    picture_runs(&phone, 10).await;
    phone.screenshot(&folder.join("shelf-390x844.png")).await;
}
