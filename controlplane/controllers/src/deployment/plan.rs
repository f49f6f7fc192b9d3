//! What to do next about one deployment. Pure: same input, same steps.
//!
//! Owns: the order of a rollout. Must not know: the API. A newcomer's trap: one pass takes one step of
//! scaling and then waits for the sets' statuses to follow; the next change starts the next pass.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::jiff::Timestamp;

use super::revision::{self, Annotations};
use super::rounding::{is_rolling, replicas_of};
use super::set::Set;
use super::{cleanup, rolling, scaling, status};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Make the set for the present template.
    Create { replicas: i32, annotations: Annotations },
    /// Change a set's size, and what it is scaled for.
    Scale { set: String, version: String, from: i32, to: i32, annotations: Annotations },
    /// Bring the newest set's annotations and `minReadySeconds` up to date.
    Annotate { set: String, version: String, annotations: Annotations, min_ready_seconds: i32 },
    /// Write the revision on the deployment.
    SetRevision(i64),
    /// Delete a set of no further use.
    Delete { set: String, uid: String },
    /// Write the status.
    WriteStatus(Box<DeploymentStatus>),
    /// Come back though nothing changed.
    LookAgain(Duration),
}

/// The sets by part: the one for the present template, and all others.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    pub(crate) newest: Option<Set>,
    /// From the oldest to the youngest.
    pub(crate) old: Vec<Set>,
}

/// One pass: what it looks at and the steps chosen so far.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The deployment; its conditions may run ahead of what is written.
    pub(crate) deployment: Deployment,
    pub(crate) sets: Sets,
    pub(crate) now: Timestamp,
    pub(crate) steps: Vec<Step>,
    /// The status that stands.
    written: DeploymentStatus,
}

/// The steps to take now, in order. `sets` are those the deployment owns, in any order.
pub(crate) fn plan(deployment: &Deployment, sets: &[Set], now: Timestamp) -> Vec<Step> {
    let mut pass = Pass {
        deployment: deployment.clone(),
        sets: Sets::divide(sets),
        now,
        steps: Vec::new(),
        written: deployment.status.clone().unwrap_or_default(),
    };
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    if deployment.metadata.deletion_timestamp.is_some() {
        pass.finish_quietly();
        return pass.steps;
    }
    pass.mark_pause(is_paused);
    if is_paused || scaling::is_needed(&pass) {
        pass.sync(is_paused);
    } else if is_rolling(deployment) {
        rolling::roll(&mut pass);
    } else {
        pass.recreate();
    }
    pass.steps
}

// === impl Sets ===

impl Sets {
    fn divide(sets: &[Set]) -> Self {
        let mut old = sets.to_vec();
        old.sort_by(|one, other| one.age_key().cmp(&other.age_key()));
        // Of several sets with the same template, the oldest is the one in use.
        let newest = old.iter().position(|set| set.is_current_template).map(|at| old.remove(at));
        Self { newest, old }
    }

    /// All sets.
    pub(crate) fn all(&self) -> Vec<Set> {
        self.old.iter().chain(&self.newest).cloned().collect()
    }
}

// === impl Pass ===

impl Pass {
    pub(crate) fn replicas(&self) -> i32 {
        replicas_of(&self.deployment)
    }

    /// Notes in the conditions that the deployment was paused or resumed.
    fn mark_pause(&mut self, is_paused: bool) {
        if status::progress_deadline(&self.deployment).is_none() {
            return;
        }
        let present = self.deployment.status.get_or_insert_default();
        let reason = status::find(present, status::PROGRESSING).and_then(|one| one.reason.clone());
        if reason.as_deref() == Some(status::TIMED_OUT) {
            return;
        }
        let was_paused = reason.as_deref() == Some(status::PAUSED);
        let (reason, message) = match (was_paused, is_paused) {
            (false, true) => (status::PAUSED, "Deployment is paused"),
            (true, false) => (status::RESUMED, "Deployment is resumed"),
            _ => return,
        };
        let message = message.to_owned();
        let mut mark = status::condition(status::PROGRESSING, true, reason, message, self.now);
        "Unknown".clone_into(&mut mark.status);
        status::set(present, mark);
    }

    /// Scales without rolling: while paused, and when only the number of replicas changed.
    fn sync(&mut self, is_paused: bool) {
        self.adjust_newest();
        scaling::scale(self);
        if is_paused {
            cleanup::drop_old(self);
        }
        self.finish_quietly();
    }

    /// All old pods go first, then the new ones come.
    fn recreate(&mut self) {
        self.adjust_newest();
        let going: Vec<Set> =
            self.sets.old.iter().filter(|set| set.replicas > 0).cloned().collect();
        for set in &going {
            self.scale(set, 0);
        }
        let waits = !going.is_empty() || self.sets.old.iter().any(|set| set.running_pods > 0);
        if waits {
            return self.finish();
        }
        let Some(newest) = self.sets.newest.clone() else {
            return self.create(self.replicas());
        };
        if newest.replicas == self.replicas() {
            self.clean_if_complete();
        } else {
            self.scale(&newest, self.replicas());
        }
        self.finish();
    }

