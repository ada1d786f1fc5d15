//! The people of a tape, each with a connection of her own once she has come.

use std::collections::HashMap;

use anyhow::Context;
use maishou::{
    client::{Config, Link, Viewer},
    id::{Sub, Who},
    protocol::{Body, Role},
    room::tape::Line,
};

use super::{Show, stage::Stage};

/// Somebody as she is on the tape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    who: Who,
    role: Role,
    name: Option<String>,
}

pub struct Cast<'a> {
    stage: &'a Stage<'a>,
    config: Config,
    names: HashMap<Who, String>,
    /// The anchor's, where the tape has a word of hers.
    anchor: Option<Who>,
    here: HashMap<Part, Viewer>,
}

impl<'a> Cast<'a> {
    pub fn new(stage: &'a Stage<'a>, show: &Show) -> Self {
        let mut cast = Self {
            stage,
            config: Config { reconnect: false, keep_max: 1, ..Config::default() },
            names: HashMap::new(),
            anchor: None,
            here: HashMap::new(),
        };
        let said = show.lines.iter().filter_map(|line| match line {
            Line::Event { event, .. } => Some(&event.body),
            _ => None,
        });
        for body in show.opening.comments.iter().map(|event| &event.body).chain(said) {
            if let Body::Comment { who, name, role, .. } = body {
                cast.names.entry(who.clone()).or_insert_with(|| name.clone());
                if *role == Role::Anchor {
                    cast.anchor = Some(who.clone());
                }
            }
        }
        cast
    }

    pub fn len(&self) -> usize {
        self.here.len()
    }

    fn sub(&self, who: &Who) -> anyhow::Result<Sub> {
        match self.anchor.as_ref() == Some(who) {
            true => Ok(self.stage.house.anchor.clone()),
            false => Ok(format!("replay-{}", who.as_str()).parse()?),
        }
    }

    /// The public name in the rehearsal of somebody on the tape.
    pub fn who(&self, recorded: &Who) -> anyhow::Result<Who> {
        Ok(self.stage.house.keyring.who(&self.stage.room, &self.sub(recorded)?))
    }

    /// Somebody of the audience.
    pub async fn viewer(&mut self, who: &Who) -> anyhow::Result<Viewer> {
        let name = self.names.get(who).cloned();
        self.part(Part { who: who.clone(), role: Role::Viewer, name }).await
    }

    /// Somebody who says something, in her role and under her name.
    pub async fn speaker(&mut self, who: &Who, role: Role, name: &str) -> anyhow::Result<Viewer> {
        self.part(Part { who: who.clone(), role, name: Some(name.to_owned()) }).await
    }

    /// Who hosts the show: her commands over a socket.
    pub async fn host(&mut self) -> anyhow::Result<Viewer> {
        let stage = self.stage;
        let host = Part { who: Who("".into()), role: Role::Anchor, name: None };
        self.join(host, &stage.house.anchor.clone()).await
    }

    async fn part(&mut self, part: Part) -> anyhow::Result<Viewer> {
        let sub = self.sub(&part.who)?;
        self.join(part, &sub).await
    }

    async fn join(&mut self, part: Part, sub: &Sub) -> anyhow::Result<Viewer> {
        if let Some(here) = self.here.get(&part).filter(|viewer| viewer.look(|view| view.link == Link::Live)) {
            return Ok(here.clone());
        }
        let stage = self.stage;
        let token = stage.house.token(Some(&stage.room), part.role, sub, part.name.as_deref(), true);
        let joined = Viewer::join(&stage.house.server, &stage.room, &token, &self.config).await;
        let viewer = joined.with_context(|| format!("{} joins as {}", part.who.as_str(), part.role.as_str()))?;
        self.here.insert(part, viewer.clone());
        Ok(viewer)
    }
}
