//! A snapshot on its way to another member, and from one.
//!
//! Owns: cutting the checksummed stream of `kijabi-disk` in messages, and putting it together
//! again. Must not know: when one is needed. A newcomer's trap: reading and writing a state
//! blocks, so both happen on threads of their own with a few parts in between; a state that did
//! not arrive whole is removed with its [`Checkpoint`].

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use kijabi_base::tasks;
use kijabi_disk::snapshot::{Checkpoint, StateHome};
use kijabi_proto::peer as pb;
use kijabi_proto::peer::snapshot_part::Part;
use tokio::sync::mpsc;

use crate::limits::{SNAPSHOT_PART_BYTES_MAX, SNAPSHOT_PARTS_AHEAD_MAX};

/// The parts of a snapshot. The receiver's end going away ends the reading, too.
pub(crate) fn parts(
    head: pb::SnapshotHead,
    snapshot: Arc<Checkpoint>,
) -> mpsc::Receiver<pb::SnapshotPart> {
    let (sender, parts) = mpsc::channel(SNAPSHOT_PARTS_AHEAD_MAX);
    tasks::blocking(move || {
        let send = |part| sender.blocking_send(pb::SnapshotPart { part: Some(part) }).is_ok();
        if !send(Part::Head(head)) {
            return;
        }
        let sent = snapshot.open().and_then(|state| {
            kijabi_disk::snapshot::send(&state, &mut |mut piece| {
                while !piece.is_empty() {
                    let part = piece.split_to(piece.len().min(SNAPSHOT_PART_BYTES_MAX));
                    if !send(Part::Data(part)) {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })
        });
        if let Err(error) = sent {
            // The receiver misses the stream's end and refuses it.
            tracing::warn!(%error, "a snapshot cannot be read");
        }
    });
    parts
}

/// Where the parts of a snapshot that comes in are put.
pub(crate) struct Incoming {
    parts: mpsc::Sender<Bytes>,
    done: tokio::task::JoinHandle<io::Result<Arc<Checkpoint>>>,
}

// === impl Incoming ===

impl Incoming {
    /// Begins to receive one, next to the current state.
    pub(crate) fn begin(home: StateHome) -> Self {
        let (parts, receiver) = mpsc::channel(SNAPSHOT_PARTS_AHEAD_MAX);
        let mut reader = Parts { receiver, current: Bytes::new() };
        let done = tasks::blocking(move || {
            let received = home.receive(&mut reader).map_err(io::Error::other)?;
            // What follows the end is not part of it.
            if reader.read(&mut [0])? != 0 {
                let what = "the snapshot is followed by something else";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Ok(Arc::new(received))
        });
        Self { parts, done }
    }

    /// Takes the next part. `false` if it is no use to go on: [`Incoming::end`] says why.
    pub(crate) async fn take(&self, part: Bytes) -> bool {
        part.len() <= SNAPSHOT_PART_BYTES_MAX && self.parts.send(part).await.is_ok()
    }

    /// The whole snapshot, verified and durable; or why it is none.
    pub(crate) async fn end(self) -> io::Result<Arc<Checkpoint>> {
        drop(self.parts);
        self.done.await.map_err(io::Error::other)?
    }
}

/// The parts as something to read from.
struct Parts {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(part) => self.current = part,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
