//! `/healthz`, `/livez` and `/readyz`: is this server alive, may it get traffic, and why not.
//!
//! Owns: the checks' names, order and text. Must not know: how a check is done; each is a function.
//! A newcomer's trap: `livez` must not fail because the store is slow to come up for good reasons
//! elsewhere; what only says "not yet" belongs to `readyz` alone.

use std::fmt::Write as _;

use futures::future::BoxFuture;
use http::StatusCode;

use crate::exchange::{self, Response};
use crate::request::Query;

/// One thing that can be well or not.
pub struct Check {
    /// The name, such as `etcd`.
    pub name: &'static str,
    /// Whether `/livez` and `/healthz` ask it too.
    pub live: bool,
    /// `Err` says what is wrong; it is logged, not shown.
    pub run: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All checks, in the order they are shown.
#[derive(Debug, Default)]
pub struct Health(Vec<Check>);

impl Health {
    /// Health by `checks`, after the two that hold whenever there is an answer at all.
    pub fn new(checks: Vec<Check>) -> Self {
        let always = |name| Check {
            name,
            live: true,
            run: Box::new(|| Box::pin(std::future::ready(Ok(())))),
        };
        let mut all = vec![always("ping"), always("log")];
        all.extend(checks);
        Self(all)
    }

    /// The answer at `path`, if it is a health path.
    pub async fn answer(&self, path: &str, query: &Query) -> Option<Response> {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let endpoint = parts.next().filter(|e| matches!(*e, "healthz" | "livez" | "readyz"))?;
        let asked = |check: &&Check| check.live || endpoint == "readyz";
        match parts.next() {
            None => Some(self.all(endpoint, query, asked).await),
            Some(name) => {
                let check = self.0.iter().filter(asked).find(|check| check.name == name)?;
                Some(match (check.run)().await {
                    Ok(()) => exchange::text(StatusCode::OK, "ok"),
                    Err(why) => {
                        tracing::warn!(check = name, why, "health check failed");
                        let text = format!("internal server error: {why}\n");
                        exchange::text(StatusCode::INTERNAL_SERVER_ERROR, text)
                    }
                })
            }
        }
    }

    async fn all(
        &self,
        endpoint: &str,
        query: &Query,
        asked: impl Fn(&&Check) -> bool,
    ) -> Response {
        let mut excluded: Vec<&str> = query.all("exclude").collect();
        let (mut report, mut failed) = (String::new(), Vec::new());
        for check in self.0.iter().filter(asked) {
            let name = check.name;
            let line = if let Some(at) = excluded.iter().position(|one| *one == name) {
                excluded.swap_remove(at);
                format!("[+]{name} excluded: ok")
            } else if let Err(why) = (check.run)().await {
                tracing::warn!(check = name, why, "health check failed");
                failed.push(name);
                format!("[-]{name} failed: reason withheld")
            } else {
                format!("[+]{name} ok")
            };
            writeln!(report, "{line}").expect("a String takes all");
        }
        if !excluded.is_empty() {
            excluded.sort_unstable();
            let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
            let text = "warn: some health checks cannot be excluded: no matches for";
            writeln!(report, "{text} {}", names.join(",")).expect("a String takes all");
        }
        if !failed.is_empty() {
            let text = format!("{report}{endpoint} check failed\n");
            return exchange::text(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
        if query.get("verbose").is_none() {
            return exchange::text(StatusCode::OK, "ok");
        }
        exchange::text(StatusCode::OK, format!("{report}{endpoint} check passed\n"))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn ask(path: &str, query: &str) -> Option<(u16, String)> {
        let check = |name, live, good: bool| Check {
            name,
            live,
            run: Box::new(move || {
                let outcome = if good { Ok(()) } else { Err("no".to_owned()) };
                Box::pin(std::future::ready(outcome))
            }),
        };
        let health = Health::new(vec![check("etcd", true, true), check("late", false, false)]);
        let response = health.answer(path, &Query::parse(query)).await?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Some((code, String::from_utf8(bytes.to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn answers_are_short_unless_something_is_wrong_or_asked() {
        assert_eq!(ask("/livez", "").await.unwrap(), (200, "ok".into()));
        let (code, text) = ask("/readyz", "").await.unwrap();
        assert_eq!(code, 500);
        assert!(text.ends_with("[-]late failed: reason withheld\nreadyz check failed\n"), "{text}");
        assert_eq!(
            ask("/livez", "verbose").await.unwrap().1,
            "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n"
        );
        let (code, text) = ask("/readyz", "verbose&exclude=late&exclude=x").await.unwrap();
        assert_eq!(code, 200);
        assert!(text.contains("[+]late excluded: ok\n"), "{text}");
        assert!(text.contains("no matches for \"x\"\n"), "{text}");
    }

    #[tokio::test]
    async fn each_check_has_a_path_where_it_counts() {
        assert_eq!(ask("/livez/etcd", "").await.unwrap(), (200, "ok".into()));
        assert_eq!(ask("/readyz/late", "").await.unwrap().0, 500);
        assert!(ask("/livez/late", "").await.is_none());
        assert!(ask("/healthzz", "").await.is_none());
    }
}