    /// Keeps the newest set's annotations, revision and `minReadySeconds` right.
    pub(crate) fn adjust_newest(&mut self) {
        let Some(newest) = &self.sets.newest else { return };
        let spec = self.deployment.spec.as_ref();
        let revision = revision::next_revision(&self.sets.old);
        let annotations =
            revision::newest_annotations(&self.deployment, &newest.annotations, revision, true);
        let seconds = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        if annotations != newest.annotations || seconds != newest.min_ready_seconds {
            self.steps.push(Step::Annotate {
                set: newest.name.clone(),
                version: newest.resource_version.clone(),
                annotations: annotations.clone(),
                min_ready_seconds: seconds,
            });
        }
        self.set_revision(revision::revision_of(&annotations));
        if let Some(newest) = &mut self.sets.newest {
            newest.annotations = annotations;
            // The version is no longer known; a scaling in the same pass goes without one.
            if matches!(self.steps.first(), Some(Step::Annotate { .. })) {
                newest.resource_version.clear();
            }
        }
        self.note_found();
    }

    /// Notes in the conditions that there is a set for the template already.
    fn note_found(&mut self) {
        let Some(newest) = &self.sets.newest else { return };
        if status::progress_deadline(&self.deployment).is_none() {
            return;
        }
        let present = self.deployment.status.get_or_insert_default();
        // Success of another set says nothing of this one (its own note may have been lost).
        let is_stale = status::find(present, status::PROGRESSING).is_none_or(|progressing| {
            progressing.reason.as_deref() == Some(status::NEW_SET_AVAILABLE)
                && progressing
                    .message
                    .as_ref()
                    .is_some_and(|message| !message.contains(&newest.name))
        });
        if is_stale {
            let message = format!("Found new replica set {:?}", newest.name);
            let reason = "FoundNewReplicaSet";
            let found = status::condition(status::PROGRESSING, true, reason, message, self.now);
            status::set(present, found);
        }
    }

    fn set_revision(&mut self, revision: i64) {
        let none = Annotations::new();
        let annotations = self.deployment.metadata.annotations.as_ref().unwrap_or(&none);
        if revision::revision_of(annotations) != revision {
            self.steps.push(Step::SetRevision(revision));
        }
    }

    /// Makes the newest set, and says so.
    pub(crate) fn create(&mut self, replicas: i32) {
        let revision = revision::next_revision(&self.sets.old);
        let annotations =
            revision::newest_annotations(&self.deployment, &Annotations::new(), revision, false);
        self.steps.push(Step::Create { replicas, annotations });
        self.set_revision(revision);
        if status::progress_deadline(&self.deployment).is_some() {
            let message =
                format!("Created new replica set {:?}", super::set_name(&self.deployment));
            let reason = "NewReplicaSetCreated";
            let made = status::condition(status::PROGRESSING, true, reason, message, self.now);
            status::set(self.deployment.status.get_or_insert_default(), made);
        }
        self.finish_quietly();
    }

    /// Gives a set this size and notes what it is scaled for.
    pub(crate) fn scale(&mut self, set: &Set, to: i32) {
        let mut annotations = set.annotations.clone();
        revision::set_replicas(&mut annotations, &self.deployment);
        if set.replicas == to && annotations == set.annotations {
            return;
        }
        self.steps.push(Step::Scale {
            set: set.name.clone(),
            version: set.resource_version.clone(),
            from: set.replicas,
            to,
            annotations,
        });
    }

    /// Drops old sets once the rollout is complete.
    pub(crate) fn clean_if_complete(&mut self) {
        if status::is_complete(&self.deployment, &self.written) {
            cleanup::drop_old(self);
        }
    }

    /// Ends a pass of a rollout: its status, with progress judged.
    pub(crate) fn finish(&mut self) {
        let all = self.sets.all();
        let newest = self.sets.newest.as_ref();
        let status = status::after_rollout(&self.deployment, &all, newest, self.now);
        self.write(status);
    }

    /// Ends a pass that is no rollout: its status, progress not judged.
    fn finish_quietly(&mut self) {
        let all = self.sets.all();
        let newest = self.sets.newest.as_ref();
        let status = status::calculate(&self.deployment, &all, newest, self.now);
        self.write(status);
    }

    fn write(&mut self, status: DeploymentStatus) {
        let look_again = status::look_again(&self.deployment, &status, self.now);
        if self.written != status {
            self.steps.push(Step::WriteStatus(Box::new(status)));
        }
        self.steps.extend(look_again.map(Step::LookAgain));
    }
}
