//! One line of help for types and fields, for `kubectl explain`.
//!
//! Owns: the texts in `schema/descriptions.txt`. Must not know: schemas. A newcomer's trap: a field
//! without a line of its own gets that of its name, whatever the type; most have none.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("../../schema/descriptions.txt");

fn lines() -> &'static BTreeMap<&'static str, &'static str> {
    static LINES: OnceLock<BTreeMap<&str, &str>> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once(": ")).collect()
    })
}

/// What a type is for.
pub(super) fn of_type(name: &str) -> Option<&'static str> {
    lines().get(name).copied()
}

/// What a field is for.
pub(super) fn of_field(holder: &str, field: &str) -> Option<&'static str> {
    // Types are capitalised: a field that is must not be taken for one.
    let common = || lines().get(field).copied().filter(|_| field.starts_with(char::is_lowercase));
    lines().get(format!("{holder}.{field}").as_str()).copied().or_else(common)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_line_speaks_of_something() {
        for name in lines().keys() {
            let (holder, field) = name.split_once('.').unwrap_or(("", name));
            let known = schema::types().iter().any(|one| match holder {
                "" => one.short == *name || one.field(field).is_some(),
                _ => one.short == holder && one.field(field).is_some(),
            });
            assert!(known, "{name}");
        }
        assert!(of_field("Pod", "spec").is_some());
        assert_ne!(of_field("ObjectMeta", "name"), of_field("Container", "name"));
    }
}
