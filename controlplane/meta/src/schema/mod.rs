//! The schema table: every type of the Kubernetes API, its fields, numbers and markers.
//!
//! Owns: the compact table in `schema/kubernetes-1.36.txt` and its parsed form. Must not know: which
//! kinds are served, or how a value is read. A newcomer's trap: [`Type::fields`] is flattened (what
//! JSON shows), while [`Type::own`] and [`Type::inlines`] keep the nesting that protobuf shows.

mod parse;

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The table, written by `schema/generate.py`.
const TEXT: &str = include_str!("../../schema/kubernetes-1.36.txt");

/// Objects of custom resources: only their metadata is typed, the rest is kept as it comes.
const CUSTOM: &str = "
package custom kijabi.custom - -
type Object kind open
  inline 0 meta/v1.TypeMeta
  metadata 1 meta/v1.ObjectMeta ?
type ObjectList kind open
  inline 0 meta/v1.TypeMeta
  metadata 1 meta/v1.ListMeta ?
  items 2 []Object !
";

/// A set of types with one OpenAPI prefix.
#[derive(Debug)]
pub struct Package {
    /// OpenAPI prefix, such as `io.k8s.api.core.v1`.
    pub prefix: &'static str,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// API version, such as `v1`.
    pub version: &'static str,
}

/// One structured type.
#[derive(Debug)]
pub struct Type {
    /// OpenAPI definition name, such as `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// Name within its package, such as `Pod`.
    pub short: &'static str,
    /// Where it lives.
    pub package: &'static Package,
    /// Whether it is registered as a kind under the package's group and version.
    pub kind: bool,
    /// Whether server-side apply treats a value as one unit (`structType=atomic`).
    pub atomic: bool,
    /// Whether fields that the table does not name are kept as they come.
    pub open: bool,
    /// All fields as JSON shows them, those of embedded types too, sorted by name.
    pub fields: Vec<Field>,
    /// Fields declared by the type itself, sorted by protobuf number.
    pub own: Vec<Field>,
    /// Embedded types: flat in JSON, messages of their own in protobuf.
    pub inlines: Vec<Inline>,
}

/// An embedded type.
#[derive(Clone, Copy, Debug)]
pub struct Inline {
    /// Protobuf field number, 0 if protobuf does not carry it.
    pub number: u32,
    /// What is embedded.
    pub target: TypeRef,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// Protobuf field number, 0 for none.
    pub number: u32,
    /// What it holds.
    pub element: Element,
    /// Left out of JSON when empty (`omitempty`).
    pub omit_empty: bool,
    /// Left out of JSON when zero, structures too (`omitzero`).
    pub omit_zero: bool,
    /// Required in OpenAPI.
    pub required: bool,
    /// How server-side apply merges a list.
    pub list: Option<ListKind>,
    /// The keys of a list of kind map.
    pub keys: &'static [&'static str],
    /// Whether server-side apply treats the map or structure here as one unit; what is said here
    /// goes before what the type says.
    pub atomic: Option<bool>,
    /// Strategic merge: lists are merged rather than replaced.
    pub merge: bool,
    /// Strategic merge: `$retainKeys` applies.
    pub retain_keys: bool,
    /// Strategic merge: the key elements are matched by.
    pub merge_key: Option<&'static str>,
    /// The schema's default, as JSON text.
    pub default: Option<&'static str>,
}

/// What a field, a list's item or a map's value holds.
#[derive(Clone, Copy, Debug)]
pub struct Element {
    /// Its shape.
    pub shape: Shape,
    /// Whether Go holds a pointer: an empty value differs from none.
    pub pointer: bool,
    /// The type's name as Go prints it, where it is not the shape's own.
    pub go: Option<&'static str>,
}

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Text.
    String,
    /// Base64 text in JSON.
    Bytes,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer, a number in JSON too.
    Int64,
    /// Boolean.
    Bool,
    /// Floating point number.
    Double,
    /// `resource.Quantity`: text, or a number in what clients send.
    Quantity,
    /// A 32-bit integer or text.
    IntOrString,
    /// Time in whole seconds.
    Time,
    /// Time in microseconds.
    MicroTime,
    /// Text such as `1h0m0s`.
    Duration,
    /// Any object, kept as it is.
    Raw,
    /// A managed field set.
    FieldsV1,
    /// Any JSON.
    Json,
    /// Any JSON, not carried by protobuf.
    Any,
    /// In a CRD's schema: a schema or a list of schemas.
    SchemaOrArray,
    /// In a CRD's schema: a schema or a boolean.
    SchemaOrBool,
    /// In a CRD's schema: a schema or a list of strings.
    SchemaOrStrings,
    /// A list.
    List(&'static Element),
    /// A map with string keys.
    Map(&'static Element),
    /// A structured type.
    Struct(TypeRef),
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// As one unit.
    Atomic,
    /// Items are values, each once.
    Set,
    /// Items are structures with keys.
    Map,
}

/// A reference to a type of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeRef(u16);

struct Table {
    types: Vec<Type>,
    by_name: BTreeMap<&'static str, TypeRef>,
    by_kind: BTreeMap<(&'static str, &'static str, &'static str), TypeRef>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let types = parse::parse(&[TEXT, CUSTOM]);
        let refs = || types.iter().zip(0u16..);
        let by_name = refs().map(|(one, at)| (one.name, TypeRef(at))).collect();
        let by_kind = refs()
            .filter(|(one, _)| one.kind)
            .map(|(one, at)| ((one.package.group, one.package.version, one.short), TypeRef(at)))
            .collect();
        Table { types, by_name, by_kind }
    })
}

