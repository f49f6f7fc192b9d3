//! Reading ranges: what is sent in pieces is what would have been sent as a whole.

use http_body_util::BodyExt as _;
use kijabi_machine::Settings;
use kijabi_machine::state::MemoryState;
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::command::{Batch, Command as Entry};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use prost::Message as _;
use tokio_stream::StreamExt as _;

use super::*;
use crate::framing::framed;

struct World {
    state: Arc<MemoryState>,
    reader: Reader,
    index: u64,
}

impl World {
    fn new() -> Self {
        let state = Arc::new(MemoryState::default());
        let machine = Machine::open(state.clone(), Settings::default()).unwrap();
        let machine = Arc::new(RwLock::new(machine));
        let header =
            |revision| ResponseHeader { cluster_id: 1, member_id: 2, revision, raft_term: 3 };
        let reader = Reader::new(machine, Arc::new(header), Duration::from_secs(7));
        Self { state, reader, index: 0 }
    }

    fn apply(&mut self, request: Command) {
        self.index += 1;
        let entry = Entry { request: Some(request), by_member: true, ..Default::default() };
        let batch = Batch { commands: vec![entry], ..Default::default() };
        let mut machine = self.reader.machine.write();
        let applied = machine.apply(0, self.index, 1, &batch).unwrap();
        self.state.write(&applied.state);
        assert!(applied.outcomes[0].is_ok(), "{:?}", applied.outcomes);
    }

    /// `count` keys whose values are `bytes` long, more or less.
    fn fill(&mut self, count: usize, bytes: usize) {
        for number in 0..count {
            let value = vec![b'v'; bytes + number % 7].into();
            let key = format!("k{:04}", number * 37 % count).into();
            self.apply(Command::Put(pb::PutRequest { key, value, ..Default::default() }));
        }
    }

    /// What the machine answers at once, with the header that is filled in behind it.
    fn expected(&self, request: &RangeRequest) -> RangeResponse {
        let response = self.reader.machine.read().range(request).unwrap().fetch(&*self.state);
        self.reader.finish(response.unwrap())
    }

    /// What a client gets on the wire.
    async fn unary(&self, request: &RangeRequest) -> RangeResponse {
        let response = self.reader.range(&Caller::Member, request).await.unwrap();
        let (_, message, extensions) = response.into_parts();
        let mut http = http::Response::new(Body::new(http_body_util::Full::new(framed(&message))));
        if let Some(streamed) = extensions.get::<Streamed>() {
            http.extensions_mut().insert(streamed.clone());
        }
        let body = complete(http).into_body().collect().await.unwrap();
        if extensions.get::<Streamed>().is_some() {
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        }
        let bytes = body.to_bytes();
        assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
        RangeResponse::decode(&bytes[5..]).unwrap()
    }

    /// The merged chunks, and how many there were.
    async fn streamed(&self, request: RangeRequest) -> (RangeResponse, usize) {
        let chunks = self.reader.stream(Caller::Member, request, 2000).await.unwrap();
        let chunks: Vec<_> = chunks.collect().await;
        let (mut merged, count) = (RangeResponse::default(), chunks.len());
        for chunk in chunks {
            // Merging is what a client does with the parts of one answer.
            merged.merge(&chunk.unwrap().range_response.unwrap().encode_to_vec()[..]).unwrap();
        }
        (merged, count)
    }
}

