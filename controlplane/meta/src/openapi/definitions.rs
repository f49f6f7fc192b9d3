//! Definitions: the schema table's types as OpenAPI schemas.
//!
//! Owns: the schema of every shape, and which definitions a document needs. Must not know: paths. A
//! newcomer's trap: v3 wraps references in `allOf` (to put a default beside them), v2 does not.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Definition, Served, Style, descriptions};
use crate::schema::{self, Element, Field, ListKind, Shape, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// The definitions of a document: what was asked for and all that this refers to.
pub(super) struct Definitions {
    pub(super) style: Style,
    done: Map<String, Value>,
    seen: BTreeSet<String>,
}

impl Definitions {
    pub(super) fn new(style: Style) -> Self {
        Self { style, done: Map::new(), seen: BTreeSet::new() }
    }

    pub(super) fn finish(self) -> Value {
        Value::Object(self.done)
    }

    /// A reference to a type of the meta package.
    pub(super) fn meta(&mut self, short: &str) -> Value {
        let name = format!("{META}.{short}");
        if short == "Patch" {
            self.done.entry(&name).or_insert_with(|| json!({ "type": "object" }));
            return self.style.reference(&name);
        }
        match schema::type_named(&name) {
            Some(found) => self.known(found),
            None => json!({}),
        }
    }

    /// A reference to a type of the table.
    pub(super) fn known(&mut self, target: &'static Type) -> Value {
        if self.seen.insert(target.name.into()) {
            let value = self.structure(target);
            self.done.insert(target.name.into(), value);
        }
        self.style.reference(target.name)
    }

    /// References to a resource's objects and to lists of them.
    pub(super) fn resource(&mut self, served: &Served) -> (Value, Value) {
        match &served.definition {
            Definition::Known(known) => {
                let list = format!("{}List", known.name);
                let list = schema::type_named(&list).map(|list| self.known(list));
                (self.known(known), list.unwrap_or_else(|| json!({ "type": "object" })))
            }
            Definition::Custom(name, schema) => {
                let list = format!("{name}List");
                if self.seen.insert(name.clone()) {
                    self.custom(served, name, schema);
                }
                (self.style.reference(name), self.style.reference(&list))
            }
        }
    }

    fn custom(&mut self, served: &Served, name: &str, schema: &Value) {
        let mut object = schema.clone();
        if !object.is_object() {
            object = json!({});
        }
        object["type"] = "object".into();
        object["x-kubernetes-group-version-kind"] = json!([served.gvk()]);
        for (field, value) in [
            ("apiVersion", json!({ "type": "string" })),
            ("kind", json!({ "type": "string" })),
            ("metadata", self.meta("ObjectMeta")),
        ] {
            if object.get("properties").is_none() {
                object["properties"] = json!({});
            }
            object["properties"][field] = value;
        }
        if self.style == Style::V2 {
            weaken(&mut object);
        }
        let list = json!({
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": { "type": "string" },
                "kind": { "type": "string" },
                "metadata": self.meta("ListMeta"),
                "items": { "type": "array", "items": self.style.reference(name) },
            },
            "x-kubernetes-group-version-kind": [{
                "group": served.group, "version": served.version, "kind": format!("{}List", served.kind),
            }],
        });
        self.done.insert(name.into(), object);
        self.done.insert(format!("{name}List"), list);
    }

    fn structure(&mut self, target: &'static Type) -> Value {
        let mut object = json!({ "type": "object" });
        let properties: Map<_, _> = target
            .fields
            .iter()
            .map(|field| (field.name.to_owned(), self.property(target, field)))
            .collect();
        let required: Vec<_> =
            target.fields.iter().filter(|one| one.required).map(|one| one.name).collect();
        if !properties.is_empty() {
            object["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        if let Some(gvk) = registered(target) {
            object["x-kubernetes-group-version-kind"] = json!([gvk]);
        }
        if target.atomic {
            object["x-kubernetes-map-type"] = "atomic".into();
        }
        if let Some(text) = descriptions::of_type(target.short) {
            object["description"] = text.into();
        }
        object
    }

    fn property(&mut self, holder: &Type, field: &Field) -> Value {
        let mut value = self.element(&field.element);
        // Beside a reference v2 allows a description too.
        if let Some(text) = descriptions::of_field(holder.short, field.name) {
            value["description"] = text.into();
        }
        if let Some(text) = field.default {
            value["default"] = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        }
        if let Some(list) = field.list {
            value["x-kubernetes-list-type"] = match list {
                ListKind::Atomic => "atomic",
                ListKind::Set => "set",
                ListKind::Map => "map",
            }
            .into();
        }
        if !field.keys.is_empty() {
            value["x-kubernetes-list-map-keys"] = json!(field.keys);
        }
        if let Some(atomic) = field.atomic {
            value["x-kubernetes-map-type"] = if atomic { "atomic" } else { "granular" }.into();
        }
        let strategy: Vec<_> = [(field.merge, "merge"), (field.retain_keys, "retainKeys")]
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, name)| *name)
            .collect();
        if !strategy.is_empty() {
            value["x-kubernetes-patch-strategy"] = strategy.join(",").into();
        }
        if let Some(key) = field.merge_key {
            value["x-kubernetes-patch-merge-key"] = key.into();
        }
        value
    }

    fn element(&mut self, element: &Element) -> Value {
        let own = |name: &str| format!("{CRD}.{name}");
        match element.shape {
            Shape::String => json!({ "type": "string" }),
            Shape::Bytes => json!({ "type": "string", "format": "byte" }),
            Shape::Int32 => json!({ "type": "integer", "format": "int32" }),
            Shape::Int64 => json!({ "type": "integer", "format": "int64" }),
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Double => json!({ "type": "number", "format": "double" }),
            Shape::Any => json!({}),
            Shape::List(item) => json!({ "type": "array", "items": self.element(item) }),
            Shape::Map(item) => {
                json!({ "type": "object", "additionalProperties": self.element(item) })
            }
            Shape::Struct(target) => {
                let reference = self.known(target.get());
                self.wrapped(reference, !element.pointer)
            }
            Shape::Quantity => self.special(
                "io.k8s.apimachinery.pkg.api.resource.Quantity",
                json!({ "type": "string" }),
                json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
            ),
            Shape::IntOrString => self.special(
                "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
                json!({ "type": "string", "format": "int-or-string" }),
                json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
            ),
            Shape::Time => self.same(&format!("{META}.Time"), json!({ "type": "string", "format": "date-time" })),
            Shape::MicroTime => {
                self.same(&format!("{META}.MicroTime"), json!({ "type": "string", "format": "date-time" }))
            }
            Shape::Duration => self.same(&format!("{META}.Duration"), json!({ "type": "string" })),
            Shape::FieldsV1 => self.same(&format!("{META}.FieldsV1"), json!({ "type": "object" })),
            Shape::Raw => {
                self.same("io.k8s.apimachinery.pkg.runtime.RawExtension", json!({ "type": "object" }))
            }
            Shape::Json => self.same(&own("JSON"), json!({})),
            Shape::SchemaOrArray => self.same(&own("JSONSchemaPropsOrArray"), json!({})),
            Shape::SchemaOrBool => self.same(&own("JSONSchemaPropsOrBool"), json!({})),
            Shape::SchemaOrStrings => self.same(&own("JSONSchemaPropsOrStringArray"), json!({})),
        }
    }

    fn same(&mut self, name: &str, value: Value) -> Value {
        self.special(name, value.clone(), value)
    }

    fn special(&mut self, name: &str, v2: Value, v3: Value) -> Value {
        let value = if self.style == Style::V2 { v2 } else { v3 };
        self.done.entry(name).or_insert(value);
        let reference = self.style.reference(name);
        self.wrapped(reference, false)
    }

    fn wrapped(&self, reference: Value, has_default: bool) -> Value {
        match (self.style, has_default) {
            (Style::V2, _) => reference,
            (Style::V3, true) => json!({ "allOf": [reference], "default": {} }),
            (Style::V3, false) => json!({ "allOf": [reference] }),
        }
    }
}

/// The group, version and kind that a definition is registered under.
fn registered(target: &Type) -> Option<Value> {
    let package = target.package;
    let shared = [
        "Status",
        "DeleteOptions",
        "WatchEvent",
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
    ];
    let group = match package.group {
        "meta.k8s.io" if shared.contains(&target.short) => "",
        "meta.k8s.io" => return None,
        other => other,
    };
    target.kind.then(|| json!({ "group": group, "version": package.version, "kind": target.short }))
}

/// Takes out of a custom resource's schema what v2 cannot say.
fn weaken(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for name in
        ["oneOf", "anyOf", "not", "nullable", "default", "allOf", "x-kubernetes-validations"]
    {
        fields.remove(name);
    }
    let keeps_unknown = fields.remove("x-kubernetes-preserve-unknown-fields").is_some();
    let mixed = fields.remove("x-kubernetes-int-or-string").is_some();
    if mixed || (keeps_unknown && !fields.contains_key("x-kubernetes-group-version-kind")) {
        fields.retain(|name, _| name == "description");
        return;
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            weaken(inner);
        }
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(weaken);
    }
}
