//! The connection to the store and its requests.
//!
//! Owns: the etcd messages. Must not know: what is asked for by whom. A newcomer's trap: the
//! store's own "not changed" answer carries the object that stands in the way, read in the same
//! transaction, so a caller that lost a race never needs a second read.

use std::time::Duration;

use bytes::Bytes;
use kijabi_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kijabi_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RangeResponse, RequestOp, StatusRequest, TxnRequest, TxnResponse, compare, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op, response_op,
    watch_client::WatchClient,
};
use kijabi_proto::mvccpb::KeyValue;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::{Key, KeyRange, Record, Revision, StoreError};
use crate::limits::{
    STORE_CONNECT_TIMEOUT, STORE_REQUEST_TIMEOUT, STORE_RESPONSE_BYTES_MAX, STORE_TRIES_MAX,
};

const KEEPALIVE_PERIOD: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(25);

/// A client of the store. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

/// The outcome of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cas {
    /// It happened, at this revision.
    Done(Revision),
    /// The object is not the one that was expected; this is what is there, if anything.
    Changed(Option<Record>),
}

/// A part of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records, in key order.
    pub records: Vec<Record>,
    /// The revision the page was read at, or the current one.
    pub revision: Revision,
    /// How many records the range holds from the page's start on.
    pub count: i64,
}

impl Page {
    /// Whether the range holds more than this page.
    pub fn has_more(&self) -> bool {
        self.count > self.records.len() as i64
    }
}

impl Client {
    /// Prepares connections to `endpoints` (`http://host:port` or `unix:///path`). They are made
    /// when first used; none has to answer now.
    pub fn connect(endpoints: &[String]) -> Result<Self, StoreError> {
        let mut list = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            list.push(prepare(endpoint)?);
        }
        let channel = match list.as_slice() {
            [] => return Err(StoreError::Other("no store endpoint is given".into())),
            [one] => one.connect_lazy(),
            _ => Channel::balance_list(list.into_iter()),
        };
        Ok(Self { channel })
    }

    /// One object, as the store has it now, and the current revision.
    pub async fn get(&self, key: &Key) -> Result<(Option<Record>, Revision), StoreError> {
        let page = self.range(RangeRequest { key: key.bytes(), limit: 1, ..range() }).await?;
        Ok((page.records.into_iter().next(), page.revision))
    }

    /// The current revision.
    pub async fn current_revision(&self, range_of: &KeyRange) -> Result<Revision, StoreError> {
        let request = RangeRequest { key: range_of.probe(), limit: 1, ..range() };
        Ok(self.range(request).await?.revision)
    }

    /// The revision of the last write of an object that is still there; dear, for the store sorts.
    pub async fn latest_write(&self, within: &KeyRange) -> Result<Revision, StoreError> {
        let request = RangeRequest {
            key: within.start(),
            range_end: within.end(),
            limit: 1,
            keys_only: true,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Mod.into(),
            ..range()
        };
        let page = self.range(request).await?;
        Ok(page.records.first().map_or(Revision(0), |record| record.revision))
    }

    /// At most `limit` records of `within`, from `from` on, at revision `at` or now.
    pub async fn page(
        &self,
        within: &KeyRange,
        from: Bytes,
        limit: i64,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let revision = at.unwrap_or_default().0;
        self.range(RangeRequest { key: from, range_end: within.end(), limit, revision, ..range() })
            .await
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, StoreError> {
        let mut pause = RETRY_PAUSE_MIN;
        for tries_left in (0..STORE_TRIES_MAX).rev() {
            match self.kv().range(timed(request.clone())).await {
                Ok(response) => return Ok(page(response.into_inner())),
                Err(status) if tries_left == 0 || status.code() != Code::Unavailable => {
                    return Err(status.into());
                }
                // A read may be sent again, to another member if there is one.
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Err(StoreError::Unavailable("the store was not asked".into()))
    }

    /// Writes `value` if nothing is there.
    pub async fn create(&self, key: &Key, value: Vec<u8>, lease: i64) -> Result<Cas, StoreError> {
        self.replace(key, Revision(0), value, lease).await
    }

    /// Writes `value` if the object's last write was `expected` (0: there is no object).
    pub async fn replace(
        &self,
        key: &Key,
        expected: Revision,
        value: Vec<u8>,
        lease: i64,
    ) -> Result<Cas, StoreError> {
        let put = PutRequest { key: key.bytes(), value: value.into(), lease, ..Default::default() };
        self.swap(key, expected, request_op::Request::RequestPut(put)).await
    }

    /// Removes the object if its last write was `expected`.
    pub async fn delete(&self, key: &Key, expected: Revision) -> Result<Cas, StoreError> {
        let delete = DeleteRangeRequest { key: key.bytes(), ..Default::default() };
        self.swap(key, expected, request_op::Request::RequestDeleteRange(delete)).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Revision,
        write: request_op::Request,
    ) -> Result<Cas, StoreError> {
        let unchanged = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: key.bytes(),
            target_union: Some(compare::TargetUnion::ModRevision(expected.0)),
            ..Default::default()
        };
        let response = self.txn(key, unchanged, write).await?;
        if response.succeeded {
            return Ok(Cas::Done(revision_of(response.header.as_ref())));
        }
        Ok(Cas::Changed(first_record(response)))
    }

    /// Claims a round of compaction; the record is what another claimed before.
    pub(super) async fn claim(
        &self,
        key: &Key,
        version: i64,
        value: String,
    ) -> Result<(bool, Option<KeyValue>, Revision), StoreError> {
        let unclaimed = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Version.into(),
            key: key.bytes(),
            target_union: Some(compare::TargetUnion::Version(version)),
            ..Default::default()
        };
        let put = PutRequest { key: key.bytes(), value: value.into(), ..Default::default() };
        let response = self.txn(key, unclaimed, request_op::Request::RequestPut(put)).await?;
        let revision = revision_of(response.header.as_ref());
        Ok((response.succeeded, first_kv(response), revision))
    }

    /// If `compare` holds, `write`; else read the key.
    async fn txn(
        &self,
        key: &Key,
        compare: Compare,
        write: request_op::Request,
    ) -> Result<TxnResponse, StoreError> {
        let read = request_op::Request::RequestRange(RangeRequest {
            key: key.bytes(),
            limit: 1,
            ..range()
        });
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(write) }],
            failure: vec![RequestOp { request: Some(read) }],
        };
        let mut pause = RETRY_PAUSE_MIN;
        for tries_left in (0..STORE_TRIES_MAX).rev() {
            match self.kv().txn(timed(request.clone())).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if tries_left == 0 || !was_not_sent(&status) => {
                    return Err(status.into());
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Err(StoreError::Unavailable("the store was not asked".into()))
    }

    /// Drops the history before `revision`.
    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let request = CompactionRequest { revision: revision.0, physical: false };
        self.kv().compact(timed(request)).await?;
        Ok(())
    }

    /// A new lease.
    pub(super) async fn grant_lease(&self, ttl_seconds: i64) -> Result<i64, StoreError> {
        let mut client = LeaseClient::new(self.channel.clone());
        let request = LeaseGrantRequest { ttl: ttl_seconds, id: 0 };
        Ok(client.lease_grant(timed(request)).await?.into_inner().id)
    }

    /// The store's version, such as `3.6.8`.
    pub async fn version(&self) -> Result<String, StoreError> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        Ok(client.status(timed(StatusRequest {})).await?.into_inner().version)
    }

    /// Whether the store answers a linearizable read.
    pub async fn check_health(&self) -> Result<(), StoreError> {
        let request = RangeRequest { key: Bytes::from_static(b"/registry/health"), ..range() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(2));
        self.kv().range(request).await?;
        Ok(())
    }

    pub(super) fn watch_client(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(STORE_RESPONSE_BYTES_MAX)
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(STORE_RESPONSE_BYTES_MAX)
    }
}

