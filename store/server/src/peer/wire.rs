//! Raft's messages as they go over the wire, and back.
//!
//! Owns: the translation, and refusing what no member would send. Must not know: connections. A
//! newcomer's trap: openraft panics on input that breaks its protocol, so whatever comes from
//! outside is checked here first.

use kijabi_disk::wal;
use kijabi_proto::peer as pb;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::vote::leader_id_std::LeaderId;

use crate::consensus::types::{
    Entry, LogId, TypeConfig, Vote, from_disk, from_disk_id, to_disk, to_disk_id,
};

/// A message that no member sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed peer message: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn from_vote(vote: &Vote) -> pb::Vote {
    let LeaderId { term, voted_for } = vote.leader_id;
    pb::Vote { term, member_id: voted_for, committed: vote.committed }
}

pub(crate) fn to_vote(vote: Option<pb::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("no vote"))?;
    let leader_id = LeaderId { term: vote.term, voted_for: vote.member_id };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn from_id(id: &LogId) -> pb::LogId {
    let wal::LogId { term, index } = to_disk_id(id);
    pb::LogId { term, index }
}

pub(crate) fn to_id(id: pb::LogId) -> LogId {
    from_disk_id(wal::LogId { term: id.term, index: id.index })
}

pub(crate) fn from_append(
    request: AppendEntriesRequest<TypeConfig>,
) -> std::io::Result<pb::AppendRequest> {
    let entries = request.entries.into_iter().map(|entry| {
        let wal::LogEntry { id, kind, data } = to_disk(entry)?;
        Ok(pb::Entry { term: id.term, index: id.index, kind: u32::from(kind), data })
    });
    Ok(pb::AppendRequest {
        vote: Some(from_vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(from_id),
        committed: request.leader_commit.as_ref().map(from_id),
        entries: entries.collect::<std::io::Result<_>>()?,
        silent: false,
    })
}

pub(crate) fn to_append(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let vote = to_vote(request.vote)?;
    if !vote.committed {
        return Err(Malformed("entries from somebody who does not lead"));
    }
    let term = vote.leader_id.term;
    let mut previous = request.previous;
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let follows = match &previous {
            Some(previous) => {
                Some(entry.index) == previous.index.checked_add(1) && entry.term >= previous.term
            }
            None => entry.index == 0,
        };
        if !follows || entry.term > term {
            return Err(Malformed("entries that do not follow each other"));
        }
        previous = Some(pb::LogId { term: entry.term, index: entry.index });
        entries.push(to_entry(entry)?);
    }
    if previous.is_some_and(|last| last.term > term) {
        return Err(Malformed("an entry beyond the leader's term"));
    }
    if request.committed.is_some_and(|committed| committed.term > term) {
        return Err(Malformed("a commit beyond the leader's term"));
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id: request.previous.map(to_id),
        leader_commit: request.committed.map(to_id),
        entries,
    })
}

fn to_entry(entry: pb::Entry) -> Result<Entry, Malformed> {
    let kind = u8::try_from(entry.kind).map_err(|_| Malformed("an entry of unknown kind"))?;
    let id = wal::LogId { term: entry.term, index: entry.index };
    from_disk(wal::LogEntry { id, kind, data: entry.data })
        .map_err(|_| Malformed("an entry that cannot be read"))
}

pub(crate) fn from_appended(result: &StreamAppendResult<TypeConfig>) -> pb::AppendResponse {
    use pb::append_response::Result as Answer;
    let result = match result {
        Ok(last) => Answer::Matched(pb::Matched { last: last.as_ref().map(from_id) }),
        Err(StreamAppendError::Conflict(at)) => Answer::Conflict(from_id(at)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(from_vote(vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

pub(crate) fn to_appended(
    response: pb::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use pb::append_response::Result as Answer;
    Ok(match response.result.ok_or(Malformed("an empty answer"))? {
        Answer::Matched(matched) => Ok(matched.last.map(to_id)),
        Answer::Conflict(at) => Err(StreamAppendError::Conflict(to_id(at))),
        Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(to_vote(Some(vote))?)),
    })
}

pub(crate) fn from_vote_request(request: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(from_vote(&request.vote)),
        last: request.last_log_id.as_ref().map(from_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn to_vote_request(
    request: pb::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let vote = to_vote(request.vote)?;
    if vote.committed {
        return Err(Malformed("a request for a vote that is granted already"));
    }
    let mut asked = VoteRequest::new(vote, request.last.map(to_id));
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

pub(crate) fn from_vote_response(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(from_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(from_id),
    }
}

pub(crate) fn to_vote_response(
    response: pb::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let vote = to_vote(response.vote)?;
    Ok(VoteResponse::new(vote, response.last.map(to_id), response.granted))
}

pub(crate) fn from_transfer(
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from: Some(from_vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(from_id),
    }
}

pub(crate) fn to_transfer(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let from = to_vote(request.from)?;
    Ok(TransferLeaderRequest::new(from, request.to, request.last.map(to_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(previous: Option<(u64, u64)>, entries: &[(u64, u64)]) -> pb::AppendRequest {
        let id = |(term, index)| pb::LogId { term, index };
        let entry = |&(term, index): &(u64, u64)| pb::Entry { term, index, ..Default::default() };
        pb::AppendRequest {
            vote: Some(pb::Vote { term: 5, member_id: 1, committed: true }),
            previous: previous.map(id),
            committed: None,
            entries: entries.iter().map(entry).collect(),
            silent: false,
        }
    }

    #[test]
    fn entries_go_there_and_back() {
        let sent = request(Some((2, 9)), &[(2, 10), (3, 11), (5, 12)]);
        let read = to_append(sent.clone()).unwrap();
        assert_eq!(from_append(read).unwrap(), sent);
        let first = request(None, &[(0, 0), (1, 1)]);
        assert_eq!(from_append(to_append(first.clone()).unwrap()).unwrap(), first);
    }

    #[test]
    fn what_no_leader_sends_is_refused() {
        for (name, broken) in [
            ("gap", request(Some((2, 9)), &[(2, 11)])),
            ("backwards", request(Some((2, 9)), &[(2, 10), (2, 10)])),
            ("older term", request(Some((2, 9)), &[(1, 10)])),
            ("beyond the term", request(Some((2, 9)), &[(6, 10)])),
            ("previous beyond the term", request(Some((6, 9)), &[])),
            ("not from the beginning", request(None, &[(1, 1)])),
            ("last index", request(Some((2, u64::MAX)), &[(2, 0)])),
            ("no vote", pb::AppendRequest { vote: None, ..request(None, &[]) }),
        ] {
            assert!(to_append(broken).is_err(), "{name}");
        }
        let mut unknown = request(None, &[(0, 0)]);
        unknown.entries[0].kind = 77;
        assert!(to_append(unknown).is_err());
        let mut follower = request(None, &[]);
        follower.vote = Some(pb::Vote { term: 5, member_id: 1, committed: false });
        assert!(to_append(follower).is_err());
    }
}
