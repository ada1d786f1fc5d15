use std::path::Path;

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use maishou::{
    client::{Http, Rest},
    clock::Clock,
    id::{MerchantId, RoomId},
    protocol::{Claims, Role, RoomScope},
};

const TTL_SECONDS: i64 = 6 * 3_600;
/// Connections that the tokens of a demo are shared by; a person may have twenty in a room.
const SHARED_BY: usize = 15;

/// Where tokens come from: the server's secret, or a demo that gives them to this machine.
pub enum Tokens {
    Minted { key: EncodingKey, clock: Clock, sim: bool },
    Demo { http: Box<Http> },
}

impl Tokens {
    pub fn from_file(path: &Path, clock: Clock) -> anyhow::Result<Self> {
        let secret = std::fs::read_to_string(path)
            .with_context(|| format!("the secret file {} (it holds the server's auth.secret)", path.display()))?;
        ensure!(
            !secret.trim().is_empty(),
            "the secret file {} is empty: it holds the server's auth.secret",
            path.display()
        );
        Ok(Self::minted(secret.trim(), clock, true))
    }

    /// Tokens of a server with this secret; those of viewers say that they are simulated, unless the world is our own.
    pub fn minted(secret: &str, clock: Clock, sim: bool) -> Self {
        Self::Minted { key: EncodingKey::from_secret(secret.as_bytes()), clock, sim }
    }

    pub async fn one(&self, room: &RoomId, role: Role, user: &str) -> anyhow::Result<String> {
        match self {
            Self::Demo { http } => Rest::dev_token(http, room, role, user)
                .await
                .context("no token for the demo (of another server, give --secret-file)"),
            Self::Minted { key, clock, sim } => {
                let claims = Claims {
                    sub: user.parse()?,
                    exp: clock.now().0 / 1_000 + TTL_SECONDS,
                    room: RoomScope::One(room.clone()),
                    role,
                    merchant: (role == Role::Merchant).then(MerchantId::main),
                    can: None,
                    name: Some(user.to_owned()),
                    region: None,
                    promoter: None,
                    sim: *sim && role == Role::Viewer,
                    jti: None,
                };
                Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key)?)
            }
        }
    }

    /// Tokens for a crowd: a person each where we make them, a few connections to a person where a demo does.
    pub async fn crowd(&self, room: &RoomId, count: usize) -> anyhow::Result<Vec<String>> {
        let shared_by = if matches!(self, Self::Demo { .. }) { SHARED_BY } else { 1 };
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let token = self.one(room, Role::Viewer, &person(tokens.len())).await?;
            let share = shared_by.min(count - tokens.len());
            tokens.extend(std::iter::repeat_n(token, share));
        }
        Ok(tokens)
    }
}

/// Who the viewer with this number is.
pub fn person(number: usize) -> String {
    format!("crowd-{number}")
}
