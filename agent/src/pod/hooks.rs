//! Lifecycle hooks: postStart and preStop.
//!
//! Must not know: what follows. A newcomer's trap: a hook that fails is told as an event; after a
//! failed postStart the container is killed, a failed preStop changes nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Wanted, LifecycleHandler, Pod};

use super::fields::Around;
use super::worker::Worker;
use super::{PodError, http};
use crate::events::Kind;

/// Time for an HTTP hook.
const HTTP_HOOK_MAX: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) async fn post_start(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        id: &str,
        around: &Around,
    ) -> Result<(), PodError> {
        let hook = wanted.lifecycle.as_ref().and_then(|it| it.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let ip = around.pod_ips.first().cloned().unwrap_or_default();
        let patience = Duration::from_secs(3_600);
        let Err(error) = self.run_hook(wanted, hook, id, &ip, patience).await else {
            return Ok(());
        };
        let text = format!("PostStartHook failed: {error}");
        let name = &wanted.name;
        self.shared.events.container(pod, name, Kind::Warning, "FailedPostStartHook", text.clone());
        let grace = pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds);
        let grace = Duration::from_secs(grace.unwrap_or(30).max(0) as u64);
        let _ = self.shared.runtime.stop_container(id, grace).await;
        Err(PodError::new("PostStartHookError", text))
    }

    pub(super) async fn pre_stop(&self, pod: &Pod, wanted: &Wanted, id: &str, grace: Duration) {
        let hook = wanted.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
        let Some(hook) = hook else { return };
        let observed = self.shared.runtime.observe(&self.uid).await.unwrap_or_default();
        let ip = self.around(pod, &observed).pod_ips.first().cloned().unwrap_or_default();
        let run = tokio::time::timeout(grace, self.run_hook(wanted, hook, id, &ip, grace)).await;
        let error = match run {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => "the grace period is over".to_owned(),
        };
        let text = format!("PreStopHook failed: {error}");
        self.shared.events.container(pod, &wanted.name, Kind::Warning, "FailedPreStopHook", text);
    }

    async fn run_hook(
        &self,
        wanted: &Wanted,
        hook: &LifecycleHandler,
        id: &str,
        ip: &str,
        patience: Duration,
    ) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let command = exec.command.clone().unwrap_or_default();
            let output = self.shared.runtime.exec(id, &command, patience).await;
            let output = output.map_err(|error| error.to_string())?;
            return match output.code {
                0 => Ok(()),
                code => Err(format!(
                    "command '{}' exited with {code}: {}{}",
                    command.join(" "),
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                )),
            };
        }
        if let Some(get) = &hook.http_get {
            let request = http::Request::new(get, wanted, ip)?;
            let answer = http::get(&request, patience.min(HTTP_HOOK_MAX)).await?;
            return if answer.status < 400 {
                Ok(())
            } else {
                Err(format!("HTTP hook failed with statuscode: {}", answer.status))
            };
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
            return Ok(());
        }
        Err("invalid handler".to_owned())
    }
}
