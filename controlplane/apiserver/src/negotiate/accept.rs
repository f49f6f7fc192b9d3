//! The `Accept` header.
//!
//! Owns: its syntax and the choice. Must not know: how a form is made. A newcomer's trap: quality
//! decides before order, and a clause with an `as=` that is not had is no match even though its
//! media type is.

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

impl Format {
    /// The header of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What is made of objects before they are written. The version is that of `meta.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The objects themselves.
    Object,
    /// A `Table`.
    Table(&'static str),
    /// `PartialObjectMetadata`.
    Metadata(&'static str),
    /// `PartialObjectMetadataList`.
    MetadataList(&'static str),
}

/// A format and a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The format.
    pub format: Format,
    /// The shape.
    pub shape: Shape,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self { format: Format::Json, shape: Shape::Object }
    }
}

impl Negotiated {
    /// The first acceptable form, or `None` if there is none. No header accepts everything.
    pub fn from_accept(header: &str) -> Option<Self> {
        if header.trim().is_empty() {
            return Some(Self::default());
        }
        let mut clauses: Vec<(u32, Clause<'_>)> =
            header.split(',').filter_map(Clause::parse).map(|c| (c.quality, c)).collect();
        // A stable sort: among equals the order of the header stands.
        clauses.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        clauses.iter().find_map(|(_, clause)| clause.offered())
    }
}

#[derive(Debug)]
struct Clause<'a> {
    media_type: &'a str,
    quality: u32,
    target: &'a str,
    version: &'a str,
    group: &'a str,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|one| !one.is_empty())?;
        let mut clause = Self { media_type, quality: 1_000, target: "", version: "", group: "" };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim() {
                "as" => clause.target = value.trim(),
                "v" => clause.version = value.trim(),
                "g" => clause.group = value.trim(),
                "q" => {
                    let quality = value.trim().parse::<f64>().unwrap_or(1.0);
                    clause.quality = (quality.clamp(0.0, 1.0) * 1_000.0) as u32;
                }
                _ => {}
            }
        }
        Some(clause)
    }

    fn offered(&self) -> Option<Negotiated> {
        let format = match self.media_type {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            _ => return None,
        };
        if self.quality == 0 {
            return None;
        }
        if self.target.is_empty() {
            return Some(Negotiated { format, shape: Shape::Object });
        }
        if self.group != "meta.k8s.io" {
            return None;
        }
        let version = match self.version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => return None,
        };
        let shape = match self.target {
            "Table" => Shape::Table(version),
            "PartialObjectMetadata" => Shape::Metadata(version),
            "PartialObjectMetadataList" => Shape::MetadataList(version),
            _ => return None,
        };
        Some(Negotiated { format, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_had_wins() {
        let json = |shape| Some(Negotiated { format: Format::Json, shape });
        for (header, want) in [
            ("", json(Shape::Object)),
            ("*/*", json(Shape::Object)),
            ("text/html, */*", json(Shape::Object)),
            ("text/html", None),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/vnd.kubernetes.protobuf,application/json", json(Shape::Object)),
            ("application/yaml", Some(Negotiated { format: Format::Yaml, shape: Shape::Object })),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                json(Shape::Table("v1")),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
                json(Shape::Table("v1beta1")),
            ),
            ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", json(Shape::Object)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                json(Shape::MetadataList("v1")),
            ),
            (
                "application/json;q=0.1,application/yaml;q=0.9",
                Some(Negotiated { format: Format::Yaml, shape: Shape::Object }),
            ),
            ("application/json;q=0", None),
        ] {
            assert_eq!(Negotiated::from_accept(header), want, "{header}");
        }
    }
}
