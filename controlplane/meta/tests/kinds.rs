//! Defaults, field errors and table cells against the recorded answers of a real API server.
//!
//! Owns: the comparison. Must not know: how the rules are written. A newcomer's trap: what
//! admission and allocators add on the real server is taken out of the recording first.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use kijabi_meta::codec::normalized;
use kijabi_meta::kind::{KINDS, Kind, LATER};
use kijabi_meta::schema;
use serde_json::{Value, json};

fn recorded() -> Vec<Value> {
    let mut all = lines(include_str!("data/kinds.jsonl"));
    all.extend(lines(include_str!("data/later.jsonl")));
    all.retain(|case| find(case).is_some());
    all
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The entry of a case, among the kinds that are served and those that are not yet.
fn find(case: &Value) -> Option<&'static Kind> {
    let part = |name: &str| case[name].as_str().unwrap();
    KINDS.iter().chain(LATER).find(|one| one.group == part("group") && one.plural == part("plural"))
}

fn kind_of(case: &Value) -> &'static Kind {
    find(case).unwrap()
}

/// The object as the server has it when it is about to be validated.
fn prepared(case: &Value) -> Value {
    let kind = kind_of(case);
    let types = schema::type_of_kind(kind.group, kind.version, kind.kind).unwrap();
    let mut object = case["body"].clone();
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    let mut object = normalized(object, types);
    kind.strategy.default(&mut object);
    // Jobs put it into their labels; the recording has it masked.
    object["metadata"]["uid"] = "UID".into();
    kind.strategy.prepare_create(&mut object);
    object["metadata"].as_object_mut().unwrap().remove("uid");
    normalized(object, types)
}

/// Takes out what admission plugins, allocators and the namespace's limit range set.
fn without_additions(mut object: Value) -> Value {
    if let Some(notes) = object["metadata"]["annotations"].as_object_mut() {
        notes.retain(|key, _| key != "kubernetes.io/limit-ranger");
    }
    object["metadata"].as_object_mut().unwrap().remove("finalizers");
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return object };
    for field in [
        "tolerations",
        "priority",
        "preemptionPolicy",
        "serviceAccount",
        "serviceAccountName",
        "clusterIP",
        "clusterIPs",
        "taints",
    ] {
        spec.remove(field);
    }
    let access = |one: &Value| one["name"].as_str().unwrap().starts_with("kube-api-access");
    let drop_access = |owner: &mut serde_json::Map<String, Value>, list: &str| {
        if let Some(Value::Array(all)) = owner.get_mut(list) {
            all.retain(|one| !access(one));
            if all.is_empty() {
                owner.remove(list);
            }
        }
    };
    drop_access(spec, "volumes");
    for list in ["containers", "initContainers"] {
        for one in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            drop_access(one.as_object_mut().unwrap(), "volumeMounts");
        }
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        port.as_object_mut().unwrap().remove("nodePort");
    }
    object
}

#[test]
fn smallest_objects_come_back_with_the_recorded_defaults() {
    let mut compared = 0;
    for case in recorded() {
        // The limit range of the recording changed this one.
        if case["object"].is_null() || case["name"] == "invalid: negative grace" {
            continue;
        }
        let (got, want) =
            (without_additions(prepared(&case)), without_additions(case["object"].clone()));
        // Times are masked in the recording.
        let (mut got, mut want) = (got, want);
        for one in [&mut got, &mut want] {
            if one["eventTime"].is_string() {
                one["eventTime"] = "TIME".into();
            }
        }
        let shown = |one: &Value| serde_json::to_string_pretty(one).unwrap();
        assert_eq!(got, want, "{}\n{}\n{}", case["name"], shown(&got), shown(&want));
        compared += 1;
    }
    assert!(compared >= 17, "{compared}");
}

/// Errors that an allocator or a store finds, not a rule.
const NOT_RULES: &[&str] = &[
    "invalid: service clusterIP out of range",
    "invalid: node port taken",
    "invalid: node port out of range",
];

