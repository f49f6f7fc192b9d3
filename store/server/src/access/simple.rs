//! Simple tokens: random letters that a member remembers.
//!
//! Owns: which are good, whose they are and until when. Must not know: the log, through which they
//! come to all members. A newcomer's trap: neither the log nor this table holds a token, only the
//! digest of its secret part, so that who reads the data folder or a core dump cannot log in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use kijabi_base::rng;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::limits::SIMPLE_TOKENS_MAX;

/// Letters of a token's secret part, as in etcd: about 91 bits.
const SECRET_LETTERS: usize = 16;
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// A use less than this after the one before does not count: most tokens are used all the time.
const RESOLUTION: Duration = Duration::from_secs(1);

type TokenDigest = [u8; 32];

/// The tokens that are good now.
pub(super) struct SimpleTokens {
    ttl: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    by_digest: BTreeMap<TokenDigest, Token>,
    by_deadline: BTreeSet<(Instant, TokenDigest)>,
}

struct Token {
    user: Arc<str>,
    deadline: Instant,
}

/// A new token's secret part.
pub(crate) fn new_secret() -> String {
    let letter = |_| {
        let at = rng::below(LETTERS.len() as u64) as usize;
        char::from(*LETTERS.get(at).expect("the number is below the count of letters"))
    };
    (0..SECRET_LETTERS).map(letter).collect()
}

// Differs from etcd: its log has the token itself.
/// What stands for a secret in the log and in the table.
pub(crate) fn digest(secret: &str) -> TokenDigest {
    Sha256::digest(secret.as_bytes()).into()
}

impl SimpleTokens {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, table: Mutex::default() }
    }

    /// A user has logged in.
    pub(super) fn add(&self, user: &str, digest: &[u8]) {
        let Ok(digest) = TokenDigest::try_from(digest) else { return };
        let now = clock::now();
        let mut table = self.table.lock();
        table.expire(now);
        if table.by_digest.len() >= SIMPLE_TOKENS_MAX {
            // Its owner logs in again.
            table.remove_oldest();
        }
        table.insert(digest, Token { user: user.into(), deadline: now + self.ttl });
    }

    /// Whose token it is, if it is good; it is then good for its whole time again.
    pub(super) fn user(&self, secret: &str) -> Option<Arc<str>> {
        let (digest, now) = (digest(secret), clock::now());
        let mut table = self.table.lock();
        table.expire(now);
        let token = table.by_digest.get(&digest)?;
        let (user, deadline) = (Arc::clone(&token.user), now + self.ttl);
        if deadline >= token.deadline + RESOLUTION.min(self.ttl / 2) {
            table.remove(&digest);
            table.insert(digest, Token { user: Arc::clone(&user), deadline });
        }
        Some(user)
    }

    /// All tokens of one user are good no more.
    pub(super) fn forget(&self, user: &str) {
        let mut table = self.table.lock();
        let of_user = table.by_digest.iter().filter(|(_, token)| *token.user == *user);
        let digests: Vec<TokenDigest> = of_user.map(|(digest, _)| *digest).collect();
        for digest in digests {
            table.remove(&digest);
        }
    }

    /// No token is good any more.
    pub(super) fn clear(&self) {
        *self.table.lock() = Table::default();
    }
}

impl Table {
    fn insert(&mut self, digest: TokenDigest, token: Token) {
        self.by_deadline.insert((token.deadline, digest));
        self.by_digest.insert(digest, token);
    }

    fn remove(&mut self, digest: &TokenDigest) {
        if let Some(token) = self.by_digest.remove(digest) {
            self.by_deadline.remove(&(token.deadline, *digest));
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.by_deadline.first().is_some_and(|(deadline, _)| *deadline <= now) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, digest)) = self.by_deadline.pop_first() {
            self.by_digest.remove(&digest);
        }
    }
}

impl std::fmt::Debug for SimpleTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimpleTokens").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_lives_from_use_to_use() {
        let tokens = SimpleTokens::new(Duration::from_secs(10));
        let secret = new_secret();
        tokens.add("alice", &digest(&secret));
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(9)).await;
            assert_eq!(tokens.user(&secret).as_deref(), Some("alice"));
        }
        assert_eq!(tokens.user("another"), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(tokens.user(&secret), None);
        assert!(tokens.table.lock().by_digest.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_users_tokens_end_together_and_others_stay() {
        let tokens = SimpleTokens::new(Duration::from_secs(10));
        let secrets: Vec<String> = (0..4).map(|_| new_secret()).collect();
        for (at, secret) in secrets.iter().enumerate() {
            tokens.add(if at % 2 == 0 { "alice" } else { "bob" }, &digest(secret));
        }
        tokens.forget("alice");
        let users: Vec<_> = secrets.iter().map(|secret| tokens.user(secret).is_some()).collect();
        assert_eq!(users, [false, true, false, true]);
        tokens.clear();
        assert!(secrets.iter().all(|secret| tokens.user(secret).is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_logins_pushes_out_the_oldest() {
        let tokens = SimpleTokens::new(Duration::from_secs(10));
        tokens.add("first", &digest("first"));
        tokio::time::advance(Duration::from_secs(1)).await;
        for at in 0..SIMPLE_TOKENS_MAX {
            tokens.add("flood", &digest(&at.to_string()));
        }
        assert_eq!(tokens.user("first"), None);
        assert_eq!(tokens.table.lock().by_digest.len(), SIMPLE_TOKENS_MAX);
    }

    #[test]
    fn secrets_are_letters_and_differ() {
        let (a, b) = (new_secret(), new_secret());
        assert_ne!(a, b);
        assert!(a.len() == SECRET_LETTERS && a.bytes().all(|byte| byte.is_ascii_alphabetic()));
    }
}
