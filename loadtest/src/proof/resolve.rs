use anyhow::Context as _;
use maishou::{
    client::{Error, Rest},
    id::{HoldId, OrderId},
    protocol::HoldState,
};

use super::Proof;
use crate::{
    callers::Callers,
    crowd::deeds::{Bought, Deeds, Fate, Unanswered, What},
};

/// Open holds that are asked for after a run.
const OPEN_ASKED_MAX: usize = 5_000;

/// Every command was answered, or its connection was lost; what was lost is asked again with its own key, until the
/// server says what became of it. What is found is added to the deeds.
pub async fn answers(deeds: &mut Deeds, open: u64, callers: &Callers<'_>) -> Proof {
    let mut evidence = Vec::new();
    if open > 0 {
        evidence.push(format!("{open} commands were never answered"));
    }
    let (lost, mut resolved) = (std::mem::take(&mut deeds.unanswered), 0);
    for unanswered in &lost {
        match resolve(deeds, unanswered, callers).await {
            Ok(()) => resolved += 1,
            Err(error) => evidence.push(format!("viewer {}: {:?}: {error:#}", unanswered.who, unanswered.what)),
        }
    }
    let (kept, all) = (deeds.bought.len(), lost.len());
    deeds.unanswered = lost;
    let said = format!("{kept} holds were acknowledged; of {all} lost answers {resolved} were resolved by their keys");
    Proof::new("answers", said, evidence)
}

async fn resolve(deeds: &mut Deeds, lost: &Unanswered, callers: &Callers<'_>) -> anyhow::Result<()> {
    match &lost.what {
        // They carry no key, and nothing was promised.
        What::Comment | What::Like => Ok(()),
        What::Hold { sku, pieces, key } => match callers.person(lost.who).await?.hold_one(sku, *pieces, key).await {
            Ok(held) => {
                let (sku, hold) = (sku.clone(), held.hold.id);
                let state = fate(held.hold.state);
                deeds.bought.push(Bought { who: lost.who, hold, sku, pieces: *pieces, state });
                Ok(())
            }
            Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error).context("the key was asked for again"),
        },
        What::Pay { hold } | What::Cancel { hold } => {
            let state = standing(&callers.person(lost.who).await?, *hold).await?;
            set(deeds, *hold, state);
            Ok(())
        }
    }
}

/// Asks what became of the holds that are open by all we know: they may have expired meanwhile. Of more than
/// [`OPEN_ASKED_MAX`] only so many are asked for, spread evenly. What cannot be found is told.
pub async fn refresh(deeds: &mut Deeds, callers: &Callers<'_>) -> Vec<String> {
    let mut evidence = Vec::new();
    let open = deeds.bought.iter().enumerate().filter(|(_, bought)| bought.state == Fate::Held);
    let open: Vec<usize> = open.map(|(at, _)| at).collect();
    for at in open.iter().step_by(open.len().div_ceil(OPEN_ASKED_MAX).max(1)) {
        let Bought { who, hold, .. } = deeds.bought[*at];
        let found = async { standing(&callers.person(who).await?, hold).await };
        match found.await {
            Ok(state) => deeds.bought[*at].state = state,
            Err(error) => evidence.push(format!("hold {hold} was acknowledged and cannot be found: {error:#}")),
        }
    }
    evidence
}

async fn standing(person: &Rest, hold: HoldId) -> anyhow::Result<Fate> {
    let order: OrderId = hold.to_string().parse().context("an order has the id of its hold")?;
    if person.order(order).await.is_ok() {
        return Ok(Fate::Paid);
    }
    Ok(fate(person.hold_state(hold).await?.hold.state))
}

fn fate(state: HoldState) -> Fate {
    match state {
        HoldState::Held => Fate::Held,
        HoldState::Confirmed => Fate::Paid,
        HoldState::Cancelled => Fate::Cancelled,
        HoldState::Expired => Fate::Expired,
    }
}

fn set(deeds: &mut Deeds, hold: HoldId, state: Fate) {
    if let Some(bought) = deeds.bought.iter_mut().find(|bought| bought.hold == hold) {
        bought.state = state;
    }
}
