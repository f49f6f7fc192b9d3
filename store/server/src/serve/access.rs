//! Who may ask over plain HTTP: hosts, origins, paths.
//!
//! Owns: what etcd's access controller and Go's router do before a path is looked at. Must not know:
//! the endpoints. A newcomer's trap: the check of the host is what keeps a page that rebinds its
//! name to this machine away, so it must see every request that is not gRPC over HTTP/2, which no
//! page can send.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use tonic::body::Body;

/// The rules of one member.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    origins: Vec<String>,
    hosts: Vec<String>,
}

/// A request that may pass.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Its path, decoded.
    pub(super) path: String,
    /// The headers that its answer gets.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

// === impl Access ===

impl Access {
    /// With the origins of `--cors` and the hosts of `--host-whitelist`.
    pub(crate) fn new(origins: &[String], hosts: &[String]) -> Self {
        Self { origins: origins.to_vec(), hosts: hosts.to_vec() }
    }

    /// Lets a request pass, or says how it is answered. `secure` connections are under names that
    /// a certificate has proved.
    #[allow(clippy::result_large_err, reason = "the refusal is the answer")]
    pub(super) fn admit(
        &self,
        head: &http::request::Parts,
        secure: bool,
    ) -> Result<Admitted, Response<Body>> {
        let host = host(head).map_err(bad_request)?;
        // Differs from etcd: two lengths are one too many.
        if head.headers.contains_key(header::TRANSFER_ENCODING)
            && head.headers.contains_key(header::CONTENT_LENGTH)
        {
            return Err(bad_request("both Transfer-Encoding and Content-Length"));
        }
        if !secure && !allows(&self.hosts, host_name(&host)) {
            tracing::warn!(host, "an HTTP request under a foreign host name was rejected");
            let text = Full::from(misdirected(host_name(&host)));
            return Err(plain(StatusCode::MISDIRECTED_REQUEST, Body::new(text)));
        }
        let headers = self.cors(&head.headers);
        if head.method == Method::OPTIONS {
            let mut response = Response::new(Body::empty());
            response.headers_mut().extend(headers);
            return Err(response);
        }
        let decoded = percent_decode_str(head.uri.path()).decode_utf8();
        let Ok(path) = decoded else { return Err(bad_request("malformed path")) };
        let path = match path.strip_prefix("/v3beta/") {
            Some(rest) => format!("/v3/{rest}"),
            None => path.into_owned(),
        };
        let clean = clean(&path);
        if clean != path {
            return Err(redirect(StatusCode::MOVED_PERMANENTLY, &head.uri, &clean, headers));
        }
        Ok(Admitted { path, headers })
    }

    fn cors(&self, asked: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let origin = if allows(&self.origins, "*") {
            HeaderValue::from_static("*")
        } else {
            match asked.get(header::ORIGIN) {
                Some(origin) if origin.to_str().is_ok_and(|o| allows(&self.origins, o)) => {
                    origin.clone()
                }
                _ => return Vec::new(),
            }
        };
        let fixed = HeaderValue::from_static;
        vec![
            (header::ACCESS_CONTROL_ALLOW_METHODS, fixed("POST, GET, OPTIONS, PUT, DELETE")),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("accept, content-type, authorization")),
        ]
    }
}

/// No list is all, as `*` is.
fn allows(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|allowed| allowed == "*" || allowed == name)
}

/// The host that was asked.
fn host(head: &http::request::Parts) -> Result<String, &'static str> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let first = named.next();
    if named.next().is_some() {
        return Err("too many Host headers");
    }
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.as_str().to_owned());
    }
    match first {
        None if head.version == Version::HTTP_11 => Err("missing required Host header"),
        None => Ok(String::new()),
        Some(host) => {
            let valid =
                |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(byte);
            let text = host.to_str().ok().filter(|host| host.as_bytes().iter().all(valid));
            text.map(str::to_owned).ok_or("malformed Host header")
        }
    }
}

/// Without the port, and without the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else { return host };
    if let Some(inner) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return inner;
    }
    if name.contains(':') || port.contains(']') { host } else { name }
}

/// The path as Go's router wants it: no empty and no dot segments.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(segment),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

pub(super) fn redirect(
    status: StatusCode,
    uri: &Uri,
    to: &str,
    headers: Vec<(HeaderName, HeaderValue)>,
) -> Response<Body> {
    let safe = percent_encoding::utf8_percent_encode(to, PATH).to_string();
    let location = match uri.query() {
        Some(query) => format!("{safe}?{query}"),
        None => safe,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// What is written as it is in a path.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b'&');

/// As Go's server answers what it cannot read; the connection is closed.
fn bad_request(why: &str) -> Response<Body> {
    let mut response =
        plain(StatusCode::BAD_REQUEST, Body::new(Full::from(format!("400 Bad Request: {why}"))));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn plain(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// etcd's words.
fn misdirected(host: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host:?}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).

"
    )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn ask(access: &Access, request: http::request::Builder) -> Result<Admitted, StatusCode> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        access.admit(&head, false).map_err(|response| response.status())
    }

    fn to(path: &str) -> http::request::Builder {
        Request::post(path).header("host", "example.test:2379")
    }

    fn open() -> Access {
        Access::new(&["*".into()], &["*".into()])
    }

    #[test]
    fn foreign_hosts_are_turned_away() {
        let access = Access::new(&[], &["example.test".into(), "::1".into()]);
        assert!(ask(&access, to("/v3/kv/range")).is_ok());
        assert!(ask(&access, Request::get("/health").header("host", "[::1]:2379")).is_ok());
        for host in ["evil.test", "example.test.evil.test", "127.0.0.1:2379", ""] {
            let refused = ask(&access, Request::get("/health").header("host", host));
            assert_eq!(refused.unwrap_err(), StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
    }

    #[test]
    fn a_request_has_one_host_and_one_length() {
        for wrong in [
            Request::get("/health"),
            Request::get("/health").header("host", "a").header("host", "b"),
            Request::get("/health").header("host", "a b"),
            to("/v3/kv/put").header("content-length", "3").header("transfer-encoding", "chunked"),
            to("/v3/%ff"),
        ] {
            assert_eq!(ask(&open(), wrong).unwrap_err(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn odd_paths_are_sent_to_the_plain_one() {
        for (odd, plain) in [
            ("//v3/kv/range", "/v3/kv/range"),
            ("/v3/../v3/./kv/range?a=b", "/v3/kv/range?a=b"),
            ("/v3beta//kv/range", "/v3/kv/range"),
            ("/v3/%2e%2e/health", "/health"),
        ] {
            let (head, ()) = to(odd).body(()).unwrap().into_parts();
            let moved = open().admit(&head, false).unwrap_err();
            assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY, "{odd}");
            assert_eq!(moved.headers()["location"], plain, "{odd}");
        }
        assert_eq!(ask(&open(), to("/v3beta/kv/range")).unwrap().path, "/v3/kv/range");
        assert_eq!(ask(&open(), to("/v3/kv/r%61nge")).unwrap().path, "/v3/kv/range");
    }

    #[test]
    fn origins_are_told_whether_they_may_read() {
        let access = Access::new(&["http://here.test".into()], &[]);
        let headers = |origin: &str| {
            let admitted = ask(&access, to("/v3/kv/range").header("origin", origin)).unwrap();
            admitted.headers.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert!(headers("http://here.test").contains(&header::ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(headers("http://there.test").is_empty());
        assert_eq!(ask(&open(), to("/").method("OPTIONS")).unwrap_err(), StatusCode::OK);
    }
}
