//! The command line, and which of command line, environment and file counts.
//!
//! Owns: Go's forms of flags (`-x v`, `--x=v`, …) and the order of precedence. Must not know: the
//! flags (`table/`). A newcomer's trap: with `--config-file` etcd ignores all other flags and the
//! environment; without it, a flag and its variable together are an error, whatever their values.

use std::collections::BTreeMap;

use super::settings::Notice;
use super::table::{self, Draft, Effect, Kind, Old};
use super::values::parse_bool;
use super::{Config, check, environment, file};

/// What the command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// Run a member.
    Run(Box<Config>),
    /// Print [`super::VERSION_TEXT`] and leave.
    Version,
    /// Print [`super::help_text`] and leave.
    Help,
}

/// The command line is wrong: one line for standard error, exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(super) String);

/// Parses a command line (without the program's name) and an environment.
pub fn parse<A, E>(args: A, env: E) -> Result<Parsed, UsageError>
where
    A: IntoIterator<Item = String>,
    E: IntoIterator<Item = (String, String)>,
{
    let mut draft = Draft::default();
    let mut version = false;
    let mut file = None;
    for argument in split(args)? {
        match argument {
            Argument::Help => return Ok(Parsed::Help),
            Argument::Flag(name, value) if name == "version" => {
                version = boolean("version", &value)?;
            }
            Argument::Flag(name, value) => {
                if name == "config-file" {
                    file = Some(value.clone());
                }
                store(&mut draft, &name, &value)
                    .map_err(|why| UsageError(spelled(&name, &value, &why)))?;
            }
        }
    }
    if version {
        return Ok(Parsed::Version);
    }
    let env: BTreeMap<String, String> =
        env.into_iter().filter(|(name, _)| name.starts_with(environment::PREFIX)).collect();
    let file = file.filter(|path| !path.is_empty()).or_else(|| environment::config_file(&env));
    if let Some(path) = file {
        draft = Draft::default();
        let read = file::read(&path, &mut draft);
        read.map_err(|why| UsageError(format!("error verifying flags, {path}: {why}")))?;
    } else {
        environment::apply(&env, &mut draft).map_err(UsageError)?;
        // etcd: who says where to listen must say where clients find it.
        if draft.was_given("listen-client-urls") && !draft.was_given("advertise-client-urls") {
            let why =
                "--advertise-client-urls is required when --listen-client-urls is set explicitly";
            return Err(UsageError(why.into()));
        }
    }
    Ok(Parsed::Run(Box::new(check::finish(draft).map_err(UsageError)?)))
}

/// Go's line for a wrong value on a command line.
fn spelled(name: &str, value: &str, why: &str) -> String {
    match kind(name) {
        Some(Kind::Bool) => format!("invalid boolean value \"{value}\" for -{name}: {why}"),
        _ => format!("invalid value \"{value}\" for flag -{name}: {why}"),
    }
}

/// What the values of a flag look like; `None` if there is no such flag.
pub(super) fn kind(name: &str) -> Option<Kind> {
    match name {
        "version" => Some(Kind::Bool),
        name => table::find(name)
            .map(|flag| flag.kind)
            .or_else(|| table::old(name).map(|(_, kind)| kind)),
    }
}

/// Stores one value, wherever it was read. The caller has checked that the flag exists.
pub(super) fn store(draft: &mut Draft, name: &str, value: &str) -> Result<(), String> {
    draft.given.insert(name.to_owned());
    let stable = match table::old(name) {
        Some((Old::Renamed(new), _)) => {
            draft.notice(Notice::warning(format!(
                "--{name} is deprecated in v3.6 and will be decommissioned in v3.7. Use '--{new}' instead."
            )));
            new
        }
        Some((Old::Gate(gate), _)) => {
            draft.notice(Notice::warning(format!(
                "--{name} is deprecated in v3.6 and will be decommissioned in v3.7. Use '--feature-gates={gate}=true' instead."
            )));
            return draft.config.feature_gates.set_one(gate, parse_bool(value)?);
        }
        Some((Old::Ignored, _)) => {
            draft.notice(Notice::warning(format!("--{name} has no effect")));
            return Ok(());
        }
        None => name,
    };
    let Some(flag) = table::find(stable) else { return Ok(()) };
    (flag.store)(draft, value)?;
    match flag.effect {
        Effect::Refused(why) if value != flag.default => return Err(why.into()),
        Effect::Idle(why) if value != flag.default => {
            draft.notice(Notice::warning(format!("--{name} has no effect: {why}")));
        }
        _ => {}
    }
    if matches!(stable, "snapshot-count" | "max-snapshots") {
        draft.notice(Notice::warning(format!(
            "--{stable} is deprecated in 3.6 and will be decommissioned in 3.7."
        )));
    }
    Ok(())
}

/// One argument of the command line.
enum Argument {
    Help,
    Flag(String, String),
}

/// Splits the command line in names and values as Go's `flag` package does.
fn split<A: IntoIterator<Item = String>>(args: A) -> Result<Vec<Argument>, UsageError> {
    let mut given = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            match args.next() {
                Some(rest) => return Err(UsageError(format!("\"{rest}\" is not a valid flag"))),
                None => break,
            }
        }
        let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or("");
        if name.is_empty() {
            return Err(UsageError(format!("\"{arg}\" is not a valid flag")));
        }
        if name.starts_with('-') || name.starts_with('=') {
            return Err(UsageError(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (name.to_owned(), None),
        };
        let Some(kind) = kind(&name) else {
            if name == "help" || name == "h" {
                given.push(Argument::Help);
                break;
            }
            return Err(UsageError(format!("flag provided but not defined: -{name}")));
        };
        let value = match value {
            Some(value) => value,
            None if kind == Kind::Bool => "true".into(),
            None => {
                args.next().ok_or_else(|| UsageError(format!("flag needs an argument: -{name}")))?
            }
        };
        given.push(Argument::Flag(name, value));
    }
    Ok(given)
}

fn boolean(name: &str, value: &str) -> Result<bool, UsageError> {
    parse_bool(value).map_err(|why| UsageError(spelled(name, value, &why)))
}
