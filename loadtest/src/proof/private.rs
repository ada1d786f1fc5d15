use std::collections::HashSet;

use super::Proof;
use crate::{callers::Callers, crowd::Outcome};

/// People who are asked whether there is more for them than they heard.
const ASKED: usize = 200;

/// Everybody heard all her private messages, in their order.
pub async fn private(crowds: &[Outcome], callers: &Callers<'_>) -> anyhow::Result<Proof> {
    let mut evidence = Vec::new();
    let people = || crowds.iter().flat_map(|crowd| &crowd.private);
    let gaps: u64 = crowds.iter().map(|crowd| crowd.tally.private_gaps).sum();
    if gaps > 0 {
        let mut examples = crowds.iter().flat_map(|crowd| &crowd.tally.examples);
        let first = examples.find(|example| example.contains("private message")).cloned();
        evidence.push(first.unwrap_or_else(|| format!("{gaps} private messages did not follow on the one before")));
    }
    if people().count() == 0 && gaps == 0 {
        return Ok(Proof::none("private", "nobody was told anything in private"));
    }
    // Whose answer was lost was asked for again since, and has messages of that.
    let unsure: HashSet<usize> =
        crowds.iter().flat_map(|crowd| &crowd.deeds.unanswered).map(|unanswered| unanswered.who).collect();
    for (who, heard, due) in people() {
        if heard < due {
            evidence.push(format!("viewer {who} heard {heard} private messages of at least {due}"));
        }
    }
    let sure: Vec<_> = people().filter(|(who, ..)| !unsure.contains(who)).collect();
    let asked: Vec<_> = sure.iter().step_by(sure.len().div_ceil(ASKED).max(1)).collect();
    for (who, heard, _) in &asked {
        let more = callers.person(*who).await?.messages(*heard).await?;
        if let Some(first) = more.first() {
            evidence.push(format!("viewer {who} heard private messages up to {heard}, and there is {first:?}"));
        }
    }
    let messages: u64 = people().map(|(_, heard, _)| heard).sum();
    let said = format!("{messages} private messages reached {} people whole and in order", people().count());
    Ok(Proof::new("private", format!("{said}; {} of them were asked for more", asked.len()), evidence))
}
