//! What a client says: `{"id":n, NAME:{...}}`, each answered once with `{"re":n, ...}`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    id::{HoldId, Money, ProductId, SessionId, SkuId, Who},
    protocol::{Fault, LineRequest, QualityReport, ViewRequest, error::ErrorCode},
};

/// One message of a client, decoded.
#[derive(Debug)]
pub struct ClientMessage {
    /// Absent only on `auth`, which is not answered.
    pub id: Option<u64>,
    pub command: Command,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Join(Join),
    Auth { token: String },
    Comment { text: String },
    Like { count: u32 },
    Hold { lines: Vec<LineRequest>, key: String, room: Option<String> },
    Confirm { hold: HoldId, payment: Option<String> },
    Cancel { hold: HoldId },
    Extend { hold: HoldId },
    Pin { product: ProductId, explain_seconds: Option<u32> },
    Unpin,
    Moderate(Moderation),
    Publish { sdp: String },
    Watch { sdp: String },
    Candidate { session: SessionId, candidate: String },
    Leave { session: SessionId },
    Quality(QualityReport),
    View(ViewRequest),
    Ping,
}

/// `join`: who I am, and where I stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The last private message that I have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub you: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Moderation {
    Mute {
        who: Who,
        seconds: Option<u32>,
    },
    Unmute {
        who: Who,
    },
    Kick {
        who: Who,
    },
    DeleteComment {
        comment: u64,
    },
    /// `None` takes the pinned comment away.
    PinComment {
        comment: Option<u64>,
    },
    SlowMode {
        seconds: u32,
    },
}

/// Why a message is not a command, with the id to answer to when it could be read.
#[derive(Debug)]
pub struct Undecodable {
    pub id: Option<u64>,
    pub fault: Fault,
}

/// The body of `hold`, over REST and socket: one SKU, or several lines.
#[derive(Debug, Default, Deserialize)]
pub struct HoldBody {
    sku: Option<SkuId>,
    quantity: Option<u32>,
    price: Option<Money>,
    lines: Option<Vec<LineRequest>>,
    key: Option<String>,
    pub room: Option<String>,
}

impl HoldBody {
    /// The lines asked for. Refused when neither or both forms are used.
    pub fn lines(&self) -> Result<Vec<LineRequest>, Fault> {
        match (&self.sku, &self.lines) {
            (Some(sku), None) => {
                let quantity = self.quantity.ok_or_else(|| Fault::malformed("quantity", "quantity is missing"))?;
                Ok(vec![LineRequest { sku: sku.clone(), quantity, price: self.price }])
            }
            (None, Some(lines)) => Ok(lines.clone()),
            _ => Err(Fault::malformed("lines", "either sku and quantity, or lines")),
        }
    }
}

#[derive(Deserialize)]
struct HoldRef {
    #[serde(alias = "id")]
    hold: HoldId,
    payment: Option<String>,
}

#[derive(Deserialize)]
struct PinBody {
    product: ProductId,
    explain_seconds: Option<u32>,
}

#[derive(Deserialize)]
struct CandidateBody {
    session: SessionId,
    #[serde(default)]
    candidate: String,
}

#[derive(Deserialize)]
struct ModerateBody {
    action: String,
    who: Option<Who>,
    comment: Option<u64>,
    seconds: Option<u32>,
}

impl ModerateBody {
    fn checked(self) -> Result<Moderation, Fault> {
        let who = |who: Option<Who>| who.ok_or_else(|| Fault::malformed("who", "who is missing"));
        Ok(match self.action.as_str() {
            "mute" => Moderation::Mute { who: who(self.who)?, seconds: self.seconds },
            "unmute" => Moderation::Unmute { who: who(self.who)? },
            "kick" => Moderation::Kick { who: who(self.who)? },
            "delete_comment" => {
                let comment = self.comment.ok_or_else(|| Fault::malformed("comment", "comment is missing"))?;
                Moderation::DeleteComment { comment }
            }
            "pin_comment" => Moderation::PinComment { comment: self.comment },
            "slow_mode" => Moderation::SlowMode { seconds: self.seconds.unwrap_or(0) },
            _ => return Err(Fault::malformed("action", "no such action")),
        })
    }
}

fn body<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_json::from_value(value).map_err(|e| Fault::new(ErrorCode::Malformed, e.to_string()))
}

fn text(value: &mut Value, field: &'static str) -> Result<String, Fault> {
    match value.get_mut(field).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Fault::malformed(field, format!("{field} must be a text"))),
    }
}

