//! Patches and what becomes of objects: the cases recorded from a real API server, and hostile ones.

use serde_json::{Value, json};

use super::*;
use crate::schema;

fn patched(kind: Kind, object: Value, patch: Value) -> Result<Value, PatchError> {
    let target = schema::type_of_kind("apps", "v1", "Deployment").unwrap();
    apply(kind, object, patch.to_string().as_bytes(), target, false).map(|done| done.object)
}

fn deployment(containers: Value) -> Value {
    json!({"metadata": {"labels": {"app": "w"}}, "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}, "template": {"spec": {"containers": containers}}}})
}

fn with_containers(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

#[test]
fn strategic_patches_as_recorded() {
    let start = deployment(json!([{"name": "c", "image": "nginx"}]));
    let patch = with_containers(
        json!([{"name": "c", "env": [{"name": "A", "value": "1"}]}, {"name": "d", "image": "busybox"}]),
    );
    let one = patched(Kind::Strategic, start, patch).unwrap();
    assert_eq!(
        one,
        deployment(
            json!([{"name": "c", "image": "nginx", "env": [{"name": "A", "value": "1"}]}, {"name": "d", "image": "busybox"}])
        )
    );

    let patch = with_containers(json!([{"name": "c", "env": [{"name": "B", "value": "2"}]}]));
    let two = patched(Kind::Strategic, one, patch).unwrap();
    let env = json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]);
    assert_eq!(two["spec"]["template"]["spec"]["containers"][0]["env"], env);

    let patch = with_containers(json!([{"name": "d", "$patch": "delete"}]));
    let three = patched(Kind::Strategic, two, patch).unwrap();
    assert_eq!(three["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);

    let patch = with_containers(
        json!([{"name": "c", "$setElementOrder/env": [{"name": "B"}, {"name": "A"}], "env": [{"name": "A", "value": "9"}]}]),
    );
    let four = patched(Kind::Strategic, three, patch).unwrap();
    let env = json!([{"name": "B", "value": "2"}, {"name": "A", "value": "9"}]);
    assert_eq!(four["spec"]["template"]["spec"]["containers"][0]["env"], env);

    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let five = patched(Kind::Strategic, four, patch).unwrap();
    assert_eq!(five["spec"]["strategy"], json!({"type": "Recreate"}));

    let patch = json!({"metadata": {"labels": {"$patch": "replace", "only": "this"}}});
    let six = patched(Kind::Strategic, five, patch).unwrap();
    assert_eq!(six["metadata"]["labels"], json!({"only": "this"}));

    let patch = json!({"spec": {"$patch": "explode"}});
    assert_eq!(
        patched(Kind::Strategic, six, patch).unwrap_err(),
        PatchError::Internal("unknown patch type: explode in map: map[$patch:explode]".into())
    );
}

#[test]
fn lists_of_plain_values_are_merged_and_cut() {
    let start = json!({"metadata": {"finalizers": ["a/x", "a/y"]}});
    let patch = json!({"metadata": {"finalizers": ["a/z", "a/x"]}});
    let merged = patched(Kind::Strategic, start, patch).unwrap();
    assert_eq!(merged["metadata"]["finalizers"], json!(["a/z", "a/x", "a/y"]));
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"]}});
    let cut = patched(Kind::Strategic, merged, patch).unwrap();
    assert_eq!(cut["metadata"]["finalizers"], json!(["a/z", "a/y"]));
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"]}});
    assert_eq!(
        patched(Kind::Strategic, json!({"metadata": {}}), patch).unwrap(),
        json!({"metadata": {}})
    );
}

#[test]
fn new_parts_come_without_nulls_and_directives() {
    let patch = json!({"spec": {"template": {"spec": {"nodeName": null, "volumes": [{"name": "v", "emptyDir": {}, "secret": null}, {"name": "w", "$patch": "delete"}]}}}});
    let merged = patched(Kind::Strategic, json!({}), patch).unwrap();
    assert_eq!(
        merged,
        json!({"spec": {"template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}}})
    );
}

#[test]
fn strategic_patches_that_are_refused() {
    let start = || deployment(json!([{"name": "c"}]));
    for (patch, error) in [
        (
            with_containers(json!([{"image": "x"}])),
            PatchError::Internal(
                "map: map[image:x] does not contain declared merge key: name".into(),
            ),
        ),
        (
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}),
            PatchError::BadRequest("invalid patch format of retainKeys".into()),
        ),
        (
            with_containers(json!([["x"]])),
            PatchError::Internal(
                "list element types are not identical: [[map[name:c]] [[x]]]".into(),
            ),
        ),
    ] {
        assert_eq!(patched(Kind::Strategic, start(), patch).unwrap_err(), error);
    }
    let target = schema::type_of_kind("apps", "v1", "Deployment").unwrap();
    assert_eq!(
        apply(Kind::Strategic, start(), b"[]", target, false).unwrap_err().to_string(),
        "json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
}

#[test]
fn long_lists_are_merged_in_good_time() {
    let list = |from: usize| -> Value {
        (from..from + 10_000).map(|at| json!({"name": format!("n{at}"), "value": "v"})).collect()
    };
    let start = deployment(json!([{"name": "c", "env": list(0)}]));
    let order: Vec<_> =
        list(5_000).as_array().unwrap().iter().map(|one| json!({"name": one["name"]})).collect();
    let patch =
        with_containers(json!([{"name": "c", "env": list(5_000), "$setElementOrder/env": order}]));
    let merged = patched(Kind::Strategic, start, patch).unwrap();
    let env = &merged["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(env.as_array().unwrap().len(), 15_000);
}

#[test]
fn json_patches() {
    let start = json!({"data": {"m": "1"}, "list": [1, 2, 3], "a/b": {"c~d": 0}});
    for (patch, expected) in [
        (
            json!([{"op": "test", "path": "/data/m", "value": "1"}, {"op": "add", "path": "/data/j", "value": "2"}]),
            json!({"m": "1", "j": "2"}),
        ),
        (json!([{"op": "move", "from": "/data/m", "path": "/data/n"}]), json!({"n": "1"})),
        (
            json!([{"op": "copy", "from": "/list/-1", "path": "/data/l"}, {"op": "remove", "path": "/data/m"}]),
            json!({"l": 3}),
        ),
        (
            json!([{"op": "replace", "path": "/a~1b/c~0d", "value": 5}, {"op": "copy", "from": "/a~1b", "path": "/data"}]),
            json!({"c~d": 5}),
        ),
        (
            json!([{"op": "add", "path": "/list/-", "value": 4}, {"op": "add", "path": "/list/0", "value": 0}, {"op": "move", "from": "/list", "path": "/data"}]),
            json!([0, 1, 2, 3, 4]),
        ),
    ] {
        assert_eq!(patched(Kind::Json, start.clone(), patch).unwrap()["data"], expected);
    }
    for patch in [
        json!([{"op": "test", "path": "/data/m", "value": "no"}]),
        json!([{"op": "remove", "path": "/data/none"}]),
        json!([{"op": "replace", "path": "/data/none", "value": 1}]),
        json!([{"op": "add", "path": "/none/x", "value": 1}]),
        json!([{"op": "add", "path": "/list/9", "value": 1}]),
        json!([{"op": "fly", "path": "/data"}]),
        json!([{"op": "remove", "path": "/list/9"}]),
    ] {
        assert_eq!(
            patched(Kind::Json, start.clone(), patch).unwrap_err(),
            PatchError::Unprocessable
        );
    }
    assert_eq!(
        patched(Kind::Json, start.clone(), json!({"op": "remove"})).unwrap_err().to_string(),
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
    );
}

#[test]
fn json_patches_are_bounded() {
    let many = vec![json!({"op": "test", "path": "/x", "value": 1}); OPERATIONS_MAX + 1];
    assert_eq!(
        patched(Kind::Json, json!({"x": 1}), many.into()).unwrap_err(),
        PatchError::TooLarge(
            "The allowed maximum operations in a JSON patch is 10000, got 10001".into()
        )
    );
    let double = json!({"op": "copy", "from": "/x", "path": "/x/y"});
    let bomb = vec![double; 1000];
    assert_eq!(
        patched(Kind::Json, json!({"x": {"text": "t".repeat(1000)}}), bomb.into()).unwrap_err(),
        PatchError::Unprocessable
    );
}

#[test]
fn moves_do_not_nest_without_end() {
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": {}})];
    for _ in 0..3000 {
        operations.push(json!({"op": "move", "from": "/a", "path": "/b"}));
        operations.push(json!({"op": "add", "path": "/a", "value": {}}));
        operations.push(json!({"op": "move", "from": "/b", "path": "/a/x"}));
    }
    assert_eq!(
        patched(Kind::Json, json!({}), operations.into()).unwrap_err(),
        PatchError::Unprocessable
    );
}

#[test]
fn merge_patches() {
    let start = json!({"data": {"k": "v"}, "list": [1]});
    let patch = json!({"data": {"m": "1", "k": null}, "list": [2], "new": {"a": null, "b": 1}});
    assert_eq!(
        patched(Kind::Merge, start, patch).unwrap(),
        json!({"data": {"m": "1"}, "list": [2], "new": {"b": 1}})
    );
}

#[test]
fn a_patched_object_is_checked() {
    let target = schema::type_of_kind("", "v1", "ConfigMap").unwrap();
    let patch = br#"{"data":{"k":5},"zz":1}"#;
    let done = apply(Kind::Merge, json!({"metadata": {}}), patch, target, false).unwrap();
    let PatchError::Invalid { why, .. } = finish(done, target).unwrap_err() else { panic!() };
    assert_eq!(
        why,
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    );
    let patch = br#"{"data":{"k":"1","k":"2"},"zz":1}"#;
    let done = apply(Kind::Merge, json!({"metadata": {}}), patch, target, false).unwrap();
    let decoded = finish(done, target).unwrap();
    assert_eq!(decoded.strict, ["duplicate field \"data.k\"", "unknown field \"zz\""]);
    assert!(refuse_strict(&decoded).is_err());
}
