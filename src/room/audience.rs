//! Who is in a room, counted honestly: a person with three tabs is one viewer, a simulated one is none.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    clock::UnixMs,
    id::Who,
    protocol::{Role, Tally},
};

/// Likes in one command.
pub const LIKES_PER_COMMAND_MAX: u32 = 50;

/// Shared by a room's hub and all its sessions.
#[derive(Debug, Default)]
pub struct Audience {
    /// A simulated person is somebody else than a real one of the same name.
    present: Mutex<HashMap<(Who, bool), Presence>>,
    viewers: AtomicU64,
    simulated: AtomicU64,
    connections: AtomicU64,
    likes: AtomicU64,
}

#[derive(Debug)]
struct Presence {
    connections: u32,
    kind: Kind,
    liked_second: i64,
    liked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Viewer,
    Simulated,
    /// Anchor, assistants, merchants and admins are at work, not in the audience.
    Staff,
}

/// One connection's place in the audience; leaving is dropping it.
#[derive(Debug)]
pub struct Seat {
    audience: Arc<Audience>,
    who: (Who, bool),
}

impl Audience {
    pub fn starting_at(likes: u64) -> Arc<Self> {
        Arc::new(Self { likes: AtomicU64::new(likes), ..Self::default() })
    }

    /// `simulated` people are neither counted among the viewers nor are their likes.
    pub fn enter(self: &Arc<Self>, who: &Who, role: Role, simulated: bool) -> Seat {
        let kind = match role {
            _ if simulated => Kind::Simulated,
            Role::Viewer | Role::Promoter => Kind::Viewer,
            _ => Kind::Staff,
        };
        let mut present = self.present.lock().expect("no holder panics");
        let fresh = Presence { connections: 0, kind, liked_second: 0, liked: 0 };
        let presence = present.entry((who.clone(), simulated)).or_insert(fresh);
        presence.connections += 1;
        if presence.connections == 1 {
            self.counter(kind).map(|c| c.fetch_add(1, Ordering::Relaxed));
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Seat { audience: self.clone(), who: (who.clone(), simulated) }
    }

    fn counter(&self, kind: Kind) -> Option<&AtomicU64> {
        match kind {
            Kind::Viewer => Some(&self.viewers),
            Kind::Simulated => Some(&self.simulated),
            Kind::Staff => None,
        }
    }

    pub fn tally(&self) -> Tally {
        Tally { viewers: self.viewers.load(Ordering::Relaxed), likes: self.likes.load(Ordering::Relaxed) }
    }

    /// A new show starts from no likes.
    pub fn forget_likes(&self) {
        self.likes.store(0, Ordering::Relaxed);
    }

    pub fn simulated(&self) -> u64 {
        self.simulated.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Seat {
    /// Likes that were counted of those asked for: at most so many of one person in one second.
    pub fn like(&self, count: u32, most_per_second: u32, now: UnixMs) -> u32 {
        let mut present = self.audience.present.lock().expect("no holder panics");
        let Some(presence) = present.get_mut(&self.who) else { return 0 };
        let second = now.0.div_euclid(1_000);
        if presence.liked_second != second {
            (presence.liked_second, presence.liked) = (second, 0);
        }
        let counted = count.min(most_per_second.saturating_sub(presence.liked));
        presence.liked += counted;
        if presence.kind != Kind::Simulated {
            self.audience.likes.fetch_add(u64::from(counted), Ordering::Relaxed);
        }
        counted
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut present = self.audience.present.lock().expect("no holder panics");
        if let Some(presence) = present.get_mut(&self.who) {
            presence.connections -= 1;
            if presence.connections == 0 {
                let kind = presence.kind;
                present.remove(&self.who);
                self.audience.counter(kind).map(|c| c.fetch_sub(1, Ordering::Relaxed));
            }
        }
        self.audience.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who(name.into())
    }

    #[test]
    fn a_person_with_three_tabs_is_one_viewer() {
        let audience = Audience::starting_at(0);
        let tabs: Vec<Seat> = (0..3).map(|_| audience.enter(&who("a"), Role::Viewer, false)).collect();
        let _anchor = audience.enter(&who("b"), Role::Anchor, false);
        let _robot = audience.enter(&who("c"), Role::Viewer, true);
        assert_eq!((audience.tally().viewers, audience.simulated(), audience.connections()), (1, 1, 5));
        drop(tabs);
        assert_eq!((audience.tally().viewers, audience.connections()), (0, 2));
    }

    #[test]
    fn a_simulated_namesake_hides_nobody_and_likes_nothing() {
        let audience = Audience::starting_at(0);
        let robot = audience.enter(&who("a"), Role::Viewer, true);
        let person = audience.enter(&who("a"), Role::Viewer, false);
        assert_eq!((audience.tally().viewers, audience.simulated()), (1, 1));
        assert_eq!((robot.like(3, 20, UnixMs(0)), person.like(2, 20, UnixMs(0))), (3, 2));
        assert_eq!(audience.tally().likes, 2);
        drop(person);
        assert_eq!((audience.tally().viewers, audience.simulated()), (0, 1));
    }

    #[test]
    fn likes_count_up_to_a_rate_for_each_person() {
        let audience = Audience::starting_at(100);
        let (one, other) =
            (audience.enter(&who("a"), Role::Viewer, false), audience.enter(&who("a"), Role::Viewer, false));
        assert_eq!(one.like(15, 20, UnixMs(1_000)), 15);
        assert_eq!(other.like(15, 20, UnixMs(1_999)), 5);
        assert_eq!(one.like(1, 20, UnixMs(2_000)), 1);
        assert_eq!(audience.tally().likes, 121);
    }
}
