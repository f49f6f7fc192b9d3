//! Impersonation: a request that asks to be treated as another user's.
//!
//! Owns: the `Impersonate-*` headers. Must not know: rules; each part of the wanted identity is a
//! right of its own to ask the authorizer for. A newcomer's trap: the headers are removed whether
//! or not they were used, and without a user name the others are an error, not ignored.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::authz::Authorizer;
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::user::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// The user the request is to be treated as: `user` if it asks for no other.
pub async fn impersonate(
    authorizer: &Authorizer,
    user: User,
    headers: &mut HeaderMap,
) -> Result<User, ApiError> {
    let wanted = take_wanted(headers)?;
    if wanted == User::default() {
        return Ok(user);
    }
    if wanted.name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "requested {} without impersonating a user name",
            shown(&wanted)
        )));
    }
    for (group, resource, name) in asked(&wanted) {
        let info = RequestInfo {
            is_resource: true,
            verb: "impersonate",
            api_group: group.into(),
            api_version: "v1".into(),
            ..place(&resource, &name)
        };
        authorizer.authorize(&user, &info).await?;
    }
    Ok(completed(wanted))
}

/// Where the right stands: service accounts are in a namespace, an extra key is a subresource.
fn place(resource: &str, name: &str) -> RequestInfo {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (namespace, name) = match name.split_once(':') {
        Some((namespace, name)) if resource == "serviceaccounts" => (namespace, name),
        _ => ("", name),
    };
    RequestInfo {
        namespace: namespace.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: name.into(),
        ..RequestInfo::default()
    }
}

/// What must be allowed: group, resource and name of each part of the identity.
fn asked(wanted: &User) -> Vec<(&'static str, String, String)> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let mut all = Vec::new();
    match wanted.service_account() {
        Some((namespace, name)) => {
            all.push(("", "serviceaccounts".into(), format!("{namespace}:{name}")));
        }
        None => all.push(("", "users".into(), wanted.name.clone())),
    }
    if !wanted.uid.is_empty() {
        all.push((AUTHENTICATION, "uids".into(), wanted.uid.clone()));
    }
    all.extend(wanted.groups.iter().map(|group| ("", "groups".into(), group.clone())));
    for (key, values) in &wanted.extra {
        let resource = format!("userextras/{key}");
        all.extend(values.iter().map(|value| (AUTHENTICATION, resource.clone(), value.clone())));
    }
    all
}

/// The groups that authentication would have added.
fn completed(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account()
    {
        user.groups = vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let everyone = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(everyone.into());
    }
    user
}

fn take_wanted(headers: &mut HeaderMap) -> Result<User, ApiError> {
    let mut wanted = User::default();
    let names: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in names {
        let values: Result<Vec<String>, _> =
            headers.get_all(&name).iter().map(|v| v.to_str().map(str::to_owned)).collect();
        headers.remove(&name);
        let Ok(values) = values else {
            return Err(ApiError::bad_request(format!("header {name} is not text")));
        };
        match name.as_str() {
            USER => wanted.name = values.into_iter().next().unwrap_or_default(),
            UID => wanted.uid = values.into_iter().next().unwrap_or_default(),
            GROUP => wanted.groups = values,
            other => {
                let Some(key) = other.strip_prefix(EXTRA_PREFIX) else { continue };
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                wanted.extra.insert(key, values);
            }
        }
    }
    Ok(wanted)
}

/// The identity as Go prints the structure, which is what the error text holds.
fn shown(user: &User) -> String {
    let list = |all: &[String]| {
        let quoted: Vec<_> = all.iter().map(|one| format!("{one:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".into() } else { list(&user.groups) };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs: Vec<_> = user.extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}",
        user.name, user.uid
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::admission::fixture::Fixture;

    async fn act(groups: &[&str], wanted: &[(&str, &str)]) -> Result<User, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in wanted {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        let user = User { name: "bob".into(), groups, ..User::default() };
        let authorizer = Authorizer::new(Arc::new(Fixture::default()));
        let outcome = impersonate(&authorizer, user, &mut headers).await;
        assert!(headers.is_empty(), "{headers:?}");
        outcome
    }

    #[tokio::test]
    async fn an_administrator_becomes_whom_he_asks_for() {
        let admin = ["system:masters"];
        let alice = act(&admin, &[("Impersonate-User", "alice"), ("Impersonate-Group", "devs")]);
        let alice = alice.await.unwrap();
        assert_eq!(
            (alice.name.as_str(), alice.groups.join(",")),
            ("alice", "devs,system:authenticated".into())
        );
        let account = act(&admin, &[("Impersonate-User", "system:serviceaccount:g:a")]).await;
        assert_eq!(
            account.unwrap().groups,
            ["system:serviceaccounts", "system:serviceaccounts:g", "system:authenticated"]
        );
        let nobody = act(&admin, &[("Impersonate-User", "system:anonymous")]).await.unwrap();
        assert_eq!(nobody.groups, ["system:unauthenticated"]);
    }

    #[tokio::test]
    async fn others_become_nobody_else() {
        let error = act(&["devs"], &[("Impersonate-User", "alice")]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"users "alice" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
        let error = act(&["system:masters"], &[("Impersonate-Group", "x")]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"x"}, Extra:map[string][]string(nil)} without impersonating a user name"#
        );
    }
}
