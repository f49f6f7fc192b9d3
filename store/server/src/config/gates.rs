//! etcd's feature gates (`--feature-gates`).
//!
//! Owns: their names and defaults, and the flags of 3.5 that became gates. A newcomer's trap: a
//! gate and its old flag may not both be given.

use super::values::parse_bool;

/// Which features on trial are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    /// The health service says NOT_SERVING while the member defragments.
    pub stop_grpc_service_on_defrag: bool,
    /// Data is compared with the other members' before anybody is served.
    pub initial_corrupt_check: bool,
    /// The leader compares the members' compaction hashes.
    pub compact_hash_check: bool,
    /// A detail of etcd's storage.
    pub txn_mode_write_with_shared_buffer: bool,
    /// The remaining time of leases survives a change of leader.
    pub lease_checkpoint: bool,
    /// And a restart.
    pub lease_checkpoint_persist: bool,
    /// Connections to members come from the advertised address.
    pub set_member_local_addr: bool,
    /// 3.7: a renewal does not wait for what was committed to be applied.
    pub fast_lease_keep_alive: bool,
    /// 3.7: some requests pass others when the member is busy.
    pub priority_request: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self {
            stop_grpc_service_on_defrag: false,
            initial_corrupt_check: false,
            compact_hash_check: false,
            txn_mode_write_with_shared_buffer: true,
            lease_checkpoint: false,
            lease_checkpoint_persist: false,
            set_member_local_addr: false,
            fast_lease_keep_alive: true,
            priority_request: false,
        }
    }
}

/// How far a gate's feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

/// A gate's name, its stage, and where its value stands.
type Gate = (&'static str, Stage, fn(&mut FeatureGates) -> &mut bool);

const GATES: &[Gate] = &[
    ("CompactHashCheck", Stage::Alpha, |g| &mut g.compact_hash_check),
    ("FastLeaseKeepAlive", Stage::Beta, |g| &mut g.fast_lease_keep_alive),
    ("InitialCorruptCheck", Stage::Alpha, |g| &mut g.initial_corrupt_check),
    ("LeaseCheckpoint", Stage::Alpha, |g| &mut g.lease_checkpoint),
    ("LeaseCheckpointPersist", Stage::Alpha, |g| &mut g.lease_checkpoint_persist),
    ("PriorityRequest", Stage::Alpha, |g| &mut g.priority_request),
    ("SetMemberLocalAddr", Stage::Alpha, |g| &mut g.set_member_local_addr),
    ("StopGRPCServiceOnDefrag", Stage::Alpha, |g| &mut g.stop_grpc_service_on_defrag),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta, |g| &mut g.txn_mode_write_with_shared_buffer),
];

/// Flags of 3.5 that are gates now.
pub(super) const OLD_FLAGS: &[(&str, &str)] = &[
    ("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    ("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    ("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
];

/// Gates that change nothing here, and why.
// Differs from etcd: these are accepted with a warning.
const IDLE: &[(&str, &str)] = &[
    ("CompactHashCheck", "the members' data is compared all the time, compacted or not"),
    ("FastLeaseKeepAlive", "renewals go through the log, many at once"),
    ("InitialCorruptCheck", "the members' data is compared all the time, not only at the start"),
    ("LeaseCheckpoint", "what leases have left is always kept"),
    ("LeaseCheckpointPersist", "what leases have left is always kept"),
    ("PriorityRequest", "no request passes another"),
    ("SetMemberLocalAddr", "the system chooses the address that connections come from"),
    ("StopGRPCServiceOnDefrag", "requests go on while a member defragments"),
    ("TxnModeWriteWithSharedBuffer", "it is a detail of etcd's storage"),
];

impl FeatureGates {
    /// The gates that were changed and change nothing, with the reasons.
    pub(super) fn idle(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let usual: Vec<_> = Self::default().list().collect();
        let changed: Vec<_> = self.list().filter(|gate| !usual.contains(gate)).collect();
        IDLE.iter().copied().filter(move |(name, _)| changed.iter().any(|(gate, _)| gate == name))
    }

    /// Reads `Name=true,Other=false`; the texts are etcd's.
    pub(super) fn set(&mut self, text: &str) -> Result<(), String> {
        let mut given = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(format!("missing bool value for {pair}"));
            };
            let (name, value) = (name.trim(), value.trim());
            let on = parse_bool(value).map_err(|_| {
                format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing \"{value}\": invalid syntax"
                )
            })?;
            given.push((name, on));
        }
        // The gates of a whole stage first: a single one is meant more than its stage.
        given.sort_by_key(|(name, _)| !matches!(*name, "AllAlpha" | "AllBeta"));
        for (name, on) in given {
            self.set_one(name, on)?;
        }
        Ok(())
    }

    /// Sets one gate, or those of a stage.
    pub(super) fn set_one(&mut self, name: &str, on: bool) -> Result<(), String> {
        let stage = match name {
            "AllAlpha" => Some(Stage::Alpha),
            "AllBeta" => Some(Stage::Beta),
            _ => None,
        };
        let mut found = false;
        for (gate, of, value) in GATES {
            if *gate == name || Some(*of) == stage {
                *value(self) = on;
                found = true;
            }
        }
        if found { Ok(()) } else { Err(format!("unrecognized feature gate: {name}")) }
    }

    /// The gates by name with their stages, as etcd's metrics spell them, and values.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let stages = GATES.iter().map(|(_, stage, _)| match stage {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        });
        self.list().zip(stages).map(|((name, on), stage)| (name, stage, on))
    }

    /// The gates by name with their values.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let mut gates = self.clone();
        GATES.iter().map(move |(name, _, value)| (*name, *value(&mut gates)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_as_etcd_does() {
        let mut gates = FeatureGates::default();
        gates.set("InitialCorruptCheck=true, TxnModeWriteWithSharedBuffer=false").unwrap();
        assert!(gates.initial_corrupt_check && !gates.txn_mode_write_with_shared_buffer);
        gates.set("LeaseCheckpoint=false,AllAlpha=true").unwrap();
        assert!(gates.stop_grpc_service_on_defrag && !gates.lease_checkpoint);
        for (text, expected) in [
            ("Nonsense=true", "unrecognized feature gate: Nonsense"),
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
            (
                "LeaseCheckpoint=yes",
                "invalid value of LeaseCheckpoint=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
        ] {
            assert_eq!(gates.set(text).unwrap_err(), expected);
        }
        assert_eq!(gates.list().count(), GATES.len());
    }
}
