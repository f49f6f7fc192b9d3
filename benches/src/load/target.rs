//! The connections to the endpoints.
//!
//! Owns: how many there are and who uses which. Must not know: requests. A newcomer's trap: one
//! HTTP/2 connection is one lock in most servers, so the number of connections is part of the load.

use std::time::Duration;

use anyhow::Context as _;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::lease_client::LeaseClient;
use kijabi_proto::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Channel, Endpoint};

use super::args::Common;

/// Bytes a server may send ahead on a stream or connection.
const WINDOW_BYTES: u32 = 16 << 20;
/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 2 << 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Open connections. Cloning shares.
#[derive(Clone, Debug)]
pub(super) struct Target {
    channels: Vec<Channel>,
}

impl Target {
    pub(super) async fn connect(common: &Common) -> anyhow::Result<Self> {
        let mut channels = Vec::with_capacity(common.conns.max(1));
        for index in 0..common.conns.max(1) {
            let url = &common.endpoints[index % common.endpoints.len()];
            let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
            let endpoint = Endpoint::from_shared(url.clone())
                .with_context(|| format!("the endpoint {url:?}"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES);
            let channel =
                endpoint.connect().await.with_context(|| format!("connecting to {url}"))?;
            channels.push(channel);
        }
        Ok(Self { channels })
    }

    fn channel(&self, client: usize) -> Channel {
        self.channels[client % self.channels.len()].clone()
    }

    /// The KV service on the connection of this client.
    pub(super) fn kv(&self, client: usize) -> KvClient<Channel> {
        KvClient::new(self.channel(client)).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The Watch service on the connection of this client.
    pub(super) fn watch(&self, client: usize) -> WatchClient<Channel> {
        WatchClient::new(self.channel(client)).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The Lease service on the connection of this client.
    pub(super) fn lease(&self, client: usize) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel(client))
    }
}
