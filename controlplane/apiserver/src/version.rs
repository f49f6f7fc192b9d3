//! Which Kubernetes this server says it is.
//!
//! Owns: the answer of `/version`. Must not know: anything else. A newcomer's trap: clients compare
//! `gitVersion` with their own; it names the API that is served, not this program's version.

use serde_json::{Value, json};

/// The version of Kubernetes whose API is served.
pub const GIT_VERSION: &str = "v1.36.2";

/// The answer of `/version`.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": platform(),
    })
}

/// The platform as Go names it.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}
