//! The only place in the tests that lets time pass.

use std::{
    panic::Location,
    time::{Duration, Instant},
};

/// Long enough for a busy CI machine, short enough that a hang is noticed.
pub const DEADLINE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Asks again and again until `probe` has an answer; `None` at the deadline.
pub async fn poll<T>(deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let answer = probe().await;
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks again and again until `probe` has an answer; panics with `what` at the deadline.
#[track_caller]
pub fn wait_until<T, F>(what: &str, deadline: Duration, probe: F) -> impl Future<Output = T>
where
    F: AsyncFnMut() -> Option<T>,
{
    let caller = Location::caller();
    async move {
        let answer = poll(deadline, probe).await;
        answer.unwrap_or_else(|| panic!("{caller}: waited {deadline:?} for {what}"))
    }
}

/// Waits for one future; panics with `what` at the deadline.
#[track_caller]
pub fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(deadline, future).await {
            Ok(answer) => answer,
            Err(_) => panic!("{caller}: waited {deadline:?} for {what}"),
        }
    }
}
