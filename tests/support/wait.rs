//! The only place in the tests that lets time pass.

use std::time::{Duration, Instant};

/// Long enough for a busy CI machine, short enough that a hang is noticed.
pub const DEADLINE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Asks again and again until `probe` has an answer; panics with `what` at the deadline.
#[track_caller]
pub fn wait_until<T, F>(what: &str, deadline: Duration, mut probe: F) -> impl Future<Output = T>
where
    F: AsyncFnMut() -> Option<T>,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + deadline;
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            assert!(Instant::now() < end, "{caller}: waited {deadline:?} for {what}");
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Waits for one future; panics with `what` at the deadline.
#[track_caller]
pub fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(deadline, future).await {
            Ok(answer) => answer,
            Err(_) => panic!("{caller}: waited {deadline:?} for {what}"),
        }
    }
}