#[test]
fn bad_objects_get_the_recorded_causes() {
    let mut wrong = Vec::new();
    for case in recorded() {
        let Some(want) = case["causes"].as_array() else { continue };
        if NOT_RULES.contains(&case["name"].as_str().unwrap()) {
            continue;
        }
        let errors = kind_of(&case).strategy.validate_create(&prepared(&case));
        let got: Vec<Value> =
            errors.iter().map(|one| json!([one.reason.as_str(), one.field, one.message])).collect();
        // Addresses of the cluster's range are masked in the recording, examples in texts too.
        let masked = |all: &[Value]| {
            serde_json::to_string(all)
                .unwrap()
                .replace("10.9.8.7", "CLUSTER-IP")
                .replace("10.9.8.0", "CLUSTER-IP")
        };
        if masked(&got) != masked(want) {
            wrong.push(format!(
                "{}\n  want {}\n  got  {}",
                case["name"],
                masked(want),
                masked(&got)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn warnings_are_the_recorded_ones() {
    for case in recorded().iter().filter(|case| !case["object"].is_null()) {
        let kind = kind_of(case);
        let mut got = kind.strategy.warnings(&prepared(case), None);
        got.extend(Some(kind.deprecation.to_owned()).filter(|text| !text.is_empty()));
        let want = case["warnings"].as_array().cloned().unwrap_or_default();
        assert_eq!(json!(got), Value::from(want), "{}", case["name"]);
    }
}

#[test]
fn tables_have_the_recorded_columns_and_cells() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for case in recorded() {
        let Some(want) = case["cells"].as_array() else { continue };
        let kind = kind_of(&case);
        let columns: Vec<Value> = kind
            .columns
            .iter()
            .map(|one| {
                json!({"name": one.name, "type": one.kind, "format": one.format,
                    "priority": one.priority})
            })
            .collect();
        assert_eq!(Value::from(columns), case["columns"], "{}", case["name"]);
        let mut object = prepared(&case);
        object["metadata"]["creationTimestamp"] = now.to_string().into();
        let got: Vec<String> = kind
            .strategy
            .row(&object, now)
            .iter()
            .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
            .collect();
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            let want = want.as_str().unwrap();
            // What the recording masks: ages, `<unknown>`, addresses and ports of the cluster.
            let masked = ["AGE", "CLUSTER-IP", "NODE-PORT", "UID", "TIME"]
                .iter()
                .any(|mask| want.contains(mask));
            // The recording's numbers and booleans are written as Python does.
            let same = got == want || got.eq_ignore_ascii_case(want);
            assert!(masked || same, "{} cell {index}: {got} for {want}", case["name"]);
        }
        assert_eq!(got.len(), want.len(), "{}", case["name"]);
    }
}

/// The cluster IP masked, and the line numbers of a diff: the recorded pod had 18 more lines of
/// fields that are not set, which its JSON form does not show.
fn without_line_numbers(text: &str) -> String {
    let text = text.replace("10.0.0.77", "CLUSTER-IP");
    match text.split_once("@@ -") {
        Some((head, tail)) => {
            let rest = tail.split_once(" @@").unwrap().1;
            format!("{head}@@ LINES @@{rest}")
        }
        None => text,
    }
}

/// A merge patch as far as the recorded ones need it.
fn merged(mut object: Value, patch: &Value) -> Value {
    for (key, value) in patch.as_object().unwrap() {
        let inner = object.get(key).cloned().unwrap_or_else(|| json!({}));
        object[key.as_str()] = if value.is_object() { merged(inner, value) } else { value.clone() };
    }
    object
}

#[test]
fn refused_updates_get_the_recorded_causes() {
    let mut compared = 0;
    for case in lines(include_str!("data/updates.jsonl")) {
        if find(&case).is_none() {
            continue;
        }
        let kind = kind_of(&case);
        let types = schema::type_of_kind(kind.group, kind.version, kind.kind).unwrap();
        let old = normalized(case["old"].clone(), types);
        let mut new = normalized(merged(old.clone(), &case["patch"]), types);
        kind.strategy.default(&mut new);
        kind.strategy.prepare_update(&mut new, &old);
        let got: Vec<Value> = kind
            .strategy
            .validate_update(&new, &old)
            .iter()
            .map(|one| json!([one.reason.as_str(), one.field, one.message]))
            // The addresses before the change are masked in the recording.
            .filter(|one| !one[2].as_str().unwrap().contains("must be a valid IP address"))
            // So is the name of the token volume.
            .filter(|one| !one[2].as_str().unwrap().contains("kube-api-access-XXXXX"))
            .collect();
        let text = |all: &Value| without_line_numbers(&serde_json::to_string(all).unwrap());
        assert_eq!(text(&got.into()), text(&case["causes"]), "{}", case["name"]);
        compared += 1;
    }
    assert!(compared >= 4, "{compared}");
}
