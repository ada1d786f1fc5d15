//! Status codes, and errors as `application/problem+json` (RFC 9457).
//!
//! Handlers return a [`Problem`]; the outermost layer writes its body, because only it knows the request's id.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::protocol::{ErrorCode, Fault};

/// A refusal on its way out.
#[derive(Debug)]
pub struct Problem(pub Fault);

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// The fault of a response, for the layer that writes the body.
#[derive(Clone)]
struct Carried(Fault);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = status(self.0.code).into_response();
        response.extensions_mut().insert(Carried(self.0));
        response
    }
}

/// The one table of status codes.
pub fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Malformed | ErrorCode::BadOffer | ErrorCode::UnknownCommand | ErrorCode::NotJoined => {
            StatusCode::BAD_REQUEST
        }
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden | ErrorCode::Muted | ErrorCode::Kicked | ErrorCode::RehearsalOnly => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::SoldOut
        | ErrorCode::HoldExpired
        | ErrorCode::NotStarted
        | ErrorCode::LimitReached
        | ErrorCode::PriceChanged
        | ErrorCode::StockBelowHeld
        | ErrorCode::AlreadyLive
        | ErrorCode::AlreadyExists
        | ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        ErrorCode::RateLimited | ErrorCode::SlowMode => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: ErrorCode,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(flatten)]
    more: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

/// Gives a refusal its body, and errors that were not ours (no route, wrong method) the same form.
pub fn finish(mut response: Response, request_id: &str) -> Response {
    let fault = match response.extensions_mut().remove::<Carried>() {
        Some(Carried(fault)) => fault,
        None => match response.status() {
            StatusCode::NOT_FOUND if is_bare(&response) => Fault::new(ErrorCode::NotFound, "no such address"),
            StatusCode::METHOD_NOT_ALLOWED => Fault::new(ErrorCode::MethodNotAllowed, "not this method here"),
            StatusCode::BAD_REQUEST if is_bare(&response) => {
                Fault::new(ErrorCode::Malformed, "the address is malformed")
            }
            _ => return response,
        },
    };
    let status = status(fault.code);
    let body = ProblemBody {
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: &fault.message,
        code: fault.code,
        request_id,
        param: fault.param.as_deref(),
        retry_after_ms: fault.retry_after_ms,
        more: fault.detail.as_ref().and_then(|d| d.as_object()),
    };
    let body = serde_json::to_vec(&body).expect("a problem is plain data");
    *response.status_mut() = status;
    *response.body_mut() = Body::from(body);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(ms) = fault.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn is_bare(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_none_or(|t| t.as_bytes().starts_with(b"text/plain"))
}
