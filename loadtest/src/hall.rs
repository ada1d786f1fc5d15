//! A Maishou server of our own to measure: started with an empty folder, one room, goods without end, a running show.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use maishou::{
    client::{Config, Http, Merchant, NewProduct, Rest},
    clock::Clock,
    id::{MerchantId, Money, RoomId, SkuId},
    protocol::{Claims, Role, RoomScope},
    session::Keyring,
};

use crate::server::{Child, free_address};

const SECRET: &str = "a secret of the benchmark, as long as it must be";
const SKU: &str = "scarf-red";
const TOKEN_SECONDS: i64 = 3_600;

pub struct Hall {
    pub process: Child,
    pub address: SocketAddr,
    pub room: RoomId,
    pub sku: SkuId,
    keyring: Keyring,
    program: PathBuf,
    folder: PathBuf,
    core: usize,
}

impl Hall {
    /// Starts the server `maishou` with its files in `folder` and these settings (`SECTION__KEY`) on `core`, and opens
    /// the room.
    pub fn open(maishou: &Path, folder: &Path, core: usize, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let address = free_address()?;
        let process = start(maishou, folder, core, address, settings)?;
        let (room, sku, keyring) = ("hall".parse()?, SKU.parse()?, Keyring::new(SECRET, ""));
        let (program, folder) = (maishou.to_owned(), folder.to_owned());
        let hall = Self { process, address, room, sku, keyring, program, folder, core };
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(hall.raise_the_curtain())?;
        Ok(hall)
    }

    /// The same server once more, when it has ended: on its files and its address, with other settings.
    pub fn open_again(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.process = start(&self.program, &self.folder, self.core, self.address, settings)?;
        Ok(())
    }

    async fn raise_the_curtain(&self) -> anyhow::Result<()> {
        let http = Http::new(format!("http://{}", self.address).parse()?, Config::default());
        let merchant = Merchant(Rest::new(http.clone(), self.token(Role::Merchant, "merchant")?));
        let anchor = Rest::new(http, self.token(Role::Anchor, "anchor")?);
        merchant.make_room(&self.room, "Benchmark", &"anchor".parse()?, &[]).await?;
        let product = NewProduct {
            id: "scarf".parse()?,
            title: "Scarf".to_owned(),
            price: Money { amount: 19_900, currency: "CNY".parse()? },
            image: None,
            skus: vec![(self.sku.clone(), "Red".to_owned(), 1_000_000_000)],
            limit_per_user: None,
            limit_per_order: None,
        };
        merchant.put_product(&product).await?;
        anchor.shelf(&self.room, std::slice::from_ref(&product.id)).await?;
        anchor.start_show(&self.room).await?;
        Ok(())
    }

    /// The epoch of the room's log, and its newest sequence number.
    pub fn stands_at(&self) -> anyhow::Result<(String, u64)> {
        let http = Http::new(format!("http://{}", self.address).parse()?, Config::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let snapshot = runtime.block_on(async { Rest::anonymous(http).room(&self.room).await })?;
        Ok((snapshot.epoch, snapshot.seq))
    }

    pub fn token(&self, role: Role, user: &str) -> anyhow::Result<String> {
        let claims = Claims {
            sub: user.parse()?,
            exp: Clock::start().now().0 / 1_000 + TOKEN_SECONDS,
            room: RoomScope::One(self.room.clone()),
            role,
            merchant: (role == Role::Merchant).then(MerchantId::main),
            can: None,
            name: Some(user.to_owned()),
            region: None,
            promoter: None,
            sim: false,
            jti: None,
        };
        Ok(self.keyring.sign(&claims))
    }

    /// Tokens of so many people.
    pub fn audience(&self, count: usize) -> anyhow::Result<Vec<String>> {
        (0..count).map(|number| self.token(Role::Viewer, &format!("viewer-{number}"))).collect()
    }
}

fn start(
    maishou: &Path,
    folder: &Path,
    core: usize,
    address: SocketAddr,
    settings: &[(&str, &str)],
) -> anyhow::Result<Child> {
    let mut command = Command::new(maishou);
    command.args(["serve", "--listen", &address.to_string(), "--media-listen", "127.0.0.1:0"]);
    command.env("MAISHOU_AUTH__SECRET", SECRET).env("MAISHOU_LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#);
    command.env("MAISHOU_LIMITS__ARRIVALS_PER_SECOND", "0");
    command.env("MAISHOU_STORE__PATH", folder.join("store")).env("MAISHOU_TAPE__PATH", folder.join("tape"));
    for (key, value) in settings {
        command.env(format!("MAISHOU_{key}"), value);
    }
    let process = Child::start_on(core, &mut command);
    let mut process = process.with_context(|| format!("{} (cargo build --release builds it)", maishou.display()))?;
    process.wait_for(address)?;
    Ok(process)
}
