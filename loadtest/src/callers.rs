//! The people of a run as REST callers, for what is asked after it.

use maishou::{
    client::{Http, Rest},
    id::RoomId,
    protocol::Role,
};

use crate::token::{Tokens, person};

pub struct Callers<'a> {
    pub http: Http,
    pub room: &'a RoomId,
    pub tokens: &'a Tokens,
}

impl Callers<'_> {
    /// The viewer with this number.
    pub async fn person(&self, number: usize) -> anyhow::Result<Rest> {
        self.of(Role::Viewer, &person(number)).await
    }

    pub async fn of(&self, role: Role, user: &str) -> anyhow::Result<Rest> {
        Ok(Rest::new(self.http.clone(), self.tokens.one(self.room, role, user).await?))
    }
}