impl Command {
    /// A command from its name and body.
    pub fn decode(name: &str, mut value: Value) -> Result<Self, Fault> {
        if !value.is_object() {
            return Err(Fault::malformed(name.to_owned(), "a command's body is an object"));
        }
        Ok(match name {
            "join" => Self::Join(body(value)?),
            "auth" => Self::Auth { token: text(&mut value, "token")? },
            "comment" => Self::Comment { text: text(&mut value, "text")? },
            "like" => {
                let count = value.get("count").map_or(Some(1), Value::as_u64);
                let count = count.and_then(|c| u32::try_from(c).ok());
                Self::Like { count: count.ok_or_else(|| Fault::malformed("count", "count must be a whole number"))? }
            }
            "hold" => {
                let hold: HoldBody = body(value)?;
                let lines = hold.lines()?;
                let key = hold.key.ok_or_else(|| Fault::malformed("key", "a hold needs an idempotency key"))?;
                Self::Hold { lines, key, room: hold.room }
            }
            "confirm" => body::<HoldRef>(value).map(|b| Self::Confirm { hold: b.hold, payment: b.payment })?,
            "cancel" => body::<HoldRef>(value).map(|b| Self::Cancel { hold: b.hold })?,
            "extend" => body::<HoldRef>(value).map(|b| Self::Extend { hold: b.hold })?,
            "pin" => {
                body::<PinBody>(value).map(|b| Self::Pin { product: b.product, explain_seconds: b.explain_seconds })?
            }
            "unpin" => Self::Unpin,
            "moderate" => Self::Moderate(body::<ModerateBody>(value)?.checked()?),
            "publish" => Self::Publish { sdp: text(&mut value, "sdp")? },
            "watch" => Self::Watch { sdp: text(&mut value, "sdp")? },
            "candidate" => {
                body::<CandidateBody>(value).map(|b| Self::Candidate { session: b.session, candidate: b.candidate })?
            }
            "leave" => body::<CandidateBody>(value).map(|b| Self::Leave { session: b.session })?,
            "quality" => Self::Quality(body(value)?),
            "view" => Self::View(body(value)?),
            "ping" => Self::Ping,
            _ => return Err(Fault::new(ErrorCode::UnknownCommand, "no such command")),
        })
    }
}

impl ClientMessage {
    /// Decodes one text message. Fields beside `id` and the command are refused only when they make it ambiguous.
    pub fn decode(message: &str) -> Result<Self, Undecodable> {
        let malformed = |id, why: &str| Undecodable { id, fault: Fault::new(ErrorCode::Malformed, why.to_owned()) };
        let mut map: Map<String, Value> =
            serde_json::from_str(message).map_err(|_| malformed(None, "a message is one JSON object"))?;
        let id = match map.remove("id") {
            None => None,
            Some(id) => Some(id.as_u64().ok_or_else(|| malformed(None, "id must be a whole number"))?),
        };
        let mut rest = map.into_iter();
        let (Some((name, value)), None) = (rest.next(), rest.next()) else {
            return Err(malformed(id, "a message has an id and one command"));
        };
        if id.is_none() && name != "auth" {
            return Err(malformed(None, "a command needs an id"));
        }
        let command = Command::decode(&name, value).map_err(|fault| Undecodable { id, fault })?;
        Ok(Self { id, command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(message: &str) -> (Option<u64>, ErrorCode) {
        let wrong = ClientMessage::decode(message).expect_err(message);
        (wrong.id, wrong.fault.code)
    }

    #[test]
    fn a_hold_has_one_form_of_two() {
        let one = r#"{"id":1,"hold":{"sku":"scarf","quantity":2,"key":"k"}}"#;
        let many = r#"{"id":1,"hold":{"lines":[{"sku":"scarf","quantity":2}],"key":"k"}}"#;
        let (one, many) = (ClientMessage::decode(one).unwrap(), ClientMessage::decode(many).unwrap());
        assert_eq!(one.command, many.command);
        let both = r#"{"id":1,"hold":{"sku":"scarf","quantity":2,"lines":[],"key":"k"}}"#;
        assert_eq!(fault_of(both), (Some(1), ErrorCode::Malformed));
    }

    #[test]
    fn what_is_not_a_command_says_so_under_its_id() {
        assert_eq!(fault_of("{"), (None, ErrorCode::Malformed));
        assert_eq!(fault_of("[]"), (None, ErrorCode::Malformed));
        assert_eq!(fault_of(r#"{"id":7,"dance":{}}"#), (Some(7), ErrorCode::UnknownCommand));
        assert_eq!(fault_of(r#"{"id":7}"#), (Some(7), ErrorCode::Malformed));
        assert_eq!(fault_of(r#"{"ping":{}}"#), (None, ErrorCode::Malformed));
        assert_eq!(fault_of(r#"{"id":7,"hold":{"sku":"a","quantity":-1,"key":"k"}}"#), (Some(7), ErrorCode::Malformed));
        assert_eq!(fault_of(r#"{"id":7,"comment":{"text":5}}"#), (Some(7), ErrorCode::Malformed));
    }
}