fn prepare(endpoint: &str) -> Result<Endpoint, StoreError> {
    let bad = |why: String| StoreError::Other(format!("store endpoint {endpoint:?}: {why}"));
    if !endpoint.starts_with("http://") && !endpoint.starts_with("unix:") {
        return Err(bad("must start with http:// or unix://".into()));
    }
    let prepared =
        Endpoint::from_shared(endpoint.to_owned()).map_err(|error| bad(error.to_string()))?;
    prepared
        .connect_timeout(STORE_CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_PERIOD)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .tcp_nodelay(true)
        .user_agent("kijabi-apiserver")
        .map_err(|error| bad(error.to_string()))
}

/// Whether a request failed before anything of it left this process. Only then may a write be sent
/// again: any other failure leaves open whether it happened.
fn was_not_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn page(response: RangeResponse) -> Page {
    Page {
        revision: revision_of(response.header.as_ref()),
        count: response.count,
        records: response.kvs.into_iter().map(record).collect(),
    }
}

fn range() -> RangeRequest {
    RangeRequest::default()
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(STORE_REQUEST_TIMEOUT);
    request
}

fn revision_of(header: Option<&kijabi_proto::etcdserverpb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

pub(super) fn record(kv: KeyValue) -> Record {
    // Slices of the whole response are copied: one small object must not keep a page alive.
    Record {
        key: Bytes::copy_from_slice(&kv.key),
        value: Bytes::copy_from_slice(&kv.value),
        revision: Revision(kv.mod_revision),
        lease: kv.lease,
    }
}

fn first_kv(response: TxnResponse) -> Option<KeyValue> {
    response.responses.into_iter().find_map(|op| match op.response {
        Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    })
}

fn first_record(response: TxnResponse) -> Option<Record> {
    first_kv(response).map(record)
}