fn requests() -> Vec<RangeRequest> {
    let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let sorted = |target: SortTarget, order: SortOrder| RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        ..all.clone()
    };
    vec![
        all.clone(),
        RangeRequest { limit: 1, ..all.clone() },
        RangeRequest { limit: 700, ..all.clone() },
        RangeRequest { limit: 1000, ..all.clone() },
        RangeRequest { limit: 5000, ..all.clone() },
        RangeRequest { revision: 600, ..all.clone() },
        RangeRequest { keys_only: true, ..all.clone() },
        RangeRequest { count_only: true, ..all.clone() },
        RangeRequest { range_end: Bytes::new(), ..all.clone() },
        RangeRequest { min_mod_revision: 100, limit: 300, ..all.clone() },
        RangeRequest { max_create_revision: 400, limit: 399, ..all.clone() },
        RangeRequest { max_create_revision: 400, limit: 100, ..all.clone() },
        sorted(SortTarget::Key, SortOrder::Descend),
        RangeRequest { limit: 30, ..sorted(SortTarget::Key, SortOrder::Descend) },
        sorted(SortTarget::Mod, SortOrder::Descend),
        RangeRequest {
            limit: 30,
            keys_only: true,
            ..sorted(SortTarget::Create, SortOrder::Ascend)
        },
        RangeRequest { limit: 30, ..sorted(SortTarget::Key, SortOrder::Ascend) },
        RangeRequest {
            keys_only: true,
            min_create_revision: 5,
            ..sorted(SortTarget::Version, SortOrder::Descend)
        },
        RangeRequest { limit: 30, ..sorted(SortTarget::Mod, SortOrder::None) },
        sorted(SortTarget::Value, SortOrder::Descend),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_streamed_answers_are_the_same_as_whole_ones() {
    let mut world = World::new();
    world.fill(1000, 1500);
    for request in requests() {
        let expected = world.expected(&request);
        assert_eq!(world.unary(&request).await, expected, "{request:?}");
        let (streamed, chunks) = world.streamed(request.clone()).await;
        assert_eq!(streamed, expected, "{request:?}");
        assert!(chunks > 1 || expected.kvs.len() <= large_chunk(), "{chunks} of {request:?}");
    }
    // Large ones do not go through memory as a whole, but for those that are sorted by value.
    for request in requests() {
        let plan = world.reader.machine.read().range(&request).unwrap();
        let large = plan.bytes() > RANGE_WHOLE_BYTES_MAX;
        let answer = world.reader.range(&Caller::Member, &request).await.unwrap();
        let held = answer.extensions().get::<Held>().is_some();
        assert!(!large || held == plan.needs_all_values(), "{request:?}");
    }
}

/// A transaction whose answer could never be held is refused before its rows are listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_reads_too_much_is_refused() {
    let mut world = World::new();
    world.fill(1000, 1500);
    let range = |request: RangeRequest| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(request)),
    };
    let txn = |ops: Vec<pb::RequestOp>| TxnRequest { success: ops, ..Default::default() };
    let all = requests()[0].clone();
    let answer = world.reader.txn(&Caller::Member, &txn(vec![range(all.clone()); 2])).await;
    assert_eq!(answer.unwrap().get_ref().responses.len(), 2);
    let refused = world.reader.txn(&Caller::Member, &txn(vec![range(all.clone()); 100])).await;
    let refused = refused.err();
    assert!(matches!(refused, Some(Error::Machine(MachineError::AnswerTooLarge))), "{refused:?}");
    let counts = RangeRequest { count_only: true, ..all };
    let answer = world.reader.txn(&Caller::Member, &txn(vec![range(counts); 100])).await;
    assert_eq!(answer.unwrap().get_ref().responses.len(), 100);
}

fn large_chunk() -> usize {
    10
}

/// It reads the state as it was, whatever becomes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_is_not_broken_by_what_happens_meanwhile() {
    let mut world = World::new();
    world.fill(1000, 1500);
    let request = requests()[0].clone();
    let expected = world.expected(&request);
    let response = world.reader.range(&Caller::Member, &request).await.unwrap();
    let streamed = response.extensions().get::<Streamed>().unwrap().clone();
    // Nobody has read a piece yet; the machine can be written to all the same.
    world.fill(1000, 10);
    let mut http = http::Response::new(Body::empty());
    http.extensions_mut().insert(streamed);
    let bytes = complete(http).into_body().collect().await.unwrap().to_bytes();
    let answer = RangeResponse::decode(&bytes[5..]).unwrap();
    assert_eq!(answer, expected);
}

/// E6: a thousand at once are answered or refused, and never more than a few of them made.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_large_reads_at_once_are_bounded() {
    let mut world = World::new();
    world.fill(1000, 1500);
    let (plain, sorted) = (requests()[0].clone(), requests().pop().unwrap());
    let mut reads = Vec::new();
    for number in 0..1000 {
        let reader = world.reader.clone();
        let request = if number % 2 == 0 { plain.clone() } else { sorted.clone() };
        reads.push(tasks::spawn("read", async move {
            let response = reader.range(&Caller::Member, &request).await;
            let response = match response {
                Ok(response) => response,
                Err(error) => return matches!(error, Error::TooManyRequests),
            };
            match response.extensions().get::<Streamed>() {
                Some(streamed) => {
                    let mut http = http::Response::new(Body::empty());
                    http.extensions_mut().insert(streamed.clone());
                    complete(http).into_body().collect().await.is_ok()
                }
                None => response.get_ref().kvs.len() == 1000,
            }
        }));
    }
    for read in reads {
        assert!(read.await.unwrap(), "neither an answer nor etcd's refusal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_before_the_first_piece() {
    let mut world = World::new();
    world.fill(1000, 1500);
    let future = RangeRequest { revision: 10_000, ..requests()[0].clone() };
    let is_future = |error: Error| matches!(error, Error::Machine(MachineError::FutureRevision));
    assert!(is_future(world.reader.range(&Caller::Member, &future).await.unwrap_err()));
    assert!(is_future(world.reader.stream(Caller::Member, future, 9).await.err().unwrap()));
}
