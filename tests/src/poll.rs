//! Waiting for something to become true: a deadline, never a bare sleep.

use std::time::Duration;

use kijabi_base::clock;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks `look` until it answers `Ok`, at most for `limit`; panics with the last `Err` then.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = clock::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) if clock::now() >= deadline => {
                panic!("{what}: not within {limit:?}: {why}");
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

/// Asserts that `look` stays `Ok` for the whole of `span`.
pub fn always(what: &str, span: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let end = clock::now() + span;
    while clock::now() < end {
        if let Err(why) = look() {
            panic!("{what}: {why}");
        }
        std::thread::sleep(INTERVAL);
    }
}
