//! Rollouts told as transcripts: a simulated cluster carries out the plan's steps one at a time.
//!
//! Each scenario is also run with a crash after every single step: planning starts anew from what the
//! steps so far left behind, and must come to the same end (SYNC-1).

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::plan::{Step, plan};
use super::revision::{REVISION, REVISION_HISTORY};
use super::set::Set;
use super::status;

/// A deployment, its sets, and pods that come up (or not) as the sets ask for them.
#[derive(Clone)]
struct World {
    deployment: Deployment,
    sets: Vec<(String, Set)>,
    now: Timestamp,
    /// Images whose pods never become ready.
    bad_images: Vec<String>,
    log: Vec<String>,
    /// Most pods there ever were, fewest available ones since the first rollout.
    most: i32,
    fewest_available: i32,
}

impl World {
    fn new(replicas: i32, spec: Value) -> Self {
        let mut deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1,
                "annotations": {"kubernetes.io/change-cause": "v1"}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "template": {"metadata": {"labels": {"app": "web"}}}},
            "status": {}}))
        .unwrap();
        let mut whole = serde_json::to_value(&deployment).unwrap();
        for (key, value) in spec.as_object().unwrap() {
            whole["spec"][key] = value.clone();
        }
        deployment = serde_json::from_value(whole).unwrap();
        let mut world = Self {
            deployment,
            sets: Vec::new(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            bad_images: Vec::new(),
            log: Vec::new(),
            most: 0,
            fewest_available: i32::MAX,
        };
        world.set_image("v1");
        world
    }

    fn set_image(&mut self, image: &str) {
        let template = &mut self.deployment.spec.as_mut().unwrap().template;
        template.spec =
            serde_json::from_value(json!({"containers": [{"name": "c", "image": image}]})).unwrap();
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        annotations.insert("kubernetes.io/change-cause".into(), image.into());
        self.touch();
    }

    fn scale(&mut self, replicas: i32) {
        self.deployment.spec.as_mut().unwrap().replicas = Some(replicas);
        self.touch();
    }

    fn pause(&mut self, paused: bool) {
        self.deployment.spec.as_mut().unwrap().paused = Some(paused);
        self.touch();
    }

    fn touch(&mut self) {
        *self.deployment.metadata.generation.get_or_insert_default() += 1;
    }

    fn image(&self) -> String {
        let spec = self.deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        spec.containers[0].image.clone().unwrap()
    }

    fn plan(&mut self) -> Vec<Step> {
        let image = self.image();
        for (of, set) in &mut self.sets {
            set.is_current_template = *of == image;
        }
        let sets: Vec<Set> = self.sets.iter().map(|(_, set)| set.clone()).collect();
        plan(&self.deployment, &sets, self.now)
    }

    fn set_mut(&mut self, name: &str) -> &mut Set {
        &mut self.sets.iter_mut().find(|(_, set)| set.name == name).unwrap().1
    }

    fn do_step(&mut self, step: Step) {
        match step {
            Step::Create { replicas, annotations } => {
                let image = self.image();
                // Deterministic names: creating again after a crash finds the name taken.
                if self.sets.iter().any(|(of, _)| *of == image) {
                    return;
                }
                self.log.push(format!("create {image} {replicas}"));
                let created = self.now + SignedDuration::from_secs(self.sets.len() as i64);
                let name = format!("web-{image}");
                let set = Set {
                    uid: name.clone(),
                    name,
                    created,
                    replicas,
                    annotations,
                    settled: true,
                    terminating: Some(0),
                    ..Set::default()
                };
                self.sets.push((image, set));
            }
            Step::Scale { set, from, to, annotations, .. } => {
                if from != to {
                    self.log.push(format!("scale {} {from}>{to}", set.trim_start_matches("web-")));
                }
                let set = self.set_mut(&set);
                set.replicas = to;
                set.annotations = annotations;
            }
            Step::Annotate { set, annotations, min_ready_seconds, .. } => {
                let set = self.set_mut(&set);
                set.annotations = annotations;
                set.min_ready_seconds = min_ready_seconds;
            }
            Step::SetRevision(revision) => {
                let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                annotations.insert(REVISION.into(), revision.to_string());
            }
            Step::Delete { set, .. } => {
                self.log.push(format!("delete {}", set.trim_start_matches("web-")));
                self.sets.retain(|(_, one)| one.name != set);
            }
            Step::WriteStatus(status) => self.deployment.status = Some(*status),
            Step::LookAgain(_) => {}
        }
        let total: i32 = self.sets.iter().map(|(_, set)| set.replicas).sum();
        self.most = self.most.max(total);
    }

    /// The ReplicaSet controller and the nodes catch up: one new pod becomes ready at a time.
    fn pods_catch_up(&mut self) -> bool {
        let mut changed = false;
        for (image, set) in &mut self.sets {
            let before = (set.current, set.ready, set.available);
            set.current = set.replicas;
            set.ready = set.ready.min(set.replicas);
            if !self.bad_images.contains(image) && set.ready < set.replicas {
                set.ready += 1;
            }
            set.available = set.ready;
            set.running_pods = set.current as usize;
            changed |= before != (set.current, set.ready, set.available);
        }
        changed
    }

    /// Plans and acts until nothing changes. With `crashes`, each plan is cut after its first step
    /// that writes, so that every prefix of every plan is planned anew.
    fn settle(&mut self, crashes: bool) {
        for _ in 0..2_000 {
            let steps: Vec<Step> = self
                .plan()
                .into_iter()
                .filter(|step| !matches!(step, Step::LookAgain(_)))
                .collect();
            let idle = steps.is_empty();
            let count = if crashes { 1 } else { usize::MAX };
            for step in steps.into_iter().take(count) {
                self.do_step(step);
            }
            let available: i32 = self.sets.iter().map(|(_, set)| set.available).sum();
            if self.sets.len() > 1 {
                self.fewest_available = self.fewest_available.min(available);
            }
            // A crashed controller plans again before anything else moves.
            if !crashes || idle {
                let moved = self.pods_catch_up();
                if idle && !moved {
                    return;
                }
            }
        }
        panic!("does not settle: {:?}", self.log);
    }

    fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn sizes(&self) -> Vec<(&str, i32, &str)> {
        self.sets
            .iter()
            .map(|(image, set)| (image.as_str(), set.replicas, set.annotations[REVISION].as_str()))
            .collect()
    }

    fn reason(&self) -> String {
        let status = self.deployment.status.clone().unwrap_or_default();
        let progressing = status::find(&status, status::PROGRESSING);
        progressing.and_then(|one| one.reason.clone()).unwrap_or_default()
    }

    fn status(&self) -> DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }
}

