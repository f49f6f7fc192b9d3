//! A gRPC client for load: what a request costs here is taken from the server's share of the
//! machine, so it does no more than the wire asks for.
//!
//! Owns: HTTP/2 and gRPC from the client's side. Must not know: loads. A newcomer's trap: no task,
//! channel or allocation per request; whoever drives a [`Connection`] is called back with a slice.

mod connection;
mod frame;
mod hpack;
mod huffman;
mod scan;

pub(super) use connection::{Connection, Event};
pub(super) use scan::{Field, fields};

use connection::PREFIX_BYTES;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Put,
    Range,
    RangeStream,
    Txn,
    Compact,
    LeaseGrant,
    LeaseKeepAlive,
    Watch,
    Status,
    Snapshot,
    Defragment,
}

impl Method {
    /// Its path.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::RangeStream => "/etcdserverpb.KV/RangeStream",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Compact => "/etcdserverpb.KV/Compact",
            Self::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
            Self::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::Status => "/etcdserverpb.Maintenance/Status",
            Self::Snapshot => "/etcdserverpb.Maintenance/Snapshot",
            Self::Defragment => "/etcdserverpb.Maintenance/Defragment",
        }
    }

    /// Whether the client may send more than one message.
    pub(super) fn stays_open(self) -> bool {
        matches!(self, Self::LeaseKeepAlive | Self::Watch)
    }
}

/// Where a request's messages are written.
pub(super) struct Messages<'a>(&'a mut Vec<u8>);

impl<'a> Messages<'a> {
    /// Into `buffer`, from its begin.
    pub(super) fn new(buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        Self(buffer)
    }

    /// Adds a message.
    pub(super) fn push(&mut self, message: &impl prost::Message) {
        let length = message.encoded_len();
        self.0.reserve(PREFIX_BYTES + length);
        self.0.push(0);
        self.0.extend_from_slice(&(length as u32).to_be_bytes());
        message.encode(self.0).expect("there is room");
    }
}
