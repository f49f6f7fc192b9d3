//! Reads the schema table's text.
//!
//! Owns: the text format (described in the table's head). Must not know: what the types are for. A
//! newcomer's trap: the text is compiled in, so what does not parse is a bug and panics; tests read
//! the whole table. The parsed form is kept for the life of the process (`Box::leak`).

use std::collections::BTreeMap;

use super::{Element, Field, Inline, ListKind, Package, Shape, Type, TypeRef};

/// Types by the name the text uses: `core/v1.Pod`.
type Names = BTreeMap<String, TypeRef>;

/// Parses the texts as one table.
pub(super) fn parse(texts: &[&'static str]) -> Vec<Type> {
    let names = names(texts);
    let mut types: Vec<Type> = Vec::with_capacity(names.len());
    let mut alias = "";
    let mut package: &'static Package = &Package { prefix: "", group: "", version: "" };
    for line in texts.iter().flat_map(|text| text.lines()) {
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["package", name, prefix, group, version] => {
                alias = name;
                let none = |word: &'static str| if word == "-" { "" } else { word };
                let (group, version) = (none(group), none(version));
                package = Box::leak(Box::new(Package { prefix, group, version }));
            }
            ["type", name, flags @ ..] if !line.starts_with(' ') => {
                types.push(Type {
                    name: Box::leak(format!("{}.{name}", package.prefix).into_boxed_str()),
                    short: name,
                    package,
                    kind: flags.contains(&"kind"),
                    atomic: flags.contains(&"atomic"),
                    open: flags.contains(&"open"),
                    fields: Vec::new(),
                    own: Vec::new(),
                    inlines: Vec::new(),
                });
            }
            ["inline", number, target] => {
                let target = names[&qualified(alias, target.trim_start_matches('*'))];
                let number = number.parse().expect("a number");
                let last = types.last_mut().expect("a type line comes first");
                last.inlines.push(Inline { number, target });
            }
            [name, number, shape, flags @ ..] => {
                let element = element(&names, alias, shape);
                let field = field(name, number.parse().expect("a number"), element, flags);
                types.last_mut().expect("a type line comes first").own.push(field);
            }
            _ => unreachable!("schema table: {line}"),
        }
    }
    for at in 0..types.len() {
        let mut all = flattened(&types, &types[at]);
        all.sort_by_key(|one| one.name);
        types[at].fields = all;
        types[at].own.sort_by_key(|one| one.number);
    }
    types
}

/// First pass: every type's place in the table.
fn names(texts: &[&'static str]) -> Names {
    let mut names = Names::new();
    let mut alias = "";
    for line in texts.iter().flat_map(|text| text.lines()) {
        let mut words = line.split(' ');
        match words.next() {
            Some("package") => alias = words.next().expect("a package has a name"),
            Some("type") => {
                let at = TypeRef(u16::try_from(names.len()).expect("some 900 types"));
                let short = words.next().expect("a type has a name");
                names.insert(format!("{alias}.{short}"), at);
            }
            _ => {}
        }
    }
    names
}

fn qualified(alias: &str, name: &str) -> String {
    if name.contains('.') { name.into() } else { format!("{alias}.{name}") }
}

/// A type expression, such as `*[]{v1.Verbs}string`.
fn element(names: &Names, alias: &str, text: &'static str) -> Element {
    if let Some(rest) = text.strip_prefix('*') {
        return Element { pointer: true, ..element(names, alias, rest) };
    }
    for (head, is_map) in [("map[]", true), ("[]", false)] {
        let Some(rest) = text.strip_prefix(head) else { continue };
        let (go, rest) = match rest.strip_prefix('{') {
            Some(named) => {
                let (go, rest) = named.split_once('}').expect("the table closes its braces");
                (Some(go), rest)
            }
            None => (None, rest),
        };
        let item: &'static Element = Box::leak(Box::new(element(names, alias, rest)));
        let shape = if is_map { Shape::Map(item) } else { Shape::List(item) };
        return Element { shape, pointer: false, go };
    }
    let (name, go) = match text.split_once('{') {
        Some((name, go)) => (name, Some(go.trim_end_matches('}'))),
        None => (text, None),
    };
    let shape = match name {
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "bool" => Shape::Bool,
        "double" => Shape::Double,
        "quantity" => Shape::Quantity,
        "intorstring" => Shape::IntOrString,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "duration" => Shape::Duration,
        "raw" => Shape::Raw,
        "fieldsv1" => Shape::FieldsV1,
        "json" => Shape::Json,
        "any" => Shape::Any,
        "schemaorarray" => Shape::SchemaOrArray,
        "schemaorbool" => Shape::SchemaOrBool,
        "schemaorstrings" => Shape::SchemaOrStrings,
        _ => Shape::Struct(names[&qualified(alias, name)]),
    };
    Element { shape, pointer: false, go }
}

fn field(name: &'static str, number: u32, element: Element, flags: &[&'static str]) -> Field {
    let mut field = Field {
        name,
        number,
        element,
        omit_empty: false,
        omit_zero: false,
        required: false,
        list: None,
        keys: &[],
        atomic: None,
        merge: false,
        retain_keys: false,
        merge_key: None,
        default: None,
    };
    let mut keys = Vec::new();
    for flag in flags {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("?", _) => field.omit_empty = true,
            ("??", _) => (field.omit_empty, field.omit_zero) = (true, true),
            ("!", _) => field.required = true,
            ("list", "map") => field.list = Some(ListKind::Map),
            ("list", "set") => field.list = Some(ListKind::Set),
            ("list", "atomic") => field.list = Some(ListKind::Atomic),
            ("key", key) => keys.push(key),
            ("map" | "struct", "atomic") => field.atomic = Some(true),
            ("map" | "struct", "granular") => field.atomic = Some(false),
            ("merge", _) => field.merge = true,
            ("replace", _) => {}
            ("retainKeys", _) => field.retain_keys = true,
            ("by", key) => field.merge_key = Some(key),
            ("default", text) => field.default = Some(text),
            _ => unreachable!("schema table: flag {flag} of {name}"),
        }
    }
    field.keys = Vec::leak(keys);
    field
}

/// A type's fields and, recursively, those of the types it embeds; its own win.
fn flattened(types: &[Type], one: &Type) -> Vec<Field> {
    let mut all = one.own.clone();
    for inline in &one.inlines {
        for field in flattened(types, &types[usize::from(inline.target.0)]) {
            if !all.iter().any(|known| known.name == field.name) {
                all.push(field);
            }
        }
    }
    all
}
