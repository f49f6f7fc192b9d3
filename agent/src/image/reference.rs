//! Image names: defaults and shape (`docker.io/library`, `latest`), as the kubelet applies them.
//!
//! Pure. A newcomer's trap: `localhost/x` and `host:5000/x` name a registry, `team/x` does not;
//! the first part is a host only if it has a dot or a colon or is `localhost`.

/// The full name of an image: registry, repository and tag or digest. `None` if it is no valid
/// reference (the pod then waits with `InvalidImageName`).
pub fn normalize(image: &str) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return None;
    }
    let (path, tag) = match tag(name) {
        Some(tag) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return None;
    }
    let (host, rest) = match path.split_once('/') {
        Some((first, rest))
            if first.contains('.') || first.contains(':') || first == "localhost" =>
        {
            (first, rest.to_owned())
        }
        Some(_) => ("docker.io", path.to_owned()),
        None => ("docker.io", format!("library/{path}")),
    };
    if !is_host(host) || rest.len() > 255 || !rest.split('/').all(is_component) {
        return None;
    }
    let mut full = format!("{host}/{rest}");
    match (tag, digest) {
        (Some(tag), _) => full.extend([":", tag]),
        (None, None) => full.push_str(":latest"),
        (None, Some(_)) => {}
    }
    if let Some(digest) = digest {
        full.extend(["@", digest]);
    }
    Some(full)
}

/// The tag of a name, if it has one.
pub fn tag(name: &str) -> Option<&str> {
    let name = name.split('@').next().unwrap_or(name);
    let (before, after) = name.rsplit_once(':')?;
    (!after.contains('/') && !before.is_empty()).then_some(after)
}

/// Whether a pod that sets no pull policy gets `Always`: tag `latest`, or none, and no digest.
pub fn pulls_always_by_default(image: &str) -> bool {
    !image.contains('@') && tag(image).is_none_or(|tag| tag == "latest")
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(label)
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    // Separators between runs of letters: one dot, one or two underscores, or any number of dashes.
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_defaults() {
        let hex = "a".repeat(64);
        let digest = format!("sha256:{hex}");
        let cases: &[(&str, Option<&str>)] = &[
            ("nginx", Some("docker.io/library/nginx:latest")),
            ("nginx:1.16.0", Some("docker.io/library/nginx:1.16.0")),
            ("team/app", Some("docker.io/team/app:latest")),
            ("localhost/app:1", Some("localhost/app:1")),
            ("127.0.0.1:5000/a/b", Some("127.0.0.1:5000/a/b:latest")),
            ("registry.example/app:v1_2-x", Some("registry.example/app:v1_2-x")),
            ("my--app", Some("docker.io/library/my--app:latest")),
            ("", None),
            ("Nginx", None),
            ("nginx:", None),
            ("nginx:.bad", None),
            ("nginx@sha256:zz", None),
            ("a//b", None),
            ("a..b", None),
            ("a b", None),
            ("-host.x/app", None),
        ];
        for (image, full) in cases {
            assert_eq!(normalize(image).as_deref(), *full, "{image:?}");
        }
        assert_eq!(
            normalize(&format!("nginx@{digest}")),
            Some(format!("docker.io/library/nginx@{digest}"))
        );
        assert_eq!(
            normalize(&format!("nginx:1@{digest}")),
            Some(format!("docker.io/library/nginx:1@{digest}"))
        );
    }

    #[test]
    fn only_latest_is_pulled_always() {
        assert!(pulls_always_by_default("nginx"));
        assert!(pulls_always_by_default("host:5000/nginx:latest"));
        assert!(!pulls_always_by_default("host:5000/nginx:1"));
        assert!(!pulls_always_by_default("nginx@sha256:abc"));
    }
}
