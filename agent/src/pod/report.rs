//! Sends a pod's status to the API when it changed.
//!
//! Owns: the patch. Must not know: how a status is computed. A newcomer's trap: the watch lags
//! behind what was sent, so the last sent status, not the watched one, is what changes are measured
//! against; else transition times would flap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::Waiting;
use super::plan::{View, app_containers, init_containers};
use super::status::{self, Context};
use super::worker::Worker;
use crate::api::ApiError;
use crate::limits::{TERMINATION_LOG_BYTES, TERMINATION_LOG_LINES, TERMINATION_MESSAGE_BYTES};
use crate::runtime::{Observed, RunState};
use crate::server::logs;
use crate::time;

/// Conditions this agent writes; all others belong to somebody else.
const OWN_CONDITIONS: [&str; 4] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

impl Worker {
    /// Computes the status and sends it if it changed. False: the API did not take it.
    pub(super) async fn report(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        held: &BTreeMap<String, Waiting>,
        stopping: bool,
    ) -> bool {
        let status = self.status(pod, observed, held, stopping);
        self.send(pod, status).await
    }

    /// The status as it is now.
    pub(super) fn status(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        held: &BTreeMap<String, Waiting>,
        stopping: bool,
    ) -> PodStatus {
        self.read_messages(pod, observed);
        let mut waiting = self.errors.clone();
        waiting.extend(held.iter().map(|(name, why)| (name.clone(), why.clone())));
        let known = with_sent(pod, self.sent.as_ref());
        let view = View { pod: &known, observed, local: &self.local, now: self.now() };
        let context = Context {
            node_ip: self.shared.node.ip,
            runtime: &self.shared.node.runtime_name,
            waiting: &waiting,
            messages: &self.messages,
            now: time::now(),
            stopping,
        };
        status::compute(view, context)
    }

    /// Sends a status unless it is what was sent last.
    pub(super) async fn send(&mut self, pod: &Pod, status: PodStatus) -> bool {
        if self.sent.as_ref() == Some(&status) {
            return true;
        }
        let meta = &pod.metadata;
        let ns = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let known = with_sent(pod, self.sent.as_ref());
        let patch = patch(&self.uid, known.status.as_ref(), &status);
        match self.shared.source.patch_pod_status(ns, name, &patch).await {
            Ok(_) => {
                self.sent = Some(status);
                self.shared.known.note(&self.uid, self.shown(pod));
                true
            }
            // Deleted, or another pod by this name: the watch will tell; nothing to write to.
            Err(ApiError::NotFound(_) | ApiError::Conflict(_)) => true,
            Err(ApiError::Other(error)) => {
                tracing::warn!(pod = %self.uid, %error, "the pod's status was not sent");
                false
            }
        }
    }

    /// The pod as it is shown to others: the API's, with the status sent last.
    pub(super) fn shown(&self, pod: &Pod) -> std::sync::Arc<Pod> {
        std::sync::Arc::new(with_sent(pod, self.sent.as_ref()))
    }

    /// Reads what ended containers left behind as their last words.
    fn read_messages(&mut self, pod: &Pod, observed: &Observed) {
        let Some(volumes) = self.shared.volumes.clone() else { return };
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        self.messages.retain(|id, _| observed.containers.iter().any(|it| it.id == *id));
        for it in observed.containers.iter().filter(|it| it.state == RunState::Exited) {
            if self.messages.contains_key(&it.id) {
                continue;
            }
            let file = format!("containers/{}/{}", it.name, it.attempt);
            let path = volumes.pod_folder(&self.uid).join(file);
            let mut message = read_start(&path, TERMINATION_MESSAGE_BYTES);
            let policy = app_containers(pod)
                .iter()
                .chain(init_containers(pod))
                .find(|wanted| wanted.name == it.name)
                .and_then(|wanted| wanted.termination_message_policy.as_deref());
            if message.is_empty() && it.exit_code != 0 && policy == Some("FallbackToLogsOnError") {
                let folder =
                    volumes.log_folder(&text(&meta.namespace), &text(&meta.name), &self.uid);
                let log = folder.join(&it.name).join(format!("{}.log", it.attempt));
                message = logs::tail_text(&log, TERMINATION_LOG_LINES, TERMINATION_LOG_BYTES);
            }
            if message.is_empty() {
                message.clone_from(&it.message);
            }
            self.messages.insert(it.id.clone(), message);
        }
    }
}

fn read_start(path: &std::path::Path, bytes_max: usize) -> String {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(bytes_max as u64).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The pod with the status that was sent last, and everybody else's conditions as watched.
fn with_sent(pod: &Pod, sent: Option<&PodStatus>) -> Pod {
    let mut pod = pod.clone();
    let Some(sent) = sent else { return pod };
    let watched = pod.status.take().unwrap_or_default();
    let mut status = sent.clone();
    let own = |kind: &str| OWN_CONDITIONS.contains(&kind);
    let mut conditions: Vec<_> = sent.conditions.iter().flatten().cloned().collect();
    conditions.retain(|it| own(&it.type_));
    conditions.extend(watched.conditions.into_iter().flatten().filter(|it| !own(&it.type_)));
    status.conditions = Some(conditions);
    pod.status = Some(status);
    pod
}

/// The strategic merge patch that makes `after` of `before`, guarded by the uid.
fn patch(uid: &str, before: Option<&PodStatus>, after: &PodStatus) -> Value {
    let mut status = serde_json::to_value(after).unwrap_or_default();
    let conditions: Vec<_> = after
        .conditions
        .iter()
        .flatten()
        .filter(|it| {
            let known = before.and_then(|it| it.conditions.as_ref());
            let scheduled_is_known =
                known.into_iter().flatten().any(|known| known.type_ == it.type_);
            OWN_CONDITIONS.contains(&it.type_.as_str()) || !scheduled_is_known
        })
        .collect();
    status["conditions"] = json!(conditions);
    if let Some(before) = before {
        // Lists merge by their key, so an address that is gone must be named.
        for gone in before.pod_ips.iter().flatten() {
            let kept = after.pod_ips.iter().flatten().any(|it| it.ip == gone.ip);
            if let (false, Some(list)) = (kept, status["podIPs"].as_array_mut()) {
                list.push(json!({"$patch": "delete", "ip": gone.ip}));
            }
        }
        for (key, was, is) in [
            ("reason", before.reason.is_some(), after.reason.is_some()),
            ("message", before.message.is_some(), after.message.is_some()),
        ] {
            if was && !is {
                status[key] = Value::Null;
            }
        }
    }
    json!({"metadata": {"uid": uid}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_patch_names_what_is_gone_and_leaves_others_conditions_alone() {
        let before = status(json!({
            "reason": "X", "podIPs": [{"ip": "172.16.0.2"}],
            "conditions": [{"type": "PodScheduled", "status": "True"}],
        }));
        let after = status(json!({
            "phase": "Running", "podIPs": [{"ip": "172.16.0.3"}],
            "conditions": [{"type": "Ready", "status": "True"},
                           {"type": "PodScheduled", "status": "True"}],
        }));
        assert_eq!(
            patch("u", Some(&before), &after),
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "reason": null,
                "podIPs": [{"ip": "172.16.0.3"}, {"$patch": "delete", "ip": "172.16.0.2"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }})
        );
    }
}
