//! Debug output of the messages that hold secrets: the name of the user and nothing else.
//!
//! Owns: what a log line may say of them. Must not know: what they mean. A newcomer's trap: a new
//! message with a secret belongs here and in the list in `build.rs`.

use std::fmt;

macro_rules! secret {
    ($($message:path { $($shown:ident)? })+) => {
        $(impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = stringify!($message).rsplit("::").next().unwrap_or_default().trim();
                f.debug_struct(name)$(.field(stringify!($shown), &self.$shown))?.finish_non_exhaustive()
            }
        })+
    };
}

secret! {
    crate::authpb::User { name }
    crate::etcdserverpb::AuthenticateRequest { name }
    crate::etcdserverpb::AuthenticateResponse { }
    crate::etcdserverpb::AuthUserAddRequest { name }
    crate::etcdserverpb::AuthUserChangePasswordRequest { name }
    crate::command::AuthLogin { name }
    crate::command::AuthUserCreate { name }
    crate::command::AuthUserPassword { name }
}
