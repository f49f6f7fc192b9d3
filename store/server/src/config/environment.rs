//! Settings in `ETCD_*` variables.
//!
//! Owns: how a flag is spelled there. A newcomer's trap: a variable beside its own flag is an error
//! as with etcd, even if both say the same; an empty variable counts as none, but still as one
//! beside the flag.

use std::collections::BTreeMap;

use super::flags::{kind, store};
use super::settings::Notice;
use super::table::Draft;

/// What their names begin with.
pub(super) const PREFIX: &str = "ETCD_";

/// The variable of a flag.
fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// The file that the environment names.
pub(super) fn config_file(env: &BTreeMap<String, String>) -> Option<String> {
    env.get(&variable("config-file")).filter(|path| !path.is_empty()).cloned()
}

/// Takes what the variables say.
pub(super) fn apply(env: &BTreeMap<String, String>, draft: &mut Draft) -> Result<(), String> {
    let flags: Vec<String> = draft.given.iter().map(|flag| variable(flag)).collect();
    for (name, value) in env {
        if flags.contains(name) {
            return Err(format!(
                "conflicting environment variable \"{name}\" is shadowed by corresponding command-line flag (either unset environment variable or disable flag)"
            ));
        }
        let flag = name[PREFIX.len()..].to_lowercase().replace('_', "-");
        // These are etcd's own business elsewhere.
        if matches!(name.as_str(), "ETCD_VERSION" | "ETCD_UNSUPPORTED_ARCH") {
            continue;
        }
        if kind(&flag).is_none() || variable(&flag) != *name {
            draft.notice(
                Notice::warning("unrecognized environment variable")
                    .with("environment-variable", format!("{name}={value}")),
            );
            continue;
        }
        if value.is_empty() {
            continue;
        }
        store(draft, &flag, value)
            .map_err(|why| format!("invalid value \"{value}\" for {name}: {why}"))?;
        let secret = flag.contains("password");
        draft.notice(
            Notice::info("recognized and used environment variable")
                .with("variable-name", name)
                .with("variable-value", if secret { "***" } else { value }),
        );
    }
    Ok(())
}