#[test]
fn a_new_deployment_makes_one_set() {
    let mut world = World::new(3, json!({}));
    world.settle(false);
    assert_eq!(world.take_log(), ["create v1 3"]);
    assert_eq!(world.reason(), "NewReplicaSetAvailable");
    let status = world.status();
    assert_eq!(
        (status.replicas, status.available_replicas, status.unavailable_replicas),
        (Some(3), Some(3), None)
    );
    assert_eq!(world.deployment.metadata.annotations.unwrap()[REVISION], "1");
}

#[test]
fn a_rolling_update_of_three_goes_one_by_one() {
    let mut world = World::new(3, json!({}));
    world.settle(false);
    world.take_log();
    world.set_image("v2");
    world.settle(false);
    assert_eq!(
        world.take_log(),
        [
            "create v2 1",
            "scale v1 3>2",
            "scale v2 1>2",
            "scale v1 2>1",
            "scale v2 2>3",
            "scale v1 1>0"
        ]
    );
    assert_eq!((world.most, world.fewest_available), (4, 3));
    assert_eq!(world.sizes(), [("v1", 0, "1"), ("v2", 3, "2")]);
}

#[test]
fn a_bad_image_keeps_the_old_pods_until_it_is_undone() {
    let mut world = World::new(3, json!({}));
    world.settle(false);
    world.set_image("v2");
    world.settle(false);
    world.take_log();
    world.bad_images.push("bad".into());
    world.set_image("bad");
    world.settle(false);
    assert_eq!(world.take_log(), ["create bad 1"]);
    assert_eq!(world.sizes(), [("v1", 0, "1"), ("v2", 3, "2"), ("bad", 1, "3")]);
    // Ten minutes later the deadline has passed.
    world.now += SignedDuration::from_secs(602);
    world.settle(false);
    assert_eq!(world.reason(), "ProgressDeadlineExceeded");
    // rollout undo: the template of revision 2 again; its set is reused and becomes revision 4.
    world.set_image("v2");
    world.settle(false);
    assert_eq!(world.take_log(), ["scale bad 1>0"]);
    assert_eq!(world.sizes(), [("v1", 0, "1"), ("v2", 3, "4"), ("bad", 0, "3")]);
    assert_eq!(world.sets[1].1.annotations[REVISION_HISTORY], "2");
    assert_eq!(world.reason(), "NewReplicaSetAvailable");
    // rollout undo --to-revision=1
    world.set_image("v1");
    world.settle(false);
    assert_eq!(world.sizes(), [("v1", 3, "5"), ("v2", 0, "4"), ("bad", 0, "3")]);
    assert_eq!(world.sets[0].1.annotations["kubernetes.io/change-cause"], "v1");
}

