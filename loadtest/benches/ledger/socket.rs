//! Holds over real WebSockets of the real server, in a process of its own.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use maishou::{
    client::{Config, Http, Merchant, NewProduct, Rest, Server, Viewer},
    clock::Clock,
    id::{MerchantId, Money, RoomId, SkuId},
    protocol::{Claims, Role, RoomScope},
};
use tokio::{runtime::Runtime, time::sleep};

use crate::{
    callers::ask_in_turn,
    child::{Child, free_address},
    scratch::Scratch,
    shop,
    table::Figures,
};

const SECRET: &str = "a secret of the benchmark, as long as it must be";
const STARTS_IN: Duration = Duration::from_secs(20);

/// One round: `callers` viewers hold one piece after another.
pub fn round(runtime: &Runtime, maishou: &Path, callers: usize, seconds: f64) -> anyhow::Result<Figures> {
    let (scratch, address) = (Scratch::new()?, free_address()?);
    let mut server = start(maishou, &scratch, &address.to_string())?;
    let url: Server = format!("http://{address}").parse()?;
    let room: RoomId = "hall".parse()?;
    let viewers = runtime.block_on(async {
        let sku = open(&url, &room, &mut server).await?;
        let mut viewers = Vec::with_capacity(callers);
        for number in 0..callers {
            let token = token(&room, Role::Viewer, &format!("viewer-{number}"))?;
            viewers.push((Viewer::join(&url, &room, &token, &Config::default()).await?, sku.clone()));
        }
        anyhow::Ok(Arc::new(viewers))
    })?;
    Ok(ask_in_turn(runtime, callers, seconds, &|| server.cpu_time(), |number| {
        let viewers = viewers.clone();
        move || hold(viewers.clone(), number)
    }))
}

async fn hold(viewers: Arc<Vec<(Viewer, SkuId)>>, number: usize) -> bool {
    let (viewer, sku) = &viewers[number];
    match viewer.hold_one(sku, 1, &shop::request().key).await {
        Ok(_) => true,
        Err(error) => panic!("refused: {error}"),
    }
}

fn start(maishou: &Path, scratch: &Scratch, address: &str) -> anyhow::Result<Child> {
    let many = "1000000";
    let mut command = Command::new(maishou);
    command.args(["serve", "--listen", address, "--media-listen", "127.0.0.1:0"]);
    command.env("MAISHOU_AUTH__SECRET", SECRET).env("MAISHOU_LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#);
    command.env("MAISHOU_STORE__PATH", scratch.file("store")).env("MAISHOU_TAPE__PATH", scratch.file("tape"));
    for key in ["LIMITS__COMMANDS_PER_SECOND", "LIMITS__HOLDS_PER_SECOND", "ORDER__HOLDS_OPEN_PER_PERSON_MAX"] {
        command.env(format!("MAISHOU_{key}"), many);
    }
    Child::start(&mut command).with_context(|| format!("{} (cargo build --release builds it)", maishou.display()))
}

/// A room with a running show and goods without end.
async fn open(url: &Server, room: &RoomId, server: &mut Child) -> anyhow::Result<SkuId> {
    let http = Http::new(url.clone(), Config::default());
    let (open, deadline) = (Rest::anonymous(http.clone()), Instant::now() + STARTS_IN);
    while open.rooms().await.is_err() {
        ensure!(server.is_running() && Instant::now() < deadline, "the server does not start");
        sleep(Duration::from_millis(20)).await;
    }
    let merchant = Merchant(Rest::new(http.clone(), token(room, Role::Merchant, "merchant")?));
    let anchor = Rest::new(http, token(room, Role::Anchor, "anchor")?);
    merchant.make_room(room, "Benchmark", &"anchor".parse()?, &[]).await?;
    let sku: SkuId = shop::SKU.parse()?;
    let product = NewProduct {
        id: "scarf".parse()?,
        title: "Scarf".to_owned(),
        price: Money { amount: 19_900, currency: "CNY".parse()? },
        image: None,
        skus: vec![(sku.clone(), "Red".to_owned(), 1_000_000_000)],
        limit_per_user: None,
        limit_per_order: None,
    };
    merchant.put_product(&product).await?;
    anchor.shelf(room, std::slice::from_ref(&product.id)).await?;
    anchor.start_show(room).await?;
    Ok(sku)
}

fn token(room: &RoomId, role: Role, user: &str) -> anyhow::Result<String> {
    let claims = Claims {
        sub: user.parse()?,
        exp: Clock::start().now().0 / 1_000 + 3_600,
        room: RoomScope::One(room.clone()),
        role,
        merchant: (role == Role::Merchant).then(MerchantId::main),
        can: None,
        name: Some(user.to_owned()),
        region: None,
        promoter: None,
        sim: false,
        jti: None,
    };
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?)
}
