//! Waiting for a moment to the microsecond.
//!
//! Owns: a timer of the kernel. Must not know: what is due. A newcomer's trap: the runtime's own
//! timers tick in milliseconds, which would add half of one to each latency of an open loop.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer.
#[derive(Debug)]
pub(super) struct Pacer {
    timer: AsyncFd<OwnedFd>,
    /// What it is set to, so that waiting again for the same moment costs nothing.
    set: Option<Instant>,
}

impl Pacer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[allow(deprecated, reason = "its successor is unsafe, for files that are not owned")]
        let timer = AsyncFd::new(fd)?;
        Ok(Self { timer, set: None })
    }

    /// Waits until `due`. May be dropped before.
    pub(super) async fn until(&mut self, due: Instant) -> io::Result<()> {
        if self.set != Some(due) {
            let left = due.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once(left))?;
            self.set = Some(due);
        }
        let read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut [0; 8]).map(drop)?);
        self.timer.async_io(Interest::READABLE, read).await?;
        self.set = None;
        Ok(())
    }
}

fn once(after: Duration) -> Itimerspec {
    Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec {
            tv_sec: after.as_secs() as i64,
            tv_nsec: i64::from(after.subsec_nanos()),
        },
    }
}