#[test]
fn recreate_waits_for_the_old_pods_to_go() {
    let mut world = World::new(3, json!({"strategy": {"type": "Recreate"}}));
    world.settle(false);
    world.take_log();
    world.set_image("v2");
    world.settle(false);
    assert_eq!(world.take_log(), ["scale v1 3>0", "create v2 3"]);
    assert_eq!((world.most, world.fewest_available), (3, 0));
}

#[test]
fn scaling_goes_to_the_only_active_set() {
    let mut world = World::new(3, json!({}));
    world.settle(false);
    world.take_log();
    world.scale(9);
    world.settle(false);
    world.scale(3);
    world.settle(false);
    assert_eq!(world.take_log(), ["scale v1 3>9", "scale v1 9>3"]);
}

#[test]
fn scaling_in_mid_rollout_is_shared_out_in_proportion() {
    let mut world = World::new(
        10,
        json!({"strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}),
    );
    world.settle(false);
    world.bad_images.push("bad".into());
    world.set_image("bad");
    world.settle(false);
    assert_eq!(world.sizes(), [("v1", 8, "1"), ("bad", 5, "2")]);
    world.take_log();
    world.scale(15);
    world.settle(false);
    // 13 pods become 18: the 5 more are shared 3 to 2.
    assert_eq!(world.take_log(), ["scale v1 8>11", "scale bad 5>7"]);
}

#[test]
fn while_paused_it_scales_but_does_not_roll() {
    let mut world = World::new(3, json!({}));
    world.settle(false);
    world.take_log();
    world.pause(true);
    world.set_image("v2");
    world.scale(5);
    world.settle(false);
    assert_eq!(world.take_log(), ["scale v1 3>5"]);
    assert_eq!(world.reason(), "DeploymentPaused");
    world.pause(false);
    world.settle(false);
    assert_eq!(world.sizes(), [("v1", 0, "1"), ("v2", 5, "2")]);
}

#[test]
fn old_sets_beyond_the_limit_are_dropped_the_oldest_first() {
    let mut world = World::new(1, json!({"revisionHistoryLimit": 2}));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        world.set_image(image);
        world.settle(false);
    }
    let kept: Vec<&str> = world.sets.iter().map(|(image, _)| image.as_str()).collect();
    assert_eq!(kept, ["v3", "v4", "v5"]);
}

#[test]
fn deleting_writes_the_status_and_does_nothing_else() {
    let mut world = World::new(3, json!({}));
    world.settle(false);
    world.deployment.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    world.set_image("v2");
    let steps = world.plan();
    assert!(matches!(steps.as_slice(), [Step::WriteStatus(_)]), "{steps:?}");
}

/// SYNC-1: with a crash after every single step, each story ends the same.
#[test]
fn a_crash_after_any_step_changes_nothing_about_the_end() {
    type Story = fn(&mut World, bool);
    let stories: [(&str, Value, Story); 4] = [
        ("update", json!({}), |world, crashes| {
            world.set_image("v2");
            world.settle(crashes);
        }),
        ("undo", json!({}), |world, crashes| {
            for image in ["v2", "v3", "v2", "v1"] {
                world.set_image(image);
                world.settle(crashes);
            }
        }),
        (
            "recreate",
            json!({"strategy": {"type": "Recreate"}, "revisionHistoryLimit": 0}),
            |world, crashes| {
                world.set_image("v2");
                world.settle(crashes);
            },
        ),
        ("scale in mid-rollout", json!({}), |world, crashes| {
            world.set_image("v2");
            let steps = world.plan();
            for step in steps {
                world.do_step(step);
            }
            world.scale(9);
            world.settle(crashes);
        }),
    ];
    for (name, spec, story) in stories {
        let ends: Vec<_> = [false, true]
            .into_iter()
            .map(|crashes| {
                let mut world = World::new(4, spec.clone());
                world.settle(crashes);
                story(&mut world, crashes);
                let sets: Vec<_> = world
                    .sets
                    .iter()
                    .map(|(_, set)| (set.name.clone(), set.replicas, set.annotations.clone()))
                    .collect();
                let mut status = world.status();
                status.conditions.iter_mut().flatten().for_each(|one| one.last_update_time = None);
                status
                    .conditions
                    .iter_mut()
                    .for_each(|all| all.sort_by(|a, b| a.type_.cmp(&b.type_)));
                (sets, status, world.deployment.metadata.annotations.clone())
            })
            .collect();
        assert_eq!(ends[0], ends[1], "{name}");
    }
}
