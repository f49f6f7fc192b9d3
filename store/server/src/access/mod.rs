//! Who calls, and what that RPC needs of a caller.
//!
//! Owns: logins, tokens, passwords, and turning a request's credentials into a [`Caller`]. Must not
//! know: what a request asks. A newcomer's trap: while auth is off nobody is asked for a name, so
//! that nothing here costs anything but the look at one flag.

mod credentials;
mod jwt;
mod jwt_key;
mod password;
mod rpc;
mod simple;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kijabi_machine::{AuthEvent, Caller};
use tonic::Request;

pub(crate) use credentials::Credentials;
pub(crate) use jwt::BadTokenOptions;
pub(crate) use password::Passwords;
pub(crate) use rpc::{Need, Rpc};
pub(crate) use simple::{digest, new_secret};

use crate::config::Config;
use crate::error::Error;
use crate::store::Store;
use jwt::Jwt;
use simple::SimpleTokens;

/// How long a simple token lives if nothing else is said, etcd's.
const TOKEN_TTL: Duration = Duration::from_secs(300);

/// What a member knows of logins.
#[derive(Debug)]
pub(crate) struct Access {
    /// A copy of the machine's own, which is behind a lock.
    enabled: AtomicBool,
    /// Whether a client certificate's name counts.
    certificates: bool,
    tokens: Tokens,
    passwords: Passwords,
}

/// What a login gives.
#[derive(Debug)]
enum Tokens {
    /// Nothing: only certificates count.
    None,
    Simple(SimpleTokens),
    Jwt(Box<Jwt>),
}

impl Access {
    /// As the configuration says.
    pub(crate) fn new(config: &Config) -> Result<Self, BadTokenOptions> {
        let (kind, options) = jwt::split_options(&config.auth_token)?;
        let ttl = if config.auth_token_ttl.is_zero() { TOKEN_TTL } else { config.auth_token_ttl };
        let tokens = match kind {
            "" => Tokens::None,
            "simple" => Tokens::Simple(SimpleTokens::new(ttl)),
            "jwt" => Tokens::Jwt(Box::new(Jwt::new(&options)?)),
            _ => return Err(BadTokenOptions::Invalid),
        };
        Ok(Self {
            enabled: AtomicBool::new(false),
            certificates: config.client_tls.client_cert_auth,
            tokens,
            passwords: Passwords::new(config.bcrypt_cost),
        })
    }

    /// Whether callers are asked who they are.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// The whole auth state was read anew.
    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
        if let (false, Tokens::Simple(tokens)) = (enabled, &self.tokens) {
            tokens.clear();
        }
    }

    /// Takes what an applied entry changed. Called on the apply path: nothing here waits.
    pub(crate) fn apply(&self, events: &[AuthEvent]) {
        for event in events {
            match (event, &self.tokens) {
                (AuthEvent::Enabled, _) => self.set_enabled(true),
                (AuthEvent::Disabled, _) => self.set_enabled(false),
                (AuthEvent::LoggedIn { user, token_digest }, Tokens::Simple(tokens)) => {
                    tokens.add(user, token_digest);
                }
                (AuthEvent::LoggedOut(user), Tokens::Simple(tokens)) => tokens.forget(user),
                (AuthEvent::LoggedIn { .. } | AuthEvent::LoggedOut(_), _) => {}
            }
        }
    }

    /// Hashing and checking passwords.
    pub(crate) fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The keys that sign tokens, if tokens are signed.
    pub(crate) fn jwt(&self) -> Option<&Jwt> {
        match &self.tokens {
            Tokens::Jwt(jwt) => Some(jwt),
            Tokens::None | Tokens::Simple(_) => None,
        }
    }

    /// Whether nobody can log in with a password.
    pub(crate) fn gives_no_tokens(&self) -> bool {
        matches!(self.tokens, Tokens::None)
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            certificates: false,
            tokens: Tokens::Simple(SimpleTokens::new(TOKEN_TTL)),
            passwords: Passwords::new(password::DEFAULT_COST),
        }
    }
}

/// The caller of a request, if it may call that RPC at all. Ask after a read barrier, if the
/// request needs one: the caller's auth revision is then as new as what is read.
pub(crate) async fn caller<T>(
    store: &Store,
    request: &Request<T>,
    rpc: Rpc,
) -> Result<Caller, Error> {
    if rpc.need() == Need::Open || !store.access().enabled() {
        return Ok(Caller::Anonymous);
    }
    Credentials::of(store, request).caller(store, rpc).await
}
