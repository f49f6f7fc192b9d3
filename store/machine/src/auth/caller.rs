//! For whom a command or a read is.
//!
//! Owns: the caller and its form in the log. Must not know: how a name was proven. A newcomer's
//! trap: [`Caller::Member`] may do everything; a client's request never has it.

use std::sync::Arc;

use kijabi_proto::command::Command;

/// For whom a command or a read is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A member itself, for no client.
    Member,
    /// A client that has proven no name, or whose name was not asked for because auth is off.
    Anonymous,
    /// A user.
    User {
        /// The name that was proven.
        name: Arc<str>,
        /// The auth revision it was proven at.
        auth_revision: u64,
    },
}

impl Caller {
    /// Writes the caller into a command.
    pub fn mark(self, mut command: Command) -> Command {
        match self {
            Self::Member => command.by_member = true,
            Self::Anonymous => {}
            Self::User { name, auth_revision } => {
                name.as_ref().clone_into(&mut command.username);
                command.auth_revision = auth_revision;
            }
        }
        command
    }

    /// Reads the caller of a command.
    pub fn of(command: &Command) -> Self {
        if command.by_member {
            Self::Member
        } else if command.username.is_empty() {
            Self::Anonymous
        } else {
            let name = command.username.as_str().into();
            Self::User { name, auth_revision: command.auth_revision }
        }
    }
}
