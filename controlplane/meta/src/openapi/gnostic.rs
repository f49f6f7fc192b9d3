//! The protobuf form of an OpenAPI v2 document, which older clients download.
//!
//! Owns: the numbers of that format's messages. Must not know: what the document describes. A
//! newcomer's trap: extensions and defaults are carried as YAML text; JSON text is YAML too.

use serde_json::Value;

/// The document's protobuf form (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    out.message(2, info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, path_item(item));
    }
    out.message(8, paths);
    let mut definitions = Message::default();
    for (name, value) in entries(&document["definitions"]) {
        definitions.named(1, name, schema(value));
    }
    out.message(9, definitions);
    for requirement in items(&document["security"]) {
        let mut message = Message::default();
        for (name, _) in entries(requirement) {
            message.named(1, name, Message::default());
        }
        out.message(12, message);
    }
    let mut security = Message::default();
    for (name, value) in entries(&document["securityDefinitions"]) {
        let mut key = Message::default();
        for (number, field) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
            key.text(number, &value[field]);
        }
        let mut item = Message::default();
        item.message(2, key);
        security.named(1, name, item);
    }
    out.message(13, security);
    out.bytes
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            out.message(number, operation(found));
        }
    }
    for one in items(&item["parameters"]) {
        out.message(9, parameter(one));
    }
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, &value["tags"]);
    out.text(5, &value["operationId"]);
    out.texts(6, &value["produces"]);
    out.texts(7, &value["consumes"]);
    for one in items(&value["parameters"]) {
        out.message(8, parameter(one));
    }
    let mut responses = Message::default();
    for (code, one) in entries(&value["responses"]) {
        let mut response = Message::default();
        response.text(1, &one["description"]);
        if let Some(found) = one.get("schema") {
            let mut item = Message::default();
            item.message(1, schema(found));
            response.message(2, item);
        }
        let mut either = Message::default();
        either.message(1, response);
        responses.named(1, code, either);
    }
    out.message(9, responses);
    out.texts(10, &value["schemes"]);
    out.extensions(13, value);
    out
}

fn parameter(value: &Value) -> Message {
    let mut inner = Message::default();
    let mut either = Message::default();
    if value["in"] == "body" {
        inner.text(2, &value["name"]);
        inner.text(3, &value["in"]);
        inner.flag(4, &value["required"]);
        inner.message(5, schema(&value["schema"]));
        either.message(1, inner);
    } else {
        let in_path = value["in"] == "path";
        inner.flag(1, &value["required"]);
        inner.text(2, &value["in"]);
        inner.text(4, &value["name"]);
        inner.text(if in_path { 5 } else { 6 }, &value["type"]);
        inner.flag(if in_path { 19 } else { 20 }, &value["uniqueItems"]);
        let mut non_body = Message::default();
        non_body.message(if in_path { 4 } else { 3 }, inner);
        either.message(2, non_body);
    }
    let mut out = Message::default();
    out.message(1, either);
    out
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["$ref"]);
    out.text(2, &value["format"]);
    out.text(3, &value["title"]);
    out.text(4, &value["description"]);
    if let Some(default) = value.get("default") {
        out.message(5, any(default));
    }
    out.double(7, &value["maximum"]);
    out.flag(8, &value["exclusiveMaximum"]);
    out.double(9, &value["minimum"]);
    out.flag(10, &value["exclusiveMinimum"]);
    out.number(11, &value["maxLength"]);
    out.number(12, &value["minLength"]);
    out.text(13, &value["pattern"]);
    out.number(14, &value["maxItems"]);
    out.number(15, &value["minItems"]);
    out.flag(16, &value["uniqueItems"]);
    out.texts(19, &value["required"]);
    for one in items(&value["enum"]) {
        out.message(20, any(one));
    }
    if let Some(found) = value.get("additionalProperties").filter(|one| one.is_object()) {
        let mut item = Message::default();
        item.message(1, schema(found));
        out.message(21, item);
    }
    if let Some(kind) = value.get("type") {
        let mut item = Message::default();
        item.text(1, kind);
        out.message(22, item);
    }
    if let Some(found) = value.get("items") {
        let mut item = Message::default();
        item.message(1, schema(found));
        out.message(23, item);
    }
    if value.get("properties").is_some() {
        let mut properties = Message::default();
        for (name, one) in entries(&value["properties"]) {
            properties.named(1, name, schema(one));
        }
        out.message(25, properties);
    }
    out.extensions(31, value);
    out
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.bytes_field(2, format!("{value}\n").as_bytes());
    out
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A message being written. Empty values are left out, as this format's encoder does.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn bytes_field(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u64, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes_field(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, value: &Value) {
        for one in items(value) {
            self.bytes_field(number, one.as_str().unwrap_or_default().as_bytes());
        }
    }

    fn flag(&mut self, number: u64, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    fn number(&mut self, number: u64, value: &Value) {
        if let Some(value) = value.as_i64() {
            self.varint(number << 3);
            self.varint(value as u64);
        }
    }

    fn double(&mut self, number: u64, value: &Value) {
        if let Some(value) = value.as_f64() {
            self.varint(number << 3 | 1);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn message(&mut self, number: u64, message: Message) {
        self.bytes_field(number, &message.bytes);
    }

    /// An entry of a map: a name and a message.
    fn named(&mut self, number: u64, name: &str, value: Message) {
        let mut entry = Message::default();
        entry.bytes_field(1, name.as_bytes());
        entry.message(2, value);
        self.message(number, entry);
    }

    fn extensions(&mut self, number: u64, value: &Value) {
        for (name, one) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
            self.named(number, name, any(one));
        }
    }
}