/// The type with this OpenAPI definition name.
pub fn type_named(name: &str) -> Option<&'static Type> {
    table().by_name.get(name).map(|found| found.get())
}

/// The type registered under this group, version and kind. Options kinds (`DeleteOptions`, …) are
/// registered under `meta.k8s.io/v1` only.
pub fn type_of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    // These few kinds of the meta package are served as `v1`.
    let shared = ["Status", "APIGroup", "APIGroupList", "APIResourceList", "APIVersions"];
    let group = if group.is_empty() && shared.contains(&kind) { "meta.k8s.io" } else { group };
    table().by_kind.get(&(group, version, kind)).map(|found| found.get())
}

/// The type of objects of custom resources.
pub fn custom_object() -> &'static Type {
    type_named("kijabi.custom.Object").expect("it stands in CUSTOM")
}

/// All types.
pub fn types() -> &'static [Type] {
    &table().types
}

impl TypeRef {
    /// The type.
    pub fn get(self) -> &'static Type {
        &table().types[usize::from(self.0)]
    }
}

impl Type {
    /// The field with this JSON name, those of embedded types included.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|one| one.name.cmp(name)).ok()?;
        Some(&self.fields[at])
    }

    /// The type's name as Go prints it, such as `v1.Pod`.
    pub fn go_name(&self) -> String {
        format!("{}.{}", self.package.version, self.short)
    }
}

impl Element {
    /// The type's name as Go prints it, such as `[]v1.Container`.
    pub fn go_name(&self) -> String {
        if let Some(name) = self.go {
            return name.into();
        }
        let plain = match self.shape {
            Shape::String => "string",
            Shape::Bytes => "[]uint8",
            Shape::Int32 => "int32",
            Shape::Int64 => "int64",
            Shape::Bool => "bool",
            Shape::Double => "float64",
            Shape::Quantity => "resource.Quantity",
            Shape::IntOrString => "intstr.IntOrString",
            Shape::Time => "v1.Time",
            Shape::MicroTime => "v1.MicroTime",
            Shape::Duration => "v1.Duration",
            Shape::Raw => "runtime.RawExtension",
            Shape::FieldsV1 => "v1.FieldsV1",
            Shape::Json => "v1.JSON",
            Shape::Any => "interface {}",
            Shape::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
            Shape::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
            Shape::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
            Shape::List(item) => return format!("[]{}", item.go_name()),
            Shape::Map(item) => return format!("map[string]{}", item.go_name()),
            Shape::Struct(target) => return target.get().go_name(),
        };
        plain.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_what_the_api_says() {
        let container = type_named("io.k8s.api.core.v1.Container").unwrap();
        let ports = container.field("ports").unwrap();
        assert_eq!((ports.number, ports.list), (6, Some(ListKind::Map)));
        assert_eq!(ports.keys, ["containerPort", "protocol"]);
        assert_eq!((ports.merge, ports.merge_key), (true, Some("containerPort")));
        assert_eq!(ports.element.go_name(), "[]v1.ContainerPort");
        let policy = container.field("imagePullPolicy").unwrap();
        assert_eq!(policy.element.go_name(), "v1.PullPolicy");
        let port = type_named("io.k8s.api.core.v1.ContainerPort").unwrap();
        assert_eq!(port.field("protocol").unwrap().default, Some("\"TCP\""));
    }

    #[test]
    fn embedded_types_are_flat_in_json_and_nested_in_protobuf() {
        let volume = type_named("io.k8s.api.core.v1.Volume").unwrap();
        assert!(volume.field("hostPath").is_some() && volume.field("name").is_some());
        assert_eq!(volume.own.len(), 1);
        assert_eq!(volume.inlines[0].number, 2);
    }

    #[test]
    fn kinds_are_found_by_group_and_version() {
        for (group, version, kind) in [
            ("", "v1", "Pod"),
            ("apps", "v1", "DeploymentList"),
            ("autoscaling", "v1", "Scale"),
            ("policy", "v1", "Eviction"),
            ("authentication.k8s.io", "v1", "TokenRequest"),
            ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        ] {
            assert!(type_of_kind(group, version, kind).is_some(), "{group}/{version} {kind}");
        }
        assert!(type_of_kind("apps", "v1", "Pod").is_none());
    }

    #[test]
    fn every_map_list_has_its_keys() {
        for one in types() {
            for field in &one.fields {
                let is_map = field.list == Some(ListKind::Map);
                assert_eq!(is_map, !field.keys.is_empty(), "{}.{}", one.name, field.name);
            }
        }
    }
}
